//! Datagrams of one listener. What we can answer ourselves is answered where it was read; only
//! what is put to others gets a task.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::task::{self, JoinSet};

use super::share::Shares;
use super::{Desk, Open};
use crate::answer::{Asker, Outcome, Transport};

/// Queries that are read before the other listeners have their turn.
const BATCH: usize = 64;

/// Queries of one listener that are put to others at a time. More are dropped: their senders will
/// ask again.
const FORWARDED: usize = 4096;

/// The largest query that is read whole, in bytes. We ask senders to stay below a third of it.
const LARGEST: usize = 4096;

thread_local! {
    /// Where a query is read to. One for all listeners, which are on one thread: what is needed of a
    /// query while others are read is kept by itself.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; LARGEST].into());
}

/// A query that was read, and what is to be done about it.
enum Read {
    /// Nothing, or it is done.
    Done,
    Reply(Vec<u8>, SocketAddr),
    Forward {
        asker: Asker,
        upstreams: Vec<SocketAddr>,
        packet: Vec<u8>,
        source: SocketAddr,
    },
}

/// Reads the next query and decides about it. `None` when nothing is left, or an ICMP message about
/// an earlier reply was in its place.
fn read(desk: &Desk, socket: &UdpSocket, shares: &mut Shares, now: Instant) -> Option<Read> {
    BUFFER.with_borrow_mut(|buffer| {
        let (length, source) = socket.try_recv_from(buffer).ok()?;
        let packet = &buffer[..length];
        if !shares.admit(source.ip(), now) {
            desk.dropped();
            return Some(Read::Done);
        }
        let asker = desk.asker(source.ip());
        Some(match desk.decide(&asker, packet, Transport::Udp) {
            Outcome::Drop => Read::Done,
            Outcome::Reply(reply) => Read::Reply(reply, source),
            Outcome::Forward { upstreams } => {
                Read::Forward { asker, upstreams, packet: packet.to_vec(), source }
            }
        })
    })
}

/// Serves until it is dropped, or until all is answered when the end is near.
pub(super) async fn serve(desk: Desk, open: Open<UdpSocket>) {
    let mut shares = Shares::new(Instant::now());
    let mut end = desk.serving.end.subscribe();
    let open = Arc::new(open);
    let mut forwarded = JoinSet::new();
    loop {
        let ready = tokio::select! {
            biased;
            _ = end.wait_for(Option::is_some) => break,
            ready = open.socket.readable() => ready,
        };
        if let Err(error) = ready {
            tracing::error!(at = ?desk.at, %error, "a resolver's socket has failed");
            return;
        }
        let now = Instant::now();
        for turn in 1.. {
            if turn > BATCH {
                task::yield_now().await;
                break;
            }
            match read(&desk, &open.socket, &mut shares, now) {
                None => break,
                Some(Read::Done) => {}
                Some(Read::Reply(reply, to)) => send(&desk, &open.socket, &reply, to).await,
                Some(Read::Forward { asker, upstreams, packet, source }) => {
                    while forwarded.try_join_next().is_some() {}
                    if forwarded.len() >= FORWARDED {
                        desk.dropped();
                        continue;
                    }
                    let (desk, open) = (desk.clone(), Arc::clone(&open));
                    forwarded.spawn(async move {
                        let reply = desk.forward(&asker, &upstreams, &packet, Transport::Udp).await;
                        if let Some(reply) = reply {
                            send(&desk, &open.socket, &reply, source).await;
                        }
                    });
                }
            }
        }
    }
    while forwarded.join_next().await.is_some() {}
}

async fn send(desk: &Desk, socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "a reply cannot be sent");
        desk.dropped();
    }
}
