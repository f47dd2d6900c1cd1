//! A rule: what it says, where it is written, and how it is tried.

use serde::{Deserialize, Serialize};

use super::bench::Bench;

/// How much a rule binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// The specification says so, or no runtime works without it.
    Must,
    /// A plugin that does not costs its users something: an address, a rule, a retry.
    Should,
}

/// A rule.
#[derive(Debug)]
pub(super) struct Rule {
    /// What it is called: the verb or matter that it is of, then what is asked.
    pub(super) id: &'static str,
    /// How much it binds.
    pub(super) level: Level,
    /// Where it is written: a section of the CNI specification 1.1.0, or who relies on it.
    pub(super) source: &'static str,
    /// What it says, in one sentence.
    pub(super) says: &'static str,
    /// Tries it.
    pub(super) check: fn(&Bench) -> Checked,
}

/// What comes of trying a rule.
pub(super) type Checked<T = ()> = Result<T, Flaw>;

/// Why a rule does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// It is broken, so.
    Broken(String),
    /// The plugin does not offer what it is about.
    NotOffered(String),
}

impl Flaw {
    /// The same flaw, said to be of one thing among several.
    pub(super) fn of(self, what: &str) -> Self {
        match self {
            Self::Broken(reason) => Self::Broken(format!("{what}: {reason}")),
            Self::NotOffered(reason) => Self::NotOffered(reason),
        }
    }
}

/// Ends a check as broken unless something is so.
macro_rules! ensure {
    ($so:expr, $($reason:tt)+) => {
        if !$so {
            return Err($crate::cni::conformance::rule::Flaw::Broken(format!($($reason)+)));
        }
    };
}
pub(super) use ensure;

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ended {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// It is about something that the plugin does not offer.
    NotOffered,
}

/// How a rule came out, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Verdict {
    /// How.
    pub(super) result: Ended,
    /// Why; empty where it holds.
    pub(super) reason: String,
}

impl From<Checked> for Verdict {
    fn from(checked: Checked) -> Self {
        let (result, reason) = match checked {
            Ok(()) => (Ended::Pass, String::new()),
            Err(Flaw::Broken(reason)) => (Ended::Fail, reason),
            Err(Flaw::NotOffered(reason)) => (Ended::NotOffered, reason),
        };
        Self { result, reason }
    }
}
