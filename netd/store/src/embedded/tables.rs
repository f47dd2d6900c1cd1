//! The tables: every version of every row, the log of what each revision touched, the leases. What
//! a row was at a revision is its newest version that is not younger.

use redb::{Database, ReadTransaction, ReadableTable, Table, TableDefinition, WriteTransaction};

use super::file::Failure;
use crate::{Compare, Done, Era, Error, Event, Keys, LeaseId, Op, Page, Read, Row, Txn};

/// The form of the tables. A file of another form is refused, never guessed at.
pub(crate) const SCHEMA: u64 = 1;

type Key = (&'static str, u64);

const VERSIONS: TableDefinition<'static, Key, &[u8]> = TableDefinition::new("versions");
const LOG: TableDefinition<'static, (u64, u32), &str> = TableDefinition::new("log");
const LEASES: TableDefinition<'static, i64, u64> = TableDefinition::new("leases");
const LEASED: TableDefinition<'static, (i64, &str), ()> = TableDefinition::new("leased");
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// What a file holds when it is opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) schema: u64,
    pub(crate) revision: u64,
    /// Each lease and its time, in seconds.
    pub(crate) leases: Vec<(LeaseId, u64)>,
}

/// Makes the tables where there are none.
pub(crate) fn open(database: &Database) -> Result<Opened, redb::Error> {
    let write = database.begin_write()?;
    let opened = {
        let mut meta = write.open_table(META)?;
        let number = |meta: &Table<'_, &str, u64>, name| {
            meta.get(name).map(|found| found.map(|value| value.value()))
        };
        let schema = match number(&meta, "schema")? {
            Some(schema) => schema,
            None => {
                meta.insert("schema", SCHEMA)?;
                SCHEMA
            }
        };
        write.open_table(VERSIONS)?;
        write.open_table(LOG)?;
        write.open_table(LEASED)?;
        let leases = write.open_table(LEASES)?;
        let leases = leases.iter()?.map(|lease| {
            let (id, seconds) = lease?;
            Ok((LeaseId(id.value()), seconds.value()))
        });
        Opened {
            schema,
            revision: number(&meta, "revision")?.unwrap_or(1),
            leases: leases.collect::<Result<_, redb::StorageError>>()?,
        }
    };
    write.commit()?;
    Ok(opened)
}

/// A row's version as it is stored; `None` when it was deleted then.
fn encode(row: Option<&Row>) -> Vec<u8> {
    let Some(row) = row else { return Vec::new() };
    let mut bytes = Vec::with_capacity(24 + row.value.len());
    bytes.extend(row.created.to_le_bytes());
    bytes.extend(row.version.to_le_bytes());
    bytes.extend(row.lease.map_or(0, |lease| lease.0).to_le_bytes());
    bytes.extend(&row.value);
    bytes
}

fn decode(key: &str, modified: u64, bytes: &[u8], bare: bool) -> Option<Row> {
    let (created, rest) = bytes.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (lease, value) = rest.split_first_chunk()?;
    let lease = i64::from_le_bytes(*lease);
    Some(Row {
        key: key.to_owned(),
        value: if bare { Vec::new() } else { value.to_vec() },
        created: u64::from_le_bytes(*created),
        modified,
        version: u64::from_le_bytes(*version),
        lease: (lease != 0).then_some(LeaseId(lease)),
    })
}

/// The rows of `keys` at revision `at`, in order, until `each` says that it has enough.
fn scan(
    versions: &impl ReadableTable<Key, &'static [u8]>,
    keys: &Keys,
    at: u64,
    bare: bool,
    mut each: impl FnMut(Row),
) -> Result<(), Failure> {
    let (from, to) = keys.bounds();
    let end = to.as_deref();
    // The newest version not younger than `at`, of the key that is being read.
    let mut newest: Option<(String, Option<Row>)> = None;
    for version in versions.range((from.as_str(), 0)..)? {
        let (found, bytes) = version?;
        let (key, modified) = found.value();
        if end.is_some_and(|end| key >= end) {
            break;
        }
        if modified > at {
            continue;
        }
        let row = decode(key, modified, bytes.value(), bare);
        match &mut newest {
            Some((current, newest)) if current == key => *newest = row,
            newest => {
                if let Some((_, Some(row))) = newest.replace((key.to_owned(), row)) {
                    each(row);
                }
            }
        }
    }
    if let Some((_, Some(row))) = newest {
        each(row);
    }
    Ok(())
}

fn row_at(
    versions: &impl ReadableTable<Key, &'static [u8]>,
    key: &str,
    at: u64,
) -> Result<Option<Row>, Failure> {
    let Some(version) = versions.range((key, 0)..=(key, at))?.next_back() else { return Ok(None) };
    let (found, bytes) = version?;
    Ok(decode(key, found.value().1, bytes.value(), false))
}

