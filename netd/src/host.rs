//! What netd asks the host: which addresses are taken, and which namespaces have died.

use std::{
    fs::{self, File},
    net::IpAddr,
    os::{fd::AsRawFd, unix::fs::MetadataExt},
    rc::{Rc, Weak},
    time::Duration,
};

use cnm::{Error, Kind, Result};
use futures_util::{StreamExt, TryStreamExt};
use ipnetwork::IpNetwork;
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    nsid::{NsidAttribute, NsidMessage},
    route::{RouteAddress, RouteAttribute, RouteMessage},
    rule::{RuleAttribute, RuleMessage},
};
use rtnetlink::{
    Handle, IpVersion, MulticastGroup, new_multicast_connection,
    sys::{AsyncSocket, Socket},
};
use socket2::{SockFilter, SockRef};
use tokio::sync::mpsc;

use crate::netd::Netd;

mod alone;
mod home;
mod hops;
pub(crate) mod inside;
mod lan;
mod links;
mod neighbours;
pub(crate) mod sockets;
mod underlay;
mod ways;

pub(crate) use home::Home;
pub(crate) use hops::Hop;
pub(crate) use lan::Holder;
pub(crate) use neighbours::Most;

/// What the kernel tells about namespaces.
#[derive(Debug)]
pub(crate) enum Death {
    /// The namespace of this id is gone.
    Of(i32),
    /// Something was missed: look at all of them.
    Unknown,
}

/// The host, over one netlink socket.
#[derive(Clone, Debug)]
pub(crate) struct Host {
    handle: Handle,
    id: u128,
    /// Where its network namespace is found: device and inode.
    netns: (u64, u64),
}

