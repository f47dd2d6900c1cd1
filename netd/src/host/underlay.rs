//! Where this host is reached by others, and over what.

use std::net::{IpAddr, SocketAddr, UdpSocket};

use cnm::{Error, Result};
use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use netlink_packet_route::{address::AddressAttribute, link::LinkAttribute};

use super::{Host, network};

/// Addresses that nobody has (RFC 5737, RFC 3849): nothing is sent there, the kernel only says by
/// which way it would.
pub(super) const ANYWHERE: [&str; 2] = ["203.0.113.1", "2001:db8::1"];

/// The port "discard" (RFC 863).
const DISCARD: u16 = 9;

/// A link by which others reach this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Underlay {
    /// Its number.
    pub(crate) index: u32,
    /// Its MTU, in bytes.
    pub(crate) mtu: u32,
    /// The subnet in which it has the address.
    pub(crate) subnet: IpNetwork,
}

impl Host {
    /// The address with which this host would send to `there`; with which it would send far away
    /// when there is none.
    ///
    /// # Errors
    /// When there is no way.
    pub(crate) fn source(&self, there: Option<SocketAddr>) -> Result<IpAddr> {
        let anywhere = ANYWHERE.iter().filter_map(|address| address.parse().ok());
        let anywhere = anywhere.map(|address| SocketAddr::new(address, DISCARD));
        let targets: Vec<SocketAddr> =
            there.map_or_else(|| anywhere.collect(), |there| vec![there]);
        targets.into_iter().find_map(source).ok_or_else(|| {
            Error::invalid(
                "this host has no address by which others would reach it: name one with \
                 --advertise-addr",
            )
        })
    }

    /// Refuses an address by which other hosts would not reach this one.
    ///
    /// # Errors
    /// `invalid`, with the address.
    pub(crate) async fn check_advertised(&self, address: IpAddr) -> Result<()> {
        match unreachable(address) {
            Some(why) => Err(Error::invalid(format_args!(
                "other hosts cannot reach this one at {address}, {why}: name another address of \
                 its own with --advertise-addr"
            ))
            .with("address", address.to_string())),
            None => self.underlay_of(address).await.map(drop),
        }
    }

    /// The link that has an address.
    ///
    /// # Errors
    /// When none has it.
    pub(crate) async fn underlay_of(&self, address: IpAddr) -> Result<Underlay> {
        let mut addresses = self.handle.address().get().execute();
        let missing = || {
            Error::invalid(format_args!(
                "no link of this host has the address {address}: name one of its own with \
                 --advertise-addr"
            ))
            .with("address", address.to_string())
        };
        let mut place = None;
        while let Some(found) = addresses.try_next().await.map_err(Error::internal)? {
            // On a link with two ends, "address" is that of the other one.
            let local = found.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Local(ip) => Some(*ip),
                _ => None,
            });
            let only = found.attributes.iter().find_map(|attribute| match attribute {
                AddressAttribute::Address(ip) => Some(*ip),
                _ => None,
            });
            if local.or(only) == Some(address) {
                place = Some((found.header.index, found.header.prefix_len));
            }
        }
        let (index, prefix) = place.ok_or_else(missing)?;
        let mtu = self.mtu_of(index).await.ok_or_else(missing)?;
        let subnet = network(address, prefix).ok_or_else(missing)?;
        Ok(Underlay { index, mtu, subnet })
    }

    /// The MTU of a link, if it is there, in bytes.
    pub(crate) async fn mtu_of(&self, index: u32) -> Option<u32> {
        let link = self.link(index).await?;
        link.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        })
    }
}

/// Why nobody else reaches a host at an address, where that can be said of it.
fn unreachable(address: IpAddr) -> Option<&'static str> {
    let link_local = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    if address.is_loopback() {
        Some("which is every host's own (loopback)")
    } else if address.is_unspecified() {
        Some("which is no address")
    } else if address.is_multicast() {
        Some("which is a multicast group's")
    } else if link_local {
        Some("which is good on one link only (link-local)")
    } else if address == IpAddr::from([255; 4]) {
        Some("which is everybody's (broadcast)")
    } else {
        None
    }
}

fn source(there: SocketAddr) -> Option<IpAddr> {
    let here: SocketAddr =
        if there.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let socket = UdpSocket::bind(here).ok()?;
    socket.connect(there).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}
