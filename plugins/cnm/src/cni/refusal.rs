//! Errors as the dialect has them: a number, a sentence, and details.

use std::fmt;

use serde_json::{Value, json};

use super::version::Version;
use crate::{Error, Kind};

/// An error of this dialect. The codes below 100 are the specification's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: u32,
    pub(super) msg: String,
    pub(super) details: String,
}

pub(super) type Result<T, E = Refusal> = std::result::Result<T, E>;

impl Refusal {
    /// The version of the specification is not spoken, or does not have the verb.
    pub(super) const VERSION: u32 = 1;
    /// The configuration asks for what is not done.
    pub(super) const UNSUPPORTED: u32 = 2;
    /// The environment is wrong.
    pub(super) const ENVIRONMENT: u32 = 4;
    /// Standard input cannot be read.
    pub(super) const INPUT: u32 = 5;
    /// What was read is not understood.
    pub(super) const DECODING: u32 = 6;
    /// The configuration is wrong.
    pub(super) const CONFIG: u32 = 7;
    /// The namespace is none, or is the host's own.
    pub(super) const NETNS: u32 = 8;
    /// Another time it may work.
    pub(super) const LATER: u32 = 11;
    /// Nothing can be added now.
    pub(super) const UNAVAILABLE: u32 = 50;
    /// As that, and containers that are there lack something.
    pub(super) const DEGRADED: u32 = 51;
    /// A fault of our own.
    pub(super) const INTERNAL: u32 = 101;
    /// A check found differences.
    pub(super) const DIFFERS: u32 = 112;
    /// Another plugin failed and did not say how.
    pub(super) const DELEGATE: u32 = 113;

    /// An error without details.
    pub(super) fn new(code: u32, msg: impl fmt::Display) -> Self {
        Self { code, msg: msg.to_string(), details: String::new() }
    }

    /// Says what else there is to say.
    pub(super) fn with(mut self, details: impl fmt::Display) -> Self {
        self.details = details.to_string();
        self
    }

    /// A key of the configuration has a value that it cannot have.
    pub(super) fn config(key: &str, value: &Value, rule: impl fmt::Display) -> Self {
        Self::new(Self::CONFIG, format_args!("invalid {key} {value}: {rule}"))
    }

    /// A key of the configuration asks for what is not done.
    pub(super) fn unsupported(key: &str, value: &Value, why: impl fmt::Display) -> Self {
        Self::new(Self::UNSUPPORTED, format_args!("{key} {value} is not supported: {why}"))
    }

    /// The document that tells it.
    pub(super) fn to_text(&self, version: Version) -> String {
        let mut document =
            json!({"cniVersion": version.as_str(), "code": self.code, "msg": self.msg});
        if !self.details.is_empty() {
            document["details"] = Value::from(self.details.as_str());
        }
        document.to_string()
    }
}

/// The table of `docs/protocol.md`.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let code = match error.kind {
            // What is said of the namespace is said of the environment.
            Kind::Invalid | Kind::NotFound if error.operands.contains_key("netns") => Self::NETNS,
            Kind::Invalid => Self::CONFIG,
            Kind::Busy | Kind::Unavailable => Self::LATER,
            kind => 100 + u32::from(kind.exit_code()),
        };
        let details: Vec<_> =
            error.operands.iter().map(|(name, value)| format!("{name}={value}")).collect();
        Self { code, msg: error.message, details: details.join(" ") }
    }
}