impl Host {
    /// Opens the socket; deaths of namespaces come over the channel from now on.
    pub(crate) fn open() -> std::io::Result<(Self, mpsc::Receiver<Death>)> {
        let (mut connection, handle, mut messages) =
            new_multicast_connection(&[MulticastGroup::Nsid])?;
        let netns = place(&fs::metadata("/proc/self/ns/net")?);
        only_deaths(connection.socket_mut().socket_ref())?;
        tokio::task::spawn_local(connection);
        let (deaths, receiver) = mpsc::channel(1024);
        tokio::task::spawn_local(async move {
            while let Some((message, _)) = messages.next().await {
                let death = match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::DelNsId(message)) => {
                        match nsid_of(&message) {
                            Some(nsid) => Death::Of(nsid),
                            None => continue,
                        }
                    }
                    NetlinkPayload::Overrun(_) => Death::Unknown,
                    _ => continue,
                };
                if deaths.send(death).await.is_err() {
                    break;
                }
            }
        });
        Ok((Self { handle, id: host_id(), netns }, receiver))
    }

    /// What is the same for this host for good (machine-id(5)).
    pub(crate) fn id(&self) -> u128 {
        self.id
    }

    /// Whether this is the host's own namespace, which stays the same as long as netd lives.
    pub(crate) fn is_own(&self, netns: &File) -> bool {
        netns.metadata().is_ok_and(|meta| place(&meta) == self.netns)
    }

    /// Every network that the host has a route, a rule or a resolver for.
    pub(crate) async fn taken(&self) -> Vec<IpNetwork> {
        let mut taken = Vec::new();
        for (family, version) in
            [(AddressFamily::Inet, IpVersion::V4), (AddressFamily::Inet6, IpVersion::V6)]
        {
            let mut request = RouteMessage::default();
            request.header.address_family = family;
            let routes: Result<Vec<_>, _> =
                self.handle.route().get(request).execute().try_collect().await;
            let rules: Result<Vec<_>, _> =
                self.handle.rule().get(version).execute().try_collect().await;
            match routes {
                Ok(routes) => taken.extend(routes.iter().filter_map(route)),
                // A host without IPv6 has no such routes.
                Err(error) => tracing::debug!(?family, %error, "no routes"),
            }
            match rules {
                Ok(rules) => taken.extend(rules.iter().flat_map(rule)),
                Err(error) => tracing::debug!(?family, %error, "no rules"),
            }
        }
        taken.extend(resolvers().into_iter().map(IpNetwork::from));
        taken
    }

    /// Whether the namespace of this id is still there. Each is asked for by itself: the kernel's
    /// list of all ids ends after its first 4 KiB, 134 of them, without saying so (Linux 6.18).
    pub(crate) async fn has(&self, nsid: i32) -> Result<bool> {
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Id(nsid)];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST;
        match self.request(request, "look for a network namespace").await {
            Ok(replies) => Ok(replies.iter().any(|reply| nsid_of(reply) == Some(nsid))),
            Err(error) if error.kind == Kind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The id of a namespace, given to it when it has none.
    pub(crate) async fn nsid(&self, netns: &File) -> Result<i32> {
        let fd = u32::try_from(netns.as_raw_fd()).map_err(Error::internal)?;
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Id(-1), NsidAttribute::Fd(fd)];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::NewNsId(message));
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        // One that has an id already keeps it: the kernel says "exists", and the next call which.
        let made = self.request(request, "give a network namespace an id").await;
        match (self.nsid_if_any(netns).await?, made) {
            (Some(nsid), _) => Ok(nsid),
            (None, Err(error)) => Err(error),
            (None, Ok(_)) => Err(Error::internal("the network namespace got no id")),
        }
    }

    /// The id of a namespace, where it has one.
    pub(crate) async fn nsid_if_any(&self, netns: &File) -> Result<Option<i32>> {
        let fd = u32::try_from(netns.as_raw_fd()).map_err(Error::internal)?;
        let mut message = NsidMessage::default();
        message.attributes = vec![NsidAttribute::Fd(fd)];
        let mut request = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(message));
        request.header.flags = NLM_F_REQUEST;
        let replies = self.request(request, "read the id of a network namespace").await?;
        Ok(replies.iter().find_map(nsid_of).filter(|nsid| *nsid >= 0))
    }

    async fn request(
        &self,
        request: NetlinkMessage<RouteNetlinkMessage>,
        what: &str,
    ) -> Result<Vec<NsidMessage>> {
        let refused = |kind, text: String| Error::new(kind, format_args!("cannot {what}: {text}"));
        let mut replies = self
            .handle
            .clone()
            .request(request)
            .map_err(|error| refused(Kind::Kernel, error.to_string()))?;
        let mut found = Vec::new();
        while let Some(reply) = replies.next().await {
            match reply.payload {
                NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(message)) => {
                    found.push(message);
                }
                NetlinkPayload::Error(error) if error.code.is_some() => {
                    let io = error.to_io();
                    let kind = match io.kind() {
                        std::io::ErrorKind::NotFound => Kind::NotFound,
                        _ => Kind::Kernel,
                    };
                    return Err(refused(kind, io.to_string())
                        .with("errno", io.raw_os_error().unwrap_or_default()));
                }
                _ => {}
            }
        }
        Ok(found)
    }
}

impl Netd {
    /// Releases what was in namespaces that die, for as long as netd runs.
    pub(crate) async fn follow_deaths(netd: Weak<Self>, mut deaths: mpsc::Receiver<Death>) {
        while let Some(death) = deaths.recv().await {
            let Some(netd) = netd.upgrade() else { return };
            match death {
                Death::Of(nsid) => netd.bury(nsid).await,
                Death::Unknown => drop(netd.collect_garbage().await),
            }
        }
    }

