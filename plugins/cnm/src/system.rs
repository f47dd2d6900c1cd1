//! The daemon itself: its version, its state, and the calls that put it right.

use serde::{Deserialize, Serialize};

use crate::Call;

/// Asks for the version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetVersion {}

impl Call for GetVersion {
    const METHOD: &'static str = "system.version";
    type Reply = Version;
}

/// Which netd this is and which protocols it speaks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Version {
    /// netd's own.
    pub version: String,
    /// Those of the protocol.
    pub protocols: Vec<u32>,
}

/// Asks how netd is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetStatus {}

impl Call for GetStatus {
    const METHOD: &'static str = "system.status";
    type Reply = Status;
}

/// How netd is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Status {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime: u64,
    /// Where its durable state is.
    pub state_dir: String,
    /// Where its socket and boot-scoped state are.
    pub run_dir: String,
    /// How many networks there are.
    pub networks: u64,
    /// How many sandboxes.
    pub sandboxes: u64,
    /// How many endpoints.
    pub endpoints: u64,
    /// Its drivers.
    pub drivers: Vec<DriverStatus>,
    /// One sentence for each thing that is not as it should be.
    pub problems: Vec<String>,
}

/// How a driver is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DriverStatus {
    /// What networks name it by.
    pub name: String,
    /// Its executable.
    pub path: String,
    /// Its process, while it runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// Its version, once it has said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// How often it had to be started again.
    pub restarts: u64,
}

/// Has every driver compare the kernel with what is stored and put right what differs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reconcile {}

impl Call for Reconcile {
    const METHOD: &'static str = "system.reconcile";
    type Reply = Reconciled;
}

/// What differed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Reconciled {
    /// One sentence for each thing that was put right.
    pub repaired: Vec<String>,
    /// One sentence for each that only whoever made it can put right, such as a container's
    /// interface that is gone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lost: Vec<String>,
    /// One sentence for each other thing that was not put right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Releases what belongs to namespaces that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CollectGarbage {}

impl Call for CollectGarbage {
    const METHOD: &'static str = "system.gc";
    type Reply = crate::endpoint::Detached;
}

/// Waits until no other connection has a turn, and has it until this connection ends: for who makes several
/// changes that others are not to come between. It holds for those alone who ask for it by the same name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct TakeTurn {
    /// At what.
    pub at: String,
}

impl Call for TakeTurn {
    const METHOD: &'static str = "system.turn";
    type Reply = crate::Empty;
}
