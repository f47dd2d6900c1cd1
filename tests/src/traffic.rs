//! Servers and clients inside namespaces, over plain sockets as any program has them.

use std::{
    io::{self, Read, Write},
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{Arc, Mutex},
    time::Duration,
};

use crate::{Executed, Namespace};

/// How long a client waits that should be answered.
const PATIENT: Duration = Duration::from_secs(10);

/// How long a client waits that should not: what is let through is there in well under this.
const IMPATIENT: Duration = Duration::from_millis(300);

/// Who spoke to a server, in order.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<Mutex<Vec<SocketAddr>>>);

impl Heard {
    /// Their addresses.
    ///
    /// # Panics
    /// When a server did.
    pub fn from(&self) -> Vec<IpAddr> {
        let heard = self.0.lock().expect("no server panics");
        heard.iter().map(|peer| peer.ip().to_canonical()).collect()
    }

    fn hear(&self, peer: SocketAddr) {
        self.0.lock().expect("no server panics").push(peer);
    }
}

impl Namespace {
    /// Serves TCP on a port of all addresses: tells each caller its address, as it is seen here,
    /// and then repeats what it says.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn serve_tcp(&self, port: u16) -> Heard {
        let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = self.inside(|| TcpListener::bind(at)).expect("the port is free");
        let heard = Heard::default();
        let hears = heard.clone();
        self.meanwhile(move || {
            while let Ok((stream, peer)) = listener.accept() {
                hears.hear(peer);
                std::thread::spawn(move || {
                    let mut answer = &stream;
                    writeln!(answer, "{}", peer.ip().to_canonical())?;
                    io::copy(&mut &stream, &mut answer)
                });
            }
        });
        heard
    }

    /// Serves UDP on a port of all addresses: tells each caller its address.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn serve_udp(&self, port: u16) -> Heard {
        self.serve_datagrams(port, |peer, _| peer.ip().to_canonical().to_string().into_bytes())
    }

    /// As [`Namespace::serve_udp`], with an answer that follows from what was said.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn serve_udp_with(
        &self,
        port: u16,
        answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static,
    ) -> Heard {
        self.serve_datagrams(port, move |_, said| answer(said))
    }

    fn serve_datagrams(
        &self,
        port: u16,
        answer: impl Fn(SocketAddr, &[u8]) -> Vec<u8> + Send + 'static,
    ) -> Heard {
        self.serve_udp_at(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)), answer)
    }

    /// As [`Namespace::serve_udp_with`], on one address.
    ///
    /// # Panics
    /// When the port is taken.
    pub fn serve_udp_at(
        &self,
        at: SocketAddr,
        answer: impl Fn(SocketAddr, &[u8]) -> Vec<u8> + Send + 'static,
    ) -> Heard {
        let socket = self.inside(|| UdpSocket::bind(at)).expect("the port is free");
        let heard = Heard::default();
        let hears = heard.clone();
        self.meanwhile(move || {
            let mut bytes = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut bytes) {
                hears.hear(peer);
                // Who does not wait for it does not get it.
                drop(socket.send_to(&answer(peer, &bytes[..length]), peer));
            }
        });
        heard
    }

    /// What a TCP server sees of this namespace.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub fn ask_tcp(&self, server: SocketAddr) -> io::Result<IpAddr> {
        self.inside(|| {
            let mut stream = TcpStream::connect_timeout(&server, PATIENT)?;
            stream.set_read_timeout(Some(PATIENT))?;
            stream.write_all(b"hello")?;
            stream.shutdown(std::net::Shutdown::Write)?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            address(text.strip_suffix("hello").unwrap_or_default())
        })
    }

    /// What a UDP server sees of this namespace.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn ask_udp(&self, server: SocketAddr) -> io::Result<IpAddr> {
        self.inside(|| {
            let socket = UdpSocket::bind(any_port(server))?;
            socket.set_read_timeout(Some(PATIENT))?;
            socket.send_to(b"hello", server)?;
            let mut bytes = [0; 64];
            let (length, from) = socket.recv_from(&mut bytes)?;
            if from != server {
                return Err(io::Error::other(format!("{from} answers for {server}")));
            }
            address(std::str::from_utf8(&bytes[..length]).unwrap_or_default())
        })
    }

    /// Tries to connect to a TCP server that should not be reached.
    ///
    /// # Errors
    /// As it should be.
    pub fn try_tcp(&self, server: SocketAddr) -> io::Result<()> {
        self.inside(|| TcpStream::connect_timeout(&server, IMPATIENT).map(drop))
    }

    /// Sends one datagram, and does not wait for an answer.
    ///
    /// # Errors
    /// When there is no way to send it.
    pub fn send_udp(&self, server: SocketAddr) -> io::Result<()> {
        self.inside(|| udp_send(server))
    }

    /// Whether an address answers a ping.
    pub fn pings(&self, address: IpAddr) -> bool {
        self.ping(address, 5).code == 0
    }

    /// Whether an address that should not be reached answers no ping.
    pub fn pings_in_vain(&self, address: IpAddr) -> bool {
        self.ping(address, 1).code != 0
    }

    fn ping(&self, address: IpAddr, seconds: u32) -> Executed {
        self.output(&format!("ping -n -c 1 -W {seconds} {address}")).into()
    }
}

/// Sends one datagram from the calling thread's namespace.
///
/// # Errors
/// When there is no way to send it.
pub fn udp_send(server: SocketAddr) -> io::Result<()> {
    UdpSocket::bind(any_port(server))?.send_to(b"hello", server).map(drop)
}

fn any_port(server: SocketAddr) -> SocketAddr {
    let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    any.parse().expect("an address")
}

fn address(text: &str) -> io::Result<IpAddr> {
    text.trim().parse().map_err(|_| io::Error::other(format!("the server says {text:?}")))
}

/// What a name server says that has one address, 203.0.113.7, for every name: an answer to any question.
///
/// # Panics
/// When it is asked nothing.
pub fn one_address(question: &[u8]) -> Vec<u8> {
    let mut answer = question.to_vec();
    // A response, recursion available, one answer, no additional records (RFC 1035, 4.1.1).
    answer[2..12].copy_from_slice(&[0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0]);
    let name_end = 12 + question[12..].iter().position(|b| *b == 0).expect("a name") + 5;
    answer.truncate(name_end);
    // The name above, A, IN, a minute, and the address.
    answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, 7]);
    answer
}
