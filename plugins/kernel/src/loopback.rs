//! Addresses of netd's on the host's loopback link, where what comes from any link finds them. They
//! are known again by their label (`ifa_label`, linux/if_addr.h), which IPv4 has.

use std::net::{IpAddr, Ipv4Addr};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage, AddressScope},
};

use crate::{
    Result, links,
    netlink::{Attributes, Batch, Received, Socket, read_u32},
};

/// The label of those that are netd's.
pub const LABEL: &str = "lo:netd";

/// An address of IPv4 that loopback has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The address.
    pub ip: Ipv4Addr,
    /// Whether it is netd's, by its label.
    pub own: bool,
}

/// Gives loopback an address, of this host alone. One that it has already is a success.
pub fn add(batch: &mut Batch, address: Ipv4Addr) {
    let message = RouteNetlinkMessage::NewAddress(message(address));
    batch.push(&message, NLM_F_CREATE | NLM_F_REPLACE, "add the address", address.to_string());
}

/// Takes it back.
pub fn delete(batch: &mut Batch, address: Ipv4Addr) {
    let message = RouteNetlinkMessage::DelAddress(message(address));
    batch.push(&message, 0, "delete the address", address.to_string());
}

fn message(address: Ipv4Addr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.prefix_len = 32;
    message.header.index = links::LOOPBACK;
    message.header.scope = AddressScope::Host;
    let address = IpAddr::V4(address);
    message.attributes = vec![
        AddressAttribute::Local(address),
        AddressAttribute::Address(address),
        AddressAttribute::Label(LABEL.to_owned()),
    ];
    message
}

/// Those that are there, whoever's they are.
///
/// # Errors
/// What the kernel refuses.
pub fn addresses(socket: &mut Socket) -> Result<Vec<Address>> {
    let mut batch = Batch::new();
    let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    batch.push(&message, NLM_F_DUMP, "list", "addresses");
    socket.dump_frame(batch, parse)
}

fn parse(message: Received<'_>) -> Option<Address> {
    const RTM_NEWADDR: u16 = 20;
    const IFA_LOCAL: u16 = 2;
    const IFA_LABEL: u16 = 3;
    let link = message.payload.get(4..).and_then(read_u32)?;
    if message.kind != RTM_NEWADDR || link != links::LOOPBACK {
        return None;
    }
    let attributes = Attributes(message.payload.get(8..)?);
    let label = attributes.value(IFA_LABEL).and_then(|label| label.strip_suffix(b"\0"));
    let octets: [u8; 4] = attributes.value(IFA_LOCAL)?.try_into().ok()?;
    Some(Address { ip: octets.into(), own: label == Some(LABEL.as_bytes()) })
}
