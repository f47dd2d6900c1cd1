//! systemd, or whoever speaks as it does: the sockets it hands over (sd_listen_fds(3)), what it is
//! told (sd_notify(3)), and what it keeps for the next netd (sd_pid_notify_with_fds(3)).

use std::{
    env, io,
    mem::MaybeUninit,
    net::{TcpListener, UdpSocket},
    os::{
        fd::BorrowedFd,
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
};

use listenfd::ListenFd;
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, sendmsg_addr,
};
use tokio::net::UnixListener;

/// The beginning of the names under which the resolver's sockets are kept.
pub(crate) const DNS: &str = "dns-";

/// What netd was started with.
#[derive(Debug, Default)]
pub(crate) struct Inherited {
    /// The socket for requests.
    pub(crate) listener: Option<UnixListener>,
    /// The resolver's, which the netd before this one left.
    pub(crate) sockets: Sockets,
}

/// Sockets of the resolver, each with the name that it was kept under.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    /// For datagrams.
    pub(crate) udp: Vec<(UdpSocket, String)>,
    /// For connections.
    pub(crate) tcp: Vec<(TcpListener, String)>,
}

/// Takes over the sockets that netd was started with. It may be done once.
pub(crate) fn inherited() -> io::Result<Inherited> {
    let mut given = ListenFd::from_env();
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let mut names = names.split(':');
    let mut inherited = Inherited::default();
    for index in 0..given.len() {
        let name = names.next().unwrap_or_default().to_owned();
        if name.starts_with(DNS) {
            // One of another kind than both is nobody's of ours, and stays closed to all.
            if let Ok(Some(socket)) = given.take_udp_socket(index) {
                inherited.sockets.udp.push((socket, name));
            } else if let Ok(Some(socket)) = given.take_tcp_listener(index) {
                inherited.sockets.tcp.push((socket, name));
            }
        } else if inherited.listener.is_none()
            && let Some(listener) = given.take_unix_listener(index)?
        {
            listener.set_nonblocking(true)?;
            inherited.listener = Some(UnixListener::from_std(listener)?);
        }
    }
    Ok(inherited)
}

/// Requests are answered from now on.
pub(crate) fn ready() -> io::Result<()> {
    tell("READY=1", &[])
}

/// netd is about to end.
pub(crate) fn stopping() -> io::Result<()> {
    tell("STOPPING=1", &[])
}

/// Has sockets kept for the next netd, whatever becomes of this one. They are kept even when the
/// kernel reports an error on them, such as a reply that did not arrive.
pub(crate) fn keep(name: &str, sockets: &[BorrowedFd<'_>]) -> io::Result<()> {
    tell(&format!("FDSTORE=1\nFDPOLL=0\nFDNAME={name}"), sockets)
}

/// Has the sockets of a name closed that are kept.
pub(crate) fn forget(name: &str) -> io::Result<()> {
    tell(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[])
}

fn tell(state: &str, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    if descriptors.is_empty() {
        let address = match path.as_bytes().strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(&path)?,
        };
        return UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop);
    }
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddrUnix::new_abstract_name(name)?,
        None => SocketAddrUnix::new(path.as_os_str())?,
    };
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more than two sockets are not kept at once"));
    }
    let bytes = [io::IoSlice::new(state.as_bytes())];
    let socket = UnixDatagram::unbound()?;
    sendmsg_addr(&socket, &address, &bytes, &mut ancillary, SendFlags::empty())?;
    Ok(())
}
