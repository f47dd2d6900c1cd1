//! The sockets: one thread that serves all networks' listeners, and the handle on it.
//!
//! Who calls the handle may be anybody, on any thread; nothing here needs, or minds, an event loop
//! around it. Every task belongs to a listener and ends with it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::{oneshot, watch};
use tokio::task::AbortHandle;
use tokio::time::{self, Instant};

use crate::answer::{self, Asker, At, Outcome, Transport};
use crate::forward::{Forwarder, Origin, Pressure, Relayed, Standing};
use crate::names::{DEFAULT_DOMAIN, DEFAULT_TTL, Names, Stub};
use crate::question::Question;
use crate::reply::Code;
use crate::{Error, Explained, Upstreams, explain, question};

mod guests;
mod share;
pub(crate) mod tally;
mod tcp;
mod udp;

use guests::Guests;
use tally::{By, Count, Tally};

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who is asked for names that are not ours, where a network names nobody.
    pub upstreams: Upstreams,
    /// How long a forwarded query may take in all. After it the asker gets SERVFAIL.
    pub timeout: Duration,
    /// The domain below which the networks' names stand, `web.app.<domain>`.
    pub domain: String,
    /// Seconds that an answer of ours may be kept.
    pub ttl: u32,
    /// Domains that are asked of servers of their own, whoever asks.
    pub stubs: Vec<Stub>,
    /// Bytes in which others' answers are kept.
    pub cache: usize,
    /// Whether each question is logged; [`Server::log`] changes it.
    pub log: bool,
    /// Whether somebody at an address that is on no network of ours may ask for names of others at
    /// a shared listener ([`At::Shared`]). It is asked on the thread that serves, at most once in
    /// some seconds for each address.
    pub guests: fn(IpAddr) -> bool,
}

impl Default for Options {
    /// The servers of `/etc/resolv.conf`, 4 seconds (a stub resolver waits 5), [`DEFAULT_DOMAIN`],
    /// [`DEFAULT_TTL`], no domains of others, 8 MiB, no log, no guests.
    fn default() -> Self {
        Self {
            upstreams: Upstreams::ResolvConf(PathBuf::from("/etc/resolv.conf")),
            timeout: Duration::from_secs(4),
            domain: DEFAULT_DOMAIN.to_owned(),
            ttl: DEFAULT_TTL,
            stubs: Vec::new(),
            cache: 8 << 20,
            log: false,
            guests: |_| false,
        }
    }
}

/// What has been done since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Packets that came in.
    pub queries: u64,
    /// Answered by ourselves, whatever the answer.
    pub local: u64,
    /// Names of others: put to other servers, or answered from what they have said before.
    pub forwarded: u64,
    /// Of these, answered from the cache.
    pub cached: u64,
    /// Of these, answered with something past its time, since nobody gave a better answer.
    pub stale: u64,
    /// Came back from who was asked them.
    pub loops: u64,
    /// Forwarded without success: answered with SERVFAIL, by us or by the server asked. Those that
    /// nobody was asked in time, since who asked had too many out, are no failures of servers.
    pub servfail: u64,
    /// Answered by ourselves with REFUSED.
    pub refused: u64,
    /// Not answered: no queries, more than we forward at a time, or a reply that the kernel would
    /// not send.
    pub dropped: u64,
}

/// The bit of an answer that says that there is more of it (RFC 1035, section 4.1.1).
const TRUNCATED: u8 = 2;

