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
    sync::mpsc,
    thread,
};

use cnm::{Error, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        inotify::{AddWatchFlags, InitFlags, Inotify},
        signal::SigSet,
    },
};
use rustix::{
    fs::{AtFlags, CWD, StatxAttributes, StatxFlags, statx},
    mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree},
    path::Arg,
};

use super::place;
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

/// A file of the command's own, which was put over one of the host's.
#[derive(Debug)]
pub(super) struct Kept {
    path: String,
    /// Another mount of it, which is attached nowhere (`OPEN_TREE_CLONE`, Linux 5.2).
    spare: OwnedFd,
}

/// Puts files where a process finds them, by path, and keeps them there for as long as this process
/// lasts. That is done by a thread of its own, since it is in the process's mount namespace from then
/// on: who places them has what to put back, whatever the host does meanwhile. Comes back once they
/// are there.
pub(super) fn start(pid: u32, files: Vec<(String, String)>) -> Result<()> {
    let (tell, told) = mpsc::sync_channel(1);
    thread::spawn(move || {
        // They are for who waits for the command.
        let placed = SigSet::all()
            .thread_block()
            .map_err(|errno| out::system("cannot leave signals to others", &errno.into()))
            .and_then(|()| match enter(pid) {
                Ok(()) => place::cover(&files),
                // It was ended meanwhile; how, its status tells.
                Err(error) if is_gone(&error) => Ok(Vec::new()),
                Err(error) => {
                    Err(out::system("cannot enter the command's mount namespace", &error))
                }
            });
        let (mut kept, placed) = match placed {
            Ok(kept) => (kept, Ok(())),
            Err(error) => (Vec::new(), Err(error)),
        };
        if tell.send(placed).is_ok()
            && !kept.is_empty()
            && let Err(error) = watch(&mut kept)
        {
            complain(&kept, &error);
        }
    });
    told.recv().map_err(Error::internal)?
}

/// Whether there is no such process any more, or one that only waits to be asked how it ended.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(Errno::ESRCH as i32)
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

fn complain(kept: &[Kept], error: &io::Error) {
    let paths: Vec<_> = kept.iter().map(|file| file.path.as_str()).collect();
    out::complain(&format_args!(
        "the command finds the host's own {} when the host replaces it: {error}",
        paths.join(" or ")
    ));
}

/// Puts back what goes. Where it cannot be, as there lies a directory, it is tried again, and told once.
fn watch(kept: &mut [Kept]) -> io::Result<()> {
    let mut told = false;
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).ok();
    loop {
        // Before it is looked, so that nothing is missed; a watch that is there stays.
        let watched = inotify.as_ref().is_some_and(|inotify| {
            let mut directories = kept.iter().flat_map(Kept::directories);
            directories.all(|directory| inotify.add_watch(&*directory, CHANGES).is_ok())
        });
        let failed: Vec<_> = kept.iter_mut().filter_map(|file| file.put_back().err()).collect();
        let worse = failed.iter().find(|error| error.kind() != io::ErrorKind::NotFound);
        if let Some(error) = worse.filter(|_| !told) {
            complain(kept, error);
            told = true;
        }
        let missing = !failed.is_empty();
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
    /// Puts a file over what lies at a path. Its spare mount is there before, so nothing that happens
    /// to the other is missed.
    pub(super) fn put(source: &Path, path: &str) -> io::Result<Self> {
        let kept = Self { path: path.to_owned(), spare: another(CWD, source)? };
        attach(&another(CWD, source)?, path)?;
        Ok(kept)
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
        attach(&self.spare, &self.path)?;
        self.spare = next.or_else(|_| another(&self.spare, ""))?;
        Ok(())
    }
}

/// Whether what is found at a path is the root of a mount, which the kernel tells since Linux 5.8.
fn is_mounted(path: &str) -> io::Result<bool> {
    let found = statx(CWD, path, AtFlags::empty(), StatxFlags::empty())?;
    // One that does not tell must not be mounted on again and again.
    let told = found.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT);
    Ok(!told || found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// Attaches a mount that is attached nowhere. Symbolic links are followed.
fn attach(spare: &OwnedFd, path: &str) -> io::Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
    Ok(move_mount(spare, "", CWD, path, flags)?)
}

/// Another mount of what is there.
fn another(at: impl AsFd, path: impl Arg) -> io::Result<OwnedFd> {
    // Without a path it is what `at` is.
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    Ok(open_tree(at, path, flags)?)
}
