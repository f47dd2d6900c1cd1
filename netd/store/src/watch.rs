//! A watch over either engine.

use crate::{Era, Event, Result, embedded::watch::EmbeddedWatch, etcd::watch::EtcdWatch};

/// Events that come together: of one revision or of several, in their order; a revision is never
/// split. Without events it says that the watch is alive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Where the store was when it sent this. That everything up to it has been seen does not
    /// follow: etcd before 3.4.25 tells of its progress before it has sent every event.
    pub revision: u64,
    /// Which life of the store sent it.
    pub era: Era,
    /// The events.
    pub events: Vec<Event>,
}

/// The changes of some keys.
#[derive(Debug)]
pub enum Watch {
    /// Of the embedded store.
    Embedded(EmbeddedWatch),
    /// Of etcd.
    Etcd(Box<EtcdWatch>),
}

impl Watch {
    /// Waits for what comes next. May be abandoned at any await and called again.
    ///
    /// # Errors
    /// [`crate::Error::Compacted`] when the events it should give have been forgotten, and when the
    /// store is away (known after at most 10 seconds of silence). After an error the watch is over.
    pub async fn next(&mut self) -> Result<Batch> {
        match self {
            Self::Embedded(watch) => watch.next().await,
            Self::Etcd(watch) => watch.next().await,
        }
    }

    /// Asks for a sign of life: a batch, which is empty if there is nothing else.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn request_progress(&mut self) -> Result<()> {
        match self {
            Self::Embedded(watch) => {
                watch.request_progress();
                Ok(())
            }
            Self::Etcd(watch) => watch.request_progress().await,
        }
    }
}