    /// Releases what was in the namespace of this id. The kernel gives an id to the next namespace
    /// at once, so the notice may be of an earlier one: a container that has just come under an id
    /// that is in use is looked at a little later, when the links of the dead are gone.
    async fn bury(self: &Rc<Self>, nsid: i32) {
        let in_use = self.host.has(nsid).await.unwrap_or(false);
        let mut doubtful = false;
        for container in self.registry.borrow().containers_in(nsid) {
            let since = self.registry.borrow().sandbox(&container).map(|entry| entry.since);
            if in_use && since.is_some_and(|since| since.elapsed() < FRESH) {
                doubtful = true;
                continue;
            }
            tracing::info!(container = %container, nsid, "network namespace is gone");
            let netd = self.clone();
            tokio::task::spawn_local(async move {
                if let Err(error) = netd.drop_sandbox(&container, "vanish").await {
                    tracing::error!(container = %container, %error, "not released");
                }
            });
        }
        if doubtful && !self.doubts.replace(true) {
            let netd = self.clone();
            tokio::task::spawn_local(async move {
                tokio::time::sleep(SETTLED).await;
                netd.doubts.set(false);
                if let Err(error) = netd.reconcile().await {
                    tracing::error!(%error, "doubtful containers not looked at");
                }
            });
        }
    }
}

/// How long a notice of a death may be under way; who came earlier than that is whom it is of.
const FRESH: Duration = Duration::from_secs(2);

/// How long the kernel takes, at most, from the notice to the end of a namespace's links.
const SETTLED: Duration = Duration::from_millis(300);

/// Has the kernel keep back what it announces of new namespaces: each attach gives one an id, and
/// netd would be woken up for it in the middle. Announcements have no sequence number; answers do.
fn only_deaths(socket: &Socket) -> std::io::Result<()> {
    /// `BPF_LD | BPF_ABS` of two and of four bytes, `BPF_JMP | BPF_JEQ`, `BPF_RET`
    /// (linux/filter.h). Loads are in network order, headers in the host's.
    const LOAD_HALF: u16 = 0x28;
    const LOAD_WORD: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    /// Where `struct nlmsghdr` has its type and its sequence number (linux/netlink.h).
    const TYPE: u32 = 4;
    const SEQUENCE: u32 = 8;
    const RTM_NEWNSID: u16 = 88;
    let new = u32::from(RTM_NEWNSID.to_be());
    let filter = [
        SockFilter::new(LOAD_HALF, 0, 0, TYPE),
        SockFilter::new(JUMP_IF_EQUAL, 0, 2, new),
        SockFilter::new(LOAD_WORD, 0, 0, SEQUENCE),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, 0),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ];
    SockRef::from(socket).attach_filter(&filter)
}

fn nsid_of(message: &NsidMessage) -> Option<i32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) => Some(*id),
        _ => None,
    })
}

fn route(route: &RouteMessage) -> Option<IpNetwork> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => {
            network((*ip).into(), route.header.destination_prefix_length)
        }
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => {
            network((*ip).into(), route.header.destination_prefix_length)
        }
        _ => None,
    })
}

fn rule(rule: &RuleMessage) -> Vec<IpNetwork> {
    let network = |attribute: &RuleAttribute| match attribute {
        RuleAttribute::Destination(ip) => network(*ip, rule.header.dst_len),
        RuleAttribute::Source(ip) => network(*ip, rule.header.src_len),
        _ => None,
    };
    rule.attributes.iter().filter_map(network).collect()
}

fn network(ip: IpAddr, prefix: u8) -> Option<IpNetwork> {
    let network = IpNetwork::new(ip, prefix).ok()?;
    IpNetwork::new(network.network(), prefix).ok()
}

/// The servers in resolv.conf(5): a subnet over one of them would cut the host off from it.
fn resolvers() -> Vec<IpAddr> {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.trim().split('%').next()?.parse().ok())
        .collect()
}

fn place(meta: &fs::Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
}

fn host_id() -> u128 {
    let text = fs::read_to_string("/etc/machine-id").unwrap_or_default();
    u128::from_str_radix(text.trim(), 16).unwrap_or_else(|_| {
        let mut bytes = [0; 16];
        match getrandom::fill(&mut bytes) {
            Ok(()) => u128::from_ne_bytes(bytes),
            Err(_) => 0,
        }
    })
}
