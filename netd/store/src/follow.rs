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

use crate::{Era, Error, Event, Keys, Result, Row, Store};

/// How many changes wait to be taken before the follower waits as well.
const WAITING: usize = 64;

/// How many events are taken together when they come faster than they are.
const AT_ONCE: usize = 250;

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
    /// What came behind changes that were taken together.
    next: Option<Change>,
    task: AbortHandle,
}

impl Drop for Follow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Follow {
    pub(crate) fn new(store: Store, keys: Keys, known: Known) -> Self {
        let (tell, changes) = mpsc::channel(WAITING);
        let follower = Follower { store, keys, known, seen: None, tell, away: false };
        let task = tokio::spawn(follower.run()).abort_handle();
        Self { changes, next: None, task }
    }

    /// Waits for what comes next; changes that have come meanwhile are taken together. May be
    /// abandoned and called again. `None` only when the runtime is ending.
    pub async fn next(&mut self) -> Option<Change> {
        let next = match self.next.take() {
            Some(next) => next,
            None => self.changes.recv().await?,
        };
        let Change::Changed { mut revision, mut events } = next else { return Some(next) };
        while events.len() < AT_ONCE {
            match self.changes.try_recv() {
                Ok(Change::Changed { revision: later, events: more }) => {
                    revision = later;
                    events.extend(more);
                }
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(_) => break,
            }
        }
        Some(Change::Changed { revision, events })
    }
}

/// Rows that are known, as far as it takes to tell whether they are others by now. There may be very
/// many, whose keys have long beginnings in common, up to the last slash: these are kept once each.
#[derive(Debug, Default)]
pub struct Known(BTreeMap<String, Names>);

/// What is behind the last slash: nearly always 64 hexadecimal digits, which are 32 bytes.
#[derive(Debug, Default)]
struct Names {
    ids: BTreeMap<[u8; 32], Mark>,
    others: BTreeMap<Box<str>, Mark>,
}

/// A key up to its last slash, and what is behind it.
fn split(key: &str) -> (&str, &str) {
    key.split_at(key.rfind('/').map_or(0, |slash| slash + 1))
}

