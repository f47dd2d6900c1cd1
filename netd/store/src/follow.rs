//! Following keys for good: the rows at a revision, the changes from there on, and what becomes of
//! both when the history is forgotten, the store goes away, or it comes back older than it was.
//!
//! A row is reported deleted when its deletion was seen, or when a listing that is known to be
//! whole does not have it; never because something could not be read.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use tokio::{sync::mpsc, task::AbortHandle, time::sleep};

use crate::{Era, Error, Event, Keys, Page, Result, Row, Store};

/// How many changes wait to be taken before the follower waits as well.
const WAITING: usize = 64;

/// The first and the longest wait before the store is asked again. A spread of it is taken, so that
/// the many who lost it together do not come back together.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(3);

/// What a follower learns.
#[derive(Clone, Debug)]
pub enum Change {
    /// A whole listing was compared with what was known: this is the difference, sorted by key.
    /// From here on what is known is complete as of `revision`.
    Synced {
        /// The revision of the listing.
        revision: u64,
        /// The difference; nothing where nothing was missed.
        events: Vec<Event>,
    },
    /// Rows changed.
    Changed {
        /// The last revision of them.
        revision: u64,
        /// In their order.
        events: Vec<Event>,
    },
    /// The store is away: what is known stays as it is and may be old.
    Away(Error),
    /// It is back, and nothing has been missed.
    Back,
}

/// A follower; it ends when this is dropped.
#[derive(Debug)]
pub struct Follow {
    changes: mpsc::Receiver<Change>,
    task: AbortHandle,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follow {
    pub(crate) fn new(store: Store, keys: Keys, known: Vec<Row>) -> Self {
        let (tell, changes) = mpsc::channel(WAITING);
        let mut known: Known = known.iter().map(|row| (row.key.clone(), Mark::of(row))).collect();
        known.retain(|key, _| keys.contains(key));
        let follower = Follower { store, keys, known, seen: None, tell, away: false };
        let task = tokio::spawn(follower.run()).abort_handle();
        Self { changes, task }
    }

    /// Waits for what comes next. May be abandoned and called again. `None` only when the runtime
    /// is ending.
    pub async fn next(&mut self) -> Option<Change> {
        self.changes.recv().await
    }
}

type Known = BTreeMap<String, Mark>;

/// As much of a row as tells whether it is another: a restored store may give a revision again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    modified: u64,
    value: u64,
}

impl Mark {
    fn of(row: &Row) -> Self {
        let mut hasher = DefaultHasher::new();
        row.value.hash(&mut hasher);
        Self { modified: row.modified, value: hasher.finish() }
    }
}

/// What turns `known` into the rows of a whole listing, which it becomes.
fn difference(known: &mut Known, listing: Page) -> Vec<Event> {
    let mut gone = std::mem::take(known);
    let mut events = Vec::new();
    for row in listing.rows {
        let mark = Mark::of(&row);
        let before = gone.remove(&row.key);
        known.insert(row.key.clone(), mark);
        if before != Some(mark) {
            events.push(Event::Put(row));
        }
    }
    let revision = listing.revision;
    events.extend(gone.into_keys().map(|key| Event::Delete { key, revision }));
    events.sort_by(|a, b| a.key().cmp(b.key()));
    events
}

/// Whoever listened is gone.
struct Ended;

struct Follower {
    store: Store,
    keys: Keys,
    known: Known,
    /// Up to where everything has been seen.
    seen: Option<(Era, u64)>,
    tell: mpsc::Sender<Change>,
    away: bool,
}

impl Follower {
    async fn run(mut self) {
        let mut failures = 0;
        loop {
            match self.once(&mut failures).await {
                Ok(Ended) => return,
                Err(error) => {
                    if matches!(error, Error::Compacted { .. }) {
                        self.seen = None;
                        continue;
                    }
                    if !std::mem::replace(&mut self.away, true) {
                        tracing::warn!(%error, "the store is away");
                        if self.tell.send(Change::Away(error)).await.is_err() {
                            return;
                        }
                    }
                    sleep(pause(failures)).await;
                    failures += 1;
                }
            }
        }
    }

