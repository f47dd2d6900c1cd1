//! The relay, which outlives netd: it is told that there is nothing left to relay, and ends as it does
//! when netd says so.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

use cnm::{Error, Result};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// Where it listens, beside netd.
const SOCKET: &str = "relay.sock";

/// What it is told.
const NOTHING: &str = "{\"all\":[]}\n";

/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends the relay of the netd whose socket this is, or shows it; nothing where there is none.
///
/// # Errors
/// `unavailable` for one that does not answer.
pub(super) fn end(netd: &Path, check: bool) -> Result<Option<String>> {
    let socket = netd.with_file_name(SOCKET);
    let Ok(mut stream) = UnixStream::connect(&socket) else { return Ok(None) };
    let pid = getsockopt(&stream, PeerCredentials).map(|peer| peer.pid());
    let process = pid.map_or_else(|_| String::new(), |pid| format!(" (pid {pid})"));
    if !check {
        ask(&mut stream).map_err(|error| {
            Error::unavailable(format_args!(
                "the relay netd-relay{process} does not end: {error}; end it yourself"
            ))
            .with("socket", socket.display().to_string())
        })?;
    }
    Ok(Some(format!("the relay netd-relay{process} of ports at [::1]")))
}

fn ask(stream: &mut UnixStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(NOTHING.as_bytes())?;
    let mut answer = String::new();
    match BufReader::new(stream).read_line(&mut answer)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
