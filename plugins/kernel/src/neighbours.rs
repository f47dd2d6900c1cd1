//! Neighbours that are written down: who has an address on a link, so that nobody is asked for it.
//! On a bridge whose ports suppress such questions the kernel answers them from here.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    route::RouteProtocol,
};

use crate::{
    Result,
    links::Mac,
    netlink::{Attributes, Batch, PROTOCOL, Received, Socket, ip, read_u16, read_u32},
};

/// A neighbour that is written down, which the kernel neither asks for nor forgets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// The link, by index.
    pub link: u32,
    /// Its address.
    pub address: IpAddr,
    /// Its link-layer address.
    pub mac: Mac,
}

fn message(link: u32, address: IpAddr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.ifindex = link;
    let (family, address) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    message.header.family = family;
    message.attributes = vec![NeighbourAttribute::Destination(address)];
    message
}

/// Writes a neighbour down, whatever was known of it.
pub fn write(batch: &mut Batch, neighbour: &Neighbour) {
    let mut message = message(neighbour.link, neighbour.address);
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    let what = neighbour.address.to_string();
    let flags = NLM_F_CREATE | NLM_F_REPLACE;
    batch.push(&RouteNetlinkMessage::NewNeighbour(message), flags, "write the neighbour", what);
}

/// Puts right what is known of a neighbour, as far as anything is.
pub fn renew(batch: &mut Batch, neighbour: &Neighbour) {
    let mut message = message(neighbour.link, neighbour.address);
    message.header.state = NeighbourState::Stale;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbour.mac.to_vec()));
    let what = neighbour.address.to_string();
    batch.push(
        &RouteNetlinkMessage::NewNeighbour(message),
        NLM_F_REPLACE,
        "renew the neighbour",
        what,
    );
}

/// Deletes what is known of a neighbour.
pub fn delete(batch: &mut Batch, link: u32, address: IpAddr) {
    let message = RouteNetlinkMessage::DelNeighbour(message(link, address));
    batch.push(&message, 0, "delete the neighbour", address.to_string());
}

/// The neighbours that are written down for a link.
///
/// # Errors
/// What the kernel refuses.
pub fn of(socket: &mut Socket, link: u32) -> Result<Vec<Neighbour>> {
    let mut found = Vec::new();
    // Of each family by itself: a dump of both would have the bridges' forwarding tables in it.
    for family in [AddressFamily::Inet, AddressFamily::Inet6] {
        let mut message = NeighbourMessage::default();
        message.header.family = family;
        message.attributes = vec![NeighbourAttribute::IfIndex(link)];
        let mut batch = Batch::new();
        let what = format!("neighbours of link {link}");
        batch.push(&RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, "list", what);
        found.extend(socket.dump_frame(batch, |message| parse(message, link))?);
    }
    Ok(found)
}

/// A neighbour, from `struct ndmsg` and its attributes (linux/neighbour.h). Those of multicast are
/// the kernel's own.
fn parse(message: Received<'_>, link: u32) -> Option<Neighbour> {
    const RTM_NEWNEIGH: u16 = 28;
    const NUD_PERMANENT: u16 = 0x80;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    let payload = message.payload;
    let wanted = message.kind == RTM_NEWNEIGH
        && read_u32(payload.get(4..)?)? == link
        && read_u16(payload.get(8..)?)? & NUD_PERMANENT != 0;
    if !wanted {
        return None;
    }
    let attributes = Attributes(payload.get(12..)?);
    let address = ip(attributes.value(NDA_DST)?)?;
    let mac = attributes.value(NDA_LLADDR)?.try_into().ok()?;
    (!address.is_multicast()).then_some(Neighbour { link, address, mac })
}