    /// Lists if it has to, and watches for as long as that goes well.
    async fn once(&mut self, failures: &mut u32) -> Result<Ended> {
        let from = match self.resume().await? {
            Some(revision) => revision,
            None => match self.list().await? {
                Some(revision) => revision,
                None => return Ok(Ended),
            },
        };
        // From the revision that was seen, not from the next: a compaction to the next may have
        // dropped a deletion by it (etcd before 3.4.36).
        let mut watch = self.store.watch(self.keys.clone(), from).await?;
        watch.request_progress().await?;
        loop {
            let batch = watch.next().await?;
            *failures = 0;
            let Some((era, seen)) = self.seen else { return Err(Error::Future { asked: from }) };
            if !era.may_become(seen, batch.era, batch.revision.max(seen)) {
                self.seen = None;
                return Err(Error::Compacted { asked: seen, oldest: batch.revision });
            }
            if self.back().await.is_err() {
                return Ok(Ended);
            }
            let mut events = batch.events;
            events.retain(|event| event.revision() > seen);
            let Some(last) = events.last().map(Event::revision) else {
                self.seen = Some((batch.era, seen));
                continue;
            };
            self.seen = Some((batch.era, last));
            for event in &events {
                match event {
                    Event::Put(row) => drop(self.known.insert(row.key.clone(), Mark::of(row))),
                    Event::Delete { key, .. } => drop(self.known.remove(key)),
                }
            }
            if self.tell.send(Change::Changed { revision: last, events }).await.is_err() {
                return Ok(Ended);
            }
        }
    }

    /// The revision to go on from, when the store is still in the life in which it was seen.
    async fn resume(&mut self) -> Result<Option<u64>> {
        let Some((era, seen)) = self.seen else { return Ok(None) };
        let (now, revision) = self.store.state(self.keys.clone()).await?;
        if era.may_become(seen, now, revision) {
            self.seen = Some((now, seen));
            return Ok(Some(seen));
        }
        tracing::warn!(seen, revision, "the store is older than it was: reading all of it");
        Ok(None)
    }

    /// Reads everything and tells the difference.
    async fn list(&mut self) -> Result<Option<u64>> {
        let listing = self.store.all(self.keys.clone()).await?;
        let (era, revision) = (listing.era, listing.revision);
        let events = difference(&mut self.known, listing);
        self.seen = Some((era, revision));
        self.away = false;
        let told = self.tell.send(Change::Synced { revision, events }).await;
        Ok(told.is_ok().then_some(revision))
    }

    async fn back(&mut self) -> Result<(), mpsc::error::SendError<Change>> {
        if std::mem::take(&mut self.away) {
            self.tell.send(Change::Back).await?;
        }
        Ok(())
    }
}

/// A spread of a wait that grows: from half of it to all of it.
fn pause(failures: u32) -> Duration {
    let whole = FIRST.saturating_mul(2_u32.saturating_pow(failures)).min(LONGEST);
    let spread = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
    whole.mul_f64(0.5 + spread / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(key: &str, modified: u64, value: &str) -> Row {
        let value = value.as_bytes().to_vec();
        Row { key: key.to_owned(), value, created: 1, modified, version: 1, lease: None }
    }

    fn listing(rows: Vec<Row>) -> Page {
        let count = rows.len();
        Page { rows, revision: 9, era: Era::default(), count, more: false }
    }

    #[test]
    fn a_difference_is_what_was_missed() {
        let rows = [row("a", 2, "1"), row("b", 3, "1"), row("c", 4, "1")];
        let mut known = rows.iter().map(|row| (row.key.clone(), Mark::of(row))).collect();
        // A revision that is given twice, after a restore, with another value.
        let now = vec![row("a", 2, "1"), row("b", 3, "2"), row("d", 5, "1")];
        let events = difference(&mut known, listing(now.clone()));
        let wanted = [
            Event::Put(row("b", 3, "2")),
            Event::Delete { key: "c".into(), revision: 9 },
            Event::Put(row("d", 5, "1")),
        ];
        assert_eq!(events, wanted);
        assert_eq!(difference(&mut known, listing(now)), []);
    }

    #[test]
    fn a_pause_grows_to_its_longest() {
        assert!(pause(0) <= FIRST && pause(0) >= FIRST / 2);
        assert!(pause(40) <= LONGEST && pause(40) >= LONGEST / 2);
    }
}
