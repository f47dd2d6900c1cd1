//! What is counted: totals, and for each listener's owner by type and result.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::forward::Origin;
use crate::question::kind;

/// Types that are counted apart; all others are one.
const KINDS: [(u16, &str); 9] = [
    (kind::A, "A"),
    (kind::AAAA, "AAAA"),
    (kind::PTR, "PTR"),
    (kind::SRV, "SRV"),
    (kind::SOA, "SOA"),
    (kind::NS, "NS"),
    (16, "TXT"),
    (65, "HTTPS"),
    (0, "other"),
];

/// Results that are counted apart: RFC 1035's codes, those that have no name, and no answer.
const RESULTS: [&str; 8] =
    ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED", "other", "dropped"];

/// Who answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum By {
    /// We, from our own names.
    Netd,
    /// Another server.
    Upstream,
    /// The cache of what other servers have said.
    Cache,
    /// The same, past its time, since no server answered.
    Stale,
}

impl By {
    const ALL: [Self; 4] = [Self::Netd, Self::Upstream, Self::Cache, Self::Stale];

    pub(crate) fn of(from: Origin) -> Self {
        match from {
            Origin::Server(_) | Origin::Nobody => Self::Upstream,
            Origin::Cache | Origin::Failed => Self::Cache,
            Origin::Stale => Self::Stale,
            Origin::Unasked | Origin::Crowded | Origin::Late => Self::Netd,
        }
    }

    /// As it is said in figures and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Netd => "netd",
            Self::Upstream => "upstream",
            Self::Cache => "cache",
            Self::Stale => "stale",
        }
    }
}

/// So many questions of one kind, by all that is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// The type asked for: `A`, `AAAA` and so on, or `other`.
    pub kind: &'static str,
    /// The answer's code: `NOERROR`, `NXDOMAIN` and so on, or `dropped` when there was none.
    pub result: &'static str,
    /// Who answered.
    pub by: By,
    /// How many.
    pub count: u64,
}

/// The counts of one listener's owner. They take room from the first question on: most of a
/// thousand containers may never ask.
#[derive(Debug, Default)]
pub(crate) struct Tally(OnceLock<Box<Counts>>);

type Counts = [[[AtomicU64; By::ALL.len()]; RESULTS.len()]; KINDS.len()];

fn zero() -> Box<Counts> {
    Box::new(std::array::from_fn(|_| {
        std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)))
    }))
}

impl Tally {
    /// One more, by its type and the answer's code; none when there was no answer.
    pub(crate) fn count(&self, kind: u16, code: Option<u8>, by: By) {
        let kind = KINDS.iter().position(|(known, _)| *known == kind).unwrap_or(KINDS.len() - 1);
        let result = code.map_or(7, |code| usize::from(code.min(6)));
        self.0.get_or_init(zero)[kind][result][by as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// All that are not zero.
    pub(crate) fn read(&self) -> Vec<Count> {
        let mut counts = Vec::new();
        let Some(all) = self.0.get() else { return counts };
        for ((_, kind), results) in KINDS.iter().zip(&**all) {
            for (result, bys) in RESULTS.iter().zip(results) {
                for (by, count) in By::ALL.iter().zip(bys) {
                    let count = count.load(Ordering::Relaxed);
                    if count > 0 {
                        counts.push(Count { kind, result, by: *by, count });
                    }
                }
            }
        }
        counts
    }
}

/// The name of a type, as people write it.
pub(crate) fn kind_name(kind: u16) -> String {
    let known = KINDS.iter().find(|(known, _)| *known == kind && kind != 0);
    known.map_or_else(|| format!("TYPE{kind}"), |(_, name)| (*name).to_owned())
}

/// The name of an answer's code.
pub(crate) fn result_name(code: u8) -> &'static str {
    RESULTS[usize::from(code.min(6))]
}
