//! What can go wrong with a store.

use std::path::PathBuf;

use crate::LeaseId;

/// What a store gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a store gave nothing.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The history before a revision has been forgotten.
    #[error("revision {asked} is forgotten; the history begins at {oldest}")]
    Compacted {
        /// What was asked for.
        asked: u64,
        /// The oldest that is there; 0 where the store did not say.
        oldest: u64,
    },
    /// The store has not come so far, or has gone back.
    #[error("revision {asked} is not there yet")]
    Future {
        /// What was asked for.
        asked: u64,
    },
    /// A lease that was never granted, ran out, or was revoked.
    #[error("lease {lease} is gone")]
    LeaseGone {
        /// Which.
        lease: LeaseId,
    },
    /// Nobody answers, or nobody who could answer well.
    #[error("the store is not available: {endpoint}: {why}")]
    Unavailable {
        /// Who was asked last.
        endpoint: String,
        /// What became of it.
        why: String,
        /// Whether the request may have been done all the same.
        sent: bool,
    },
    /// The store is full and takes no writes.
    #[error(
        "the store at {endpoint} is full: managers make room in an etcd that netd runs, within half a \
         minute; compact and defragment another, or raise its quota, and disarm its alarm"
    )]
    NoSpace {
        /// Which.
        endpoint: String,
    },
    /// The store does not know the caller, or does not let it do this.
    #[error("the store at {endpoint} refuses: {why}")]
    Denied {
        /// Which.
        endpoint: String,
        /// Its words.
        why: String,
    },
    /// The request cannot be done by any store.
    #[error("invalid request to the store: {why}")]
    Invalid {
        /// What is wrong.
        why: String,
    },
    /// The store will not do it as things are: a member, a user or a role is there already, is
    /// not there, or is needed.
    #[error("the store at {endpoint} will not do that now: {why}")]
    Refused {
        /// Which.
        endpoint: String,
        /// Its words.
        why: String,
    },
    /// Rights in the store were changed while the request was on its way, as often as it was sent.
    /// Nothing of it was done.
    #[error(
        "the store at {endpoint} was changing the rights of nodes again and again, and did nothing: \
         try again"
    )]
    Overtaken {
        /// Which.
        endpoint: String,
    },
    /// A listing is not whole.
    #[error("the store gave {read} of {count} rows")]
    Torn {
        /// How many came.
        read: usize,
        /// How many it said there were.
        count: usize,
    },
    /// A row whose key is no text.
    #[error("the store holds a key that is no text: {key:?}")]
    Key {
        /// As much of it as is text.
        key: String,
    },
    /// Another process has the file.
    #[error("the store {path} is in use by another process")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// The file makes no sense.
    #[error("the store {path} is damaged; put back a copy, or move it aside to lose what it holds")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The file is another program's or another version's.
    #[error("the store {path} has schema {found}, not {expected}: use the netd it is of")]
    Schema {
        /// Which.
        path: PathBuf,
        /// What it has.
        found: u64,
        /// What it should have.
        expected: u64,
    },
    /// The file cannot be read or written.
    #[error("the store {path} failed: {why}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The options make no sense.
    #[error("cannot use the store at {endpoint}: {why}")]
    Options {
        /// Which.
        endpoint: String,
        /// Why.
        why: String,
    },
}

impl Error {
    /// Whether the store is away, or at something else, so that the same request may be answered
    /// later.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::Overtaken { .. })
    }
}
