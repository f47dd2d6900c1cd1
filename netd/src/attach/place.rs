//! The namespace of a request: opened, and only where the network wants it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File, Metadata},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use cnm::{
    Error, Result,
    driver::Capabilities,
    endpoint::{DESCRIPTOR, Netns, open_netns},
    network::Network,
};

/// The descriptors that came with a line, in their order.
pub(crate) type Descriptors = RefCell<VecDeque<OwnedFd>>;

/// Opens the namespace of a request, and makes sure that it is one. Of which kind it is takes longer
/// to find out, and a driver does anyway: see [`explain`].
pub(crate) fn open(netns: &Netns, descriptors: &Descriptors) -> Result<File> {
    let (file, what) = match netns {
        Netns::Fd => {
            let fd = descriptors.borrow_mut().pop_front().ok_or_else(|| {
                Error::invalid("netns is \"fd\", and no descriptor came with the request")
            })?;
            (File::from(fd), DESCRIPTOR.to_owned())
        }
        Netns::Path(path) if path.starts_with('/') => (open_netns(Path::new(path))?, path.clone()),
        Netns::Path(path) => {
            return Err(Error::invalid(format_args!(
                "invalid netns {path:?}: it should be \"fd\" or an absolute path"
            ))
            .with("netns", path.as_str()));
        }
    };
    if on_nsfs(&file) { Ok(file) } else { Err(no_network(&what)) }
}

/// What each process finds itself behind, and so leads who is told of it elsewhere.
const OWN: [&str; 3] = ["/proc/self/", "/proc/thread-self/", "/dev/fd/"];

/// Whether the path by which somebody has opened a namespace leads to it from here, too. While it is
/// open no other has its inode (`ns_common`, linux/ns_common.h).
pub(super) fn leads_to(netns: &File, path: &str) -> bool {
    let place = |metadata: Metadata| (metadata.dev(), metadata.ino());
    path.starts_with('/')
        && !OWN.iter().any(|own| path.starts_with(own))
        && netns.metadata().is_ok_and(|open| {
            let found = fs::metadata(path).map(place);
            found.is_ok_and(|found| found == place(open))
        })
}

fn no_network(what: &str) -> Error {
    Error::invalid(format_args!("{what} is no network namespace")).with("netns", what)
}

/// Makes sure that an open namespace is one of the network.
pub(crate) fn check_kind(netns: &File, path: Option<&str>) -> Result<()> {
    if is_called_net(netns) { Ok(()) } else { Err(no_network(path.unwrap_or(DESCRIPTOR))) }
}

/// What to say when a driver failed, which knows the namespace by a path that nobody else does.
pub(super) fn explain(error: Error, netns: &File, path: Option<&str>) -> Error {
    check_kind(netns, path).err().unwrap_or(error)
}

/// `NSFS_MAGIC` (linux/magic.h).
const NSFS: i64 = 0x6e73_6673;

/// Whether the namespace is one of the network, as far as its name says: a bind mount of one shows
/// its own path.
fn is_called_net(file: &File) -> bool {
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    link.is_ok_and(|link| {
        link.to_str().is_none_or(|text| !text.contains(":[") || text.starts_with("net:["))
    })
}

fn on_nsfs(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type == NSFS)
}

/// The host's own namespace, for an interface that its runtime moves into the container itself.
///
/// # Errors
/// `invalid` where the request names another.
pub(super) fn on_host(given: Option<&File>) -> Result<File> {
    if given.is_some() {
        return Err(Error::invalid(
            "deliver is host, and a network namespace is given: leave one of them out",
        ));
    }
    File::open("/proc/self/ns/net").map_err(Error::internal)
}

/// The host's own namespace is for drivers of the host alone, and only that is for them.
pub(super) fn check(is_own: bool, network: &Network, capabilities: Capabilities) -> Result<()> {
    match (is_own, capabilities.host_netns) {
        (true, false) => Err(Error::invalid(format_args!(
            "the network namespace is the host's own, which cannot be put on network {}",
            network.name
        ))
        .with("network", network.id.as_str())),
        (false, true) => Err(Error::invalid(format_args!(
            "network {} is the host's own namespace, and the container is in another",
            network.name
        ))
        .with("network", network.id.as_str())),
        _ => Ok(()),
    }
}
