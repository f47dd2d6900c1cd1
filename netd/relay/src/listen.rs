//! Ports that are listened at, and what comes to them.

use std::{
    collections::{HashMap, HashSet, hash_map::Entry},
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    rc::Rc,
    time::Duration,
};

use cnm::endpoint::Protocol;
use socket2::{Domain, Socket, Type};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream, UdpSocket},
    task::{AbortHandle, spawn_local},
    time::timeout,
};

use crate::orders::{Lead, Orders};

/// How long somebody who says nothing over UDP is remembered.
const SILENCE: Duration = Duration::from_secs(60);
/// How long nobody comes in before it is tried again, where there were no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);
/// The longest datagram.
const DATAGRAM: usize = 65_535;

/// Everything that is relayed.
#[derive(Debug, Default)]
pub(crate) struct Relayed(HashMap<(Protocol, u16), Port>);

#[derive(Debug)]
struct Port {
    to: SocketAddr,
    task: AbortHandle,
}

impl Drop for Port {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relayed {
    /// Whether it is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Carries orders out; says what could not be.
    pub(crate) fn obey(&mut self, orders: Orders) -> Vec<String> {
        for lead in orders.remove {
            let key = (lead.protocol, lead.port);
            if self.0.get(&key).is_some_and(|port| port.to == lead.to) {
                self.0.remove(&key);
            }
        }
        let mut add = orders.add;
        if let Some(all) = orders.all {
            let wanted: HashSet<Lead> = all.iter().copied().collect();
            self.0.retain(|(protocol, port), there| {
                wanted.contains(&Lead { protocol: *protocol, port: *port, to: there.to })
            });
            add.extend(all);
        }
        let failed = add.into_iter().filter_map(|lead| {
            let error = self.add(lead).err()?;
            Some(format!("port {}/{} at [::1]: {error}", lead.port, lead.protocol))
        });
        failed.collect()
    }

