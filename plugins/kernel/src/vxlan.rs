//! VXLAN devices (RFC 7348): this host's end of a network that spans hosts. They learn nothing and
//! ask nobody; what they know is written into their tables ([`crate::fdb`]).

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind, InfoVxlan, LinkAttribute,
        LinkExtentMask, LinkInfo, LinkMessage,
    },
};

use crate::{
    Result,
    links::{Link, Mac, no_link_local},
    netlink::{Attributes, Batch, Received, Socket, ip, read_u32},
};

/// Hops that a packet may take between hosts.
const TTL: u8 = 64;

/// A device to be made.
#[derive(Clone, Debug)]
pub struct Vxlan<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number on the wire.
    pub vni: u32,
    /// Where this host takes the packets, and sends them from.
    pub local: IpAddr,
    /// The UDP port, on every host.
    pub port: u16,
    /// Its own address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Its link group.
    pub group: u32,
    /// The bridge that it is a port of, by index.
    pub bridge: Option<u32>,
}

fn local(address: IpAddr) -> InfoVxlan {
    match address {
        IpAddr::V4(ip) => InfoVxlan::Local(ip),
        IpAddr::V6(ip) => InfoVxlan::Local6(ip),
    }
}

/// Makes a device, down. Packets over IPv4 go without a checksum of UDP, as RFC 7348 would have it:
/// what is inside has its own. (The kernel echoes none of it.)
pub fn make(batch: &mut Batch, vxlan: &Vxlan<'_>) {
    let mut data = vec![
        InfoVxlan::Id(vxlan.vni),
        local(vxlan.local),
        InfoVxlan::Port(vxlan.port),
        InfoVxlan::Learning(false),
        InfoVxlan::Ttl(TTL),
    ];
    if vxlan.local.is_ipv4() {
        data.push(InfoVxlan::UDPCsum(false));
    }
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(vxlan.name.to_owned()),
        LinkAttribute::Address(vxlan.mac.to_vec()),
        LinkAttribute::Mtu(vxlan.mtu),
        LinkAttribute::Group(vxlan.group),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(data)),
        ]),
    ];
    message.attributes.extend(vxlan.bridge.map(LinkAttribute::Controller));
    let message = RouteNetlinkMessage::NewLink(message);
    batch.push(&message, NLM_F_CREATE | NLM_F_EXCL, "make the VXLAN device", vxlan.name);
}

/// Has a device send from another address of the same family.
pub fn move_to(batch: &mut Batch, name: &str, vni: u32, to: IpAddr) {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Vxlan),
            LinkInfo::Data(InfoData::Vxlan(vec![InfoVxlan::Id(vni), local(to)])),
        ]),
    ];
    let what = format!("{name} to {to}");
    batch.push(&RouteNetlinkMessage::NewLink(message), 0, "move the VXLAN device", what);
}

/// What the kernel refuses in the message that makes a port: it learns nothing, questions for known
/// addresses are answered on this side of it, and nothing goes out of it unaddressed, but for what
/// goes to everybody where `broadcast` allows that. And no link-local address of its own.
pub fn tune_port(batch: &mut Batch, name: &str, mtu: u32, broadcast: bool) {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![
                InfoBridgePort::Learning(false),
                InfoBridgePort::NeighSupress(true),
                InfoBridgePort::UnicastFlood(false),
                InfoBridgePort::MulticastFlood(broadcast),
                InfoBridgePort::BroadcastFlood(broadcast),
            ])),
        ]),
    ];
    message.attributes.extend(no_link_local(mtu));
    batch.push(&RouteNetlinkMessage::NewLink(message), 0, "set the port flags of", name);
}

/// How a port of a bridge treats frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortFlags {
    /// It learns from what comes in.
    pub learning: bool,
    /// Questions for known addresses do not leave by it.
    pub neigh_suppress: bool,
    /// Frames to unknown addresses leave by it.
    pub flood: bool,
    /// Multicast leaves by it.
    pub multicast: bool,
    /// Broadcast leaves by it.
    pub broadcast: bool,
}

impl PortFlags {
    /// What [`tune_port`] makes of a port.
    pub fn tuned(broadcast: bool) -> Self {
        Self {
            neigh_suppress: true,
            multicast: broadcast,
            broadcast,
            learning: false,
            flood: false,
        }
    }
}

/// A device that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// What every link has.
    pub link: Link,
    /// The number on the wire.
    pub vni: u32,
    /// Where it takes packets.
    pub local: Option<IpAddr>,
    /// The UDP port.
    pub port: u16,
    /// Whether it learns from what comes in.
    pub learning: bool,
    /// How it is a port, where it is one.
    pub flags: PortFlags,
}

/// All VXLAN devices.
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<Found>> {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Vxlan)]),
        LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]),
    ];
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetLink(message), NLM_F_DUMP, "list", "VXLAN devices");
    socket.dump_frame(batch, parse)
}

/// A device, from its attributes (linux/if_link.h).
fn parse(message: Received<'_>) -> Option<Found> {
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_INFO_DATA: u16 = 2;
    const IFLA_INFO_SLAVE_DATA: u16 = 5;
    const IFLA_VXLAN_ID: u16 = 1;
    const IFLA_VXLAN_LOCAL: u16 = 4;
    const IFLA_VXLAN_LEARNING: u16 = 7;
    const IFLA_VXLAN_PORT: u16 = 15;
    const IFLA_VXLAN_LOCAL6: u16 = 17;
    const IFLA_BRPORT_LEARNING: u16 = 8;
    const IFLA_BRPORT_UNICAST_FLOOD: u16 = 9;
    const IFLA_BRPORT_MCAST_FLOOD: u16 = 27;
    const IFLA_BRPORT_BCAST_FLOOD: u16 = 30;
    const IFLA_BRPORT_NEIGH_SUPPRESS: u16 = 32;
    let link = Link::parse(message)?;
    if link.kind.as_deref() != Some("vxlan") {
        return None;
    }
    let info = Attributes(Attributes(message.payload.get(16..)?).value(IFLA_LINKINFO)?);
    let data = Attributes(info.value(IFLA_INFO_DATA)?);
    let port = Attributes(info.value(IFLA_INFO_SLAVE_DATA).unwrap_or_default());
    let on = |attributes: &Attributes<'_>, kind| {
        attributes.value(kind).and_then(<[u8]>::first).is_some_and(|byte| *byte != 0)
    };
    let local = data.value(IFLA_VXLAN_LOCAL).or_else(|| data.value(IFLA_VXLAN_LOCAL6));
    Some(Found {
        vni: read_u32(data.value(IFLA_VXLAN_ID)?)?,
        local: local.and_then(ip),
        port: u16::from_be_bytes(data.value(IFLA_VXLAN_PORT)?.try_into().ok()?),
        learning: on(&data, IFLA_VXLAN_LEARNING),
        flags: PortFlags {
            learning: on(&port, IFLA_BRPORT_LEARNING),
            neigh_suppress: on(&port, IFLA_BRPORT_NEIGH_SUPPRESS),
            flood: on(&port, IFLA_BRPORT_UNICAST_FLOOD),
            multicast: on(&port, IFLA_BRPORT_MCAST_FLOOD),
            broadcast: on(&port, IFLA_BRPORT_BCAST_FLOOD),
        },
        link,
    })
}
