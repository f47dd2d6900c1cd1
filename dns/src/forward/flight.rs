//! Questions that are out: who asks the same meanwhile waits for the same answer.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use super::cache::Key;
use super::reply::Told;
use crate::answer::Transport;

/// What came of a question.
#[derive(Clone, Debug)]
pub(super) struct Landed {
    /// Whether anybody was asked in time.
    pub(super) asked: bool,
    /// The packet as it came; `None` when nobody answered.
    pub(super) packet: Option<Arc<[u8]>>,
    /// The same, taken apart, where that can be done.
    pub(super) told: Option<Arc<Told>>,
    /// Whose answer it is.
    pub(super) server: Option<SocketAddr>,
}

impl Landed {
    /// Whether there is such a name, or there is none: anything else may be better asked again.
    pub(super) fn is_good(&self) -> bool {
        self.packet.as_deref().is_some_and(super::is_good)
    }
}

/// The questions that are out.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<(Key, Transport), watch::Receiver<Option<Landed>>>);

impl Flights {
    /// The one that is out already.
    pub(super) fn find(
        &self,
        key: &Key,
        transport: Transport,
    ) -> Option<watch::Receiver<Option<Landed>>> {
        self.0.get(&(key.clone(), transport)).cloned()
    }

    /// One is out now; whoever has what this gives says what came of it.
    pub(super) fn leave(
        &mut self,
        key: &Key,
        transport: Transport,
    ) -> (watch::Sender<Option<Landed>>, watch::Receiver<Option<Landed>>) {
        let (sender, receiver) = watch::channel(None);
        self.0.insert((key.clone(), transport), receiver.clone());
        (sender, receiver)
    }

    /// It is no longer out.
    pub(super) fn land(&mut self, key: &Key, transport: Transport) {
        self.0.remove(&(key.clone(), transport));
    }
}

/// Waits for what comes of it. `None` when whoever was to say so is gone.
pub(super) async fn landing(mut flight: watch::Receiver<Option<Landed>>) -> Option<Landed> {
    flight.wait_for(Option::is_some).await.ok()?.clone()
}
