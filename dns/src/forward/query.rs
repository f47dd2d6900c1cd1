//! One query put to one server: a fresh socket, and an answer that is checked to be one.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{self, Instant};

use crate::answer::Transport;
use crate::question::{self, HEADER, Question, word};

/// After how long a datagram is taken for lost and sent once more; twice as long after each.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

/// One query, as one server is asked it.
pub(super) struct Query {
    packet: Vec<u8>,
    /// What the answer must repeat: name, type and class.
    question: Vec<u8>,
    limit: usize,
    transport: Transport,
}

impl Query {
    /// The query in `packet`, with another id.
    pub(super) fn new(packet: &[u8], id: u16, transport: Transport) -> Option<Self> {
        let question = question::read(packet).ok()?;
        let mut packet = packet.to_vec();
        packet[..2].copy_from_slice(&id.to_be_bytes());
        let limit = question.edns.map_or(512, |edns| usize::from(edns.payload));
        Some(Self { packet, question: repeated(&question), limit, transport })
    }

    /// Asks one server, and waits for its answer without end.
    pub(super) async fn put_to(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        match self.transport {
            Transport::Udp => self.by_datagram(server).await,
            Transport::Tcp => self.by_stream(server).await,
        }
    }

    /// Over a socket of its own, so that a forger has to guess its port as well as the id.
    async fn by_datagram(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let any = match server {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = UdpSocket::bind((any, 0)).await?;
        socket.connect(server).await?;
        socket.send(&self.packet).await?;
        // One byte more than allowed shows that there was more.
        let mut reply = vec![0; self.limit + 1];
        let mut patience = AGAIN;
        let mut again = Instant::now() + patience;
        loop {
            let length = tokio::select! {
                length = socket.recv(&mut reply) => length?,
                // A datagram may be lost on either way; whoever waits for the answer asks once.
                () = time::sleep_until(again) => {
                    socket.send(&self.packet).await?;
                    patience *= 2;
                    again = Instant::now() + patience;
                    continue;
                }
            };
            if self.is_answered_by(&reply[..length]) {
                reply.truncate(length);
                if length > self.limit {
                    self.cut(&mut reply);
                }
                return Ok(reply);
            }
        }
    }

    async fn by_stream(&self, server: SocketAddr) -> io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect(server).await?;
        let length = u16::try_from(self.packet.len()).map_err(io::Error::other)?;
        stream.write_all(&[&length.to_be_bytes()[..], &self.packet].concat()).await?;
        loop {
            let mut reply = vec![0; usize::from(stream.read_u16().await?)];
            stream.read_exact(&mut reply).await?;
            if self.is_answered_by(&reply) {
                return Ok(reply);
            }
        }
    }

    /// Makes an answer that is too large an empty truncated one, so that it is asked for again
    /// over a stream. Not every server keeps to the size it was told.
    fn cut(&self, reply: &mut Vec<u8>) {
        reply.truncate(HEADER + self.question.len());
        reply[2] |= 2;
        reply[6..HEADER].fill(0);
    }

    /// Whether this is a response to this query, and not a late one to another or a forged one.
    fn is_answered_by(&self, reply: &[u8]) -> bool {
        let (Some(flags), Some(questions)) = (word(reply, 2), word(reply, 4)) else { return false };
        if reply.len() < HEADER || reply[..2] != self.packet[..2] || flags & 0x8000 == 0 {
            return false;
        }
        // Who could not read the question, or would not, may leave it out.
        if questions == 0 {
            return flags & 15 != 0;
        }
        reply[HEADER..]
            .get(..self.question.len())
            .is_some_and(|question| question.eq_ignore_ascii_case(&self.question))
    }
}

/// The question section that an answer repeats.
fn repeated(question: &Question<'_>) -> Vec<u8> {
    let (kind, class) = (question.kind.to_be_bytes(), question.class.to_be_bytes());
    [&*question.name, &kind, &class].concat()
}
