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

/// What tells apart rows that lead to the same VTEP, where it is not as the device has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct By {
    /// The port there.
    pub port: Option<u16>,
    /// The number on the wire.
    pub vni: Option<u32>,
    /// The link, by index.
    pub link: Option<u32>,
}

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
    /// In a VXLAN device's table: frames to everybody go to this VTEP by more than its address. Read and deleted, and
    /// not written.
    OddFlood {
        /// The VTEP.
        vtep: IpAddr,
        /// By what besides.
        by: By,
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
            Self::OddFlood { vtep, by } => {
                let mut message = towards(ANYBODY, *vtep);
                let more = &mut message.attributes;
                more.extend(by.port.map(NeighbourAttribute::Port));
                more.extend(by.vni.map(NeighbourAttribute::Vni));
                more.extend(by.link.map(NeighbourAttribute::IfIndex));
                message
            }
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
        Row::Flood { .. } | Row::OddFlood { .. } => NLM_F_APPEND,
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
            Self::Flood { vtep } | Self::OddFlood { vtep, .. } => write!(f, "everybody at {vtep}"),
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
    const NDA_PORT: u16 = 6;
    const NDA_VNI: u16 = 7;
    const NDA_IFINDEX: u16 = 8;
    const NDA_NH_ID: u16 = 13;
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
    let port = attributes.value(NDA_PORT).and_then(|value| value.first_chunk().copied());
    let by = By {
        port: port.map(u16::from_be_bytes),
        vni: attributes.value(NDA_VNI).and_then(read_u32),
        link: attributes.value(NDA_IFINDEX).and_then(read_u32),
    };
    let alone = by == By::default() && attributes.value(NDA_NH_ID).is_none();
    Some(match attributes.value(NDA_DST).and_then(ip) {
        Some(vtep) if mac == ANYBODY && alone => Row::Flood { vtep },
        Some(vtep) if mac == ANYBODY => Row::OddFlood { vtep, by },
        Some(vtep) if alone => Row::Forward { mac, vtep },
        _ => Row::Odd { mac },
    })
}
