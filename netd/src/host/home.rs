//! The network namespace that is netd's host, which is to be the same as long as there are containers:
//! another knows none of theirs, and would take all of them for gone.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use cnm::{Error, Kind, Result};
use serde::{Deserialize, Serialize};

use super::{Host, inside::inside, place};
use crate::store::{BOOT, Stored, Stores};

/// A network namespace, as it is found in this boot. The number of one that is gone is given to the
/// next at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Home {
    boot: String,
    device: u64,
    inode: u64,
}

impl Home {
    fn of(netns: &Path) -> Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let metadata = fs::metadata(netns).map_err(Error::internal)?;
        let (device, inode) = (metadata.dev(), metadata.ino());
        Ok(Self { boot: boot.trim().to_owned(), device, inode })
    }

    /// Opens it, where a process or a mount leads there.
    fn open(&self) -> Option<File> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let mounts = mounts.lines().filter(|line| line.contains(" - nsfs "));
        let mounts = mounts.filter_map(|line| line.split(' ').nth(4)).map(Into::into);
        let processes = fs::read_dir("/proc").into_iter().flatten();
        let processes = processes.filter_map(|entry| Some(entry.ok()?.path().join("ns/net")));
        let mut files = mounts.chain(processes).filter_map(|path| File::open(path).ok());
        files.find(|file| {
            file.metadata().is_ok_and(|m| (m.dev(), m.ino()) == (self.device, self.inode))
        })
    }
}

impl Host {
    /// Refuses to go on in another network namespace than netd had last where containers on record live
    /// beside that one, and writes down which this is.
    pub(crate) async fn stay(&self, stores: &Stores, run_dir: &Path) -> Result<()> {
        let here = Home::of(Path::new("/proc/self/ns/net"))?;
        let former = stores.home()?;
        if former.as_ref() == Some(&here) {
            return Ok(());
        }
        if let Some(former) = former.filter(|former| former.boot == here.boot)
            && let Some(netns) = former.open()
            && let Some(container) = self.living(&netns, &stores.load()?).await?
        {
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "netd ran in the network namespace net:[{}], where container {container} and \
                     perhaps others are on its networks still, and this is net:[{}]: start it \
                     there (nsenter --net), with other --run-dir and --state-dir here, or remove \
                     {} to let go of all containers",
                    former.inode,
                    here.inode,
                    run_dir.join(BOOT).display()
                ),
            ));
        }
        Ok(stores.put_home(&here)?)
    }

    /// One of the containers on record whose namespace is known in this one.
    async fn living(&self, netns: &File, stored: &Stored) -> Result<Option<String>> {
        let there = self.at(netns)?;
        let sandboxes = stored.sandboxes.iter().map(|record| &record.sandbox);
        let sandboxes = sandboxes.map(|sandbox| (&sandbox.container, sandbox.netns));
        let endpoints = stored.endpoints.iter().map(|row| &row.endpoint);
        let endpoints = endpoints.map(|endpoint| (&endpoint.container, endpoint.netns));
        for (container, netns) in sandboxes.chain(endpoints) {
            if let Some(nsid) = netns.and_then(|netns| netns.nsid)
                && there.has(nsid).await?
            {
                return Ok(Some(container.label().to_string()));
            }
        }
        Ok(None)
    }

    /// The same, as it is seen from another namespace: the kernel looks an id up in that of the
    /// socket, whatever namespace a request names.
    fn at(&self, netns: &File) -> Result<Self> {
        let runtime = tokio::runtime::Handle::current();
        let (connection, handle, _) = inside(netns, || {
            let _registered = runtime.enter();
            rtnetlink::new_connection()
        })
        .map_err(Error::internal)?;
        tokio::task::spawn_local(connection);
        let netns = place(&netns.metadata().map_err(Error::internal)?);
        Ok(Self { handle, id: self.id, netns })
    }
}
