//! Watching etcd. A stream that says nothing is asked for a sign of life after 5 seconds and given
//! up after 10: a member that was cut off from the others, or stopped, would be silent for good.

use std::time::Duration;

use etcd_client::{WatchOptions, WatchResponse, WatchStream};
use tokio::time::{Instant, sleep_until};

use super::{Again, Etcd, PATIENCE, failure, was_overtaken, wire};
use crate::{Batch, Error, Keys, Result};

/// How long a stream may be silent before it is asked, and then again before it is given up.
const SILENCE: Duration = Duration::from_secs(5);

/// The changes of some keys in etcd.
pub struct EtcdWatch {
    stream: WatchStream,
    /// What it began with, until that is looked at.
    first: Option<WatchResponse>,
    endpoint: String,
    from: u64,
    heard: Instant,
    /// When it was asked for a sign of life that has not come.
    asked: Option<Instant>,
}

impl std::fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdWatch").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl EtcdWatch {
    pub(super) async fn open(etcd: &Etcd, keys: &Keys, from: u64) -> Result<Self> {
        let (key, end) = wire::range(keys);
        let mut options = WatchOptions::new().with_start_revision(wire::signed(from.max(1)));
        if let Some(end) = end {
            options = options.with_range(end);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (stream, first) = etcd
                .call(Again::Yes, |client| {
                    let (key, options) = (key.clone(), options.clone());
                    async move {
                        let mut stream = client.watch_client().watch(key, Some(options)).await?;
                        let first = stream.message().await?;
                        Ok((stream, first))
                    }
                })
                .await?;
            let endpoint = etcd.current().1.url;
            let watch = Self { stream, first, endpoint, from, heard: Instant::now(), asked: None };
            // What is refused comes as the stream's first message.
            let refused = watch.first.as_ref().filter(|first| first.canceled());
            match refused.map(|first| watch.cancelled(first)) {
                Some(error) if was_overtaken(&error, deadline).await => {}
                _ => return Ok(watch),
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Result<Batch> {
        loop {
            if let Some(first) = self.first.take()
                && let Some(batch) = self.read(&first)?
            {
                return Ok(batch);
            }
            let until = self.asked.unwrap_or(self.heard) + SILENCE;
            let message = tokio::select! {
                biased;
                message = self.stream.message() => message,
                () = sleep_until(until) => {
                    if self.asked.is_some() {
                        return Err(self.over("the watch is silent"));
                    }
                    self.request_progress().await?;
                    continue;
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Err(self.over("the watch has ended")),
                Err(error) => return Err(failure::of(&self.endpoint, &error)),
            };
            self.heard = Instant::now();
            self.asked = None;
            if let Some(batch) = self.read(&message)? {
                return Ok(batch);
            }
        }
    }

    /// What a message says; nothing where it says that the watch has begun.
    fn read(&self, message: &WatchResponse) -> Result<Option<Batch>> {
        if message.canceled() {
            return Err(self.cancelled(message));
        }
        if message.created() {
            return Ok(None);
        }
        let (era, revision) = wire::era(message.header());
        let mut events = Vec::with_capacity(message.events().len());
        for event in message.events() {
            events.extend(wire::event(event)?);
        }
        Ok(Some(Batch { revision, era, events }))
    }

    pub(crate) async fn request_progress(&mut self) -> Result<()> {
        self.asked = Some(Instant::now());
        let asked = self.stream.request_progress().await;
        asked.map_err(|_| self.over("the watch has ended"))
    }

    fn over(&self, why: &str) -> Error {
        Error::Unavailable { endpoint: self.endpoint.clone(), why: why.to_owned(), sent: false }
    }

    fn cancelled(&self, message: &WatchResponse) -> Error {
        let reason = message.cancel_reason();
        if let Ok(oldest @ 1..) = u64::try_from(message.compact_revision()) {
            return Error::Compacted { asked: self.from, oldest };
        }
        if failure::is_overtaken(reason) {
            return Error::Overtaken { endpoint: self.endpoint.clone() };
        }
        if reason.contains("permission denied") || reason.contains("auth") {
            let (endpoint, why) = (self.endpoint.clone(), reason.to_owned());
            return Error::Denied { endpoint, why };
        }
        self.over(reason)
    }
}
