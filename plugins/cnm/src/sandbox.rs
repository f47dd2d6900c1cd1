//! Sandboxes: a network namespace and the container it belongs to.

use serde::{Deserialize, Serialize};

use crate::{
    Call, Empty,
    endpoint::{Container, Netns, NetnsId},
};

/// A namespace and whose it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sandbox {
    /// Whose it is.
    pub container: Container,
    /// A path to it, where one was given that outlives the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Which namespace it is, once a driver has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsId>,
    /// Whether it was made on its own and so outlives its last endpoint.
    #[serde(default)]
    pub kept: bool,
    /// When it was made, as RFC 3339 in UTC with nanoseconds.
    pub created: String,
}

/// Makes a namespace known under a container's name, before any network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CreateSandbox {
    /// Whose it is.
    pub container: Container,
    /// The namespace, as a path that stays.
    pub netns: Netns,
}

impl Call for CreateSandbox {
    const METHOD: &'static str = "sandbox.create";
    type Reply = Sandbox;
}

/// Shows all sandboxes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListSandboxes {}

impl Call for ListSandboxes {
    const METHOD: &'static str = "sandbox.list";
    type Reply = Sandboxes;
}

/// Sandboxes, sorted by container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sandboxes {
    /// Each of them.
    pub sandboxes: Vec<Sandbox>,
}

/// Takes a sandbox off all its networks and forgets it. One that is not there is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct RemoveSandbox {
    /// The container's id or name.
    pub container: String,
}

impl Call for RemoveSandbox {
    const METHOD: &'static str = "sandbox.remove";
    type Reply = Empty;
}
