//! Watching the embedded store: told of each new revision, a watch reads from the log what it has
//! not seen. It keeps no queue, and a slow reader holds nobody up.

use std::sync::Arc;

use tokio::sync::watch as revisions;

use super::file::File;
use crate::{Batch, Era, Error, Keys, Result};

/// The changes of some keys of the embedded store.
#[derive(Debug)]
pub struct EmbeddedWatch {
    file: Arc<File>,
    revision: revisions::Receiver<u64>,
    keys: Keys,
    from: u64,
    asked: bool,
}

impl EmbeddedWatch {
    pub(crate) fn new(
        file: Arc<File>,
        revision: revisions::Receiver<u64>,
        keys: Keys,
        from: u64,
    ) -> Self {
        let mut watch = Self { file, revision, keys, from: from.max(1), asked: false };
        watch.revision.mark_changed();
        watch
    }

    pub(crate) fn request_progress(&mut self) {
        self.asked = true;
        self.revision.mark_changed();
    }

    pub(crate) async fn next(&mut self) -> Result<Batch> {
        loop {
            if self.revision.changed().await.is_err() {
                let why = "it was closed".to_owned();
                return Err(Error::Io { path: self.file.path().to_owned(), why });
            }
            self.revision.mark_unchanged();
            let (revision, events) =
                self.file.read(|tables| tables.events(&self.keys, self.from))?;
            self.from = self.from.max(revision + 1);
            if std::mem::take(&mut self.asked) || !events.is_empty() {
                return Ok(Batch { revision, era: Era::default(), events });
            }
        }
    }
}
