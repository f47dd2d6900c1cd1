//! The embedded engine: one file, one thread that writes it. Requests that wait for that thread are
//! written together, each with a revision of its own, and cost one commit.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
};

use tokio::sync::{oneshot, watch as revisions};

use crate::{Error, Keys, LeaseId, Outcome, Page, Read, Result, Txn};

mod file;
mod tables;
pub(crate) mod watch;
mod writer;

use file::File;
use watch::EmbeddedWatch;
use writer::{Job, Writer};

/// How the embedded engine is set.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// How many revisions of history are kept at least; twice as many at most.
    pub history: u64,
    /// Bytes of memory for pages of the file.
    pub cache: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self { history: 10_000, cache: 1 << 20 }
    }
}

/// A store in a file of this host; clones are the same store.
#[derive(Clone, Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    file: Arc<File>,
    revision: revisions::Receiver<u64>,
    /// Taken when the store is dropped, which ends the writer.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The file is closed when this returns, so that it can be opened again.
        if let Some(writer) = self.writer.take() {
            drop(writer.join());
        }
    }
}

impl Embedded {
    /// Opens the file at `path`, or makes it, readable by its owner only.
    ///
    /// # Errors
    /// When another process has it, when it is damaged, or of another schema.
    pub fn open(path: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self> {
        let path: PathBuf = path.as_ref().to_owned();
        let (file, opened) = File::open(path.clone(), options.cache)?;
        let file = Arc::new(file);
        let (changed, revision) = revisions::channel(opened.revision);
        let (jobs, todo) = mpsc::channel();
        let writer = Writer::new(Arc::clone(&file), opened, changed, options.history.max(1));
        let writer = thread::Builder::new()
            .name("store".to_owned())
            .spawn(move || writer.run(&todo))
            .map_err(|error| Error::Io { path, why: error.to_string() })?;
        let shared = Shared { file, revision, jobs: Mutex::new(Some(jobs)), writer: Some(writer) };
        Ok(Self { shared: Arc::new(shared) })
    }

    pub(crate) fn read(&self, read: &Read) -> Result<Page> {
        self.shared.file.read(|tables| tables.read(read))
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<Outcome> {
        self.ask(|answer| Job::Txn(txn, answer)).await
    }

    pub(crate) fn watch(&self, keys: Keys, from: u64) -> EmbeddedWatch {
        let shared = &self.shared;
        EmbeddedWatch::new(Arc::clone(&shared.file), shared.revision.clone(), keys, from)
    }

    pub(crate) async fn grant(&self, seconds: u64) -> Result<LeaseId> {
        self.ask(|answer| Job::Grant(seconds, answer)).await
    }

    pub(crate) async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        self.ask(|answer| Job::KeepAlive(lease, answer)).await
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<()> {
        self.ask(|answer| Job::Revoke(lease, answer)).await
    }

    pub(crate) async fn compact(&self, revision: u64) -> Result<()> {
        self.ask(|answer| Job::Compact(revision, answer)).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T>>) -> Job) -> Result<T> {
        let ended = || Error::Io {
            path: self.shared.file.path().to_owned(),
            why: "the thread that writes it has ended".to_owned(),
        };
        let (answer, answered) = oneshot::channel();
        {
            let jobs = self.shared.jobs.lock().unwrap_or_else(PoisonError::into_inner);
            let jobs = jobs.as_ref().ok_or_else(ended)?;
            jobs.send(job(answer)).map_err(|_| ended())?;
        }
        answered.await.map_err(|_| ended())?
    }
}
