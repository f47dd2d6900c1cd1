//! Datagrams of one listener. What we can answer ourselves is answered where it was read; only
//! what is put to others gets a task.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::task::{self, JoinSet};

use super::{Open, Serving};
use crate::answer::{Asker, Outcome, Transport};
use crate::names::NetworkKey;

/// Queries that are read before the other listeners have their turn.
const BATCH: usize = 64;

/// Queries of one listener that are put to others at a time. More are dropped: their senders will
/// ask again.
const FORWARDED: usize = 4096;

/// The largest query that is read whole, in bytes. We ask senders to stay below a third of it.
const LARGEST: usize = 4096;

/// Serves until it is dropped.
pub(super) async fn serve(serving: Arc<Serving>, network: NetworkKey, open: Open<UdpSocket>) {
    let open = Arc::new(open);
    let mut forwarded = JoinSet::new();
    let mut buffer = vec![0; LARGEST];
    loop {
        if let Err(error) = open.socket.readable().await {
            tracing::error!(%network, %error, "a resolver's socket has failed");
            return;
        }
        for turn in 1.. {
            if turn > BATCH {
                task::yield_now().await;
                break;
            }
            // An error is that nothing is left, or an ICMP message about an earlier reply.
            let Ok((length, source)) = open.socket.try_recv_from(&mut buffer) else { break };
            let packet = &buffer[..length];
            let asker = Asker { listener: Arc::clone(&network), source: source.ip() };
            match serving.decide(&asker, packet, Transport::Udp) {
                Outcome::Drop => {}
                Outcome::Reply(reply) => send(&serving, &open.socket, &reply, source).await,
                Outcome::Forward { upstreams } => {
                    while forwarded.try_join_next().is_some() {}
                    if forwarded.len() >= FORWARDED {
                        serving.dropped();
                        continue;
                    }
                    let (serving, open) = (Arc::clone(&serving), Arc::clone(&open));
                    let packet = packet.to_vec();
                    forwarded.spawn(async move {
                        let reply =
                            serving.forward(&asker, &upstreams, &packet, Transport::Udp).await;
                        if let Some(reply) = reply {
                            send(&serving, &open.socket, &reply, source).await;
                        }
                    });
                }
            }
        }
    }
}

async fn send(serving: &Serving, socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if let Err(error) = socket.send_to(reply, to).await {
        tracing::debug!(%to, %error, "a reply cannot be sent");
        serving.dropped();
    }
}