/// The bytes of which these are the digits.
fn id_of(digits: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut id = [0; 32];
    if digits.len() != 2 * id.len() {
        return None;
    }
    for (byte, pair) in id.iter_mut().zip(digits.as_bytes().chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(id)
}

impl Known {
    /// One row more.
    pub fn add(&mut self, row: &Row) {
        self.insert(&row.key, Mark::of(row));
    }

    fn get(&self, key: &str) -> Option<Mark> {
        let (place, name) = split(key);
        let names = self.0.get(place)?;
        let mark = match id_of(name) {
            Some(id) => names.ids.get(&id),
            None => names.others.get(name),
        };
        mark.copied()
    }

    fn insert(&mut self, key: &str, mark: Mark) {
        let (place, name) = split(key);
        if !self.0.contains_key(place) {
            self.0.insert(place.to_owned(), Names::default());
        }
        let Some(names) = self.0.get_mut(place) else { return };
        match id_of(name) {
            Some(id) => drop(names.ids.insert(id, mark)),
            None => drop(names.others.insert(name.into(), mark)),
        }
    }

    fn remove(&mut self, key: &str) {
        let (place, name) = split(key);
        let Some(names) = self.0.get_mut(place) else { return };
        match id_of(name) {
            Some(id) => names.ids.remove(&id),
            None => names.others.remove(name),
        };
        if names.ids.is_empty() && names.others.is_empty() {
            self.0.remove(place);
        }
    }

    fn keys(&self) -> impl Iterator<Item = String> {
        self.0.iter().flat_map(|(place, names)| {
            let digits = |id: &[u8; 32]| id.iter().map(|byte| format!("{byte:02x}")).collect();
            let ids = names.ids.keys().map(digits);
            let others = names.others.keys().map(ToString::to_string);
            ids.chain(others).map(move |name: String| format!("{place}{name}"))
        })
    }
}

impl From<Vec<Row>> for Known {
    fn from(rows: Vec<Row>) -> Self {
        let mut known = Self::default();
        rows.iter().for_each(|row| known.add(row));
        known
    }
}

/// As much of a row as tells whether it is another: a restored store may give a revision again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark(u64);

impl Mark {
    fn of(row: &Row) -> Self {
        let mut hasher = DefaultHasher::new();
        (row.modified, &row.value).hash(&mut hasher);
        Self(hasher.finish())
    }
}

/// What turns rows that were known into those of a whole listing, which comes page by page.
#[derive(Debug, Default)]
struct Difference {
    listed: Known,
    events: Vec<Event>,
}

impl Difference {
    /// A page of it.
    fn page(&mut self, known: &Known, rows: Vec<Row>) {
        for row in rows {
            let mark = Mark::of(&row);
            self.listed.insert(&row.key, mark);
            if known.get(&row.key) != Some(mark) {
                self.events.push(Event::Put(row));
            }
        }
    }

    /// The end of it, at this revision: what was known and is not listed is gone.
    fn whole(mut self, known: &mut Known, revision: u64) -> Vec<Event> {
        let gone = known.keys().filter(|key| self.listed.get(key).is_none());
        self.events.extend(gone.map(|key| Event::Delete { key, revision }));
        *known = self.listed;
        self.events.sort_by(|a, b| a.key().cmp(b.key()));
        self.events
    }
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
                    Event::Put(row) => self.known.insert(&row.key, Mark::of(row)),
                    Event::Delete { key, .. } => self.known.remove(key),
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
        let mut difference = Difference::default();
        let known = &self.known;
        let take = |rows| difference.page(known, rows);
        let (era, revision) = self.store.pages(self.keys.clone(), take).await?;
        let events = difference.whole(&mut self.known, revision);
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

    fn difference(known: &mut Known, rows: Vec<Row>) -> Vec<Event> {
        let mut difference = Difference::default();
        rows.chunks(2).for_each(|page| difference.page(known, page.to_vec()));
        difference.whole(known, 9)
    }

    #[test]
    fn a_difference_is_what_was_missed() {
        let rows = vec![row("a", 2, "1"), row("b", 3, "1"), row("c", 4, "1"), row("x/y/z", 4, "1")];
        assert_eq!(id_of(&"0".repeat(63)), None);
        assert_eq!(id_of(&"A".repeat(64)), None, "it would be given back in lower case");
        let mut known = Known::from(rows);
        // A revision that is given twice, after a restore, with another value.
        let now = vec![row("a", 2, "1"), row("b", 3, "2"), row("d", 5, "1")];
        let events = difference(&mut known, now.clone());
        let wanted = [
            Event::Put(row("b", 3, "2")),
            Event::Delete { key: "c".into(), revision: 9 },
            Event::Put(row("d", 5, "1")),
            Event::Delete { key: "x/y/z".into(), revision: 9 },
        ];
        assert_eq!(events, wanted);
        assert_eq!(difference(&mut known, now), []);
        assert_eq!(known.keys().collect::<Vec<_>>(), ["a", "b", "d"]);
        known.remove("b");
        known.remove("b");
        assert_eq!(known.keys().count(), 2);
        let id = format!("x/{}", "0f".repeat(32));
        known.add(&row(&id, 6, "1"));
        assert_eq!(known.keys().last(), Some(id.clone()));
        assert_eq!(known.get(&id), Some(Mark::of(&row(&id, 6, "1"))));
        known.remove(&id);
        assert_eq!((known.get(&id), known.keys().count()), (None, 2));
    }

    #[test]
    fn a_pause_grows_to_its_longest() {
        assert!(pause(0) <= FIRST && pause(0) >= FIRST / 2);
        assert!(pause(40) <= LONGEST && pause(40) >= LONGEST / 2);
    }
}