    fn add(&mut self, lead: Lead) -> io::Result<()> {
        let Lead { protocol, port, to } = lead;
        if self.0.get(&(protocol, port)).is_some_and(|there| there.to == to) {
            return Ok(());
        }
        // The port is given up before it is taken again.
        self.0.remove(&(protocol, port));
        let here = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let task = match protocol {
            Protocol::Tcp => spawn_local(streams(listener(here)?, to)),
            Protocol::Udp => {
                let socket = std::net::UdpSocket::bind(here)?;
                socket.set_nonblocking(true)?;
                spawn_local(datagrams(UdpSocket::from_std(socket)?, to))
            }
            Protocol::Sctp => return Err(io::Error::other("sctp is not relayed")),
        };
        self.0.insert((protocol, port), Port { to, task: task.abort_handle() });
        Ok(())
    }
}

fn listener(here: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV6, Type::STREAM.nonblocking(), None)?;
    // What is left of earlier connections is in nobody's way.
    socket.set_reuse_address(true)?;
    socket.bind(&here.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

async fn streams(listener: TcpListener, to: SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => drop(spawn_local(stream_to(stream, to))),
            Err(_) => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// One connection, from its beginning to its end. Who cannot be connected is left as abruptly as
/// the container leaves.
async fn stream_to(mut near: TcpStream, to: SocketAddr) {
    let relayed = async {
        let mut far = TcpStream::connect(to).await?;
        near.set_nodelay(true)?;
        far.set_nodelay(true)?;
        copy_bidirectional(&mut near, &mut far).await
    };
    if relayed.await.is_err() {
        near.set_zero_linger().ok();
    }
}

/// All datagrams of a port: each who sends some has a socket of its own, by which answers are known
/// as its own.
async fn datagrams(near: UdpSocket, to: SocketAddr) {
    let near = Rc::new(near);
    let mut known: HashMap<SocketAddr, Sender> = HashMap::new();
    let mut bytes = vec![0; DATAGRAM];
    loop {
        let Ok((length, from)) = near.recv_from(&mut bytes).await else { continue };
        known.retain(|_, sender| !sender.task.is_finished());
        let sender = match known.entry(from) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => match Sender::new(&near, from, to).await {
                Ok(sender) => entry.insert(sender),
                Err(_) => continue,
            },
        };
        // It may be lost, as any datagram.
        sender.far.send(&bytes[..length]).await.ok();
    }
}

/// Somebody who sends datagrams.
struct Sender {
    far: Rc<UdpSocket>,
    task: AbortHandle,
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Sender {
    async fn new(near: &Rc<UdpSocket>, from: SocketAddr, to: SocketAddr) -> io::Result<Self> {
        let here: SocketAddr = match to {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let far = Rc::new(UdpSocket::bind(here).await?);
        far.connect(to).await?;
        let task = spawn_local(answers(near.clone(), far.clone(), from)).abort_handle();
        Ok(Self { far, task })
    }
}

/// Hands answers back until there have been none for a while.
async fn answers(near: Rc<UdpSocket>, far: Rc<UdpSocket>, to: SocketAddr) {
    let mut bytes = vec![0; DATAGRAM];
    while let Ok(received) = timeout(SILENCE, far.recv(&mut bytes)).await {
        match received {
            Ok(length) => drop(near.send_to(&bytes[..length], to).await),
            // The container refuses it: so does it for whoever asks next.
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};

    use super::*;

    fn on_its_thread(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        tokio::task::LocalSet::new().block_on(&runtime.expect("a runtime"), test);
    }

    fn free_port() -> u16 {
        let probe = std::net::TcpListener::bind("[::1]:0").expect("this host has IPv6");
        probe.local_addr().expect("bound").port()
    }

    #[test]
    fn a_stream_and_datagrams_go_through_and_back() {
        on_its_thread(async {
            let server = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
            let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
            let (tcp, udp) = (server.local_addr(), datagrams.local_addr());
            std::thread::spawn(move || {
                for mut stream in server.incoming().flatten() {
                    let mut bytes = [0; 5];
                    stream.read_exact(&mut bytes).expect("hello");
                    stream.write_all(&bytes).expect("written");
                }
            });
            std::thread::spawn(move || {
                let mut bytes = [0; 100];
                while let Ok((length, from)) = datagrams.recv_from(&mut bytes) {
                    datagrams.send_to(&bytes[..length], from).expect("sent");
                }
            });
            let port = free_port();
            let lead = |protocol, to: io::Result<SocketAddr>| Lead {
                protocol,
                port,
                to: to.expect("bound"),
            };
            let leads = vec![lead(Protocol::Tcp, tcp), lead(Protocol::Udp, udp)];
            let mut relayed = Relayed::default();
            let none: [&str; 0] = [];
            assert_eq!(relayed.obey(Orders { add: leads.clone(), ..Orders::default() }), none);
            let asked = tokio::task::spawn_blocking(move || {
                let mut stream = std::net::TcpStream::connect(("::1", port)).expect("connected");
                stream.write_all(b"hello").expect("written");
                let mut said = String::new();
                stream.read_to_string(&mut said).expect("read");
                let socket = std::net::UdpSocket::bind("[::1]:0").expect("bound");
                let mut bytes = [0; 100];
                for _ in 0..3 {
                    socket.send_to(b"again", ("::1", port)).expect("sent");
                    let (length, _) = socket.recv_from(&mut bytes).expect("answered");
                    assert_eq!(&bytes[..length], b"again");
                }
                said
            });
            assert_eq!(asked.await.expect("asked"), "hello");
            let gone = Orders { remove: leads[..1].to_vec(), ..Orders::default() };
            assert_eq!(relayed.obey(gone), none);
            assert!(!relayed.is_empty());
            tokio::task::yield_now().await;
            assert!(std::net::TcpStream::connect(("::1", port)).is_err());
            assert_eq!(relayed.obey(Orders { all: Some(vec![]), ..Orders::default() }), none);
            assert!(relayed.is_empty());
        });
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        on_its_thread(async {
            let taken = std::net::TcpListener::bind("[::1]:0").expect("this host has IPv6");
            let here = taken.local_addr().expect("bound");
            let lead = Lead { protocol: Protocol::Tcp, port: here.port(), to: here };
            let mut relayed = Relayed::default();
            let failed = relayed.obey(Orders { all: Some(vec![lead]), ..Orders::default() });
            assert!(failed[0].contains(&format!("port {}/tcp", here.port())), "{failed:?}");
            assert!(relayed.is_empty());
        });
    }
}
