//! Rows with revisions: reads at a revision, transactions, watches and leases, over one of two
//! engines. The embedded one is a file of this host; the other is etcd, for many hosts. What a
//! caller sees of them is the same, and `tests/` holds both to it.
//!
//! Keys are text, compared byte by byte; values are bytes. Every change has a revision, counted
//! from 1 over the whole store, and all changes of one transaction share it.

mod embedded;
mod error;
mod etcd;
mod follow;
mod row;
mod txn;
mod watch;

use std::time::Duration;

pub use embedded::{Embedded, EmbeddedOptions};
pub use error::{Error, Result};
pub use etcd::{
    Etcd, EtcdOptions, Tls,
    admin::{Access, Grant, Member, Status},
};
pub use follow::{Change, Follow, Known};
pub use row::{Era, Event, Keys, LeaseId, Page, Read, Row};
pub use txn::{Compare, Done, MOST_OPERATIONS, Op, Outcome, Relation, Test, Txn};
pub use watch::{Batch, Watch};

/// How many rows a page of a whole listing has.
const PAGE: usize = 1000;

/// A store; clones are the same store.
#[derive(Clone, Debug)]
pub enum Store {
    /// A file of this host.
    Embedded(Embedded),
    /// etcd, on this or on other hosts.
    Etcd(Etcd),
}

impl Store {
    /// The row of a key.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn get(&self, key: impl Into<String>) -> Result<Option<Row>> {
        Ok(self.read(Read::new(Keys::One(key.into()))).await?.rows.pop())
    }

    /// Rows, sorted by key.
    ///
    /// # Errors
    /// [`Error::Compacted`] and [`Error::Future`] for a revision that is not there (any more, yet);
    /// when the store is away or refuses.
    pub async fn read(&self, read: Read) -> Result<Page> {
        match self {
            Self::Embedded(engine) => engine.read(&read),
            Self::Etcd(engine) => engine.read(read).await,
        }
    }

    /// All rows of `keys` as they were at one revision, however many pages it takes.
    ///
    /// # Errors
    /// As [`Store::read`]; [`Error::Compacted`] when the history went away under the reading, which
    /// may be tried again; [`Error::Torn`] when the pages do not make up the whole.
    pub async fn all(&self, keys: Keys) -> Result<Page> {
        let mut rows = Vec::new();
        let (era, revision) = self.pages(keys, |page| rows.extend(page)).await?;
        let count = rows.len();
        Ok(Page { rows, revision, era, count, more: false })
    }

    /// As [`Store::all`], page by page. What was taken counts only once this returns.
    ///
    /// # Errors
    /// As [`Store::all`].
    pub async fn pages(&self, keys: Keys, mut take: impl FnMut(Vec<Row>)) -> Result<(Era, u64)> {
        let mut page = self.read(Read::new(keys.clone()).limit(PAGE)).await?;
        let (era, revision, count) = (page.era, page.revision, page.count);
        let mut read = 0;
        loop {
            read += page.rows.len();
            let last = page.rows.last().map(|row| row.key.clone());
            take(std::mem::take(&mut page.rows));
            let Some(last) = last.filter(|_| page.more) else { break };
            page = self.read(Read::new(keys.after(&last)).limit(PAGE).at(revision)).await?;
        }
        if read == count { Ok((era, revision)) } else { Err(Error::Torn { read, count }) }
    }

    /// Where the store is: its era and its revision.
    ///
    /// # Errors
    /// When it is away or refuses. What of `keys` may be read has to be readable to the caller.
    pub async fn state(&self, keys: Keys) -> Result<(Era, u64)> {
        let page = self.read(Read::new(keys).limit(1).bare()).await?;
        Ok((page.era, page.revision))
    }

    /// Does one of two lists of operations, whole, depending on comparisons.
    ///
    /// # Errors
    /// [`Error::Invalid`] before anything is done; [`Error::LeaseGone`]; when the store is away,
    /// where [`Error::Unavailable`] says whether it may have been done all the same.
    pub async fn txn(&self, txn: Txn) -> Result<Outcome> {
        txn.check()?;
        match self {
            Self::Embedded(engine) => engine.txn(txn).await,
            Self::Etcd(engine) => engine.txn(txn).await,
        }
    }

    /// Writes a row whatever was there, and gives the revision.
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub async fn put(&self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Result<u64> {
        Ok(self.txn(Txn::new().then(Op::put(key, value))).await?.revision)
    }

    /// Deletes rows and gives how many there were.
    ///
    /// # Errors
    /// As [`Store::txn`].
    pub async fn delete(&self, keys: Keys) -> Result<usize> {
        match self.txn(Txn::new().then(Op::Delete(keys))).await?.done.pop() {
            Some(Done::Deleted(count)) => Ok(count),
            _ => Ok(0),
        }
    }

    /// Every change of `keys` from revision `from` on, in order.
    ///
    /// # Errors
    /// When the store is away or refuses. That `from` is compacted is said by [`Watch::next`].
    pub async fn watch(&self, keys: Keys, from: u64) -> Result<Watch> {
        match self {
            Self::Embedded(engine) => Ok(Watch::Embedded(engine.watch(keys, from))),
            Self::Etcd(engine) => Ok(Watch::Etcd(Box::new(engine.watch(&keys, from).await?))),
        }
    }

    /// Follows `keys` for as long as the follower is kept: the difference to the `known` rows
    /// first, then every change, whatever becomes of the store meanwhile. Needs a runtime.
    pub fn follow(&self, keys: Keys, known: impl Into<Known>) -> Follow {
        Follow::new(self.clone(), keys, known.into())
    }

    /// A lease: rows that are put under it go when it is not kept alive for `ttl`, which is
    /// rounded up to seconds and may be lengthened by the store, or when it is revoked.
    ///
    /// # Errors
    /// When the store is away or refuses.
    pub async fn grant(&self, ttl: Duration) -> Result<LeaseId> {
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        match self {
            Self::Embedded(engine) => engine.grant(seconds.max(1)).await,
            Self::Etcd(engine) => engine.grant(seconds.max(1)).await,
        }
    }

    /// Gives a lease its whole time again.
    ///
    /// # Errors
    /// [`Error::LeaseGone`]; when the store is away or refuses.
    pub async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        match self {
            Self::Embedded(engine) => engine.keep_alive(lease).await,
            Self::Etcd(engine) => engine.keep_alive(lease).await,
        }
    }

    /// Ends a lease and deletes its rows.
    ///
    /// # Errors
    /// [`Error::LeaseGone`]; when the store is away or refuses.
    pub async fn revoke(&self, lease: LeaseId) -> Result<()> {
        match self {
            Self::Embedded(engine) => engine.revoke(lease).await,
            Self::Etcd(engine) => engine.revoke(lease).await,
        }
    }

    /// Forgets what rows were before `revision`; how they were *at* it can still be read.
    ///
    /// # Errors
    /// [`Error::Compacted`] when it was done before, [`Error::Future`]; when the store is away or
    /// refuses.
    pub async fn compact(&self, revision: u64) -> Result<()> {
        match self {
            Self::Embedded(engine) => engine.compact(revision).await,
            Self::Etcd(engine) => engine.compact(revision).await,
        }
    }
}
