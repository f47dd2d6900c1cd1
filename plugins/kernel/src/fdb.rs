//! Rows of forwarding tables: which VTEP has a link-layer address (the table of a VXLAN device), and
//! which port of a bridge leads there (the bridge's). All of them are written, never learned.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use crate::{
    Result,
    links::Mac,
    netlink::{Attributes, Batch, Received, Socket, ip, read_u16, read_u32},
};

/// Everybody who has no row of its own.
const ANYBODY: Mac = [0; 6];

/// A row of one of the two tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Row {
    /// In a VXLAN device's table: frames to `mac` go to this VTEP.
    Forward {
        /// To whom.
        mac: Mac,
        /// The VTEP.
        vtep: IpAddr,
    },
    /// In a VXLAN device's table: frames to `mac` go by more than a VTEP's address, such as a nexthop or another port.
    /// Such rows are read and deleted, and not written; nor does the kernel make a [`Row::Forward`] of one with a
    /// nexthop, though it says that it did (`vxlan_fdb_replace`, drivers/net/vxlan).
    Odd {
        /// To whom.
        mac: Mac,
    },
    /// In a VXLAN device's table: frames to everybody go to this VTEP too.
    Flood {
        /// The VTEP.
        vtep: IpAddr,
    },
    /// In the table of the device's bridge: frames to `mac` leave by the device.
    Port {
        /// To whom.
        mac: Mac,
    },
}

fn message(link: u32, mac: Mac, state: NeighbourState, flags: NeighbourFlags) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    message.header.state = state;
    message.header.flags = flags;
    message.attributes = vec![NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
    message
}

impl Row {
    fn message(&self, link: u32) -> NeighbourMessage {
        let of_device = |mac| message(link, mac, NeighbourState::Permanent, NeighbourFlags::Own);
        let towards = |mac, vtep| {
            let mut message = of_device(mac);
            message.attributes.push(NeighbourAttribute::Destination(match vtep {
                IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
                IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
            }));
            message
        };
        match self {
            Self::Forward { mac, vtep } => towards(*mac, *vtep),
            Self::Odd { mac } => of_device(*mac),
            Self::Flood { vtep } => towards(ANYBODY, *vtep),
            // Not `Permanent`, which says that the bridge itself has the address.
            Self::Port { mac } => {
                message(link, *mac, NeighbourState::Noarp, NeighbourFlags::Controller)
            }
        }
    }
}

/// Writes a row of the VXLAN device `link` or of its bridge, in place of one of the same address.
pub fn write(batch: &mut Batch, link: u32, row: &Row) {
    let flags = match row {
        Row::Flood { .. } => NLM_F_APPEND,
        Row::Forward { .. } | Row::Odd { .. } | Row::Port { .. } => NLM_F_REPLACE,
    };
    let message = RouteNetlinkMessage::NewNeighbour(row.message(link));
    batch.push(&message, NLM_F_CREATE | flags, "write the forwarding row", row.to_string());
}

/// Deletes a row.
pub fn delete(batch: &mut Batch, link: u32, row: &Row) {
    // To whom it is says which row it is, wherever that leads.
    let message = match row {
        Row::Forward { mac, .. } => Row::Odd { mac: *mac }.message(link),
        _ => row.message(link),
    };
    let message = RouteNetlinkMessage::DelNeighbour(message);
    batch.push(&message, 0, "delete the forwarding row", row.to_string());
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut hex = |mac: &Mac| {
            let [a, b, c, d, e, g] = mac;
            write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
        };
        match self {
            Self::Forward { mac, vtep } => {
                hex(mac)?;
                write!(f, " at {vtep}")
            }
            Self::Flood { vtep } => write!(f, "everybody at {vtep}"),
            Self::Odd { mac } | Self::Port { mac } => hex(mac),
        }
    }
}

/// The rows of the VXLAN device `link`, whoever wrote them, and of its bridge for it; without what the kernel made
/// and what the bridge learned.
///
/// # Errors
/// What the kernel refuses.
pub fn rows(socket: &mut Socket, link: u32) -> Result<Vec<Row>> {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = link;
    let mut batch = Batch::new();
    let what = format!("rows of link {link}");
    batch.push(&RouteNetlinkMessage::GetNeighbour(message), NLM_F_DUMP, "list forwarding", what);
    socket.dump_frame(batch, |message| parse(message, link))
}

/// A row, from `struct ndmsg` and its attributes (linux/neighbour.h).
fn parse(message: Received<'_>, link: u32) -> Option<Row> {
    const RTM_NEWNEIGH: u16 = 28;
    const NTF_SELF: u8 = 2;
    const NUD_NOARP: u16 = 0x40;
    const NDA_DST: u16 = 1;
    const NDA_LLADDR: u16 = 2;
    /// `NDA_PORT`, `NDA_VNI`, `NDA_IFINDEX` and `NDA_NH_ID`.
    const MORE: [u16; 4] = [6, 7, 8, 13];
    let payload = message.payload;
    if message.kind != RTM_NEWNEIGH || read_u32(payload.get(4..)?)? != link {
        return None;
    }
    let (state, flags) = (read_u16(payload.get(8..)?)?, *payload.get(10)?);
    let attributes = Attributes(payload.get(12..)?);
    let mac: Mac = attributes.value(NDA_LLADDR)?.try_into().ok()?;
    if flags & NTF_SELF == 0 {
        return (state & NUD_NOARP != 0).then_some(Row::Port { mac });
    }
    let alone = || MORE.iter().all(|kind| attributes.value(*kind).is_none());
    Some(match attributes.value(NDA_DST).and_then(ip) {
        Some(vtep) if mac == ANYBODY => Row::Flood { vtep },
        Some(vtep) if alone() => Row::Forward { mac, vtep },
        _ => Row::Odd { mac },
    })
}
