//! Keeping a running command's `/etc/resolv.conf` and `/etc/hosts` as its networks have them, while it
//! is put on some and taken off others.
//!
//! The files are the command's own, put over the host's in its mount namespace: what is written is
//! what lies there, in place, and only where nobody has written anything else since.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom, Write as _},
    net::IpAddr,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cnm::{
    ContainerId, Error, Kind, Name, Result,
    client::Client,
    endpoint::{Endpoint, ListEndpoints, State},
    events::{Notification, Subscribe},
};
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use super::{
    files::{self, Wishes},
    this_host,
};
use crate::out;

/// How long netd, when it is not there, is waited for.
const BREATH: Duration = Duration::from_secs(1);

/// How long the command's files are waited for, and how often they are looked for.
const SETTLED: Duration = Duration::from_secs(1);
const MOMENT: Duration = Duration::from_millis(5);

/// A running command, and what its files say.
#[derive(Debug)]
pub(super) struct Follower {
    /// Where netd is.
    pub(super) socket: PathBuf,
    /// What the command is to netd.
    pub(super) container: ContainerId,
    /// Its process.
    pub(super) pid: u32,
    /// What it calls itself.
    pub(super) hostname: Name,
    /// What is in the files whatever its networks are.
    pub(super) wishes: Wishes,
    /// The files by path, as they were written last.
    pub(super) files: Vec<(String, String)>,
}

impl Follower {
    /// Follows it until this process ends. A netd that is started again is asked again.
    pub(super) fn follow(mut self) {
        loop {
            // That it is away is nothing to complain of: the command's networks stay as they are.
            drop(self.watch());
            thread::park_timeout(BREATH);
        }
    }

    /// Looks whenever an endpoint of the command's has come or gone.
    fn watch(&mut self) -> Result<()> {
        let mut events = Client::connect(&self.socket)?;
        events.call(&Subscribe {})?;
        loop {
            // Only who waits for something keeps a connection.
            let mut client = Client::connect(&self.socket)?;
            let params =
                ListEndpoints { container: Some(self.container.to_string()), network: None };
            let mut endpoints = match client.call(&params) {
                Ok(listed) => listed.endpoints,
                // It is on no network any more, and netd could not keep it.
                Err(error) if error.kind == Kind::NotFound => Vec::new(),
                Err(error) => return Err(error),
            };
            endpoints.retain(|endpoint| endpoint.state == State::Attached);
            let gateways = match self.wishes.name_this_host() {
                // There may be none at the moment.
                true => this_host(&mut client, &self.container).unwrap_or_default(),
                false => Vec::new(),
            };
            drop(client);
            self.renew(&endpoints, &gateways);
            while !self.concerns(&events.next_line()?)? {}
        }
    }

    fn concerns(&self, line: &str) -> Result<bool> {
        let Notification { params: event, .. } = serde_json::from_str(line).map_err(|error| {
            Error::internal(format_args!("netd's event is not understood: {error}"))
        })?;
        let container = event.attributes.get("container").map(String::as_str);
        Ok(event.object == "endpoint" && container == Some(self.container.as_str()))
    }

    /// Writes what has changed with these endpoints. Where nothing says whom to ask any more, it is
    /// whom it was. A file that somebody else has written is his from then on.
    fn renew(&mut self, endpoints: &[Endpoint], gateways: &[IpAddr]) {
        for (path, text) in files::all(&self.wishes, &self.hostname, endpoints, gateways) {
            let at = self.files.iter().position(|(known, _)| *known == path);
            let Some(at) = at.filter(|at| self.files[*at].1 != text) else { continue };
            self.wait_for(&path);
            match rewrite(self.pid, &path, &self.files[at].1, &text) {
                Ok(true) => self.files[at].1 = text,
                Ok(false) => drop(self.files.remove(at)),
                // With the command it is gone, or it is not back yet: its next change is another try.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    out::complain(&format_args!(
                        "{path} of the command does not follow its networks any more: {error}"
                    ));
                    self.files.remove(at);
                }
            }
        }
    }

    /// Waits until a file lies where it is to be seen: that is a moment after the host has replaced its
    /// own.
    fn wait_for(&self, path: &str) {
        let began = Instant::now();
        while !open(self.pid, path).is_ok_and(|file| !is_hosts(&file, path))
            && began.elapsed() <= SETTLED
        {
            thread::park_timeout(MOMENT);
        }
    }
}

/// Puts a text in the place of the one that was written last, where that is still there.
fn rewrite(pid: u32, path: &str, known: &str, text: &str) -> io::Result<bool> {
    let mut file = open(pid, path)?;
    if is_hosts(&file, path) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut there = String::new();
    file.read_to_string(&mut there)?;
    if there != known {
        return Ok(false);
    }
    // Never empty for who reads it now: longer or shorter for a moment.
    file.seek(SeekFrom::Start(0))?;
    file.write_all(text.as_bytes())?;
    file.set_len(text.len().try_into().map_err(io::Error::other)?)?;
    Ok(true)
}

/// Whether an open file is the one that the host has there.
fn is_hosts(file: &File, path: &str) -> bool {
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let own = file.metadata().ok().map(place);
    own.is_none() || own == fs::metadata(path).ok().map(place)
}

/// Opens a file as a process finds it. No link leads out of what that process sees.
fn open(pid: u32, path: &str) -> io::Result<File> {
    let root = File::open(format!("/proc/{pid}/root"))?;
    let inside = Path::new(path).strip_prefix("/").unwrap_or_else(|_| Path::new(path));
    let how = OpenHow::new()
        .flags(OFlag::O_RDWR | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    Ok(openat2(&root, inside, how)?.into())
}
