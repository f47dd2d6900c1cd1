//! What netd says to the relay, and what it answers.

use std::net::SocketAddr;

use cnm::endpoint::Protocol;
use serde::{Deserialize, Serialize};

/// A port of `[::1]` and where it leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Lead {
    /// Its protocol.
    pub(crate) protocol: Protocol,
    /// Its number.
    pub(crate) port: u16,
    /// The container's address and port.
    pub(crate) to: SocketAddr,
}

/// What is to be relayed from now on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Orders {
    /// All of it, and nothing else.
    #[serde(default)]
    pub(crate) all: Option<Vec<Lead>>,
    /// No longer this, as far as it leads there.
    #[serde(default)]
    pub(crate) remove: Vec<Lead>,
    /// This as well.
    #[serde(default)]
    pub(crate) add: Vec<Lead>,
}

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Done {
    /// One sentence for each port that could not be taken.
    pub(crate) failed: Vec<String>,
}
