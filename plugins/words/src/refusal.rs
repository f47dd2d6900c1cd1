//! The kernel's refusals in the protocol's words.

use cnm::{Error, Kind};
use kernel::Errno;

/// As an error of the protocol, with errno, the kernel's text and the operand.
pub fn refusal(error: kernel::Error) -> Error {
    let kind = match (&error, error.errno()) {
        (kernel::Error::NoNamespace(_), _) => Kind::Invalid,
        (_, Some(Errno::EPERM | Errno::EACCES)) => Kind::Denied,
        _ => Kind::Kernel,
    };
    let mut answer = Error::new(kind, &error);
    if let Some(errno) = error.errno() {
        answer = answer.with("errno", errno as i32);
    }
    if let Some(text) = error.text() {
        answer = answer.with("kernel", text);
    }
    match error {
        kernel::Error::Refused { what, .. } | kernel::Error::Call { what, .. } => {
            answer.with("what", what)
        }
        kernel::Error::NoNamespace(path) => answer.with("netns", path),
        _ => answer,
    }
}

/// As [`refusal`], of an attempt to open the namespace of a container.
pub fn no_netns(path: &str, error: kernel::Error) -> Error {
    match error.errno() {
        Some(Errno::ENOENT) => {
            Error::not_found(format_args!("network namespace {path} not found")).with("netns", path)
        }
        _ => refusal(error),
    }
}
