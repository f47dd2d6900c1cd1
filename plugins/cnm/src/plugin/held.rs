//! Ports of the host that Podman holds itself, whichever dialect it speaks: for as long as the container
//! runs, and it finds out by itself who else has one.

use std::net::{IpAddr, Ipv6Addr};

use crate::{Error, Result, endpoint::Attach};

/// The address of which the kernel leads nothing on.
pub(crate) const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Says so of an attach.
///
/// # Errors
/// `invalid` for a port of `[::1]`, with what to say instead.
pub(crate) fn by_podman(attach: &mut Attach) -> Result<()> {
    if let Some(port) = attach.ports.iter().find(|port| port.host_ip == Some(LOOPBACK)) {
        return Err(Error::invalid(format_args!(
            "cannot publish port {port}: Podman holds a port of [::1] itself, and nothing of the kernel's \
             leads past it; leave the address out, and the port answers at [::1] as well"
        ))
        .with("port", port.to_string()));
    }
    attach.ports_bound = !attach.ports.is_empty();
    Ok(())
}
