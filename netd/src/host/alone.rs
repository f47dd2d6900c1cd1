//! That one netd alone runs in a network namespace: what another has made there would be what is left of
//! somebody to it, and go. The one that runs is found by a socket with a name of the namespace's own
//! (`unix(7)`, abstract), which goes with its process, however that ends.

use std::{
    io::{self, ErrorKind},
    os::{
        linux::net::SocketAddrExt as _,
        unix::{fs::MetadataExt as _, net},
    },
};

use cnm::{Error, Kind, Result};
use socket2::{Domain, SockAddr, Socket, Type};
use tokio::net::{UnixListener, UnixStream, unix::UCred};

use super::Host;

/// What the socket is called.
const NAME: &str = "netd";

/// How often the name is tried for where whoever has it ends at that moment.
const TRIES: usize = 3;

impl Host {
    /// Refuses to go on where another netd runs in this network namespace, and is known to others as the one
    /// that does from now on.
    ///
    /// # Errors
    /// `busy`, with the other's process.
    pub(crate) fn be_alone(&self) -> Result<()> {
        let name = net::SocketAddr::from_abstract_name(NAME).map_err(Error::internal)?;
        let mut holder = None;
        for _ in 0..TRIES {
            match net::UnixListener::bind_addr(&name) {
                Ok(listener) => {
                    listener.set_nonblocking(true).map_err(Error::internal)?;
                    let listener = UnixListener::from_std(listener).map_err(Error::internal)?;
                    tokio::task::spawn_local(be_known(listener));
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::AddrInUse => holder = who().ok(),
                Err(error) => return Err(Error::internal(error)),
            }
            if holder.is_some() {
                break;
            }
        }
        let own = rustix::process::geteuid().as_raw();
        match holder.filter(|holder| [0, own].contains(&holder.uid())) {
            Some(other) => Err(self.taken_by(other.pid())),
            // Anybody may take the name, and must not keep netd from its work by that.
            None => {
                let user = holder.map_or_else(|| "nobody".into(), |h| format!("user {}", h.uid()));
                tracing::warn!(
                    user,
                    "who has the socket @{NAME} is no netd: another one would not be noticed"
                );
                Ok(())
            }
        }
    }

    fn taken_by(&self, pid: Option<i32>) -> Error {
        // One of another PID namespace has no number here.
        let process = pid.filter(|pid| *pid > 0).map(|pid| format!(" (process {pid})"));
        let netns = std::fs::metadata("/proc/self/ns/net").map_or(self.netns.1, |meta| meta.ino());
        let busy = Error::new(
            Kind::Busy,
            format_args!(
                "another netd{} runs in this network namespace, net:[{netns}], whose links and rules have one \
                 netd: end that first, or start this one in a network namespace of its own",
                process.unwrap_or_default()
            ),
        );
        match pid {
            Some(pid) => busy.with("pid", pid),
            None => busy,
        }
    }
}

/// Answers for the name, as long as netd runs.
async fn be_known(listener: UnixListener) {
    while listener.accept().await.is_ok() {}
    // Who asks hangs then, and the name is kept.
    std::future::pending().await
}

/// The process that has the name.
fn who() -> io::Result<UCred> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // It may be anybody's, and is not waited for.
    socket.set_nonblocking(true)?;
    socket.connect(&SockAddr::unix(format!("\0{NAME}"))?)?;
    UnixStream::from_std(socket.into())?.peer_cred()
}
