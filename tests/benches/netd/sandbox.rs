//! A container, as far as a network is concerned.

use std::{
    fs::{self, File},
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    process, thread,
};

use anyhow::Result;
use kernel::netlink::Socket;
use nix::sched::{CloneFlags, unshare};

/// A fresh network namespace, as a runtime hands it over, with a socket opened inside.
pub(crate) struct Sandbox {
    file: File,
    /// For the bare kernel, which is given everything beforehand.
    pub(crate) inside: Socket,
}

impl Sandbox {
    /// So many of them.
    pub(crate) fn make(count: usize) -> Result<Vec<Self>> {
        make(count, || Ok(()))
    }

    /// So many in which nothing has IPv6, as Docker leaves containers of a network without it.
    pub(crate) fn make_without_ipv6(count: usize) -> Result<Vec<Self>> {
        make(count, || Ok(fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?))
    }

    /// A path to it that any process of this run can open.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd())
    }
}

/// Makes so many and prepares each, from within.
fn make(count: usize, prepare: fn() -> Result<()>) -> Result<Vec<Sandbox>> {
    let one = move || {
        unshare(CloneFlags::CLONE_NEWNET)?;
        prepare()?;
        let file = File::open("/proc/thread-self/ns/net")?;
        Ok(Sandbox { file, inside: Socket::route_small()? })
    };
    let made = thread::spawn(move || (0..count).map(|_| one()).collect()).join();
    made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
