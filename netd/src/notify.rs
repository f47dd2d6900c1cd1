//! systemd: the socket it hands over (sd_listen_fds(3)) and what it is told (sd_notify(3)).

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{ffi::OsStrExt, net::SocketAddr, net::UnixDatagram},
    },
};

use listenfd::ListenFd;
use tokio::net::UnixListener;

/// The socket that netd was started with.
pub(crate) fn listener() -> io::Result<Option<UnixListener>> {
    let Some(listener) = ListenFd::from_env().take_unix_listener(0)? else { return Ok(None) };
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener).map(Some)
}

/// Requests are answered from now on.
pub(crate) fn ready() -> io::Result<()> {
    tell("READY=1")
}

/// netd is about to end.
pub(crate) fn stopping() -> io::Result<()> {
    tell("STOPPING=1")
}

fn tell(state: &str) -> io::Result<()> {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let address = match path.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&path)?,
    };
    UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address).map(drop)
}
