//! A container, as far as a network is concerned.

use std::{
    fs::File,
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
        let make = || {
            unshare(CloneFlags::CLONE_NEWNET)?;
            let file = File::open("/proc/thread-self/ns/net")?;
            Ok(Self { file, inside: Socket::route_small()? })
        };
        let made = thread::spawn(move || (0..count).map(|_| make()).collect()).join();
        made.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// A path to it that any process of this run can open.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd())
    }
}

impl AsFd for Sandbox {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}
