//! The network namespace that is netd's host, which is to be the same as long as there are containers:
//! another knows none of theirs, and would take all of them for gone.

use std::{
    collections::HashSet,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use cnm::{Error, Kind, Result};
use futures_util::StreamExt as _;
use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::{
    RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
};
use rtnetlink::sys::AsyncSocket as _;
use serde::{Deserialize, Serialize};

use super::{Host, nsid_of};
use crate::store::{BOOT, Stored, Stores};

/// The id that a former namespace is given here: one that no container has on record, which would be
/// taken for alive.
const FORMER: i32 = i32::MAX - 1;

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
        let known = Self::known_in(self.nsid_or(netns, FORMER).await?).await?;
        let sandboxes = stored.sandboxes.iter().map(|record| &record.sandbox);
        let sandboxes = sandboxes.map(|sandbox| (&sandbox.container, sandbox.netns));
        let endpoints = stored.endpoints.iter().map(|row| &row.endpoint);
        let endpoints = endpoints.map(|endpoint| (&endpoint.container, endpoint.netns));
        let mut all = sandboxes.chain(endpoints);
        let living = all.find(|(_, netns)| {
            netns.and_then(|netns| netns.nsid).is_some_and(|nsid| known.contains(&nsid))
        });
        Ok(living.map(|(container, _)| container.label().to_string()))
    }

    /// The ids that there are in the namespace of this id, or the first of them.
    async fn known_in(nsid: i32) -> Result<HashSet<i32>> {
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::TargetNsid(nsid)];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        // Only a socket that has the kernel look at all of a request is answered for another namespace.
        let (mut connection, mut handle, _) =
            rtnetlink::new_connection().map_err(Error::internal)?;
        let socket = connection.socket_mut().socket_mut();
        socket.set_netlink_get_strict_chk(true).map_err(Error::internal)?;
        tokio::task::spawn_local(connection);
        let mut replies = handle.request(request).map_err(Error::internal)?;
        let mut known = HashSet::new();
        while let Some(reply) = replies.next().await {
            match reply.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                    known.extend(nsid_of(&message));
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    return Err(Error::new(
                        Kind::Kernel,
                        format_args!("cannot list network namespaces: {}", error.to_io()),
                    ));
                }
                _ => {}
            }
        }
        Ok(known)
    }
}
