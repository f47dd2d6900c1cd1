//! Asking others: a plain question is put to several servers, once for all who ask it at a time,
//! and the answer is kept for as long as it holds.
//!
//! DNSSEC's bits and records go both ways as they are. A query with anything about it that is not
//! plain, such as an option of EDNS, is relayed as it came, and so is its answer. All of it ends
//! within a bound, whatever the servers do.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time;

use crate::answer::{Asker, At, Transport};
use crate::question::{self, Question};
use crate::reply::OUR_PAYLOAD;
use crate::upstreams::{HostServers, Upstreams};

mod cache;
mod failures;
mod flight;
mod health;
mod query;
mod relay;
mod reply;
mod turns;

use cache::{Cache, Found, Key};
use failures::{Failures, Put};
use flight::{Flights, Landed, landing};
use relay::{ASKED, Relay};
use reply::{Life, Told};
use turns::{Place, Turns};

pub use health::Standing;
pub use turns::Pressure;

/// How long somebody waits for a new answer while there is one whose time is over (RFC 8767,
/// section 5).
const STALE_PATIENCE: Duration = Duration::from_millis(1800);

/// What a question that is out may need to be found over.
const GRACE: Duration = Duration::from_millis(100);

/// Where an answer of somebody else's came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A server, just now.
    Server(SocketAddr),
    /// The cache, of one that holds.
    Cache,
    /// The cache, of one whose time is over, since nobody gave a better one.
    Stale,
    /// Nobody: there is none.
    Nobody,
    /// Nobody, as there is nobody to ask.
    Unasked,
    /// Nobody, as there was none a moment ago, and nobody was asked again.
    Failed,
    /// Nobody, as so many of its asker's wait that there was no place for it: nothing is to be said,
    /// so that it is asked again.
    Crowded,
    /// Nobody, as its turn came too late for anybody to answer.
    Late,
}

/// An answer of somebody else's, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// The packet, as it goes to who asked.
    pub(crate) packet: Option<Vec<u8>>,
    /// Where it came from.
    pub(crate) from: Origin,
}

impl Relayed {
    pub(crate) const NOTHING: Self = Self { packet: None, from: Origin::Nobody };
    const UNASKED: Self = Self { packet: None, from: Origin::Unasked };
    const FAILED: Self = Self { packet: None, from: Origin::Failed };
    const CROWDED: Self = Self { packet: None, from: Origin::Crowded };
    const LATE: Self = Self { packet: None, from: Origin::Late };
}

/// Relays queries to servers elsewhere.
#[derive(Debug)]
pub(crate) struct Forwarder {
    timeout: Duration,
    relay: Relay,
    turns: Arc<Turns>,
    host: Mutex<HostServers>,
    ours: Mutex<Vec<SocketAddr>>,
    cache: Mutex<Cache>,
    failures: Mutex<Failures>,
    flights: Mutex<Flights>,
    loops: AtomicU64,
}

impl Forwarder {
    /// One that keeps answers in so many bytes.
    pub(crate) fn new(upstreams: Upstreams, timeout: Duration, cache: usize) -> Self {
        Self {
            timeout,
            relay: Relay::new(timeout),
            turns: Arc::default(),
            host: Mutex::new(HostServers::new(upstreams)),
            ours: Mutex::default(),
            cache: Mutex::new(Cache::new(cache)),
            failures: Mutex::default(),
            flights: Mutex::default(),
            loops: AtomicU64::default(),
        }
    }

    /// How many answers are kept.
    pub(crate) fn kept(&self) -> usize {
        lock(&self.cache).len()
    }

    /// How often a question came back to us from who was asked it.
    pub(crate) fn loops(&self) -> u64 {
        self.loops.load(Ordering::Relaxed)
    }

    /// How the servers have done.
    pub(crate) fn standings(&self) -> Vec<Standing> {
        self.relay.standings()
    }

    /// How much is asked of others at a time, beside what may be.
    pub(crate) fn pressure(&self) -> Pressure {
        self.turns.pressure()
    }

