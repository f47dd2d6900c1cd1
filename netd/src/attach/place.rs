//! The namespace of a request: opened, and only where the network wants it.

use std::{
    cell::RefCell,
    collections::VecDeque,
    fs::{self, File},
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::Path,
};

use cnm::{
    Error, Result,
    driver::Capabilities,
    endpoint::{Netns, open_netns},
    network::Network,
};

/// The descriptors that came with a line, in their order.
pub(crate) type Descriptors = RefCell<VecDeque<OwnedFd>>;

/// Opens the namespace of a request, and makes sure that it is one.
pub(crate) fn open(netns: &Netns, descriptors: &Descriptors) -> Result<File> {
    let (file, what) = match netns {
        Netns::Fd => {
            let fd = descriptors.borrow_mut().pop_front().ok_or_else(|| {
                Error::invalid("netns is \"fd\", and no descriptor came with the request")
            })?;
            (File::from(fd), "the descriptor".to_owned())
        }
        Netns::Path(path) if path.starts_with('/') => (open_netns(Path::new(path))?, path.clone()),
        Netns::Path(path) => {
            return Err(Error::invalid(format_args!(
                "invalid netns {path:?}: it should be \"fd\" or an absolute path"
            ))
            .with("netns", path.as_str()));
        }
    };
    let link = fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let is_netns = link.is_ok_and(|link| match link.to_str() {
        Some(text) if text.starts_with("net:[") => true,
        // A bind mount of a namespace shows its path, so the file system tells then.
        Some(text) => text.starts_with('/') && on_nsfs(&file),
        None => on_nsfs(&file),
    });
    if is_netns {
        Ok(file)
    } else {
        Err(Error::invalid(format_args!("{what} is no network namespace")).with("netns", what))
    }
}

/// `NSFS_MAGIC` (linux/magic.h).
const NSFS: i64 = 0x6e73_6673;

fn on_nsfs(file: &File) -> bool {
    rustix::fs::fstatfs(file).is_ok_and(|stat| stat.f_type == NSFS)
}

/// The host's own namespace is for drivers of the host alone, and only that is for them.
pub(super) fn check(netns: &File, network: &Network, capabilities: Capabilities) -> Result<()> {
    let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let own = fs::metadata("/proc/self/ns/net").map(place);
    let theirs = netns.metadata().map(place);
    let is_own = matches!((own, theirs), (Ok(own), Ok(theirs)) if own == theirs);
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
