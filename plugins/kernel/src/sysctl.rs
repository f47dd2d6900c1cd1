//! Kernel parameters under `/proc/sys`, of the calling thread's network namespace.

use std::{fs, io, path::Path, sync::OnceLock};

use crate::{Error, Result};

/// Reads the parameter at `path`, such as `net/ipv4/ip_forward`; none where the kernel has no such
/// parameter (built without IPv6, or without br_netfilter).
pub fn read(path: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|value| value.trim().to_owned())
}

/// Writes the parameter at `path`. Whether the kernel has such a parameter.
///
/// # Errors
/// When it has, and will not take the value.
pub fn write(path: &str, value: &str) -> Result<bool> {
    match fs::write(format!("/proc/sys/{path}"), value) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("set", format!("{path} to {value}"), &error)),
    }
}

/// Whether the kernel has IPv6 at all. Asked once: it cannot come or go while anything uses it.
pub fn has_ipv6() -> bool {
    static HAS: OnceLock<bool> = OnceLock::new();
    *HAS.get_or_init(|| Path::new("/proc/sys/net/ipv6/conf").is_dir())
}
