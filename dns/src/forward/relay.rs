//! One query put to several servers, the best ones first, and what that tells of them.

use std::hash::{BuildHasher, RandomState};
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio::time;

use super::health::{Health, Standing};
use super::query::Query;
use super::{is_good, lock, reply};
use crate::answer::Transport;

/// How many servers one query is put to, at most.
pub(super) const ASKED: usize = 3;

/// How long one server has before the next one is asked as well.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// Puts queries to servers.
#[derive(Debug)]
pub(super) struct Relay {
    /// How long a server that fails is taken to have needed.
    timeout: Duration,
    ids: Ids,
    health: Mutex<Health>,
}

impl Relay {
    /// One that takes so long for each query at most.
    pub(super) fn new(timeout: Duration) -> Self {
        Self { timeout, ids: Ids::default(), health: Mutex::default() }
    }

    /// How the servers have done.
    pub(super) fn standings(&self) -> Vec<Standing> {
        lock(&self.health).standings()
    }

    /// Those to ask first.
    pub(super) fn best(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let mut servers = servers.to_vec();
        lock(&self.health).order(&mut servers, Instant::now());
        servers.truncate(ASKED);
        servers
    }

    /// Asks the servers one after the other, the next one when the last has failed or takes long,
    /// and takes the first good answer. A bad one is better than none.
    pub(super) async fn put(
        &self,
        servers: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<(SocketAddr, Vec<u8>)> {
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
            let all = servers.as_slice().is_empty();
            let others = bad.is_some() && !asked.is_empty();
            let outcome = tokio::select! {
                Some(outcome) = asked.join_next() => outcome.ok()?,
                () = time::sleep(PATIENCE), if !all || others => {
                    // Those that are left may be dead: what there is is not to be lost with them.
                    if all {
                        return bad;
                    }
                    continue;
                }
                else => return bad,
            };
            let (server, reply) = outcome;
            let reply = reply.and_then(|mut reply| match reply::correct_ttls(&mut reply) {
                true => Ok(reply),
                false => {
                    Err(io::Error::new(io::ErrorKind::InvalidData, "its answer is not well-formed"))
                }
            });
            match reply {
                Ok(mut reply) => {
                    race.arrived(server, Duration::ZERO);
                    reply[..2].copy_from_slice(&packet[..2]);
                    if is_good(&reply) {
                        return Some((server, reply));
                    }
                    bad = Some((server, reply));
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
            let mut health = lock(self.health);
            health.observe(server, now - since + penalty, now);
            health.count(server, penalty.is_zero());
        }
    }
}

impl Drop for Race<'_> {
    fn drop(&mut self) {
        let now = Instant::now();
        let mut health = lock(self.health);
        for &(server, since) in &self.running {
            health.outrun(server, now - since, now);
            health.count(server, false);
        }
    }
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
