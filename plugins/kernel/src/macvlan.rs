//! Macvlan links: the messages that make them and what they hang on, and finding them again in the
//! namespaces of containers, where no end of theirs is on the host.

use std::collections::BTreeSet;

use ipnetwork::IpNetwork;
use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{
        InfoData, InfoKind, InfoMacVlan, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
        MacVlanMode,
    },
};
use nix::errno::Errno;

use crate::{
    Result,
    links::{Link, Mac},
    netlink::{Attributes, Batch, Received, Socket, read_u32},
    netns, routes,
};

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// How the macvlans of one parent see each other (`IFLA_MACVLAN_MODE`, linux/if_link.h).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Directly.
    #[default]
    Bridge,
    /// Not at all.
    Private,
    /// Through the switch behind the parent, if that sends frames back where they came from.
    Vepa,
    /// There is but one, and it has the parent's own address.
    Passthru,
}

impl Mode {
    fn number(self) -> MacVlanMode {
        match self {
            Self::Bridge => MacVlanMode::Bridge,
            Self::Private => MacVlanMode::Private,
            Self::Vepa => MacVlanMode::Vepa,
            Self::Passthru => MacVlanMode::Passthrough,
        }
    }

    fn of(number: u32) -> Option<Self> {
        [Self::Bridge, Self::Private, Self::Vepa, Self::Passthru]
            .into_iter()
            .find(|mode| u32::from(mode.number()) == number)
    }
}

/// A macvlan to be made.
#[derive(Clone, Debug)]
pub struct Macvlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// What it hangs on, by index.
    pub parent: u32,
    /// The namespace of that, as the socket's own knows it; none when it is the same.
    pub parent_nsid: Option<i32>,
    /// How it sees the others.
    pub mode: Mode,
    /// How many broadcasts may wait to be copied to it; the kernel's choice unless told.
    pub queue: Option<u32>,
    /// Its address; the parent's own in [`Mode::Passthru`].
    pub mac: Mac,
    /// Its MTU, at most the parent's.
    pub mtu: u32,
    /// Its link group.
    pub group: u32,
}

/// Makes a macvlan in the socket's namespace, whatever namespace its parent is in: the name is
/// looked for where the socket is, so that one the host has too is no obstacle. The echo is a
/// [`Link`].
pub fn make(batch: &mut Batch, macvlan: &Macvlan<'_>) {
    let mut data = vec![InfoMacVlan::Mode(macvlan.mode.number())];
    data.extend(macvlan.queue.map(InfoMacVlan::BcQueueLen));
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(macvlan.name.to_owned()),
        LinkAttribute::Link(macvlan.parent),
        LinkAttribute::Address(macvlan.mac.to_vec()),
        LinkAttribute::Mtu(macvlan.mtu),
        LinkAttribute::Group(macvlan.group),
        LinkAttribute::NumTxQueues(1),
        LinkAttribute::NumRxQueues(1),
    ];
    message.attributes.extend(macvlan.parent_nsid.map(LinkAttribute::LinkNetNsId));
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::MacVlan),
        LinkInfo::Data(InfoData::MacVlan(data)),
    ]));
    let message = RouteNetlinkMessage::NewLink(message);
    batch.push(&message, NEW | NLM_F_ECHO, "make the link", macvlan.name);
}

/// Makes a sub-interface for one VLAN (802.1Q) of a link, up.
pub fn make_vlan(batch: &mut Batch, name: &str, on: u32, id: u16, group: u32) {
    let kind = InfoKind::Vlan;
    let data = InfoData::Vlan(vec![InfoVlan::Id(id)]);
    let more = [LinkAttribute::Link(on), LinkAttribute::Group(group)];
    make_up(batch, name, more, vec![LinkInfo::Kind(kind), LinkInfo::Data(data)]);
}

/// Makes a link that leads nowhere, up, on which macvlans reach each other and nobody else: a
/// `dummy`, or an `ifb` where the kernel has no such kind. That drops what it is to send as well.
pub fn make_nowhere(batch: &mut Batch, name: &str, mtu: u32, group: u32, ifb: bool) {
    let kind = if ifb { InfoKind::Ifb } else { InfoKind::Dummy };
    let more = [LinkAttribute::Mtu(mtu), LinkAttribute::Group(group)];
    make_up(batch, name, more, vec![LinkInfo::Kind(kind)]);
}

