//! Events: what happened, told to those who subscribed, as JSON-RPC notifications.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Call, Empty};

/// Asks for every event from now on; each comes as an `event` notification on this connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Subscribe {}

impl Call for Subscribe {
    const METHOD: &'static str = "events.subscribe";
    type Reply = Empty;
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Event {
    /// When, as RFC 3339 in UTC with nanoseconds.
    pub time: String,
    /// To what: `network`, `endpoint`, `sandbox`, `driver`.
    pub object: String,
    /// What: `create`, `remove`, `attach`, `detach`, `vanish`, `start`, `stop`, `lost`.
    pub action: String,
    /// Its id, or its name where it has none.
    pub id: String,
    /// More of it, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// An event on the wire.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Notification {
    jsonrpc: String,
    method: String,
    /// The event.
    pub params: Event,
}

impl Notification {
    /// `{"jsonrpc":"2.0","method":"event","params":…}` as one line.
    pub fn line(event: &Event) -> String {
        crate::message::line(&Self {
            jsonrpc: "2.0".into(),
            method: "event".into(),
            params: event.clone(),
        })
    }
}
