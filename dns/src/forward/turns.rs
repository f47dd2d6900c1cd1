//! Turns: how many questions may be out to other servers, in all and for one asker, and who waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::lock;
use crate::answer::Asker;

/// Queries that are out at one time, in all and for one asker.
const OUT: usize = 1024;
const OUT_PER_ASKER: usize = 64;

/// How many of all are for askers that have few out: those who have many, of servers that do not
/// answer, cannot take these.
const KEPT_BACK: usize = 256;

/// How many are few.
const FEW: usize = 8;

/// Queries of one asker that wait for their turn, besides those that are out, whoever else waits. It
/// may have more where there are not many in all; what finds no place is not answered.
const WAITING_PER_ASKER: usize = 256;

/// How many queries that are out or wait are many, of all askers together.
const MANY: usize = 2048;

/// How much is asked of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pressure {
    /// Questions that are out.
    pub out: usize,
    /// How many may be.
    pub most: usize,
    /// Questions that had to wait, since the start, as too many were out.
    pub waited: u64,
    /// Questions of askers that had too many out or waiting already: they found no place, or had their
    /// turn too late.
    pub crowded: u64,
    /// When one had to wait last.
    pub last: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Crowding {
    waited: u64,
    crowded: u64,
    last: Option<Instant>,
}

/// Who asks others, and who waits for it.
#[derive(Debug)]
pub(super) struct Turns {
    out: Semaphore,
    kept_back: Semaphore,
    crowding: Mutex<Crowding>,
    askers: Mutex<Askers>,
}

impl Default for Turns {
    fn default() -> Self {
        Self {
            out: Semaphore::new(OUT - KEPT_BACK),
            kept_back: Semaphore::new(KEPT_BACK),
            crowding: Mutex::default(),
            askers: Mutex::default(),
        }
    }
}

impl Turns {
    /// How much is asked of others at a time, beside what may be.
    pub(super) fn pressure(&self) -> Pressure {
        let free = self.out.available_permits() + self.kept_back.available_permits();
        let Crowding { waited, crowded, last } = *lock(&self.crowding);
        Pressure { out: OUT - free, most: OUT, waited, crowded, last }
    }

    /// Waits until one more question may be out, of an asker that has few out or not.
    pub(super) async fn admission(&self, few: bool) -> Option<SemaphorePermit<'_>> {
        if let Ok(permit) = self.out.try_acquire() {
            return Some(permit);
        }
        if few && let Ok(permit) = self.kept_back.try_acquire() {
            return Some(permit);
        }
        {
            let mut crowding = lock(&self.crowding);
            crowding.waited += 1;
            crowding.last = Some(Instant::now());
        }
        if !few {
            return self.out.acquire().await.ok();
        }
        tokio::select! {
            permit = self.out.acquire() => permit.ok(),
            permit = self.kept_back.acquire() => permit.ok(),
        }
    }

    /// Counts a question whose turn came too late.
    pub(super) fn late(&self) {
        lock(&self.crowding).crowded += 1;
    }

    /// Whether an asker has few questions that are out or wait.
    pub(super) fn has_few(&self, asker: &Asker) -> bool {
        lock(&self.askers).queues.get(asker).is_none_or(|queue| queue.length <= FEW)
    }

    /// A place in the asker's queue, unless that is full.
    pub(super) fn take(self: &Arc<Self>, asker: &Asker) -> Option<Turn> {
        let mut askers = lock(&self.askers);
        let many = askers.length >= MANY;
        let queue = askers.queues.entry(asker.clone()).or_default();
        if many && queue.length >= OUT_PER_ASKER + WAITING_PER_ASKER {
            lock(&self.crowding).crowded += 1;
            return None;
        }
        queue.length += 1;
        let out = Arc::clone(&queue.out);
        askers.length += 1;
        Some(Turn { out, turns: Arc::clone(self), asker: asker.clone() })
    }
}

/// Whose questions are out or wait.
#[derive(Debug, Default)]
struct Askers {
    queues: HashMap<Asker, Queue>,
    /// How many questions these are, of all together.
    length: usize,
}

/// Who of one asker's questions may be out, and how many there are of them, out or waiting.
#[derive(Debug)]
struct Queue {
    out: Arc<Semaphore>,
    length: usize,
}

impl Default for Queue {
    fn default() -> Self {
        Self { out: Arc::new(Semaphore::new(OUT_PER_ASKER)), length: 0 }
    }
}

/// A place in one asker's queue; the queue goes with its last place.
pub(super) struct Turn {
    out: Arc<Semaphore>,
    turns: Arc<Turns>,
    asker: Asker,
}

impl Turn {
    /// Waits until it has come: as long as what this gives is there.
    pub(super) async fn come(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.out).acquire_owned().await.ok()
    }

    /// Whether its asker has few questions out.
    pub(super) fn has_few(&self) -> bool {
        OUT_PER_ASKER - self.out.available_permits() <= FEW
    }
}

/// A place whose turn has come. What allows to ask goes before the place, which looks who is left.
pub(super) type Place = (OwnedSemaphorePermit, Turn);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut askers = lock(&self.turns.askers);
        askers.length -= 1;
        if let Some(queue) = askers.queues.get_mut(&self.asker) {
            queue.length -= 1;
            if queue.length == 0 {
                askers.queues.remove(&self.asker);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
