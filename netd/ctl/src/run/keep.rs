//! Keeping a running command's own files over the host's, whatever becomes of those.
//!
//! What is mounted on a file goes, in all namespaces, when the host removes that file or renames
//! another over it, as most programs write theirs (and netd's `dns_hook` does), and goes along when
//! the host renames it. So the directories are watched from within the command's mount namespace,
//! and what has gone is mounted again: the same file, with all that was written to it. Who looks in
//! the moment between finds the host's file: a quarter of a millisecond, up to 30 where the processors
//! are taken.
//!
//! An overlay over `/etc` has no such moment, since its entries are none of the host's, and was tried:
//! what else the host changes in there is not seen then, or not until the kernel forgets an entry (users
//! that were added were missing, and files that were new), and what the command writes there is lost
//! with it instead of being the host's. So that is only for where the host has no file to begin with.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::inotify::{AddWatchFlags, InitFlags, Inotify},
};
use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
};

use crate::out;

/// How often a file is looked for that is not there, in milliseconds; and each, where the kernel
/// lets nobody watch any more (`fs.inotify.max_user_instances`).
const LOOK: u16 = 1000;

/// What becomes of the entries of a directory.
const CHANGES: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_MOVE)
    .union(AddWatchFlags::IN_DELETE_SELF)
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_ONLYDIR);

/// A file of the command's own.
#[derive(Debug)]
struct Kept {
    path: String,
    /// Another mount of it, which is attached nowhere (`OPEN_TREE_CLONE`, Linux 5.2).
    spare: OwnedFd,
}

/// Keeps files of a process where they are now, for as long as this process lasts. The calling thread
/// is in the process's mount namespace from then on.
pub(super) fn keep(pid: u32, paths: Vec<String>) {
    let watched = enter(pid).and_then(|()| {
        let kept = paths.iter().map(|path| Kept::there(path));
        let mut kept = kept.filter_map(Result::transpose).collect::<io::Result<Vec<_>>>()?;
        watch(&mut kept)
    });
    match watched {
        Ok(()) => {}
        // It has ended.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => out::complain(&format_args!(
            "the command finds the host's own {} when the host replaces it: {error}",
            paths.join(" or ")
        )),
    }
}

/// Takes the calling thread where a process finds its files.
#[allow(
    clippy::disallowed_methods,
    reason = "mounts, not networks, and the thread does nothing else from then on"
)]
fn enter(pid: u32) -> io::Result<()> {
    let mounts = File::open(format!("/proc/{pid}/ns/mnt"))?;
    // Threads share a working directory, which means nothing in several namespaces.
    unshare(CloneFlags::CLONE_FS)?;
    Ok(setns(mounts, CloneFlags::CLONE_NEWNS)?)
}

/// Puts back what goes, until that fails.
fn watch(kept: &mut [Kept]) -> io::Result<()> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
    loop {
        // Before it is looked, so that nothing is missed; a watch that is there stays.
        let watched = inotify.as_ref().is_some_and(|inotify| {
            let mut directories = kept.iter().flat_map(Kept::directories);
            directories.all(|directory| inotify.add_watch(&*directory, CHANGES).is_ok())
        });
        let mut missing = false;
        for file in &mut *kept {
            match file.put_back() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => missing = true,
                outcome => outcome?,
            }
        }
        let timeout = if watched && !missing { PollTimeout::NONE } else { LOOK.into() };
        let mut events: Vec<_> =
            inotify.iter().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)).collect();
        match poll(&mut events, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        // What happened does not matter.
        while inotify.as_ref().is_some_and(|inotify| inotify.read_events().is_ok()) {}
    }
}

impl Kept {
    /// The file that is mounted at a path. One in a directory that is covered as a whole cannot be
    /// taken away from outside.
    fn there(path: &str) -> io::Result<Option<Self>> {
        match is_mounted(path) {
            Ok(true) => Ok(Some(Self { path: path.to_owned(), spare: another(CWD, path)? })),
            Ok(false) => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Where an entry decides what is found at the path: a link lies in one, and what it leads to in
    /// another.
    fn directories(&self) -> Vec<PathBuf> {
        let path = Path::new(&self.path);
        let real = fs::canonicalize(path).ok();
        [Some(path), real.as_deref()]
            .into_iter()
            .flatten()
            .filter_map(|path| path.parent().map(Path::to_owned))
            .collect()
    }

    /// Mounts it over what lies there instead of it. What the command has mounted there itself stays.
    fn put_back(&mut self) -> io::Result<()> {
        if is_mounted(&self.path)? {
            return Ok(());
        }
        // Only Linux 6.15 takes one from what is attached nowhere; before, it could go in between.
        let next = another(&self.spare, "");
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
        move_mount(&self.spare, "", CWD, &self.path, flags)?;
        self.spare = next.or_else(|_| another(&self.spare, ""))?;
        Ok(())
    }
}

/// Whether what is found at a path is the root of a mount, which the kernel tells since Linux 5.8.
fn is_mounted(path: &str) -> io::Result<bool> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())?;
    Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Another mount of what is mounted there.
fn another(at: impl AsFd, path: &str) -> io::Result<OwnedFd> {
    // Without a path it is what `at` is.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(at, path, flags)?)
}
