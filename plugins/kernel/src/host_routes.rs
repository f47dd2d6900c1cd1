//! Routes of the host to single addresses on a link, known as netd's own by their protocol.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
        RouteType,
    },
};

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket, read_u32},
};

/// Who made a route, as `ip route` shows it (`rtm_protocol`, linux/rtnetlink.h): numbers from 5 on
/// are for daemons, and nobody has this one in iproute2's list.
pub const PROTOCOL: u8 = 0x6e;

/// The way to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostRoute {
    /// The link, by index.
    pub link: u32,
    /// The address.
    pub to: IpAddr,
    /// The address that the host speaks from, where it is not the kernel's choice.
    pub from: Option<IpAddr>,
}

fn message(route: &HostRoute) -> RouteMessage {
    let (family, prefix) = match route.to {
        IpAddr::V4(_) => (AddressFamily::Inet, 32),
        IpAddr::V6(_) => (AddressFamily::Inet6, 128),
    };
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    message.header.destination_prefix_length = prefix;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = RouteScope::Link;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![
        RouteAttribute::Destination(RouteAddress::from(route.to)),
        RouteAttribute::Oif(route.link),
    ];
    message.attributes.extend(route.from.map(|ip| RouteAttribute::PrefSource(ip.into())));
    message
}

/// Adds a route, in place of another to the same address.
pub fn add(batch: &mut Batch, route: &HostRoute) {
    let message = RouteNetlinkMessage::NewRoute(message(route));
    batch.push(&message, NLM_F_CREATE | NLM_F_REPLACE, "add the route to", route.to.to_string());
}

/// Takes a route away.
pub fn delete(batch: &mut Batch, route: &HostRoute) {
    let message = RouteNetlinkMessage::DelRoute(message(route));
    batch.push(&message, 0, "delete the route to", route.to.to_string());
}

/// All routes that were made here.
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<HostRoute>> {
    let mut found = Vec::new();
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        message.header.protocol = RouteProtocol::Other(PROTOCOL);
        let mut batch = Batch::new();
        batch.push(&RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, "list", "routes");
        found.extend(socket.dump_frame(batch, parse)?);
    }
    Ok(found)
}

/// A route of ours (linux/rtnetlink.h).
fn parse(message: Received<'_>) -> Option<HostRoute> {
    const RTM_NEWROUTE: u16 = 24;
    const RT_TABLE_MAIN: u8 = 254;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_PREFSRC: u16 = 7;
    let header = message.payload.get(..12)?;
    let ours = message.kind == RTM_NEWROUTE && header[4] == RT_TABLE_MAIN && header[5] == PROTOCOL;
    let attributes = Attributes(message.payload.get(12..)?);
    let to = attributes.value(RTA_DST).and_then(address)?;
    let single = usize::from(header[1]) == IpNetwork::from(to).prefix().into();
    let link = attributes.value(RTA_OIF).and_then(read_u32)?;
    let from = attributes.value(RTA_PREFSRC).and_then(address);
    (ours && single).then_some(HostRoute { link, to, from })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}
