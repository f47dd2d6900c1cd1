//! Datagrams of one listener. What we can answer ourselves, or have been told before, is answered
//! where it was read; only what is put to others gets a task.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use nix::sys::socket::{SockaddrIn, SockaddrIn6, setsockopt, sockopt};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::task::{self, JoinSet};
use tokio::time;

use super::share::Shares;
use super::{Desk, Open};
use crate::answer::{Asker, Outcome, Transport};

mod batch;
mod flood;

use batch::{BATCH, Family};
use flood::Flood;

/// Queries of one listener that are put to others at a time; the last quarter is for askers that have
/// few. More are dropped: their senders will ask again.
const FORWARDED: usize = 4096;
const FORWARDED_OF_MANY: usize = FORWARDED / 4 * 3;

/// A query that others are to be asked.
struct Foreign {
    asker: Asker,
    upstreams: Vec<SocketAddr>,
    packet: Vec<u8>,
    source: SocketAddr,
}

/// What is left to do of what was read at one turn.
#[derive(Default)]
struct Turn {
    foreign: Vec<Foreign>,
    /// Replies that the socket has no room for at the moment.
    unsent: Vec<(Vec<u8>, SocketAddr)>,
    /// How many were read, and whether more may be waiting.
    count: usize,
    more: bool,
}

/// Reads what waits, as much as one turn may, and answers what can be answered at once.
fn take_turn<F: Family>(desk: &Desk, socket: &UdpSocket, shares: &mut Shares) -> Turn {
    let now = Instant::now();
    let mut turn = Turn::default();
    F::with_batch(|batch| {
        let read = socket.try_io(Interest::READABLE, || {
            let count = batch.receive(socket, |packet, source| {
                if !shares.admit(source.ip(), now) {
                    desk.dropped();
                    return None;
                }
                let mut asker = desk.asker(source.ip());
                match desk.decide(&mut asker, packet, Transport::Udp) {
                    Outcome::Drop => None,
                    Outcome::Reply(reply) => Some(reply),
                    Outcome::Forward { upstreams } => {
                        let known = desk.at_once(&asker, &upstreams, packet, Transport::Udp);
                        if known.is_none() {
                            let packet = packet.to_vec();
                            turn.foreign.push(Foreign { asker, upstreams, packet, source });
                        }
                        known
                    }
                }
            })?;
            (turn.count, turn.more) = (count, count == BATCH);
            // What is left of a turn says that nothing waits: nobody has to ask the kernel again.
            if turn.more { Ok(()) } else { Err(io::ErrorKind::WouldBlock.into()) }
        });
        if let Err(error) = read
            && error.kind() != io::ErrorKind::WouldBlock
        {
            // An ICMP message about an earlier reply was in its place.
            tracing::debug!(%error, "no question");
        }
        turn.unsent = batch.send(socket, |to, error| unsendable(desk, to, &error));
    });
    turn
}

/// Serves until it is dropped, or until all is answered when the end is near.
pub(super) async fn serve(desk: Desk, open: Open<UdpSocket>) {
    let take_turn = match open.socket.local_addr() {
        Ok(SocketAddr::V6(_)) => take_turn::<SockaddrIn6>,
        _ => take_turn::<SockaddrIn>,
    };
    let mut shares = Shares::new(Instant::now());
    let mut end = desk.serving.end.subscribe();
    let open = Arc::new(open);
    let mut forwarded = JoinSet::new();
    let mut flood = Flood::default();
    if let Err(error) = setsockopt(&open.socket, sockopt::RxqOvfl, &1) {
        tracing::warn!(%error, "who asks without end is kept out by nobody");
    }
    // A netd that was killed may have left one.
    keep_out(&open.socket, &flood);
    loop {
        let wake = flood.next();
        let ready = tokio::select! {
            biased;
            _ = end.wait_for(Option::is_some) => break,
            () = until(wake), if wake.is_some() => {
                flood.let_in(Instant::now());
                keep_out(&open.socket, &flood);
                continue;
            }
            ready = open.socket.readable() => ready,
        };
        if let Err(error) = ready {
            tracing::error!(at = ?desk.at, %error, "a resolver's socket has failed");
            return;
        }
        let turn = take_turn(&desk, &open.socket, &mut shares);
        for (reply, to) in turn.unsent {
            send(&desk, &open.socket, &reply, to).await;
        }
        for Foreign { asker, upstreams, packet, source } in turn.foreign {
            while forwarded.try_join_next().is_some() {}
            let full = forwarded.len() >= FORWARDED
                || forwarded.len() >= FORWARDED_OF_MANY && !desk.serving.forwarder.has_few(&asker);
            if full {
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
        let now = Instant::now();
        let (lost, loudest) = (|| flood::lost(&open.socket), || shares.loudest());
        if let Some(source) = flood.read(turn.count, turn.more, lost, loudest, now) {
            tracing::warn!(at = ?desk.at, %source, "asks without end, and is kept out for a while");
            keep_out(&open.socket, &flood);
        }
        if turn.more {
            // The other listeners have their turn.
            task::yield_now().await;
        }
    }
    while forwarded.join_next().await.is_some() {}
}

/// Waits for a moment, which has to be there.
async fn until(moment: Option<Instant>) {
    if let Some(moment) = moment {
        time::sleep_until(moment.into()).await;
    }
}

/// Has the kernel drop what comes from those who are kept out.
fn keep_out(socket: &UdpSocket, flood: &Flood) {
    let filter = flood.filter();
    let socket = SockRef::from(socket);
    let done = match &filter[..] {
        [] => match socket.detach_filter() {
            // There was none.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        },
        filter => socket.attach_filter(filter),
    };
    if let Err(error) = done {
        tracing::warn!(%error, "who asks without end is kept out by nobody");
    }
}

async fn send(desk: &Desk, socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        unsendable(desk, to, &error);
    }
}

fn unsendable(desk: &Desk, to: SocketAddr, error: &io::Error) {
    tracing::debug!(%to, %error, "a reply cannot be sent");
    desk.dropped();
}