    /// Whether an asker has few questions that are out or wait.
    pub(crate) fn has_few(&self, asker: &Asker) -> bool {
        self.turns.has_few(asker)
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

    /// Puts a query to `upstreams`, or to the host's servers when there are none.
    pub(crate) async fn ask(
        self: &Arc<Self>,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Relayed {
        let servers = self.servers(asker, upstreams);
        if servers.is_empty() {
            return Relayed::UNASKED;
        }
        match question::plain(packet) {
            Some(question) => {
                let key = Key::of(&question, servers.into());
                self.ask_plainly(asker, &question, &key, transport).await
            }
            None => self.relay_as_it_is(asker, &servers, packet, transport).await,
        }
    }

    /// What is known of a query without asking, if that holds.
    pub(crate) fn known(
        self: &Arc<Self>,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let question = question::plain(packet)?;
        let key = Key::of(&question, self.servers(asker, upstreams).into());
        self.fresh(lock(&self.cache).find(&key, Instant::now())?, &key, &question, transport).ok()
    }

    /// An answer that holds, and is renewed where it will not for long; or one that does not.
    fn fresh(
        self: &Arc<Self>,
        found: Found,
        key: &Key,
        question: &Question<'_>,
        transport: Transport,
    ) -> Result<Vec<u8>, (Arc<Told>, Life)> {
        match found {
            Found::Fresh { told, life, renew } => {
                if renew {
                    self.flight(key, question, transport, None);
                }
                Ok(told.to(question, transport, life))
            }
            Found::Stale { told, life } => Err((told, life)),
        }
    }

    async fn ask_plainly(
        self: &Arc<Self>,
        asker: &Asker,
        question: &Question<'_>,
        key: &Key,
        transport: Transport,
    ) -> Relayed {
        let found = lock(&self.cache).find(key, Instant::now());
        let stale = match found.map(|found| self.fresh(found, key, question, transport)) {
            Some(Ok(packet)) => return Relayed { packet: Some(packet), from: Origin::Cache },
            Some(Err(stale)) => Some(stale),
            None => None,
        };
        if self.has_failed(&(key.clone(), transport)) {
            return stale.map_or(Relayed::FAILED, |stale| outdated(&stale, question, transport));
        }
        // What is out ends by itself, and is not to be outrun by who waits for it: who asks next
        // would wait for what is over.
        let bound = self.timeout + GRACE;
        let patience = if stale.is_some() { bound.min(STALE_PATIENCE) } else { bound };
        let Some(turn) = self.turns.take(asker) else {
            return stale.map_or(Relayed::CROWDED, |stale| outdated(&stale, question, transport));
        };
        // Who has a place waits for its turn, and only then for what others ask: nobody waits in
        // another one's queue.
        let mut begun = None;
        let landed = time::timeout(patience, async {
            let permit = turn.come().await?;
            begun = Some(Instant::now());
            if self.is_a_loop(asker, key, transport) {
                return None;
            }
            let (flight, _place) = self.flight(key, question, transport, Some((permit, turn)));
            landing(flight).await
        });
        match (landed.await, stale) {
            (Ok(Some(landed)), None) => self.say(&landed, question, transport),
            (Ok(Some(landed)), Some(_)) if landed.is_good() => {
                self.say(&landed, question, transport)
            }
            (_, Some(stale)) => outdated(&stale, question, transport),
            (Err(_), None) if !self.had_time(begun) => self.late(),
            (_, None) => Relayed::NOTHING,
        }
    }

    /// The question that is out, which it is from now on if it was not. It is put to its end,
    /// whoever still waits for it, and takes the place of who asked first until then: giving up
    /// early makes no room for more. Who finds it out already keeps its place.
    fn flight(
        self: &Arc<Self>,
        key: &Key,
        question: &Question<'_>,
        transport: Transport,
        place: Option<Place>,
    ) -> (watch::Receiver<Option<Landed>>, Option<Place>) {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.find(key, transport) {
            return (flight, place);
        }
        let (sender, receiver) = flights.leave(key, transport);
        let (this, key) = (Arc::clone(self), key.clone());
        let packet = question.put(0, OUR_PAYLOAD);
        // What is asked anew of ourselves is nobody's, and few.
        let few = place.as_ref().is_none_or(|(_, turn)| turn.has_few());
        tokio::spawn(async move {
            let servers = this.relay.best(key.servers());
            let mut asked = None;
            let reply = time::timeout(this.timeout, async {
                let _out = this.turns.admission(few).await?;
                asked = Some(Instant::now());
                this.relay.put(&servers, &packet, transport).await
            });
            let reply = reply.await;
            this.learn((key.clone(), transport), asked, &reply);
            let reply = reply.ok().flatten();
            let told = reply.as_ref().and_then(|(_, packet)| Told::read(packet)).map(Arc::new);
            let landed = Landed {
                asked: asked.is_some(),
                server: reply.as_ref().map(|(server, _)| *server),
                packet: reply.map(|(_, packet)| packet.into()),
                told,
            };
            if let Some(told) = &landed.told {
                lock(&this.cache).store(key.clone(), Arc::clone(told), Instant::now());
            }
            lock(&this.flights).land(&key, transport);
            drop(place);
            sender.send_replace(Some(landed));
        });
        (receiver, None)
    }

    /// Whether this host asks us what we ask one of its own servers: who is asked asks back.
    fn is_a_loop(&self, asker: &Asker, key: &Key, transport: Transport) -> bool {
        let ours = lock(&self.ours);
        let own = |ip: std::net::IpAddr| ip.is_loopback() || ours.iter().any(|own| own.ip() == ip);
        let back = matches!(asker.at, At::Network(_) | At::Guest)
            && own(asker.source.to_canonical())
            && key.servers().iter().any(|server| own(server.ip()))
            && lock(&self.flights).find(key, transport).is_some();
        if back {
            self.loops.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(
                servers = ?key.servers(),
                "a question came back from the server that was asked it: one of these asks netd"
            );
        }
        back
    }

    async fn relay_as_it_is(
        self: &Arc<Self>,
        asker: &Asker,
        servers: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Relayed {
        // What comes of it is nobody else's: servers may fail for what is not plain about it.
        let plain = question::read(packet).map(|it| (Key::of(&it, servers.into()), transport));
        if plain.is_ok_and(|put| self.has_failed(&put)) {
            return Relayed::FAILED;
        }
        let Some(turn) = self.turns.take(asker) else { return Relayed::CROWDED };
        let mut asked = None;
        let reply = time::timeout(self.timeout, async {
            let _turn = turn.come().await?;
            let _out = self.turns.admission(turn.has_few()).await?;
            asked = Some(Instant::now());
            self.relay.put(&self.relay.best(servers), packet, transport).await
        });
        match reply.await {
            Ok(Some((server, packet))) => {
                Relayed { packet: Some(packet), from: Origin::Server(server) }
            }
            Err(_) if !self.had_time(asked) => self.late(),
            Ok(None) | Err(_) => Relayed::NOTHING,
        }
    }

    /// Whether servers had the time to answer what they were asked then, if at all.
    fn had_time(&self, asked: Option<Instant>) -> bool {
        asked.is_some_and(|asked| asked.elapsed() >= self.timeout / 2)
    }

    /// Counts a question whose turn came too late.
    fn late(&self) -> Relayed {
        self.turns.late();
        Relayed::LATE
    }

    /// What came of a question, to one who asked it.
    fn say(&self, landed: &Landed, question: &Question<'_>, transport: Transport) -> Relayed {
        let Some(server) = landed.server else {
            return if landed.asked { Relayed::NOTHING } else { self.late() };
        };
        let packet = match (&landed.told, &landed.packet) {
            (Some(told), _) => Some(told.to(question, transport, Life::Aged(0))),
            // What cannot be taken apart is passed on, for whom it may mean something.
            (None, Some(packet)) => {
                let mut packet = packet.to_vec();
                packet[..2].copy_from_slice(&question.id.to_be_bytes());
                Some(packet)
            }
            (None, None) => None,
        };
        Relayed { packet, from: Origin::Server(server) }
    }

    /// Whether nobody could answer it a moment ago.
    fn has_failed(&self, put: &Put) -> bool {
        lock(&self.failures).holds(put, Instant::now())
    }

    /// Learns from what came of a question, and of when it was asked: one that had to wait for so
    /// long that its servers had no time is none that they could not answer.
    fn learn(
        &self,
        put: Put,
        asked: Option<Instant>,
        reply: &Result<Option<(SocketAddr, Vec<u8>)>, time::error::Elapsed>,
    ) {
        if asked.is_none() {
            return;
        }
        let good = matches!(reply, Ok(Some((_, packet))) if is_good(packet));
        if good {
            lock(&self.failures).forget(&put);
        } else if reply.is_ok() || self.had_time(asked) {
            // Those that come after the first ones are asked when these have failed.
            let rounds = put.0.servers().len().div_ceil(ASKED).saturating_sub(1);
            let forgiven = u32::try_from(rounds).unwrap_or(u32::MAX);
            lock(&self.failures).note(put, forgiven, Instant::now());
        }
    }

    /// The servers to ask, as somebody has put them. Neither who asks nor ourselves: a container
    /// that is its network's server has its own questions answered by the host's.
    fn servers(&self, asker: &Asker, upstreams: &[SocketAddr]) -> Vec<SocketAddr> {
        let source = asker.source.to_canonical();
        let asks = |server: &SocketAddr| server.ip() == source && !source.is_loopback();
        let mut servers: Vec<_> =
            upstreams.iter().copied().filter(|server| !asks(server)).collect();
        if servers.is_empty() {
            servers = self.of_the_host();
        }
        let ours = lock(&self.ours);
        servers.retain(|server| !ours.contains(server) && !asks(server));
        servers
    }

    fn of_the_host(&self) -> Vec<SocketAddr> {
        let mut host = lock(&self.host);
        let servers = host.at(Instant::now()).to_vec();
        if host.has_changed() {
            lock(&self.failures).clear();
        }
        servers
    }

    /// The host's servers, without ourselves.
    pub(crate) fn host_servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.of_the_host();
        let ours = lock(&self.ours);
        servers.retain(|server| !ours.contains(server));
        servers
    }
}

/// An answer past its time, to one who asks.
fn outdated(
    (told, life): &(Arc<Told>, Life),
    question: &Question<'_>,
    transport: Transport,
) -> Relayed {
    Relayed { packet: Some(told.to(question, transport, *life)), from: Origin::Stale }
}

/// Whether the answer is one: there is such a name, or there is none. With anything else another
/// server may do better.
fn is_good(reply: &[u8]) -> bool {
    matches!(reply[3] & 15, 0 | 3)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
