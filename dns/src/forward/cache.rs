//! What others have said and how long it holds: bounded in memory, and no clock of its own.
//!
//! Two generations of entries: what is found moves to the young one, and when that is full it
//! becomes the old one and the old one goes. So what is asked for stays, each step is O(1), and no
//! list has to be kept in order.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::reply::{Life, Told};
use crate::question::Question;

/// How long an answer is kept after its time, for when nobody can be asked (RFC 8767, section 5,
/// finds one to three days right).
const STALE: Duration = Duration::from_secs(86_400);

/// Seconds that an answer may be kept which is older than it should be (RFC 8767, section 5).
const STALE_TTL: u32 = 30;

/// What an entry costs beside its bytes: two allocations, a slot of the table that is half empty,
/// and the clock.
const OVERHEAD: usize = 320;

/// An answer that is asked for again in the last tenth of its life is asked for anew beforehand.
const LAST: u32 = 10;

/// Lives shorter than this are not worth it.
const WORTHWHILE: Duration = Duration::from_secs(10);

/// What was asked, as far as the answer depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// In wire format and lower case.
    name: Box<[u8]>,
    kind: u16,
    /// Whether recursion, authentic data, unchecked data, EDNS and DNSSEC records are wanted.
    wants: [bool; 5],
    /// Who would be asked: others may know other things.
    servers: Arc<[SocketAddr]>,
}

impl Key {
    /// Of a question of class IN.
    pub(super) fn of(question: &Question<'_>, servers: Arc<[SocketAddr]>) -> Self {
        let edns = question.edns;
        Self {
            // Lengths of labels are below the letters.
            name: question.name.to_ascii_lowercase().into(),
            kind: question.kind,
            wants: [
                question.recursion_desired,
                question.authentic_wanted,
                question.checking_disabled,
                edns.is_some(),
                edns.is_some_and(|edns| edns.dnssec_ok),
            ],
            servers,
        }
    }

    /// Who would be asked.
    pub(super) fn servers(&self) -> &[SocketAddr] {
        &self.servers
    }
}

/// Answers by question.
#[derive(Debug)]
pub(super) struct Cache {
    young: HashMap<Key, Entry>,
    old: HashMap<Key, Entry>,
    /// Bytes of the young ones, and how many there may be.
    size: usize,
    half: usize,
}

#[derive(Debug)]
struct Entry {
    told: Arc<Told>,
    at: Instant,
    keep: Duration,
    /// Asked for again since it was stored.
    wanted: bool,
    /// Somebody has been sent for the next one.
    awaited: bool,
}

/// What there is for a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// An answer.
    Fresh {
        told: Arc<Told>,
        life: Life,
        /// Whether to ask for the next one now, while there is one to give.
        renew: bool,
    },
    /// An answer whose time is over: better than none.
    Stale { told: Arc<Told>, life: Life },
}

impl Cache {
    /// Of so many bytes.
    pub(super) fn new(bytes: usize) -> Self {
        Self { young: HashMap::new(), old: HashMap::new(), size: 0, half: bytes / 2 }
    }

    /// How many answers there are.
    pub(super) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// What there is.
    pub(super) fn find(&mut self, key: &Key, now: Instant) -> Option<Found> {
        if let Some((key, entry)) = self.old.remove_entry(key) {
            self.put(key, entry);
        }
        // Moving it may have been what filled the young generation.
        let entry = self.young.get_mut(key).or_else(|| self.old.get_mut(key))?;
        let age = now.saturating_duration_since(entry.at);
        let told = Arc::clone(&entry.told);
        if age < entry.keep {
            let last = entry.keep - age < entry.keep / LAST;
            let renew = last && entry.wanted && !entry.awaited && entry.keep >= WORTHWHILE;
            entry.awaited |= renew;
            entry.wanted = true;
            let seconds = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            return Some(Found::Fresh { told, life: Life::Aged(seconds), renew });
        }
        (age < entry.keep + STALE).then_some(Found::Stale { told, life: Life::Stale(STALE_TTL) })
    }

    /// Keeps an answer, when it may be kept.
    pub(super) fn store(&mut self, key: Key, told: Arc<Told>, now: Instant) {
        let Some(seconds) = told.keep else { return };
        let keep = Duration::from_secs(seconds.into());
        self.old.remove(&key);
        self.put(key, Entry { told, at: now, keep, wanted: false, awaited: false });
    }

    /// Makes everything older by this.
    #[cfg(test)]
    pub(super) fn age(&mut self, by: Duration) {
        for entry in self.young.values_mut().chain(self.old.values_mut()) {
            entry.at -= by;
        }
    }

    fn put(&mut self, key: Key, entry: Entry) {
        let cost = |key: &Key, entry: &Entry| key.name.len() + entry.told.size() + OVERHEAD;
        self.size += cost(&key, &entry);
        if let Some(before) = self.young.get(&key) {
            self.size -= cost(&key, before);
        }
        self.young.insert(key, entry);
        if self.size > self.half {
            self.old = std::mem::take(&mut self.young);
            self.size = 0;
        }
    }
}

#[cfg(test)]
mod tests;
