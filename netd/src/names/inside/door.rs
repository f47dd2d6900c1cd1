//! What leads to a container's namespace: the path that it was attached by, its process, or any
//! other that is there.

use std::{
    collections::HashMap,
    fs::{self, File, Metadata},
    io,
    os::unix::fs::MetadataExt as _,
};

/// What leads to a container's namespace. While there is a socket in that, no other has its number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Door {
    pub(super) path: String,
    pub(super) place: Place,
}

impl Door {
    /// The first of these paths that leads to this namespace.
    pub(super) fn to(netns: &File, paths: impl IntoIterator<Item = String>) -> Option<Self> {
        let place = place(&netns.metadata().ok()?);
        let mut doors = paths.into_iter().map(|path| Self { path, place });
        doors.find(Self::leads_there)
    }

    pub(super) fn leads_there(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|now| place(&now) == self.place)
    }

    /// A process that is in this namespace, whoever has named it or not.
    pub(super) fn through_a_process_in(netns: &File) -> Option<Self> {
        let place = place(&netns.metadata().ok()?);
        processes().map(|path| Self { path, place }).find(Self::leads_there)
    }
}

/// The paths to the namespaces of all processes.
fn processes() -> impl Iterator<Item = String> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    let pid = |entry: io::Result<fs::DirEntry>| entry.ok()?.file_name().to_str()?.parse().ok();
    entries.filter_map(pid).map(|pid: u32| format!("/proc/{pid}/ns/net"))
}

/// A process's path to each namespace that has processes. One look serves all who want to know.
pub(super) fn ways() -> HashMap<Place, String> {
    let mut ways = HashMap::new();
    for path in processes() {
        if let Ok(metadata) = fs::metadata(&path) {
            ways.entry(place(&metadata)).or_insert(path);
        }
    }
    ways
}

/// Device and inode: what tells one namespace from the next.
pub(super) type Place = (u64, u64);

/// Where a namespace is.
fn place(metadata: &Metadata) -> Place {
    (metadata.dev(), metadata.ino())
}

/// The paths that may lead to a container's namespace.
pub(super) fn paths(path: Option<&str>, pid: Option<u32>) -> impl Iterator<Item = String> + use<> {
    let process = pid.map(|pid| format!("/proc/{pid}/ns/net"));
    path.map(str::to_owned).into_iter().chain(process)
}