fn make_up(batch: &mut Batch, name: &str, more: [LinkAttribute; 2], info: Vec<LinkInfo>) {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(more);
    message.attributes.push(LinkAttribute::LinkInfo(info));
    let message = RouteNetlinkMessage::NewLink(message);
    batch.push(&message, NEW | NLM_F_ECHO, "make the link", name);
}

/// A macvlan that was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Found {
    /// The namespace it is in, as the socket's own knows it; none for that itself.
    pub nsid: Option<i32>,
    /// The link; its `peer` is the parent, its `peer_nsid` the parent's namespace.
    pub link: Link,
    /// How it sees the others; none for a mode that nobody here makes.
    pub mode: Option<Mode>,
}

impl Found {
    /// What a message of the kernel says of a macvlan; none when it is of something else.
    fn parse(message: Received<'_>, nsid: Option<i32>) -> Option<Self> {
        const IFLA_LINKINFO: u16 = 18;
        const IFLA_INFO_DATA: u16 = 2;
        const IFLA_MACVLAN_MODE: u16 = 1;
        let link = Link::parse(message).filter(|link| link.kind.as_deref() == Some("macvlan"))?;
        let info = Attributes(message.payload.get(16..)?).value(IFLA_LINKINFO)?;
        let data = Attributes(info).value(IFLA_INFO_DATA)?;
        let mode = Attributes(data).value(IFLA_MACVLAN_MODE).and_then(read_u32);
        Some(Self { nsid, link, mode: mode.and_then(Mode::of) })
    }
}

/// The macvlans in a namespace: of all kinds of links only these are told of by the kernel.
///
/// # Errors
/// What the kernel refuses. A namespace that is gone has none.
pub fn within(socket: &mut Socket, nsid: Option<i32>) -> Result<Vec<Found>> {
    let mut message = LinkMessage::default();
    message.attributes.extend(nsid.map(LinkAttribute::IfNetnsId));
    message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan)]));
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, "list", "macvlans");
    gone_is_empty(socket.dump_frame(batch, |message| Found::parse(message, nsid)))
}

/// The macvlans in all namespaces that the socket's own has an id for, and that have their parent
/// in it.
///
/// # Errors
/// What the kernel refuses.
pub fn elsewhere(socket: &mut Socket, home: i32) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for nsid in netns::ids(socket)? {
        let here = within(socket, Some(nsid))?;
        found.extend(here.into_iter().filter(|found| found.link.peer_nsid == Some(home)));
    }
    Ok(found)
}

/// The addresses of the links of another namespace.
///
/// # Errors
/// What the kernel refuses. A namespace that is gone has none.
pub fn addresses_within(socket: &mut Socket, nsid: i32) -> Result<BTreeSet<(u32, IpNetwork)>> {
    /// linux/if_addr.h
    const IFA_TARGET_NETNSID: u16 = 10;
    let mut message = AddressMessage::default();
    let value = nsid.to_ne_bytes().to_vec();
    message.attributes.push(AddressAttribute::Other(DefaultNla::new(IFA_TARGET_NETNSID, value)));
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetAddress(message), NLM_F_DUMP, "list", "addresses");
    let found = gone_is_empty(socket.dump_frame(batch, routes::Address::parse))?;
    Ok(found.into_iter().map(|address| (address.link, address.address)).collect())
}

fn gone_is_empty<T>(outcome: Result<Vec<T>>) -> Result<Vec<T>> {
    match outcome {
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(Vec::new()),
        outcome => outcome,
    }
}

/// Takes a link of another namespace away. The kernel takes an RCU grace period for it (20 ms).
pub fn delete_within(batch: &mut Batch, nsid: i32, link: &Link) {
    let mut message = LinkMessage::default();
    message.header.index = link.index;
    message.attributes.push(LinkAttribute::IfNetnsId(nsid));
    let message = RouteNetlinkMessage::DelLink(message);
    batch.push(&message, 0, "delete the link", link.name.as_str());
}

#[cfg(test)]
mod tests;
