//! What goes wrong between us and the kernel: the operation, its operand, and the kernel's words.

use std::{fmt, io};

use nix::errno::Errno;

/// A refusal of the kernel, or something in its way.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The kernel refused one message of a batch.
    #[error("cannot {doing} {what}: {}{}", errno.desc(), Text(text))]
    Refused {
        /// The operation, as in `make the link`.
        doing: &'static str,
        /// What it was about: a link, an address, an element.
        what: String,
        /// Which message of the batch it was, from 0.
        index: usize,
        /// The kernel's number for it.
        errno: Errno,
        /// What the kernel said in its extended acknowledgement.
        text: Option<String>,
    },
    /// A system call failed.
    #[error("cannot {doing} {what}: {}", errno.desc())]
    Call {
        /// The operation.
        doing: &'static str,
        /// What it was about.
        what: String,
        /// The kernel's number for it.
        errno: Errno,
    },
    /// A path that leads to no network namespace.
    #[error("{0} is no network namespace")]
    NoNamespace(String),
    /// The kernel answered with what is no netlink message.
    #[error("the kernel's answer to a request to {doing} {what} is not understood")]
    Garbled {
        /// The operation.
        doing: &'static str,
        /// What it was about.
        what: String,
    },
    /// A table that another process has.
    #[error("the firewall's table {table} belongs to another process: end that first")]
    Held {
        /// Its family and name.
        table: String,
    },
    /// `nft` refused the base ruleset.
    #[error("nft refused the base ruleset: {0}")]
    Nft(String),
}

/// What a call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failed system call.
    pub fn call(doing: &'static str, what: impl Into<String>, errno: Errno) -> Self {
        Self::Call { doing, what: what.into(), errno }
    }

    /// A failed system call, as the standard library reports it.
    pub fn io(doing: &'static str, what: impl Into<String>, error: &io::Error) -> Self {
        Self::call(doing, what, error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }

    /// The kernel's number, where it was the kernel.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } | Self::Call { errno, .. } => Some(*errno),
            _ => None,
        }
    }

    /// Whether something was to be taken away.
    pub fn is_deletion(&self) -> bool {
        matches!(self, Self::Refused { doing, .. } if doing.starts_with("delete"))
    }

    /// What the kernel said in its extended acknowledgement.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Refused { text, .. } => text.as_deref(),
            _ => None,
        }
    }

    /// Which message of a batch was refused.
    pub fn index(&self) -> Option<usize> {
        match self {
            Self::Refused { index, .. } => Some(*index),
            _ => None,
        }
    }
}

struct Text<'a>(&'a Option<String>);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}
