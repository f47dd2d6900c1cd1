//! The blocking client of netd's socket: what `netctl` and the plugins' front use.

use std::{
    io::{self, IoSlice, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{ControlMessage, MsgFlags, sendmsg},
};

use crate::{
    Call, Error, Kind, Reply, Request, Result,
    frame::{Lines, MAX_TRUSTED_LINE},
};

/// A connection to netd.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    lines: Lines<UnixStream>,
    stream: UnixStream,
    next_id: u64,
}

/// What goes along with a call.
#[derive(Clone, Copy, Debug, Default)]
pub struct With<'a> {
    /// Descriptors for the `"fd"`s in the parameters, in their order.
    pub fds: &'a [BorrowedFd<'a>],
    /// When the caller no longer wants the answer.
    pub deadline: Option<Duration>,
    /// The same key makes a repeated request the same request.
    pub idempotency_key: Option<&'a str>,
}

impl Client {
    /// Connects to the socket at `path`.
    ///
    /// # Errors
    /// `unavailable` when nobody listens there, `denied` when the caller may not.
    pub fn connect(path: &Path) -> Result<Self> {
        let stream = UnixStream::connect(path).map_err(|error| {
            let kind = match error.kind() {
                io::ErrorKind::PermissionDenied => Kind::Denied,
                _ => Kind::Unavailable,
            };
            let hint = match kind {
                Kind::Denied => "you need root or the group netd",
                _ => "is netd running, and is this its --run-dir?",
            };
            Error::new(
                kind,
                format_args!("cannot reach netd at {}: {error}; {hint}", path.display()),
            )
            .with("socket", path.display().to_string())
        })?;
        let reader = stream.try_clone().map_err(|error| lost(path, &error))?;
        Ok(Self {
            path: path.to_owned(),
            lines: Lines::with_limit(reader, MAX_TRUSTED_LINE),
            stream,
            next_id: 1,
        })
    }

    /// Calls a method and waits for its answer.
    pub fn call<P: Call>(&mut self, params: &P) -> Result<P::Reply> {
        self.call_with(params, With::default())
    }

    /// As [`Client::call`], with descriptors, a deadline or a key.
    pub fn call_with<P: Call>(&mut self, params: &P, with: With<'_>) -> Result<P::Reply> {
        let mut request = Request::new(self.next_id, params);
        self.next_id += 1;
        request.deadline_ms =
            with.deadline.map(|d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
        request.idempotency_key = with.idempotency_key;
        let text = self.exchange(&request.to_line(), with.fds)?;
        let reply: Reply<P::Reply> = serde_json::from_str(&text).map_err(|error| {
            Error::internal(format_args!(
                "netd's answer to {} is not understood: {error}",
                P::METHOD
            ))
        })?;
        reply.outcome()
    }

    /// Sends a line as it is and gives the line that answers it.
    pub fn exchange(&mut self, line: &str, fds: &[BorrowedFd<'_>]) -> Result<String> {
        self.send(line, fds).map_err(|error| lost(&self.path, &error))?;
        // Who waits in a read is woken once more when netd takes the request in, and in its way.
        let answered =
            poll(&mut [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)], PollTimeout::NONE);
        match answered {
            Ok(_) | Err(Errno::EINTR) => self.next_line(),
            Err(errno) => Err(lost(&self.path, &errno.into())),
        }
    }

    /// Sends a line that nobody answers.
    pub fn notify(&mut self, line: &str, fds: &[BorrowedFd<'_>]) -> Result<()> {
        self.send(line, fds).map_err(|error| lost(&self.path, &error))
    }

    /// The next line from netd, such as an event.
    pub fn next_line(&mut self) -> Result<String> {
        match self.lines.next_line() {
            Ok(Some(line)) => line.map(str::to_owned),
            Ok(None) => {
                let error = io::Error::from(io::ErrorKind::UnexpectedEof);
                Err(lost(&self.path, &error))
            }
            Err(error) => Err(lost(&self.path, &error)),
        }
    }

    fn send(&mut self, line: &str, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut rest = line.as_bytes();
        if !fds.is_empty() {
            let raw: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
            let sent = sendmsg::<()>(
                self.stream.as_raw_fd(),
                &[IoSlice::new(rest)],
                &[ControlMessage::ScmRights(&raw)],
                MsgFlags::MSG_NOSIGNAL,
                None,
            )?;
            rest = rest.get(sent..).unwrap_or_default();
        }
        self.stream.write_all(rest)
    }
}

fn lost(path: &Path, error: &io::Error) -> Error {
    Error::unavailable(format_args!("lost netd at {}: {error}", path.display()))
        .with("socket", path.display().to_string())
}