fn page(
    versions: &impl ReadableTable<Key, &'static [u8]>,
    read: &Read,
    revision: u64,
) -> Result<Page, Failure> {
    let mut page = Page { rows: Vec::new(), revision, era: Era::default(), count: 0, more: false };
    scan(versions, &read.keys, read.at.unwrap_or(revision), read.bare, |row| {
        page.count += 1;
        if read.limit == 0 || page.rows.len() < read.limit {
            page.rows.push(row);
        } else {
            page.more = true;
        }
    })?;
    Ok(page)
}

fn number(meta: &impl ReadableTable<&'static str, u64>, name: &str) -> Result<u64, Failure> {
    Ok(meta.get(name)?.map_or(0, |value| value.value()))
}

/// The tables at one moment.
#[derive(Debug)]
pub(crate) struct Reading {
    versions: redb::ReadOnlyTable<Key, &'static [u8]>,
    log: redb::ReadOnlyTable<(u64, u32), &'static str>,
    revision: u64,
    compacted: u64,
}

impl Reading {
    pub(crate) fn new(transaction: &ReadTransaction) -> Result<Self, Failure> {
        let meta = transaction.open_table(META)?;
        Ok(Self {
            versions: transaction.open_table(VERSIONS)?,
            log: transaction.open_table(LOG)?,
            revision: number(&meta, "revision")?.max(1),
            compacted: number(&meta, "compacted")?,
        })
    }

    pub(crate) fn read(&self, read: &Read) -> Result<Page, Failure> {
        match read.at {
            Some(asked) if asked > self.revision => Err(Error::Future { asked }.into()),
            Some(asked) if asked < self.compacted => {
                Err(Error::Compacted { asked, oldest: self.compacted }.into())
            }
            _ => page(&self.versions, read, self.revision),
        }
    }

    /// The revision, and what happened to `keys` from revision `from` on up to it.
    pub(crate) fn events(&self, keys: &Keys, from: u64) -> Result<(u64, Vec<Event>), Failure> {
        if from < self.compacted {
            return Err(Error::Compacted { asked: from, oldest: self.compacted }.into());
        }
        let mut events = Vec::new();
        for entry in self.log.range((from, 0)..)? {
            let (at, key) = entry?;
            let (revision, key) = (at.value().0, key.value());
            if !keys.contains(key) {
                continue;
            }
            let row = match self.versions.get((key, revision))? {
                Some(bytes) => decode(key, revision, bytes.value(), false),
                None => None,
            };
            events.push(match row {
                Some(row) => Event::Put(row),
                None => Event::Delete { key: key.to_owned(), revision },
            });
        }
        Ok((self.revision, events))
    }
}

/// The tables while they are changed.
#[derive(Debug)]
pub(crate) struct Writing<'txn> {
    versions: Table<'txn, Key, &'static [u8]>,
    log: Table<'txn, (u64, u32), &'static str>,
    leases: Table<'txn, i64, u64>,
    leased: Table<'txn, (i64, &'static str), ()>,
    meta: Table<'txn, &'static str, u64>,
    revision: u64,
}

impl<'txn> Writing<'txn> {
    pub(crate) fn new(transaction: &'txn WriteTransaction) -> Result<Self, Failure> {
        let meta = transaction.open_table(META)?;
        let revision = number(&meta, "revision")?.max(1);
        Ok(Self {
            versions: transaction.open_table(VERSIONS)?,
            log: transaction.open_table(LOG)?,
            leases: transaction.open_table(LEASES)?,
            leased: transaction.open_table(LEASED)?,
            meta,
            revision,
        })
    }

    pub(crate) fn revision(&self) -> u64 {
        self.revision
    }

    /// The revision before which everything is forgotten.
    pub(crate) fn compacted(&self) -> Result<u64, Failure> {
        number(&self.meta, "compacted")
    }

    fn holds(&self, compare: &Compare) -> Result<bool, Failure> {
        let (mut any, mut all) = (false, true);
        scan(&self.versions, &compare.keys, self.revision, false, |row| {
            any = true;
            all &= compare.holds_for(Some(&row));
        })?;
        Ok(if any { all } else { compare.holds_for(None) })
    }

