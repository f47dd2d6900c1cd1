//! Links: the messages that make, change and take them away, and what a link looks like.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_ECHO, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoData, InfoKind, InfoVeth,
        LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage,
    },
};
use nix::{errno::Errno, libc};

use crate::{
    Error, Result,
    bridge_port::Flags,
    netlink::{Attributes, Batch, Received, Socket, read_u32},
    sysctl,
};

/// A link-layer address.
pub type Mac = [u8; 6];

/// The index of `lo`, in every namespace.
pub const LOOPBACK: u32 = 1;

const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// A bridge to be made.
#[derive(Clone, Debug)]
pub struct Bridge<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its own address: without one it would change with every port.
    pub mac: Mac,
    /// Its own MTU: without one it would be the least of its ports'.
    pub mtu: u32,
    /// Its link group.
    pub group: u32,
}

/// Makes a bridge: up, without multicast snooping, which without a querier on the network ends in
/// multicast that does not arrive.
pub fn make_bridge(batch: &mut Batch, bridge: &Bridge<'_>) {
    let mut message = LinkMessage::default();
    message.header.flags = LinkFlags::Up;
    message.header.change_mask = LinkFlags::Up;
    message.attributes = vec![
        LinkAttribute::IfName(bridge.name.to_owned()),
        LinkAttribute::Address(bridge.mac.to_vec()),
        LinkAttribute::Mtu(bridge.mtu),
        LinkAttribute::Group(bridge.group),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Bridge),
            LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
        ]),
    ];
    let message = RouteNetlinkMessage::NewLink(message);
    batch.push(&message, NEW | NLM_F_ECHO, "make the bridge", bridge.name);
}

/// A veth pair to be made.
#[derive(Clone, Debug)]
pub struct Pair<'a> {
    /// The name of the end in the socket's own namespace.
    pub host: &'a str,
    /// The bridge that this end joins, by index.
    pub bridge: u32,
    /// The link group of this end.
    pub group: u32,
    /// The namespace of the other end.
    pub netns: BorrowedFd<'a>,
    /// The name of the other end.
    pub name: &'a str,
    /// The address of the other end.
    pub mac: Mac,
    /// The MTU of both.
    pub mtu: u32,
    /// Whether the end in the socket's own namespace comes up at once.
    pub up: bool,
}

/// Makes both ends in place: moving or renaming one afterwards would wait for an RCU grace period
/// (20 ms). One queue, since more cost a quarter more and carry nothing between two namespaces.
/// The echo is a [`Link`] with the peer's index and namespace id.
pub fn make_pair(batch: &mut Batch, pair: &Pair<'_>) {
    let queues = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];
    let mut peer = LinkMessage::default();
    peer.attributes = vec![
        LinkAttribute::IfName(pair.name.to_owned()),
        LinkAttribute::NetNsFd(pair.netns.as_raw_fd()),
        LinkAttribute::Address(pair.mac.to_vec()),
        LinkAttribute::Mtu(pair.mtu),
    ];
    peer.attributes.extend(queues.clone());
    let mut message = LinkMessage::default();
    if pair.up {
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes = vec![
        LinkAttribute::IfName(pair.host.to_owned()),
        LinkAttribute::Mtu(pair.mtu),
        LinkAttribute::Controller(pair.bridge),
        LinkAttribute::Group(pair.group),
    ];
    message.attributes.extend(queues);
    message.attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let what = format!("{} with its end {}", pair.host, pair.name);
    batch.push(&RouteNetlinkMessage::NewLink(message), NEW | NLM_F_ECHO, "make the link", what);
}

/// Has a link that is down make up no link-local address of IPv6 when it comes up, and so ask for
/// no router either.
pub fn without_link_local(batch: &mut Batch, index: u32, mtu: u32) {
    if let Some(attribute) = no_link_local(mtu) {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes.push(attribute);
        let (doing, what) = ("switch off the link-local address of", format!("number {index}"));
        batch.push(&RouteNetlinkMessage::NewLink(message), 0, doing, what);
    }
}

/// The smallest MTU of a link that has IPv6 (RFC 8200, section 5).
const IPV6_MTU: u32 = 1280;

/// None without IPv6 in the kernel or on so small a link: there is nothing to switch off, and it
/// would be refused.
pub(crate) fn no_link_local(mtu: u32) -> Option<LinkAttribute> {
    let none = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    (mtu >= IPV6_MTU && sysctl::has_ipv6())
        .then(|| LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![none])]))
}

/// What is to change of a link that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Up or down.
    pub up: Option<bool>,
    /// The bridge it is a port of, by index; 0 for none.
    pub master: Option<u32>,
    /// Its link group.
    pub group: Option<u32>,
    /// Its MTU.
    pub mtu: Option<u32>,
    /// Its address.
    pub mac: Option<Mac>,
}

/// Changes the link of a name.
pub fn change(batch: &mut Batch, name: &str, change: &Change) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    apply_change(batch, message, name.to_owned(), change);
}

/// Changes the link of an index.
pub fn change_index(batch: &mut Batch, index: u32, change: &Change) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    apply_change(batch, message, format!("number {index}"), change);
}

