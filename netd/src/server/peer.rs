//! Who is at the other end of a connection, and what they may.

use std::fs;

use cnm::{Error, Kind, Result};
use tokio::net::UnixStream;

/// The process that connected.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer {
    uid: u32,
    trusted: bool,
}

impl Peer {
    /// Who connected (`SO_PEERCRED`, unix(7)).
    pub(crate) fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else {
            return Self { uid: u32::MAX, trusted: false };
        };
        let uid = credentials.uid();
        let own = rustix::process::geteuid().as_raw();
        let member = || {
            group(super::GROUP).is_some_and(|gid| {
                credentials.gid() == gid
                    || credentials.pid().is_some_and(|pid| supplementary(pid).contains(&gid))
            })
        };
        Self { uid, trusted: uid == 0 || uid == own || member() }
    }

    /// Whether it may call a method that changes something.
    ///
    /// # Errors
    /// `denied`.
    pub(crate) fn allow(&self, method: &str) -> Result<()> {
        if self.trusted {
            return Ok(());
        }
        Err(Error::new(
            Kind::Denied,
            format_args!(
                "user {} may not call {method}: be root or a member of the group {}",
                self.uid,
                super::GROUP
            ),
        )
        .with("uid", self.uid))
    }
}

/// The number of a group (group(5)).
pub(super) fn group(name: &str) -> Option<u32> {
    let text = fs::read_to_string("/etc/group").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    })
}

/// A process's further groups (proc(5), `Groups` in `status`).
fn supplementary(pid: i32) -> Vec<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let groups = text.lines().find_map(|line| line.strip_prefix("Groups:"));
    groups.unwrap_or_default().split_whitespace().filter_map(|gid| gid.parse().ok()).collect()
}
