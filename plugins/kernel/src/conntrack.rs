//! Forgetting connections that the firewall once rewrote: the kernel asks the rules for the first
//! packet of a flow only, so a flow of datagrams would follow the old answer for as long as it
//! goes on. Message layouts are those of linux/netfilter/nfnetlink_conntrack.h.

use std::net::IpAddr;

use netlink_packet_core::NLM_F_DUMP;
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::errno::Errno;

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket},
};

const SUBSYSTEM: u16 = 1;
const NEW: u16 = SUBSYSTEM << 8;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;

const TUPLE_ORIGINAL: u16 = 1;
const STATUS: u16 = 3;
const NESTED: u16 = 0x8000;
const ID: u16 = 12;
const ZONE: u16 = 18;

/// Where flows were going, as their senders see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Destination {
    /// The protocol's number in an IP header.
    pub protocol: u8,
    /// The address; any unless given.
    pub address: Option<IpAddr>,
    /// The first port.
    pub port: u16,
    /// The last of so many in a row.
    pub last: u16,
}

/// A flow, by what its deletion takes.
struct Flow {
    family: u8,
    attributes: Vec<u8>,
}

/// A kept socket to the connection table of the namespace that it was opened in.
#[derive(Debug)]
pub struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    /// Opens it, in the calling thread's namespace.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(NETLINK_NETFILTER)? })
    }

    /// Forgets all flows to these destinations, in one walk over the table; how many there were.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn forget(&mut self, destinations: &[Destination]) -> Result<usize> {
        let mut batch = Batch::new();
        batch.frame(GET, NLM_F_DUMP, "list", "connections".to_owned(), |bytes| {
            bytes.extend_from_slice(&[0; 4]);
        });
        let flows = self.socket.dump_frame(batch, |message| matching(message, destinations))?;
        let count = flows.len();
        let mut batch = Batch::new();
        for flow in flows {
            batch.frame(DELETE, 0, "forget", "a connection".to_owned(), |bytes| {
                bytes.extend_from_slice(&[flow.family, 0, 0, 0]);
                bytes.extend_from_slice(&flow.attributes);
            });
        }
        match self.socket.run(batch) {
            // It ended by itself meanwhile.
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(count),
            outcome => outcome.map(|()| count),
        }
    }
}

/// `IPS_SRC_NAT` and `IPS_DST_NAT` (linux/netfilter/nf_conntrack_common.h).
const SOURCE_NAT: u32 = 1 << 4;
const DESTINATION_NAT: u32 = 1 << 5;

fn matching(message: Received<'_>, destinations: &[Destination]) -> Option<Flow> {
    if message.kind != NEW {
        return None;
    }
    let attributes = Attributes(message.payload.get(4..)?);
    // What goes out under the host's address goes to somebody else's port of that number, and its
    // answer would find nobody.
    let status = attributes.value(STATUS).and_then(|bytes| bytes.try_into().ok());
    if u32::from_be_bytes(status.unwrap_or_default()) & (SOURCE_NAT | DESTINATION_NAT) == SOURCE_NAT
    {
        return None;
    }
    let original = attributes.value(TUPLE_ORIGINAL)?;
    let goes_to = destination(original)?;
    let wanted = |wanted: &Destination| {
        wanted.protocol == goes_to.protocol
            && (wanted.port..=wanted.last).contains(&goes_to.port)
            && wanted.address.is_none_or(|address| goes_to.address == Some(address))
    };
    destinations.iter().any(wanted).then(|| {
        let mut bytes = Vec::with_capacity(96);
        append(&mut bytes, TUPLE_ORIGINAL | NESTED, original);
        for kind in [ID, ZONE] {
            if let Some(value) = attributes.value(kind) {
                append(&mut bytes, kind, value);
            }
        }
        Flow { family: message.payload[0], attributes: bytes }
    })
}

fn destination(tuple: &[u8]) -> Option<Destination> {
    const IP: u16 = 1;
    const PROTOCOL: u16 = 2;
    const V4_DESTINATION: u16 = 2;
    const V6_DESTINATION: u16 = 4;
    const NUMBER: u16 = 1;
    const DESTINATION_PORT: u16 = 3;
    let tuple = Attributes(tuple);
    let (ip, protocol) = (Attributes(tuple.value(IP)?), Attributes(tuple.value(PROTOCOL)?));
    let address = match ip.value(V4_DESTINATION) {
        Some(octets) => IpAddr::from(<[u8; 4]>::try_from(octets).ok()?),
        None => IpAddr::from(<[u8; 16]>::try_from(ip.value(V6_DESTINATION)?).ok()?),
    };
    let port = u16::from_be_bytes(protocol.value(DESTINATION_PORT)?.try_into().ok()?);
    let protocol = *protocol.value(NUMBER)?.first()?;
    Some(Destination { protocol, address: Some(address), port, last: port })
}

fn append(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a tuple is short");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}
