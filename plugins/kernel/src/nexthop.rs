//! Nexthop objects that FDB rows point at: one for each remote node, and a group of that one, since
//! the kernel takes no lone nexthop in an FDB (`vxlan_fdb_nh_update`, drivers/net/vxlan). Changing
//! one redirects all rows of its node at once, deleting it deletes them. Message layouts are those
//! of linux/nexthop.h; netlink-packet-route has none.

use std::net::IpAddr;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use nix::{errno::Errno, libc};

use crate::{
    Result,
    netlink::{Attributes, Batch, PROTOCOL, Received, Socket, append, ip, octets, read_u32},
};

const NEW: u16 = 104;
const DELETE: u16 = 105;
const GET: u16 = 106;
const ID: u16 = 1;
const GROUP: u16 = 2;
const GATEWAY: u16 = 6;
const FDB: u16 = 11;

/// A nexthop of FDB rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nexthop {
    /// Its number, unique in the namespace.
    pub id: u32,
    /// Where it leads; none of a group.
    pub via: Option<IpAddr>,
    /// The nexthops that it is a group of.
    pub group: Vec<u32>,
}

/// `struct nhmsg`; who deletes does not say who made it.
fn header(bytes: &mut Vec<u8>, family: i32, protocol: u8) {
    let family = u8::try_from(family).expect("a family is a byte");
    bytes.extend_from_slice(&[family, 0, protocol, 0, 0, 0, 0, 0]);
}

/// Makes a nexthop, or has it lead elsewhere from now on.
pub fn replace(batch: &mut Batch, id: u32, via: IpAddr) {
    let family = if via.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let (flags, what) = (NLM_F_CREATE | NLM_F_REPLACE, format!("{id} via {via}"));
    batch.frame(NEW, flags, "set the nexthop", what, |bytes| {
        header(bytes, family, PROTOCOL);
        append(bytes, ID, &id.to_ne_bytes());
        append(bytes, GATEWAY, &octets(via));
        append(bytes, FDB, &[]);
    });
}

/// Makes a group of one nexthop.
pub fn replace_group(batch: &mut Batch, id: u32, member: u32) {
    let (flags, what) = (NLM_F_CREATE | NLM_F_REPLACE, format!("group {id} of {member}"));
    batch.frame(NEW, flags, "set the nexthop", what, |bytes| {
        header(bytes, libc::AF_UNSPEC, PROTOCOL);
        append(bytes, ID, &id.to_ne_bytes());
        // `struct nexthop_grp`: the member, a weight of 1 less one, and nothing.
        append(bytes, GROUP, &[&member.to_ne_bytes()[..], &[0; 4]].concat());
        append(bytes, FDB, &[]);
    });
}

/// Takes a nexthop away, with the groups that would be empty without it and all rows that point at
/// them.
pub fn delete(batch: &mut Batch, id: u32) {
    batch.frame(DELETE, 0, "delete the nexthop", id.to_string(), |bytes| {
        header(bytes, libc::AF_UNSPEC, 0);
        append(bytes, ID, &id.to_ne_bytes());
    });
}

/// All nexthops of FDB rows. None where the kernel has no such objects (before 5.3).
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<Nexthop>> {
    let mut batch = Batch::new();
    batch.frame(GET, NLM_F_DUMP, "list", "nexthops".to_owned(), |bytes| {
        bytes.extend_from_slice(&[0; 8]);
    });
    match socket.dump_frame(batch, parse) {
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        found => found,
    }
}

fn parse(message: Received<'_>) -> Option<Nexthop> {
    if message.kind != NEW {
        return None;
    }
    let attributes = Attributes(message.payload.get(8..)?);
    attributes.value(FDB)?;
    let members = attributes.value(GROUP).unwrap_or_default();
    Some(Nexthop {
        id: read_u32(attributes.value(ID)?)?,
        via: attributes.value(GATEWAY).and_then(ip),
        group: members.chunks_exact(8).filter_map(read_u32).collect(),
    })
}
