//! Connections of one listener: messages behind a length of two bytes, several on a connection, each
//! answered as soon as it can be, whatever came before it (RFC 7766, sections 6.2.1.1 and 7).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{self, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time;

use super::{Desk, Open};
use crate::answer::{Asker, Outcome, Transport};

/// How long a connection may take to send a whole message, or to take one.
const IDLE: Duration = Duration::from_secs(10);

/// Connections at a time, of one listener and of one address. More are closed at once.
const CONNECTIONS: usize = 1024;
const CONNECTIONS_PER_SOURCE: usize = 16;

/// Questions of one connection that are put to others at a time. With so many out no more are read.
const FORWARDED: usize = 32;

/// What to wait before another try when the process is out of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Serves until it is dropped, or until all is answered when the end is near.
pub(super) async fn serve(desk: Desk, open: Open<TcpListener>) {
    let mut end = desk.serving.end.subscribe();
    let guests = Arc::new(Guests::default());
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            _ = end.wait_for(Option::is_some) => break,
            accepted = open.socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(at = ?desk.at, %error, "a resolver's connection cannot be accepted");
                time::sleep(BREATH).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let Some(pass) = Guests::admit(&guests, peer.ip()) else {
            desk.dropped();
            continue;
        };
        let desk = desk.clone();
        let asker = desk.asker(peer.ip());
        let mut open = Open { socket: stream, alive: open.alive.clone() };
        connections.spawn(async move {
            let _pass = pass;
            if let Err(error) = converse(&desk, &asker, &mut open.socket).await {
                tracing::trace!(%peer, %error, "a resolver's connection has ended");
            }
        });
    }
    while connections.join_next().await.is_some() {}
}

/// Answers messages until the other end has none left, sends something that is no query, or takes too
/// long; then what is still out. What others are to be asked holds up nothing that comes after it.
async fn converse(
    desk: &Desk,
    asker: &Asker,
    stream: impl AsyncRead + AsyncWrite + Unpin,
) -> io::Result<()> {
    let mut asker = asker.clone();
    let (reader, mut writer) = io::split(stream);
    let mut forwarded = JoinSet::new();
    let mut next = pin!(next(reader));
    let end = loop {
        let (reader, packet) = tokio::select! {
            // What is there already is answered.
            biased;
            Some(reply) = forwarded.join_next() => {
                tell(&mut writer, reply.ok().flatten()).await?;
                continue;
            }
            received = &mut next, if forwarded.len() < FORWARDED => received,
            _ = desk.serving.ending() => break Ok(()),
        };
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => break Err(error),
        };
        let reply = match desk.decide(&mut asker, &packet, Transport::Tcp) {
            Outcome::Drop => break Ok(()),
            Outcome::Reply(reply) => Some(reply),
            Outcome::Forward { upstreams } => {
                let known = desk.at_once(&asker, &upstreams, &packet, Transport::Tcp);
                if known.is_none() {
                    forwarded.spawn(forward(desk.clone(), asker.clone(), upstreams, packet));
                }
                known
            }
        };
        tell(&mut writer, reply).await?;
        next.set(self::next(reader));
    };
    while let Some(reply) = forwarded.join_next().await {
        tell(&mut writer, reply.ok().flatten()).await?;
    }
    end
}

async fn forward(
    desk: Desk,
    asker: Asker,
    upstreams: Vec<SocketAddr>,
    packet: Vec<u8>,
) -> Option<Vec<u8>> {
    desk.forward(&asker, &upstreams, &packet, Transport::Tcp).await
}

/// Sends a reply, if there is one.
async fn tell(stream: &mut (impl AsyncWrite + Unpin), reply: Option<Vec<u8>>) -> io::Result<()> {
    let Some(reply) = reply else { return Ok(()) };
    let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
    let message = [&length.to_be_bytes()[..], &reply].concat();
    time::timeout(IDLE, stream.write_all(&message)).await?
}

/// The next message, and what it was read from: nothing of half a message is lost while there is
/// something else to do.
async fn next<S: AsyncRead + Unpin>(mut stream: S) -> (S, io::Result<Vec<u8>>) {
    let packet = time::timeout(IDLE, receive(&mut stream)).await;
    (stream, packet.map_err(io::Error::from).flatten())
}

async fn receive(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut packet = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut packet).await?;
    Ok(packet)
}

/// What a resolver with one network says on a connection that brings these bytes and then ends.
#[cfg(any(test, feature = "fuzz"))]
pub(super) fn converse_over(desk: &Desk, bytes: &[u8]) -> Vec<u8> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("the system has an event loop for us");
    runtime.block_on(async {
        let (mut client, stream) = io::duplex(1 << 22);
        client.write_all(bytes).await.expect("there is room for it");
        client.shutdown().await.expect("it can end");
        let asker = desk.asker(IpAddr::from([10, 0, 0, 2]));
        // That it has ended is an error, and as it should be.
        drop(converse(desk, &asker, stream).await);
        let mut said = Vec::new();
        client.read_to_end(&mut said).await.expect("it can be read");
        said
    })
}

/// Who is connected, and how often.
#[derive(Debug, Default)]
struct Guests(Mutex<HashMap<IpAddr, usize>>);

/// One connection's place among them.
#[derive(Debug)]
struct Pass(Arc<Guests>, IpAddr);

impl Guests {
    fn admit(guests: &Arc<Self>, source: IpAddr) -> Option<Pass> {
        let mut counts = guests.counts();
        let all: usize = counts.values().sum();
        let own = counts.get(&source).copied().unwrap_or_default();
        if all >= CONNECTIONS || own >= CONNECTIONS_PER_SOURCE {
            return None;
        }
        counts.insert(source, own + 1);
        Some(Pass(Arc::clone(guests), source))
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut counts = self.0.counts();
        if let Some(count) = counts.get_mut(&self.1) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.1);
            }
        }
    }
}

#[cfg(test)]
mod tests;
