//! The resolver, from outside: what it answers to whom, and why.

use serde::{Deserialize, Serialize};

use crate::{Call, Empty};

/// Asks the resolver for a name, as a container would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryName {
    /// The name, or an address, whose `PTR` is that of its name in reverse.
    pub name: String,
    /// The type of records, such as `AAAA` or `SRV`; `A` of a name and `PTR` of an address unless told.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The container's id, its name or the beginning of its id; the host itself unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Call for QueryName {
    const METHOD: &'static str = "dns.query";
    type Reply = Answered;
}

/// What the resolver answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answered {
    /// The code, such as `NOERROR` or `NXDOMAIN`.
    pub result: String,
    /// The records, as zone files have them (RFC 1035, section 5).
    pub answers: Vec<String>,
    /// Why, in sentences: which networks were looked at, whose name it is, who else was asked.
    pub why: Vec<String>,
}

/// Has each question logged that the resolver is asked, until netd ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogQueries {
    /// Whether to, or no longer.
    pub each: bool,
}

impl Call for LogQueries {
    const METHOD: &'static str = "dns.log";
    type Reply = Empty;
}