    /// Does a transaction. One that is refused has changed nothing.
    pub(crate) fn txn(&mut self, txn: &Txn) -> Result<(bool, Vec<Done>), Failure> {
        let mut held = true;
        for compare in &txn.compares {
            held = held && self.holds(compare)?;
        }
        let ops = if held { &txn.then } else { &txn.otherwise };
        for op in ops {
            if let Op::Put { lease: Some(lease), .. } = op
                && self.leases.get(lease.0)?.is_none()
            {
                return Err(Error::LeaseGone { lease: *lease }.into());
            }
        }
        let mut change = Change { revision: self.revision + 1, touched: 0 };
        let mut done = Vec::with_capacity(ops.len());
        for op in ops {
            done.push(match op {
                Op::Put { key, value, lease } => {
                    self.put(&mut change, key, value, *lease)?;
                    Done::Put
                }
                Op::Delete(keys) => Done::Deleted(self.delete(&mut change, keys)?),
                Op::Get(read) => {
                    let seen = self.revision + u64::from(change.touched > 0);
                    let read = Read { at: None, ..read.clone() };
                    Done::Got(page(&self.versions, &read, seen)?)
                }
            });
        }
        self.finish(&change)?;
        Ok((held, done))
    }

    fn put(
        &mut self,
        change: &mut Change,
        key: &str,
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Result<(), Failure> {
        let before = row_at(&self.versions, key, change.revision)?;
        if let Some(lease) = before.as_ref().and_then(|row| row.lease) {
            self.leased.remove((lease.0, key))?;
        }
        if let Some(lease) = lease {
            self.leased.insert((lease.0, key), ())?;
        }
        let row = Row {
            key: key.to_owned(),
            value: value.to_vec(),
            created: before.as_ref().map_or(change.revision, |row| row.created),
            modified: change.revision,
            version: before.map_or(0, |row| row.version) + 1,
            lease,
        };
        self.note(change, key, Some(&row))
    }

    fn delete(&mut self, change: &mut Change, keys: &Keys) -> Result<usize, Failure> {
        let mut found = Vec::new();
        scan(&self.versions, keys, change.revision, true, |row| found.push(row))?;
        for row in &found {
            if let Some(lease) = row.lease {
                self.leased.remove((lease.0, row.key.as_str()))?;
            }
            self.note(change, &row.key, None)?;
        }
        Ok(found.len())
    }

    fn note(&mut self, change: &mut Change, key: &str, row: Option<&Row>) -> Result<(), Failure> {
        self.versions.insert((key, change.revision), encode(row).as_slice())?;
        self.log.insert((change.revision, change.touched), key)?;
        change.touched += 1;
        Ok(())
    }

    fn finish(&mut self, change: &Change) -> Result<(), Failure> {
        if change.touched > 0 {
            self.revision = change.revision;
            self.meta.insert("revision", self.revision)?;
        }
        Ok(())
    }

    /// Writes a lease down; a number is never given twice.
    pub(crate) fn grant(&mut self, seconds: u64) -> Result<LeaseId, Failure> {
        let next = number(&self.meta, "lease")? + 1;
        self.meta.insert("lease", next)?;
        let lease = LeaseId(next.cast_signed());
        self.leases.insert(lease.0, seconds)?;
        Ok(lease)
    }

    /// Ends a lease and deletes its rows; whether there was one.
    pub(crate) fn revoke(&mut self, lease: LeaseId) -> Result<bool, Failure> {
        if self.leases.remove(lease.0)?.is_none() {
            return Ok(false);
        }
        let mut keys = Vec::new();
        for entry in self.leased.range((lease.0, "")..(lease.0 + 1, ""))? {
            keys.push(entry?.0.value().1.to_owned());
        }
        let mut change = Change { revision: self.revision + 1, touched: 0 };
        for key in keys {
            self.delete(&mut change, &Keys::One(key))?;
        }
        self.finish(&change)?;
        Ok(true)
    }

    /// Forgets the versions that nobody can see from revision `to` on.
    pub(crate) fn compact(&mut self, to: u64) -> Result<(), Failure> {
        let compacted = self.compacted()?;
        if to > self.revision {
            return Err(Error::Future { asked: to }.into());
        }
        if to <= compacted {
            return Err(Error::Compacted { asked: to, oldest: compacted }.into());
        }
        let mut touched = Vec::new();
        for entry in self.log.range(..(to + 1, 0))? {
            let (at, key) = entry?;
            touched.push((at.value(), key.value().to_owned()));
        }
        for (at, key) in touched {
            let mut versions = Vec::new();
            for version in self.versions.range((key.as_str(), 0)..=(key.as_str(), to))? {
                let (found, bytes) = version?;
                versions.push((found.value().1, bytes.value().is_empty()));
            }
            // A deletion by `to` itself stays, for those who watch from there on.
            if versions.last().is_some_and(|(revision, deleted)| !deleted || *revision == to) {
                versions.pop();
            }
            for (revision, _) in versions {
                self.versions.remove((key.as_str(), revision))?;
            }
            if at.0 < to {
                self.log.remove(at)?;
            }
        }
        self.meta.insert("compacted", to)?;
        Ok(())
    }
}

/// A revision in the making.
#[derive(Debug)]
struct Change {
    revision: u64,
    /// How many rows it has touched.
    touched: u32,
}
