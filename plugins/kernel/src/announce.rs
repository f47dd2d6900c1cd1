//! Telling a link's neighbours that an address is here now, so that none of them keeps sending to
//! who had it before: gratuitous ARP (RFC 5227, section 3) and unsolicited neighbour advertisements
//! (RFC 4861, section 7.2.6).

use std::{
    io::IoSlice,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6},
    os::fd::{AsRawFd, OwnedFd},
};

use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute, LinkMessage},
};
use nix::{
    errno::Errno,
    libc,
    sys::socket::{
        AddressFamily, ControlMessage, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
        SockaddrIn6, SockaddrLike, sendmsg, sendto, socket,
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
        self.advertise_from(address, index, address, mac)
    }

    /// As [`Advertiser::advertise`], from an address of the link's own; unspecified for the one that
    /// the kernel takes.
    fn advertise_from(
        &self,
        source: Ipv6Addr,
        index: u32,
        address: Ipv6Addr,
        mac: Mac,
    ) -> Result<()> {
        const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        /// What proves that it comes from the link itself (RFC 4861, section 7.1.2).
        const HOPS: libc::c_int = 255;
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES, 0, 0, index));
        let from = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: source.octets() },
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

/// Sockets that tell those on a bridge, from the host's side of it, where an address of another one
/// of them is. They are kept: closing a packet socket waits for an RCU grace period.
#[derive(Debug)]
pub struct Herald {
    arp: OwnedFd,
    advertiser: Option<Advertiser>,
}

impl Herald {
    /// For the calling thread's namespace. A host may do without IPv6.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        // Of no protocol: it hears nothing.
        let arp = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
            .map_err(|errno| Error::call("open", "a socket for ARP", errno))?;
        Ok(Self { arp, advertiser: Advertiser::open().ok() })
    }

    /// Tells everybody on the link that `address` is at `mac`.
    ///
    /// # Errors
    /// What the kernel refuses, as on a link that is gone or not up.
    pub fn announce(&self, index: u32, address: IpAddr, mac: Mac) -> Result<()> {
        match address {
            IpAddr::V4(ip) => {
                let failed = |errno| Error::call("announce", ip.to_string(), errno);
                let to = everybody(index).map_err(failed)?;
                sendto(self.arp.as_raw_fd(), &announcement(ip, mac), &to, MsgFlags::MSG_DONTWAIT)
                    .map(drop)
                    .map_err(failed)
            }
            IpAddr::V6(ip) => match &self.advertiser {
                Some(advertiser) => {
                    advertiser.advertise_from(Ipv6Addr::UNSPECIFIED, index, ip, mac)
                }
                None => Ok(()),
            },
        }
    }
}

/// All of a link, for ARP (packet(7)).
#[allow(unsafe_code)]
fn everybody(index: u32) -> Result<LinkAddr, Errno> {
    let invalid = Errno::EINVAL;
    let to = libc::sockaddr_ll {
        sll_family: u16::try_from(libc::AF_PACKET).map_err(|_| invalid)?,
        sll_protocol: u16::try_from(libc::ETH_P_ARP).map_err(|_| invalid)?.to_be(),
        sll_ifindex: i32::try_from(index).map_err(|_| invalid)?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 6,
        sll_addr: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0],
    };
    let length = libc::socklen_t::try_from(size_of_val(&to)).map_err(|_| invalid)?;
    // SAFETY: the pointer is to a whole sockaddr_ll of that length and family, which is copied.
    unsafe { LinkAddr::from_raw((&raw const to).cast(), Some(length)) }.ok_or(invalid)
}

/// An ARP announcement (RFC 5227, section 3): a request for an address by who has it.
fn announcement(address: Ipv4Addr, mac: Mac) -> [u8; 28] {
    let mut packet = [0; 28];
    packet[..8].copy_from_slice(&[0, 1, 8, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&address.octets());
    packet[24..].copy_from_slice(&address.octets());
    packet
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
    fn an_announcement_is_as_the_rfc_has_it() {
        let packet = announcement(Ipv4Addr::new(10, 0, 0, 2), [2, 0, 0, 0, 0, 9]);
        #[rustfmt::skip]
        assert_eq!(
            packet,
            [
                0, 1, 8, 0, 6, 4, 0, 1,
                2, 0, 0, 0, 0, 9, 10, 0, 0, 2,
                0, 0, 0, 0, 0, 0, 10, 0, 0, 2,
            ]
        );
    }

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
