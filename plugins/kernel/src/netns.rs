//! Network namespaces: opening one, telling which one it is, and working inside it.
//!
//! A namespace is entered on the calling thread and left before the call returns (9 to 13 µs); a
//! thread made for it would cost three times as much. A netlink socket stays bound to the
//! namespace that it was opened in, so one visit is enough.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::ErrorKind,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::{fs::MetadataExt as _, process::parent_id},
    },
    sync::OnceLock,
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use nix::{
    errno::Errno,
    libc,
    sched::{CloneFlags, setns},
    sys::stat::fstat,
};

use crate::{
    Error, Result,
    netlink::{Attributes, Batch, Received, Socket, read_u32},
};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    file: File,
    path: String,
}

impl Netns {
    /// Opens the namespace at `path`.
    ///
    /// # Errors
    /// [`Error::Call`] with `ENOENT` when there is nothing, [`Error::NoNamespace`] when it is
    /// something else.
    pub fn open(path: &str) -> Result<Self> {
        let file = lent(path).map_or_else(|| File::open(path), Ok).map_err(|error| match error
            .kind()
        {
            // A process without children of its own kind, or a path through a file.
            ErrorKind::NotADirectory => {
                Error::call("open the network namespace", path, Errno::ENOENT)
            }
            _ => Error::io("open the network namespace", path, &error),
        })?;
        if namespace_kind(file.as_fd()) != Some(libc::CLONE_NEWNET) {
            return Err(Error::NoNamespace(path.to_owned()));
        }
        Ok(Self { file, path: path.to_owned() })
    }

    /// The calling thread's own.
    ///
    /// # Errors
    /// When `/proc` is not there.
    pub fn own() -> Result<Self> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The path it was opened by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether both are the same namespace. An inode number is good for this alone, while both are
    /// open: it is used again at once.
    ///
    /// # Errors
    /// What `fstat(2)` refuses.
    pub fn same_as(&self, other: &Self) -> Result<bool> {
        let stat = |netns: &Self| {
            fstat(&netns.file).map_err(|errno| Error::call("look at", netns.path.as_str(), errno))
        };
        let (a, b) = (stat(self)?, stat(other)?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }

    /// Runs `work` inside, on the calling thread, and comes back to `home`.
    ///
    /// # Errors
    /// When it cannot be entered. When `home` cannot be, the process aborts: whatever it did from
    /// then on would happen in the wrong place.
    pub fn inside<T>(&self, home: &Self, work: impl FnOnce() -> T) -> Result<T> {
        struct Home<'a>(&'a Netns);
        impl Drop for Home<'_> {
            fn drop(&mut self) {
                if enter(&self.0.file).is_err() {
                    eprintln!("cannot come back from a network namespace");
                    std::process::abort();
                }
            }
        }
        enter(&self.file).map_err(|errno| {
            Error::call("enter the network namespace", self.path.as_str(), errno)
        })?;
        let _home = Home(home);
        Ok(work())
    }

    /// The id that the namespace of `socket` knows this one by (`RTM_NEWNSID`), given to it if it
    /// has none: under it the kernel announces its death.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn assign_nsid(&self, socket: &mut Socket) -> Result<i32> {
        /// `NETNSA_NSID_NOT_ASSIGNED` (linux/net_namespace.h): the kernel picks one.
        const ANY: i32 = -1;
        let mut batch = Batch::new();
        let mut message = self.nsid_message();
        message.attributes.push(NsidAttribute::Id(ANY));
        batch.push(
            &RouteNetlinkMessage::NewNsId(message),
            0,
            "give an id to the network namespace",
            self.path.as_str(),
        );
        match socket.run(batch) {
            Err(error) if error.errno() != Some(Errno::EEXIST) => return Err(error),
            _ => {}
        }
        self.nsid(socket)?.ok_or_else(|| Error::Garbled {
            doing: "find the id of the network namespace",
            what: self.path.clone(),
        })
    }

    /// The id that the namespace of `socket` knows this one by, if it has one.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn nsid(&self, socket: &mut Socket) -> Result<Option<i32>> {
        let mut batch = Batch::new();
        let message = RouteNetlinkMessage::GetNsId(self.nsid_message());
        batch.push(&message, 0, "find the id of the network namespace", self.path.as_str());
        let mut id = None;
        socket.run_with(batch, |message| id = nsid_of(message))?;
        Ok(id)
    }

    fn nsid_message(&self) -> NsidMessage {
        let mut message = NsidMessage::default();
        message.attributes.push(NsidAttribute::Fd(self.file.as_raw_fd().cast_unsigned()));
        message
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// The namespaces of these ids, as far as something leads there: one of the paths, or a process.
///
/// # Errors
/// What the kernel refuses.
pub fn find<'a>(
    socket: &mut Socket,
    nsids: &BTreeSet<i32>,
    paths: impl IntoIterator<Item = &'a str>,
) -> Result<BTreeMap<i32, Netns>> {
    let given = paths.into_iter().map(str::to_owned);
    let processes = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
        let name = entry.ok()?.file_name();
        let pid: u32 = name.to_str()?.parse().ok()?;
        Some(format!("/proc/{pid}/ns/net"))
    });
    let mut found = BTreeMap::new();
    // Most processes are in the same few namespaces.
    let mut seen = BTreeSet::new();
    for path in given.chain(processes) {
        if found.len() == nsids.len() {
            break;
        }
        // It may have ended, or be somebody else's by now.
        let Ok(place) = fs::metadata(&path).map(|at| (at.dev(), at.ino())) else { continue };
        if !seen.insert(place) {
            continue;
        }
        let Ok(netns) = Netns::open(&path) else { continue };
        if let Some(nsid) = netns.nsid(socket)?.filter(|nsid| nsids.contains(nsid)) {
            found.insert(nsid, netns);
        }
    }
    Ok(found)
}

