//! Datagrams of one listener. What we can answer ourselves is answered where it was read; only
//! what is put to others gets a task.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::task::{self, JoinSet};

use super::share::Shares;
use super::{Desk, Open};
use crate::answer::{Outcome, Transport};

/// Queries that are read before the other listeners have their turn.
const BATCH: usize = 64;

/// Queries of one listener that are put to others at a time. More are dropped: their senders will
/// ask again.
const FORWARDED: usize = 4096;

/// The largest query that is read whole, in bytes. We ask senders to stay below a third of it.
const LARGEST: usize = 4096;

/// Serves until it is dropped, or until all is answered when the end is near.
pub(super) async fn serve(desk: Desk, open: Open<UdpSocket>) {
    let mut shares = Shares::new(Instant::now());
    let mut end = desk.serving.end.subscribe();
    let open = Arc::new(open);
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
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
            // An error is that nothing is left, or an ICMP message about an earlier reply.
            let Ok((length, source)) = open.socket.try_recv_from(&mut buffer) else { break };
            let packet = &buffer[..length];
            if !shares.admit(source.ip(), now) {
                desk.dropped();
                continue;
            }
            let asker = desk.asker(source.ip());
            match desk.decide(&asker, packet, Transport::Udp) {
                Outcome::Drop => {}
                Outcome::Reply(reply) => send(&desk, &open.socket, &reply, source).await,
                Outcome::Forward { upstreams } => {
                    while forwarded.try_join_next().is_some() {}
                    if forwarded.len() >= FORWARDED {
                        desk.dropped();
                        continue;
                    }
                    let (desk, open) = (desk.clone(), Arc::clone(&open));
                    let packet = packet.to_vec();
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
