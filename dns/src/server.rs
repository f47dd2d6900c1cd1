//! The sockets: one thread that serves all networks' listeners, and the handle on it.
//!
//! Who calls the handle may be anybody, on any thread; nothing here needs, or minds, an event loop
//! around it. Every task belongs to a listener and ends with it.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::answer::{self, Asker, Outcome, Transport};
use crate::forward::Forwarder;
use crate::names::{DEFAULT_DOMAIN, Names, NetworkKey};
use crate::reply::Code;
use crate::{Error, Upstreams};

mod tcp;
mod udp;

/// How to serve.
#[derive(Clone, Debug)]
pub struct Options {
    /// Who is asked for names that are not ours, where a network names nobody.
    pub upstreams: Upstreams,
    /// How long a forwarded query may take in all. After it the asker gets SERVFAIL.
    pub timeout: Duration,
    /// The domain below which the networks' names stand, `web.app.<domain>`.
    pub domain: String,
}

impl Default for Options {
    /// The servers of `/etc/resolv.conf`, 4 seconds (a stub resolver waits 5), [`DEFAULT_DOMAIN`].
    fn default() -> Self {
        Self {
            upstreams: Upstreams::ResolvConf(PathBuf::from("/etc/resolv.conf")),
            timeout: Duration::from_secs(4),
            domain: DEFAULT_DOMAIN.to_owned(),
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
    /// Put to other servers.
    pub forwarded: u64,
    /// Forwarded without success: answered with SERVFAIL, by us or by the server asked.
    pub servfail: u64,
    /// Answered by ourselves with REFUSED.
    pub refused: u64,
    /// Not answered: no queries, more than we forward at a time, or a reply that the kernel would
    /// not send.
    pub dropped: u64,
}

/// A running resolver. It stops, and all its sockets close, when this is dropped.
#[derive(Debug)]
pub struct Server {
    serving: Arc<Serving>,
    runtime: Handle,
    listeners: Mutex<HashMap<NetworkKey, Vec<Listener>>>,
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
        names.set_domain(&options.domain);
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
            serving: Arc::new(Serving {
                names,
                forwarder: Forwarder::new(options.upstreams, options.timeout),
                counts: Counts::default(),
            }),
            runtime: handle,
            listeners: Mutex::default(),
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Serves a network on a pair of sockets, which are bound already: in this namespace or in
    /// another, now or by a process before this one. A network may have several pairs.
    ///
    /// # Errors
    /// [`Error::Listen`] when the sockets cannot be served; they are closed then.
    pub fn listen(
        &self,
        network: &str,
        udp: std::net::UdpSocket,
        tcp: std::net::TcpListener,
    ) -> Result<(), Error> {
        let key = NetworkKey::from(network);
        let listener = self
            .serve(&key, udp, tcp)
            .map_err(|source| Error::Listen { network: Arc::clone(&key), source })?;
        self.listeners().entry(key).or_default().push(listener);
        Ok(())
    }

    fn serve(
        &self,
        network: &NetworkKey,
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
        let datagrams = udp::serve(Arc::clone(&self.serving), Arc::clone(network), udp);
        let streams = tcp::serve(Arc::clone(&self.serving), Arc::clone(network), tcp);
        let tasks = [
            self.runtime.spawn(datagrams).abort_handle(),
            self.runtime.spawn(streams).abort_handle(),
        ];
        Ok(Listener { addresses, tasks, gone })
    }

    /// Stops serving a network. When this returns its sockets and connections are closed, and
    /// queries of its containers that were forwarded are given up.
    pub fn stop_listening(&self, network: &str) {
        let listeners = self.listeners().remove(network).unwrap_or_default();
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

    /// What has been done until now.
    pub fn counters(&self) -> Counters {
        self.serving.counts.read()
    }

    fn listeners(&self) -> MutexGuard<'_, HashMap<NetworkKey, Vec<Listener>>> {
        self.listeners.lock().unwrap_or_else(PoisonError::into_inner)
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
    forwarder: Forwarder,
    counts: Counts,
}

impl Serving {
    /// Decides about one packet, as [`answer()`](crate::answer()) does, and counts it.
    fn decide(&self, asker: &Asker, packet: &[u8], transport: Transport) -> Outcome {
        let count = self.counts.queries.fetch_add(1, Ordering::Relaxed);
        // Spread, not counted: resolvers ask for A and AAAA in turn, so that counting up would show
        // every A question the same one of two addresses.
        let spin = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
        let outcome = answer::answer(&self.names.peek(), asker, packet, transport, spin);
        match &outcome {
            Outcome::Reply(reply) => {
                self.counts.local.fetch_add(1, Ordering::Relaxed);
                if has_code(reply, Code::Refused) {
                    self.counts.refused.fetch_add(1, Ordering::Relaxed);
                }
            }
            Outcome::Forward { .. } => {
                self.counts.forwarded.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Drop => self.dropped(),
        }
        outcome
    }

    /// Puts a packet to other servers. There always is a reply: SERVFAIL if nobody has one.
    async fn forward(
        &self,
        asker: &Asker,
        upstreams: &[SocketAddr],
        packet: &[u8],
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let reply = match self.forwarder.ask(asker, upstreams, packet, transport).await {
            Some(reply) => reply,
            None => answer::failure(packet, transport)?,
        };
        if has_code(&reply, Code::ServerFailure) {
            self.counts.servfail.fetch_add(1, Ordering::Relaxed);
        }
        Some(reply)
    }

    fn dropped(&self) {
        self.counts.dropped.fetch_add(1, Ordering::Relaxed);
    }
}

fn has_code(reply: &[u8], code: Code) -> bool {
    reply.get(3).is_some_and(|flags| flags & 15 == code as u8)
}

#[derive(Debug, Default)]
struct Counts {
    queries: AtomicU64,
    local: AtomicU64,
    forwarded: AtomicU64,
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
            servfail: read(&self.servfail),
            refused: read(&self.refused),
            dropped: read(&self.dropped),
        }
    }
}

#[cfg(test)]
mod tests;
