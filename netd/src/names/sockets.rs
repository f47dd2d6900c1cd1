//! The resolver's sockets: bound where there is none yet, taken over from the netd before this one
//! where whoever starts netd has kept them, and handed to it for the next one.
//!
//! A socket that is kept goes on queueing questions while no netd runs, so that none is lost over
//! a restart (sd_pid_notify_with_fds(3), `FileDescriptorStoreMax=` in systemd.service(5)).

use std::{
    cell::RefCell,
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    os::fd::AsFd as _,
};

use rustix::net::sockopt::set_socket_recv_buffer_size_force;
use socket2::{Domain, Socket, Type};

use crate::notify;

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
    udp: RefCell<HashMap<SocketAddr, (UdpSocket, String)>>,
    tcp: RefCell<HashMap<SocketAddr, (TcpListener, String)>>,
}

impl Kept {
    /// Those that came with netd's start.
    pub(super) fn new(sockets: notify::Sockets) -> Self {
        let kept = Self::default();
        for (socket, name) in sockets.udp {
            if let Ok(address) = socket.local_addr() {
                kept.udp.borrow_mut().insert(address, (socket, name));
            }
        }
        for (socket, name) in sockets.tcp {
            if let Ok(address) = socket.local_addr() {
                kept.tcp.borrow_mut().insert(address, (socket, name));
            }
        }
        kept
    }

    /// A pair at an address, which need not be there yet. It is kept under a name, for whoever
    /// comes after us.
    pub(super) fn open(&self, address: SocketAddr, name: &str) -> io::Result<Pair> {
        let udp = self.udp.borrow_mut().remove(&address);
        let tcp = self.tcp.borrow_mut().remove(&address);
        if let (Some((udp, _)), Some((tcp, _))) = (udp, tcp) {
            udp.set_nonblocking(true)?;
            tcp.set_nonblocking(true)?;
            return Ok((udp, tcp));
        }
        let (udp, tcp) = bind(address)?;
        if let Err(error) = notify::keep(name, &[udp.as_fd(), tcp.as_fd()]) {
            tracing::debug!(name, %error, "sockets are not kept over a restart");
        }
        Ok((udp, tcp))
    }

    /// Closes what nobody has asked for: its network is gone.
    pub(super) fn close(&self) {
        let udp = self.udp.take().into_values().map(|(_, name)| name);
        let tcp = self.tcp.take().into_values().map(|(_, name)| name);
        let mut names: Vec<String> = udp.chain(tcp).collect();
        names.sort();
        names.dedup();
        names.iter().for_each(|name| forget(name));
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
        match address.ip() {
            IpAddr::V6(_) => {
                socket.set_only_v6(true)?;
                socket.set_freebind_v6(true)?;
            }
            IpAddr::V4(_) => socket.set_freebind_v4(true)?,
        }
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
