//! The resolver's sockets: bound where there is none yet, taken over from the netd before this one
//! where whoever starts netd has kept them, and handed to it for the next one.
//!
//! A socket that is kept goes on queueing questions while no netd runs, so that none is lost over
//! a restart (sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=` in systemd.service(5)).

use std::{
    cell::RefCell,
    collections::HashMap,
    fs::File,
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd as _,
};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Socket, Type};

use crate::{host::inside::inside, notify};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 512;

/// Bytes of questions that may wait to be read, as the kernel counts them (some 5,000), so that a
/// burst is not lost, nor what is asked during a restart. It is memory only while they wait.
const WAITING: usize = 4 << 20;

/// A pair of sockets at one address.
pub(super) type Pair = (UdpSocket, TcpListener);

/// The sockets that were kept and that nobody has asked for yet.
#[derive(Debug, Default)]
pub(super) struct Kept {
    // By name as well: an address may be there in each of several namespaces.
    udp: RefCell<HashMap<(String, SocketAddr), UdpSocket>>,
    tcp: RefCell<HashMap<(String, SocketAddr), TcpListener>>,
}

impl Kept {
    /// Those that came with netd's start.
    pub(super) fn new(sockets: notify::Sockets) -> Self {
        let kept = Self::default();
        for (socket, name) in sockets.udp {
            if let Ok(address) = socket.local_addr() {
                kept.udp.borrow_mut().insert((name, address), socket);
            }
        }
        for (socket, name) in sockets.tcp {
            if let Ok(address) = socket.local_addr() {
                kept.tcp.borrow_mut().insert((name, address), socket);
            }
        }
        kept
    }

    /// The pair at an address that was kept under a name.
    pub(super) fn take(&self, address: SocketAddr, name: &str) -> Option<Pair> {
        let key = (name.to_owned(), address);
        let udp = self.udp.borrow_mut().remove(&key);
        let tcp = self.tcp.borrow_mut().remove(&key);
        udp.zip(tcp)
    }

    /// A pair at an address, which need not be there yet. It is kept under a name, for whoever
    /// comes after us.
    pub(super) fn open(&self, address: SocketAddr, name: &str) -> io::Result<Pair> {
        if let Some(pair) = self.take(address, name) {
            return Ok(pair);
        }
        let pair = bind(address)?;
        keep(name, &pair);
        Ok(pair)
    }

    /// Closes what nobody has asked for: its network is gone.
    pub(super) fn close(&self) {
        let udp = self.udp.take().into_keys().map(|(name, _)| name);
        let tcp = self.tcp.take().into_keys().map(|(name, _)| name);
        let mut names: Vec<String> = udp.chain(tcp).collect();
        names.sort();
        names.dedup();
        names.iter().for_each(|name| forget(name));
    }
}

/// Has a pair kept under a name, for whoever comes after us.
fn keep(name: &str, (udp, tcp): &Pair) {
    if let Err(error) = notify::keep(name, &[udp.as_fd(), tcp.as_fd()]) {
        tracing::debug!(name, %error, "sockets are not kept over a restart");
    }
}

/// A pair at an address inside a namespace. It is kept under a name.
pub(super) fn open_inside(netns: &File, address: SocketAddr, name: &str) -> io::Result<Pair> {
    let pair = inside(netns, || bind(address))?;
    keep(name, &pair);
    Ok(pair)
}

/// A port of an address inside a namespace that is free at this moment.
pub(super) fn free_inside(netns: &File, address: IpAddr) -> io::Result<u16> {
    inside(netns, || bind_any_port(&[address]).map(|(port, _)| port))
}

/// New pairs at one port of several addresses, any that is free at all of them. They are kept under
/// a name.
pub(super) fn open_any(addresses: &[IpAddr], name: &str) -> io::Result<(u16, Vec<Pair>)> {
    let (port, pairs) = bind_any_port(addresses)?;
    pairs.iter().for_each(|pair| keep(name, pair));
    Ok((port, pairs))
}

/// As [`bind`], pairs at one port of several addresses, any that is free at all of them.
fn bind_any_port(addresses: &[IpAddr]) -> io::Result<(u16, Vec<Pair>)> {
    let at = |port: u16| -> io::Result<(u16, Vec<Pair>)> {
        let pairs = addresses.iter().map(|ip| bind(SocketAddr::new(*ip, port)));
        Ok((port, pairs.collect::<io::Result<_>>()?))
    };
    // One that is free for datagrams at one address may be taken otherwise.
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let free = addresses.first().map_or(Ok(0), |ip| free_port(*ip));
        match free.and_then(at) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => last = error,
            outcome => return outcome,
        }
    }
    Err(last)
}

/// A port of an address that was free for datagrams a moment ago.
fn free_port(ip: IpAddr) -> io::Result<u16> {
    let any = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(any), Type::DGRAM, None)?;
    set_free(&socket, ip)?;
    socket.bind(&any.into())?;
    Ok(UdpSocket::from(socket).local_addr()?.port())
}

/// How many ports are tried where any will do.
const ATTEMPTS: usize = 16;

/// Lets a socket be bound to an address that is not there yet.
fn set_free(socket: &Socket, ip: IpAddr) -> io::Result<()> {
    match ip {
        IpAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)
        }
        IpAddr::V4(_) => socket.set_freebind_v4(true),
    }
}

/// Has the sockets of a name closed by whoever keeps them.
pub(super) fn forget(name: &str) {
    if let Err(error) = notify::forget(name) {
        tracing::debug!(name, %error, "sockets stay kept");
    }
}

/// New sockets at an address, which need not be there yet.
fn bind(address: SocketAddr) -> io::Result<Pair> {
    let bind = |kind: Type| {
        let socket = Socket::new(Domain::for_address(address), kind, None)?;
        set_free(&socket, address.ip())?;
        if kind == Type::STREAM {
            socket.set_reuse_address(true)?;
        } else {
            // Beyond what the host allows to those who may not administer its network.
            set_socket_recv_buffer_size_force(&socket, WAITING)
                .or_else(|_| socket.set_recv_buffer_size(WAITING))?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        io::Result::Ok(socket)
    };
    let udp = bind(Type::DGRAM)?;
    let tcp = bind(Type::STREAM)?;
    tcp.listen(BACKLOG)?;
    Ok((udp.into(), tcp.into()))
}
