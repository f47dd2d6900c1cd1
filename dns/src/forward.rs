//! Asking others: a query is relayed as it came, under an id of our own, and so is the answer.
//!
//! Nothing is changed on the way but the id, so that EDNS options and DNSSEC records survive. All
//! of it ends within a bound, whatever the servers do. There is no cache; one would stand in
//! [`Forwarder::ask`], before anybody is asked.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time;

use crate::answer::{Asker, Transport};
use crate::upstreams::{HostServers, Upstreams};

mod health;
mod query;

use health::Health;
use query::Query;

/// How many servers one query is put to, at most.
const ASKED: usize = 3;

/// How long one server has before the next one is asked as well.
const PATIENCE: Duration = Duration::from_millis(300);

/// Queries that are out at one time, in all and for one asker.
const OUT: usize = 1024;
const OUT_PER_ASKER: usize = 64;

/// Queries of one asker that are out or wait for their turn. Beyond it they fail at once.
const WAITING_PER_ASKER: usize = 256;

/// Relays queries to servers elsewhere.
#[derive(Debug)]
pub(crate) struct Forwarder {
    timeout: Duration,
    ids: Ids,
    out: Semaphore,
    askers: Mutex<HashMap<Asker, Arc<Semaphore>>>,
    host: Mutex<HostServers>,
    health: Mutex<Health>,
    ours: Mutex<Vec<SocketAddr>>,
}

impl Forwarder {
    pub(crate) fn new(upstreams: Upstreams, timeout: Duration) -> Self {
        Self {
            timeout,
            ids: Ids::default(),
            out: Semaphore::new(OUT),
            askers: Mutex::default(),
            host: Mutex::new(HostServers::new(upstreams)),
            health: Mutex::default(),
            ours: Mutex::default(),
        }
    }

    /// Notes an address that we listen on: it is never asked, as it would ask back.
    pub(crate) fn add_own(&self, address: SocketAddr) {
        lock(&self.ours).push(address);
    }

    /// Undoes one [`add_own`](Self::add_own).
    pub(crate) fn remove_own(&self, address: SocketAddr) {
        let mut ours = lock(&self.ours);
        if let Some(at) = ours.iter().position(|own| *own == address) {
            ours.swap_remove(at);
        }
    }

    /// Puts a query to `upstreams`, or to the host's servers when there are none. `None` when
    /// nobody answered in time, or nobody could be asked.
    pub(crate) async fn ask(
        &self,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let servers = self.servers(upstreams);
        if servers.is_empty() {
            return None;
        }
        let turn = self.turn(asker)?;
        time::timeout(self.timeout, async {
            let _turn = turn.0.acquire().await.ok()?;
            let _out = self.out.acquire().await.ok()?;
            self.relay(&servers, packet, transport).await
        })
        .await
        .ok()?
    }

    /// The servers to ask, best first.
    fn servers(&self, upstreams: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut servers = match upstreams {
            [] => lock(&self.host).at(now).to_vec(),
            given => given.to_vec(),
        };
        {
            let ours = lock(&self.ours);
            servers.retain(|server| !ours.contains(server));
        }
        lock(&self.health).order(&mut servers, now);
        servers.truncate(ASKED);
        servers
    }

    /// A place in the asker's queue, unless that is full.
    fn turn(&self, asker: &Asker) -> Option<Turn<'_>> {
        let mut askers = lock(&self.askers);
        let queue =
            askers.entry(asker.clone()).or_insert_with(|| Arc::new(Semaphore::new(OUT_PER_ASKER)));
        // One count is the map's, the others are places.
        if Arc::strong_count(queue) > WAITING_PER_ASKER {
            return None;
        }
        Some(Turn(Arc::clone(queue), self, asker.clone()))
    }

    /// Asks the servers one after the other, the next one when the last has failed or takes long,
    /// and takes the first good answer. A bad one is better than none.
    async fn relay(
        &self,
        servers: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let mut asked = JoinSet::new();
        let mut race = Race { health: &self.health, running: Vec::new() };
        let mut servers = servers.iter();
        let mut bad = None;
        loop {
            if let Some(&server) = servers.next() {
                race.running.push((server, Instant::now()));
                let query = Query::new(packet, self.ids.next(), transport)?;
                asked.spawn(async move { (server, query.put_to(server).await) });
            }
            let outcome = tokio::select! {
                Some(outcome) = asked.join_next() => outcome.ok()?,
                () = time::sleep(PATIENCE), if !servers.as_slice().is_empty() => continue,
                else => return bad,
            };
            let (server, reply) = outcome;
            match reply {
                Ok(mut reply) => {
                    race.arrived(server, Duration::ZERO);
                    reply[..2].copy_from_slice(&packet[..2]);
                    if is_good(&reply) {
                        return Some(reply);
                    }
                    bad = Some(reply);
                }
                Err(error) => {
                    tracing::debug!(%server, %error, "a server cannot be asked");
                    race.arrived(server, self.timeout);
                }
            }
        }
    }
}

/// The servers that one query was put to and that have not answered yet. However it ends, those
/// still running are slower than it lasted.
struct Race<'a> {
    health: &'a Mutex<Health>,
    running: Vec<(SocketAddr, Instant)>,
}

impl Race<'_> {
    /// A server is done: it took the time since it was asked, and a penalty.
    fn arrived(&mut self, server: SocketAddr, penalty: Duration) {
        let now = Instant::now();
        if let Some(at) = self.running.iter().position(|(other, _)| *other == server) {
            let (_, since) = self.running.swap_remove(at);
            lock(self.health).observe(server, now - since + penalty, now);
        }
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut health = lock(self.health);
        for &(server, since) in &self.running {
            health.outrun(server, now - since, now);
        }
    }
}

/// A place in one asker's queue; the queue goes with its last place.
struct Turn<'a>(Arc<Semaphore>, &'a Forwarder, Asker);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut askers = lock(&self.1.askers);
        // The map's count and ours.
        if Arc::strong_count(&self.0) <= 2 {
            askers.remove(&self.2);
        }
    }
}

/// Whether the answer is one: there is such a name, or there is none. With anything else another
/// server may do better.
fn is_good(reply: &[u8]) -> bool {
    matches!(reply[3] & 15, 0 | 3)
}

/// Query ids that cannot be guessed from those seen: a counter, through std's keyed hash, whose
/// key comes from the operating system's random source.
#[derive(Debug, Default)]
struct Ids {
    key: RandomState,
    count: AtomicU64,
}

impl Ids {
    fn next(&self) -> u16 {
        let [low, high, ..] =
            self.key.hash_one(self.count.fetch_add(1, Ordering::Relaxed)).to_ne_bytes();
        u16::from_ne_bytes([low, high])
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