/// Gives the link of an index another name. The kernel takes an RCU grace period for it (20 ms); one
/// older than 6.2 refuses it (`EBUSY`) while the link is up.
pub fn rename(batch: &mut Batch, index: u32, name: &str) {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    batch.push(&RouteNetlinkMessage::NewLink(message), 0, "give the name", name);
}

/// Changes all links of a group alike (`rtnl_group_changelink`, net/core/rtnetlink.c).
pub fn change_group(batch: &mut Batch, group: u32, change: &Change) {
    let change = Change { group: Some(group), ..change.clone() };
    apply_change(batch, LinkMessage::default(), format!("s of group {group}"), &change);
}

fn apply_change(batch: &mut Batch, mut message: LinkMessage, what: String, change: &Change) {
    if let Some(up) = change.up {
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        message.header.change_mask = LinkFlags::Up;
    }
    message.attributes.extend(change.master.map(LinkAttribute::Controller));
    message.attributes.extend(change.group.map(LinkAttribute::Group));
    message.attributes.extend(change.mtu.map(LinkAttribute::Mtu));
    message.attributes.extend(change.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
    batch.push(&RouteNetlinkMessage::NewLink(message), 0, "change the link", what);
}

/// Takes a link away, and a pair's other end with it. The kernel takes an RCU grace period for it
/// (20 ms); the links of a group cost one together.
pub fn delete(batch: &mut Batch, name: &str) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    batch.push(&RouteNetlinkMessage::DelLink(message), 0, "delete the link", name);
}

/// Takes all links of a group away, in one grace period.
pub fn delete_group(batch: &mut Batch, group: u32) {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::Group(group));
    let what = format!("{group}");
    batch.push(&RouteNetlinkMessage::DelLink(message), 0, "delete the links of group", what);
}

/// A link, as far as drivers care.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// Its index.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind, such as `bridge` or `veth`; none for hardware.
    pub kind: Option<String>,
    /// Whether it is up.
    pub up: bool,
    /// Its MTU.
    pub mtu: u32,
    /// Its address, where it has one of six bytes.
    pub mac: Option<Mac>,
    /// Its link group.
    pub group: u32,
    /// The link that it is a port of, by index.
    pub master: Option<u32>,
    /// Of a port of a bridge: how it is treated.
    pub flags: Flags,
    /// Its other end, by index in the namespace of that.
    pub peer: Option<u32>,
    /// The namespace of its other end, as the id that its own namespace knows it by.
    pub peer_nsid: Option<i32>,
}

impl Link {
    /// What a message of the kernel says of a link; none when it is another message
    /// (linux/if_link.h).
    pub fn parse(message: Received<'_>) -> Option<Self> {
        const RTM_NEWLINK: u16 = 16;
        const IFF_UP: u32 = 1;
        const IFLA_ADDRESS: u16 = 1;
        const IFLA_IFNAME: u16 = 3;
        const IFLA_MTU: u16 = 4;
        const IFLA_LINK: u16 = 5;
        const IFLA_MASTER: u16 = 10;
        const IFLA_LINKINFO: u16 = 18;
        const IFLA_GROUP: u16 = 27;
        const IFLA_LINK_NETNSID: u16 = 37;
        const IFLA_INFO_KIND: u16 = 1;
        const IFLA_INFO_SLAVE_KIND: u16 = 4;
        const IFLA_INFO_SLAVE_DATA: u16 = 5;

        if message.kind != RTM_NEWLINK {
            return None;
        }
        let payload = message.payload;
        let mut link = Self {
            index: read_u32(payload.get(4..)?)?,
            up: read_u32(payload.get(8..)?)? & IFF_UP != 0,
            ..Self::default()
        };
        for (kind, value) in Attributes(payload.get(16..)?) {
            match kind {
                IFLA_ADDRESS => link.mac = value.try_into().ok(),
                IFLA_IFNAME => link.name = text(value),
                IFLA_MTU => link.mtu = read_u32(value)?,
                IFLA_LINK => link.peer = read_u32(value),
                IFLA_MASTER => link.master = read_u32(value),
                IFLA_LINKINFO => {
                    let info = Attributes(value);
                    link.kind = info.value(IFLA_INFO_KIND).map(text);
                    let of_bridge = info.value(IFLA_INFO_SLAVE_KIND).map(text);
                    let port = info.value(IFLA_INFO_SLAVE_DATA).unwrap_or_default();
                    if of_bridge.as_deref() == Some("bridge") {
                        link.flags = Flags::parse(Attributes(port));
                    }
                }
                IFLA_GROUP => link.group = read_u32(value)?,
                IFLA_LINK_NETNSID => {
                    let id = read_u32(value)?.cast_signed();
                    link.peer_nsid = (id >= 0).then_some(id);
                }
                _ => {}
            }
        }
        Some(link)
    }
}

fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// The link of a name, if there is one.
///
/// # Errors
/// What the kernel refuses.
pub fn by_name(socket: &mut Socket, name: &str) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    get(socket, message, name.to_owned())
}