/// Which of these ids the namespace of `socket` still knows a namespace by. Each is asked for by
/// itself: a dump of all ids ends after its first 4 KiB, 134 of them, without saying so (seen on
/// Linux 6.18).
///
/// # Errors
/// What the kernel refuses.
pub fn living(socket: &mut Socket, nsids: &BTreeSet<i32>) -> Result<BTreeSet<i32>> {
    /// As many answers as fit the socket's buffer many times over.
    const AT_ONCE: usize = 512;
    let mut found = BTreeSet::new();
    let nsids: Vec<i32> = nsids.iter().copied().collect();
    for nsids in nsids.chunks(AT_ONCE) {
        let mut batch = Batch::new();
        for nsid in nsids {
            let mut message = NsidMessage::default();
            message.attributes.push(NsidAttribute::Id(*nsid));
            let message = RouteNetlinkMessage::GetNsId(message);
            batch.push(&message, 0, "look for the network namespace", format!("number {nsid}"));
        }
        match socket.run_with(batch, |message| found.extend(nsid_of(message))) {
            Err(error) if error.errno() != Some(Errno::ENOENT) => return Err(error),
            _ => {}
        }
    }
    Ok(found)
}

/// All ids that the namespace of `socket` knows others by. The kernel gives out the lowest that is
/// free, so that behind a long run of unused ones there are no more.
///
/// # Errors
/// What the kernel refuses.
pub fn ids(socket: &mut Socket) -> Result<BTreeSet<i32>> {
    const RUN: i32 = 512;
    let mut found = BTreeSet::new();
    for first in (0..i32::MAX).step_by(RUN.unsigned_abs() as usize) {
        let living = living(socket, &(first..first.saturating_add(RUN)).collect())?;
        if living.is_empty() {
            break;
        }
        found.extend(living);
    }
    Ok(found)
}

/// `NETNSA_NSID` of a `struct rtgenmsg` with attributes; none when it is -1, not assigned.
fn nsid_of(message: Received<'_>) -> Option<i32> {
    const NETNSA_NSID: u16 = 1;
    let attributes = Attributes(message.payload.get(4..)?);
    let id = read_u32(attributes.value(NETNSA_NSID)?)?.cast_signed();
    (id >= 0).then_some(id)
}

/// What the process that started this one holds open, where `path` is `/proc/PID/fd/N` of it:
/// taken from it (`pidfd_getfd(2)`, 5 µs), not looked for in `/proc` (20 µs).
fn lent(path: &str) -> Option<File> {
    static PARENT: OnceLock<Option<(u32, OwnedFd)>> = OnceLock::new();
    let (pid, descriptor) = path.strip_prefix("/proc/")?.split_once("/fd/")?;
    let (pid, descriptor): (u32, i32) = (pid.parse().ok()?, descriptor.parse().ok()?);
    let parent = PARENT.get_or_init(|| {
        let pid = parent_id();
        Some((pid, pidfd(pid)?))
    });
    let (parent, pidfd) = parent.as_ref()?;
    // Once it has ended, its number may be another's.
    let is_parents = [pid, parent_id()] == [*parent; 2];
    is_parents.then(|| descriptor_of(pidfd.as_fd(), descriptor)).flatten().map(File::from)
}

/// `pidfd_open(2)`.
#[allow(unsafe_code)]
fn pidfd(pid: u32) -> Option<OwnedFd> {
    // SAFETY: takes two numbers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// `pidfd_getfd(2)`.
#[allow(unsafe_code)]
fn descriptor_of(pidfd: BorrowedFd<'_>, descriptor: i32) -> Option<OwnedFd> {
    // SAFETY: takes three numbers and touches no memory of ours.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), descriptor, 0) })
}

/// What a system call that makes a descriptor has given.
#[allow(unsafe_code)]
fn owned(given: libc::c_long) -> Option<OwnedFd> {
    let fd = i32::try_from(given).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made it, and nobody else knows of it.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

#[expect(clippy::disallowed_methods, reason = "the one place that enters namespaces")]
fn enter(file: &File) -> nix::Result<()> {
    setns(file, CloneFlags::CLONE_NEWNET)
}

/// What kind of namespace a descriptor is, as its `CLONE_NEW…` (`NS_GET_NSTYPE`, ioctl_nsfs(2)).
#[allow(unsafe_code)]
fn namespace_kind(fd: BorrowedFd<'_>) -> Option<i32> {
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of ours.
    let kind = unsafe { libc::ioctl(fd.as_raw_fd(), nix::request_code_none!(0xb7, 3)) };
    (kind >= 0).then_some(kind)
}

/// `SO_NETNS_COOKIE` of a socket (socket(7); asm-generic/socket.h).
#[allow(unsafe_code)]
pub(crate) fn cookie(fd: BorrowedFd<'_>) -> Result<u64> {
    const SO_NETNS_COOKIE: libc::c_int = 71;
    let mut cookie = 0u64;
    let mut length: libc::socklen_t = 8;
    // SAFETY: the kernel writes at most `length` bytes, and `cookie` has as many.
    let status = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    Errno::result(status)
        .map_err(|errno| Error::call("read", "the cookie of a network namespace", errno))?;
    Ok(cookie)
}
