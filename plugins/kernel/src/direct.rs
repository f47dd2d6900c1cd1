//! Routes to single addresses of IPv4 through somebody on a link, known as netd's own by their
//! protocol.

use std::net::{IpAddr, Ipv4Addr};

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
    netlink::{Attributes, Batch, Received, Socket, ip, read_u32},
};

/// Who made a route, as `ip route` shows it (`rtm_protocol`, linux/rtnetlink.h): numbers from 5 on
/// are for daemons, and nobody has this one in iproute2's list. [`crate::host_routes`] has another.
pub const PROTOCOL: u8 = 0x6f;

/// The way to one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Direct {
    /// The address.
    pub to: Ipv4Addr,
    /// Who has it behind him; on the link.
    pub through: Ipv4Addr,
    /// The link, by index.
    pub link: u32,
    /// The address that the host itself speaks from.
    pub from: Ipv4Addr,
}

fn message(to: Ipv4Addr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.destination_prefix_length = 32;
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet(to))];
    message
}

/// Writes a route, in place of another to the same address.
pub fn write(batch: &mut Batch, route: &Direct) {
    let mut message = message(route.to);
    message.attributes.extend([
        RouteAttribute::Gateway(RouteAddress::Inet(route.through)),
        RouteAttribute::Oif(route.link),
        RouteAttribute::PrefSource(RouteAddress::Inet(route.from)),
    ]);
    let message = RouteNetlinkMessage::NewRoute(message);
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.push(&message, flags, "write the route to", route.to.to_string());
}

/// Takes the route to an address away.
pub fn delete(batch: &mut Batch, to: Ipv4Addr) {
    let message = RouteNetlinkMessage::DelRoute(message(to));
    batch.push(&message, 0, "delete the route to", to.to_string());
}

/// All routes that were made here: to whom, and through whom.
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<(Ipv4Addr, Ipv4Addr)>> {
    let mut message = RouteMessage::default();
    message.header.address_family = AddressFamily::Inet;
    message.header.protocol = RouteProtocol::Other(PROTOCOL);
    let mut batch = Batch::new();
    batch.push(&RouteNetlinkMessage::GetRoute(message), NLM_F_DUMP, "list", "routes");
    socket.dump_frame(batch, parse)
}

/// A route of ours (linux/rtnetlink.h).
fn parse(message: Received<'_>) -> Option<(Ipv4Addr, Ipv4Addr)> {
    const RTM_NEWROUTE: u16 = 24;
    const RT_TABLE_MAIN: u8 = 254;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    let header = message.payload.get(..12)?;
    let ours = message.kind == RTM_NEWROUTE
        && (header[1], header[4], header[5]) == (32, RT_TABLE_MAIN, PROTOCOL);
    let attributes = Attributes(message.payload.get(12..)?);
    let v4 = |kind| match ip(attributes.value(kind)?)? {
        IpAddr::V4(ip) => Some(ip),
        IpAddr::V6(_) => None,
    };
    // One whose link is gone is gone.
    attributes.value(RTA_OIF).and_then(read_u32)?;
    Some((v4(RTA_DST)?, v4(RTA_GATEWAY)?)).filter(|_| ours)
}