/// The link of an index, if there is one.
///
/// # Errors
/// What the kernel refuses.
pub fn by_index(socket: &mut Socket, index: u32) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.header.index = index;
    get(socket, message, format!("number {index}"))
}

/// The link of a name in the namespace that the socket's own knows by this id, if there is one.
///
/// # Errors
/// What the kernel refuses.
pub fn within(socket: &mut Socket, nsid: i32, name: &str) -> Result<Option<Link>> {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::IfNetnsId(nsid));
    message.attributes.push(LinkAttribute::IfName(name.to_owned()));
    match get(socket, message, format!("{name} in namespace {nsid}")) {
        // The namespace is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(None),
        outcome => outcome,
    }
}

/// The other end of a pair, where that is in another namespace and there is one.
///
/// # Errors
/// What the kernel refuses.
pub fn other_end(socket: &mut Socket, link: &Link) -> Result<Option<Link>> {
    let (Some(peer), Some(nsid)) = (link.peer, link.peer_nsid) else { return Ok(None) };
    let mut message = LinkMessage::default();
    message.header.index = peer;
    message.attributes.push(LinkAttribute::IfNetnsId(nsid));
    match get(socket, message, format!("number {peer} in namespace {nsid}")) {
        // The namespace is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(None),
        outcome => outcome,
    }
}

/// Has the kernel take note of a link's line now (`ETHTOOL_GLINK`, linux/ethtool.h, which asks
/// `linkwatch_sync_dev` for one of a pair), which it leaves to a worker else. Until then a port of a
/// bridge passes nothing on, and the link itself drops what is to be sent. The link is one of the
/// namespace in which the socket was opened.
///
/// # Errors
/// What the kernel refuses.
#[allow(unsafe_code)]
pub fn settle(socket: &Socket, name: &str) -> Result<()> {
    /// `struct ethtool_value`.
    #[repr(C)]
    struct Value {
        command: u32,
        data: u32,
    }
    const ETHTOOL_GLINK: u32 = 0x0a;
    let refused = |errno| Error::call("settle the link", name, errno);
    let mut value = Value { command: ETHTOOL_GLINK, data: 0 };
    let mut request = request_about(name).ok_or_else(|| refused(Errno::ENAMETOOLONG))?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: the kernel reads `request`, and reads and writes the two numbers of `value` that it
    // points to; both outlive the call.
    let status = unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request)
    };
    Errno::result(status).map(drop).map_err(refused)
}

/// Whether a link that is up passes something on already, as a bridge judges its ports
/// (`netif_oper_up`, linux/netdevice.h, which is `IFF_RUNNING`): read in a microsecond, without the
/// lock that all messages about links need. The link is one of the namespace in which the socket was
/// opened.
///
/// # Errors
/// What the kernel refuses.
#[allow(unsafe_code)]
pub fn is_running(socket: &Socket, name: &str) -> Result<bool> {
    let refused = |errno| Error::call("look at the link", name, errno);
    let mut request = request_about(name).ok_or_else(|| refused(Errno::ENAMETOOLONG))?;
    // SAFETY: the kernel reads and writes `request`, which outlives the call.
    let status = unsafe {
        libc::ioctl(socket.as_fd().as_raw_fd(), libc::SIOCGIFFLAGS as _, &raw mut request)
    };
    Errno::result(status).map_err(refused)?;
    // SAFETY: of the union, the flags are what this call has filled in.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(i32::from(flags) & libc::IFF_RUNNING != 0)
}

/// A `struct ifreq` (netdevice(7)) that names a link and asks for nothing yet; none where the name is
/// longer than one can be.
#[allow(unsafe_code)]
fn request_about(name: &str) -> Option<libc::ifreq> {
    // SAFETY: all of it are numbers, and a null pointer is one that a union may hold.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    // The last byte stays zero.
    if name.len() >= request.ifr_name.len() {
        return None;
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from.cast_signed();
    }
    Some(request)
}

fn get(socket: &mut Socket, mut message: LinkMessage, what: String) -> Result<Option<Link>> {
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetLink(message), 0, "look at the link", what);
    let mut link = None;
    match socket.run_with(batch, |message| link = Link::parse(message)) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => Ok(None),
        outcome => outcome.map(|()| link),
    }
}

/// All links.
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<Link>> {
    dump(socket, Vec::new())
}

/// All links that are no port of another: the kernel itself passes over the others
/// (`link_master_filtered`, net/core/rtnetlink.c), so it costs nothing per port.
///
/// # Errors
/// What the kernel refuses.
pub fn without_master(socket: &mut Socket) -> Result<Vec<Link>> {
    const NO_MASTER: u32 = u32::MAX;
    dump(socket, vec![LinkAttribute::Controller(NO_MASTER)])
}

fn dump(socket: &mut Socket, filter: Vec<LinkAttribute>) -> Result<Vec<Link>> {
    let mut message = LinkMessage::default();
    message.attributes = filter;
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, "list", "links");
    socket.dump_frame(batch, Link::parse)
}
