//! Telling a link's neighbours that an address is here now, so that none of them keeps sending to
//! who had it before: gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour advertisements
//! (RFC 4861, section 7.2.6).

use std::{
    io::IoSlice,
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute, LinkMessage},
};
use nix::{
    libc,
    sys::socket::{
        AddressFamily, ControlMessage, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn6,
        sendmsg, socket,
    },
};

use crate::{Error, Result, links::Mac, netlink::Batch};

/// Has the kernel announce the link's IPv4 addresses whenever it comes up (`arp_notify`). As a
/// message, since reaching for `/proc/sys` of a new namespace takes longer the more there are.
pub fn arp_when_up(batch: &mut Batch, index: u32) {
    let mut wanted = InetDevConf::default();
    wanted.arp_notify = 1;
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![
        AfSpecInet::DevConfRequest(wanted),
    ])]));
    let what = format!("number {index}");
    batch.push(&RouteNetlinkMessage::NewLink(message), 0, "have announced the link", what);
}

/// A socket that announces addresses of IPv6 in the namespace it was opened in. (The kernel does
/// so by itself only after duplicate address detection. A packet socket would do, but closing one
/// waits for an RCU grace period.)
#[derive(Debug)]
pub struct Advertiser(OwnedFd);

impl Advertiser {
    /// One for the calling thread's namespace.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        let (family, kind) = (AddressFamily::Inet6, SockType::Raw);
        let protocol = SockProtocol::IcmpV6;
        socket(family, kind, SockFlag::SOCK_CLOEXEC, protocol)
            .map(Self)
            .map_err(|errno| Error::call("open", "a socket for neighbour advertisements", errno))
    }

    /// Tells everybody on the link that `address` is at `mac`.
    ///
    /// # Errors
    /// What `sendmsg(2)` refuses, as on a link that is not up.
    pub fn advertise(&self, index: u32, address: Ipv6Addr, mac: Mac) -> Result<()> {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        /// What proves that it comes from the link itself (RFC 4861, section 7.1.2).
        const HOPS: libc::c_int = 255;
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
        let from = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: address.octets() },
            ipi6_ifindex: index,
        };
        let said = advertisement(address, mac);
        let along = [ControlMessage::Ipv6PacketInfo(&from), ControlMessage::Ipv6HopLimit(&HOPS)];
        let said = [IoSlice::new(&said)];
        sendmsg(self.0.as_raw_fd(), &said, &along, MsgFlags::MSG_DONTWAIT, Some(&to))
            .map(drop)
            .map_err(|errno| Error::call("announce", address.to_string(), errno))
    }
}

/// A neighbour advertisement that overrides what others know (RFC 4861, section 4.4). The kernel
/// fills in the checksum.
fn advertisement(address: Ipv6Addr, mac: Mac) -> [u8; 32] {
    const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    const OVERRIDE: u8 = 0x20;
    const TARGET_LINK_ADDRESS: [u8; 2] = [2, 1];
    let mut message = [0; 32];
    message[0] = NEIGHBOUR_ADVERTISEMENT;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&address.octets());
    message[24..26].copy_from_slice(&TARGET_LINK_ADDRESS);
    message[26..].copy_from_slice(&mac);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_advertisement_is_as_the_rfc_has_it() {
        let message = advertisement("fd00::2".parse().expect("an address"), [2, 0, 0, 0, 0, 9]);
        #[rustfmt::skip]
        assert_eq!(
            message,
            [
                136, 0, 0, 0, 0x20, 0, 0, 0,
                0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2,
                2, 1, 2, 0, 0, 0, 0, 9,
            ]
        );
    }
}
