//! Nexthop objects of FDB rows, as a netd of before made them: listed, and taken away. Message layouts are those of
//! linux/nexthop.h; netlink-packet-route has none.

use netlink_packet_core::NLM_F_DUMP;
use nix::errno::Errno;

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket, append, read_u32},
};

const NEW: u16 = 104;
const DELETE: u16 = 105;
const GET: u16 = 106;
const ID: u16 = 1;
const FDB: u16 = 11;
/// Length of `struct nhmsg`.
const HEADER: usize = 8;

/// Takes a nexthop away, with the groups that would be empty without it and all rows that point at
/// them.
pub fn delete(batch: &mut Batch, id: u32) {
    batch.frame(DELETE, 0, "delete the nexthop", id.to_string(), |bytes| {
        bytes.extend_from_slice(&[0; HEADER]);
        append(bytes, ID, &id.to_ne_bytes());
    });
}

/// The numbers of all nexthops of FDB rows, and of groups of them. None where the kernel has no such objects
/// (before 5.3).
///
/// # Errors
/// What the kernel refuses.
pub fn all(socket: &mut Socket) -> Result<Vec<u32>> {
    let mut batch = Batch::new();
    batch.frame(GET, NLM_F_DUMP, "list", "nexthops".to_owned(), |bytes| {
        bytes.extend_from_slice(&[0; HEADER]);
    });
    match socket.dump_frame(batch, parse) {
        Err(error) if error.errno() == Some(Errno::EOPNOTSUPP) => Ok(Vec::new()),
        found => found,
    }
}

fn parse(message: Received<'_>) -> Option<u32> {
    if message.kind != NEW {
        return None;
    }
    let attributes = Attributes(message.payload.get(HEADER..)?);
    attributes.value(FDB)?;
    read_u32(attributes.value(ID)?)
}