/// How long sending the last answers may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// A running resolver. It stops, and all its sockets close, when this is dropped.
#[derive(Debug)]
pub struct Server {
    serving: Arc<Serving>,
    runtime: Handle,
    listeners: Mutex<HashMap<At, Vec<Listener>>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// One address served: a datagram socket, a stream listener, and the tasks on them.
#[derive(Debug)]
struct Listener {
    addresses: [SocketAddr; 2],
    tasks: [AbortHandle; 2],
    /// Disconnected when the last socket of these tasks is closed.
    gone: mpsc::Receiver<()>,
}

/// A socket that a task of a listener holds, and the word that it does.
#[derive(Debug)]
struct Open<S> {
    /// Before `alive`, as fields are dropped in this order: the socket is closed when the word is.
    socket: S,
    alive: mpsc::Sender<()>,
}

impl Server {
    /// Starts the thread. It has nothing to listen on yet.
    ///
    /// # Errors
    /// [`Error::Start`] when the kernel has no thread or no epoll instance for us.
    pub fn start(names: Names, options: Options) -> Result<Self, Error> {
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .build()
            .map_err(Error::Start)?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name("dns".to_owned())
            .spawn(move || {
                // An error is the handle gone without a word, which means the same.
                runtime.block_on(stopped).unwrap_or_default();
            })
            .map_err(Error::Start)?;
        Ok(Self {
            serving: Arc::new(Serving::new(names, options)),
            runtime: handle,
            listeners: Mutex::default(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serves somebody's listener on a pair of sockets, which are bound already: in this namespace
    /// or in another, now or by a process before this one. There may be several pairs.
    ///
    /// # Errors
    /// [`Error::Listen`] when the sockets cannot be served; they are closed then.
    pub fn listen(
        &self,
        at: At,
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
    ) -> Result<(), Error> {
        let address = udp.local_addr().map_or_else(|_| "nowhere".to_owned(), |at| at.to_string());
        let listener =
            self.serve(&at, udp, tcp).map_err(|source| Error::Listen { address, source })?;
        self.listeners().entry(at).or_default().push(listener);
        Ok(())
    }

    fn serve(
        &self,
        at: &At,
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
    ) -> io::Result<Listener> {
        let addresses = [udp.local_addr()?, tcp.local_addr()?];
        udp.set_nonblocking(true)?;
        tcp.set_nonblocking(true)?;
        // Sockets join the event loop of the runtime that is entered.
        let _entered = self.runtime.enter();
        let (alive, gone) = mpsc::channel();
        let udp = Open { socket: tokio::net::UdpSocket::from_std(udp)?, alive: alive.clone() };
        let tcp = Open { socket: tokio::net::TcpListener::from_std(tcp)?, alive };
        for address in addresses {
            self.serving.forwarder.add_own(address);
        }
        let desk = Desk {
            serving: Arc::clone(&self.serving),
            at: at.clone(),
            own: addresses[0].ip(),
            tally: Arc::clone(lock(&self.serving.tallies).entry(at.clone()).or_default()),
        };
        let datagrams = udp::serve(desk.clone(), udp);
        let streams = tcp::serve(desk, tcp);
        let tasks = [
            self.runtime.spawn(datagrams).abort_handle(),
            self.runtime.spawn(streams).abort_handle(),
        ];
        Ok(Listener { addresses, tasks, gone })
    }

    /// Stops serving a listener. When this returns its sockets and connections are closed, and
    /// who waits for an answer from elsewhere waits in vain.
    pub fn stop_listening(&self, at: &At) {
        let listeners = self.listeners().remove(at).unwrap_or_default();
        lock(&self.serving.tallies).remove(at);
        for listener in &listeners {
            listener.tasks.iter().for_each(AbortHandle::abort);
        }
        for listener in listeners {
            // Nobody ever sends: the error is that all senders are gone.
            listener.gone.recv().unwrap_or_default();
            for address in listener.addresses {
                self.serving.forwarder.remove_own(address);
            }
        }
    }

    /// Where somebody's listener is.
    pub fn addresses(&self, at: &At) -> Vec<SocketAddr> {
        let listeners = self.listeners();
        let listeners = listeners.get(at).into_iter().flatten();
        listeners.map(|listener| listener.addresses[0]).collect()
    }

    /// Serves nobody any more, but first answers who has asked: those who wait for an answer from
    /// elsewhere are waited for so long, and then told that it failed. What comes in meanwhile
    /// stays in the sockets, for who has got them, too.
    pub fn finish(&self, patience: Duration) {
        self.serving.end.send_replace(Some(Instant::now() + patience));
        let listeners: Vec<_> = self.listeners().drain().flat_map(|(_, all)| all).collect();
        let over = std::time::Instant::now() + patience + FAREWELL;
        for listener in listeners {
            // Nobody ever sends: the errors are that all senders are gone, or that time is up.
            let left = over.saturating_duration_since(std::time::Instant::now());
            listener.gone.recv_timeout(left).unwrap_or_default();
        }
    }

    /// What has been done until now.
    pub fn counters(&self) -> Counters {
        let loops = self.serving.forwarder.loops();
        Counters { loops, ..self.serving.counts.read() }
    }

    /// The same of those who are served now, told apart by type, result and who answered.
    pub fn tallies(&self) -> Vec<(At, Vec<Count>)> {
        lock(&self.serving.tallies).iter().map(|(at, tally)| (at.clone(), tally.read())).collect()
    }

    /// How other servers have done that were asked lately.
    pub fn standings(&self) -> Vec<Standing> {
        self.serving.forwarder.standings()
    }

    /// How much is asked of others, beside what may be.
    pub fn pressure(&self) -> Pressure {
        self.serving.forwarder.pressure()
    }

    /// Who is asked for names of others where neither a container nor its network names anybody: not
    /// ourselves, whatever the host's file says.
    pub fn host_servers(&self) -> Vec<SocketAddr> {
        self.serving.forwarder.host_servers()
    }

    /// How many answers of others are kept.
    pub fn kept(&self) -> usize {
        self.serving.forwarder.kept()
    }

    /// Answers a packet as it would be answered to somebody, and says why. Nothing of it is
    /// counted.
    pub fn explain(
        &self,
        asker: Asker,
        packet: Vec<u8>,
    ) -> impl Future<Output = Option<Explained>> + use<> {
        let serving = Arc::clone(&self.serving);
        let task = self.runtime.spawn(async move {
            let snapshot = serving.names.load();
            let mut why = explain::local(&snapshot, &asker, &packet);
            match answer::answer(&snapshot, &asker, &packet, Transport::Tcp, 0) {
                Outcome::Drop => None,
                Outcome::Reply(reply) => {
                    let nothing = reply[3] & 15 == Code::NoSuchName as u8 && reply[2] & 4 == 0;
                    why.extend(nothing.then(|| explain::INSIDE.to_owned()));
                    Some(explain::read(&reply, why))
                }
                Outcome::Forward { upstreams } => {
                    let forwarder = &serving.forwarder;
                    let ask = |over| forwarder.ask(&asker, &upstreams, &packet, over);
                    let mut relayed = ask(Transport::Udp).await;
                    if relayed.packet.as_ref().is_some_and(|reply| reply[2] & TRUNCATED != 0) {
                        relayed = ask(Transport::Tcp).await;
                    }
                    why.extend(explain::elsewhere(&upstreams, &relayed));
                    let reply = relayed.packet.or_else(|| answer::failure(&packet, Transport::Tcp));
                    Some(explain::read(&reply?, why))
                }
            }
        });
        async move { task.await.ok().flatten() }
    }

    /// Has each question logged from now on, or no longer.
    pub fn log(&self, each: bool) {
        self.serving.log.store(each, Ordering::Relaxed);
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<At, Vec<Listener>>> {
        lock(&self.listeners)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the resolver's thread has panicked");
        }
    }
}

/// What all listeners share.
#[derive(Debug)]
struct Serving {
    names: Names,
    forwarder: Arc<Forwarder>,
    guests: Guests,
    counts: Counts,
    tallies: Mutex<HashMap<At, Arc<Tally>>>,
    /// Whether each question is logged.
    log: AtomicBool,
    /// When the end is near: the moment at which who still waits is told that it failed.
    end: watch::Sender<Option<Instant>>,
}

impl Serving {
    fn new(names: Names, options: Options) -> Self {
        names.set_domain(&options.domain);
        names.set_ttl(options.ttl);
        names.set_stubs(options.stubs);
        Self {
            names,
            forwarder: Forwarder::new(options.upstreams, options.timeout, options.cache).into(),
            guests: Guests::new(options.guests),
            counts: Counts::default(),
            tallies: Mutex::default(),
            log: options.log.into(),
            end: watch::Sender::new(None),
        }
    }

    /// Waits until nothing new is to be begun.
    async fn ending(&self) -> Instant {
        let mut end = self.end.subscribe();
        // Who holds the sender is ourselves.
        end.wait_for(Option::is_some).await.ok().and_then(|end| *end).unwrap_or_else(Instant::now)
    }

    /// Waits until nobody is waited for any more.
    async fn ended(&self) {
        let end = self.ending().await;
        time::sleep_until(end).await;
    }
}

/// One listener's part in it.
#[derive(Clone, Debug)]
struct Desk {
    serving: Arc<Serving>,
    at: At,
    /// The address that is asked.
    own: IpAddr,
    tally: Arc<Tally>,
}

impl Desk {
    fn asker(&self, source: IpAddr) -> Asker {
        let at = match &self.at {
            At::Shared => {
                let may_ask = || self.serving.guests.may_ask(source, std::time::Instant::now());
                guests::place(&self.serving.names.peek(), source, self.own, may_ask)
            }
            own => own.clone(),
        };
        Asker { at, source }
    }

    /// Decides about one packet, as [`answer()`](crate::answer()) does, and counts it. Somebody who is
    /// refused may be one of another network's, and is an asker there from then on.
    fn decide(&self, asker: &mut Asker, packet: &[u8], transport: Transport) -> Outcome {
        let counts = &self.serving.counts;
        let count = counts.queries.fetch_add(1, Ordering::Relaxed);
        // Spread, not counted: resolvers ask for A and AAAA in turn, so that counting up would show
        // every A question the same one of two addresses.
        let spin = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let names = self.serving.names.peek();
        let mut outcome = answer::answer(&names, asker, packet, transport, spin);
        // Not before: hardly anybody is, and it takes another look at the networks.
        if let Outcome::Reply(reply) = &outcome
            && has_code(reply, Code::Refused)
            && let At::Network(asked) = &asker.at
            && let Some(own) = guests::moved(&names, asked, asker.source)
        {
            asker.at = At::Network(own);
            outcome = answer::answer(&names, asker, packet, transport, spin);
        }
        match &outcome {
            Outcome::Reply(reply) => {
                counts.local.fetch_add(1, Ordering::Relaxed);
                if has_code(reply, Code::Refused) {
                    counts.refused.fetch_add(1, Ordering::Relaxed);
                }
                self.note(asker, packet, Some(reply), By::Netd);
            }
            Outcome::Forward { .. } => {
                counts.forwarded.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Drop => self.dropped(),
        }
        outcome
    }

    /// Answers a packet that is for others with what they have said of it before, if that holds.
    fn at_once(
        &self,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let reply = self.serving.forwarder.known(asker, upstreams, packet, transport)?;
        self.answered(asker, packet, &reply, Origin::Cache);
        Some(reply)
    }

    /// Puts a packet to other servers. The reply is SERVFAIL if nobody has one. There is none to a
    /// datagram that finds no place among its asker's: who asked asks again, when there may be one.
    async fn forward(
        &self,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let asking = self.serving.forwarder.ask(asker, upstreams, packet, transport);
        let Relayed { packet: reply, from } = tokio::select! {
            relayed = asking => relayed,
            () = self.serving.ended() => Relayed::NOTHING,
        };
        let reply = match reply {
            Some(reply) => reply,
            None if from == Origin::Crowded && transport == Transport::Udp => {
                self.note(asker, packet, None, By::of(from));
                self.dropped();
                return None;
            }
            None => answer::failure(packet, transport)?,
        };
        self.answered(asker, packet, &reply, from);
        if let Origin::Server(server) = from
            && self.serving.log.load(Ordering::Relaxed)
        {
            tracing::info!(%server, "asked elsewhere");
        }
        Some(reply)
    }

    /// Counts an answer of others.
    fn answered(&self, asker: &Asker, packet: &[u8], reply: &[u8], from: Origin) {
        let counts = &self.serving.counts;
        match from {
            Origin::Cache => counts.cached.fetch_add(1, Ordering::Relaxed),
            Origin::Stale => counts.stale.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
        let tried = !matches!(from, Origin::Crowded | Origin::Late);
        if tried && has_code(reply, Code::ServerFailure) {
            counts.servfail.fetch_add(1, Ordering::Relaxed);
        }
        self.note(asker, packet, Some(reply), By::of(from));
    }

    /// Counts an answer by all that is told apart, and logs it where that is wanted.
    fn note(&self, asker: &Asker, packet: &[u8], reply: Option<&[u8]>, by: By) {
        let kind = question::kind_of(packet);
        let code = reply.and_then(|reply| reply.get(3)).map(|flags| flags & 15);
        self.tally.count(kind.unwrap_or_default(), code, by);
        if self.serving.log.load(Ordering::Relaxed) {
            let question = question::read(packet).ok();
            let text = question.as_ref().map(Question::text);
            let name = text.as_deref().unwrap_or_default();
            tracing::info!(
                source = %asker.source,
                name = %name.escape_ascii(),
                kind = kind.map(tally::kind_name),
                result = code.map_or("dropped", tally::result_name),
                by = by.name(),
                "asked for a name"
            );
        }
    }

    fn dropped(&self) {
        self.serving.counts.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_code(reply: &[u8], code: Code) -> bool {
    reply.get(3).is_some_and(|flags| flags & 15 == code as u8)
}

#[derive(Debug, Default)]
struct Counts {
    queries: AtomicU64,
    local: AtomicU64,
    forwarded: AtomicU64,
    cached: AtomicU64,
    stale: AtomicU64,
    servfail: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    fn read(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            queries: read(&self.queries),
            local: read(&self.local),
            forwarded: read(&self.forwarded),
            cached: read(&self.cached),
            stale: read(&self.stale),
            loops: 0,
            servfail: read(&self.servfail),
            refused: read(&self.refused),
            dropped: read(&self.dropped),
        }
    }
}

/// What is said on a connection that brings these bytes and then ends, by a resolver with one
/// network and nobody else to ask; for fuzzing.
#[cfg(any(test, feature = "fuzz"))]
pub fn converse(bytes: &[u8]) -> Vec<u8> {
    let names = Names::new();
    names.network_up("n", crate::Zone { name: "app".into(), forward: true, ..Default::default() });
    let options = Options { upstreams: Upstreams::Fixed(Vec::new()), ..Options::default() };
    let serving = Arc::new(Serving::new(names, options));
    let (at, own) = (At::Network("n".into()), IpAddr::from([127, 0, 0, 1]));
    let desk = Desk { serving, at, own, tally: Arc::default() };
    tcp::converse_over(&desk, bytes)
}

#[cfg(test)]
mod tests;
