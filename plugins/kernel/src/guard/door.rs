//! What goes through the host end of a pair, and as whom the container beyond it speaks.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use super::Rule;
use crate::{links::Mac, netlink::read_u32};

/// How long a key of the set is: a link, a link-layer address, two bytes of nothing, and an address,
/// of IPv4 as one of IPv6.
pub(super) const KEY: usize = 28;
pub(super) type Key = [u8; KEY];

/// What a row says: a link, a link-layer address, two bytes of nothing, and an address of IPv4.
pub(super) const ROW: usize = 16;
pub(super) type Row = [u8; ROW];

/// How many rows there are. A link has the one of its number's last bits, if it was the last to come of
/// those that would have it.
pub(super) const ROWS: u32 = 1 << 12;

/// Who a container may say that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Speaker {
    /// Its link-layer address.
    pub mac: Mac,
    /// An address of its own. The unspecified one of IPv6 says that it has IPv6 at all.
    pub address: IpAddr,
}

/// What goes through the host end of a pair; everything by default.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Door {
    /// Who the container may say that it is; anybody where this is none.
    pub speakers: Option<BTreeSet<Speaker>>,
    /// Whether IPv6 that it sends is kept from others. It is where speakers are compared and none has
    /// an address of IPv6.
    pub sends_no_ipv6: bool,
    /// Whether IPv6 is kept from it.
    pub gets_no_ipv6: bool,
    /// Whether what it sends makes a [detour](crate::shaping::detour), which is a filter of the link
    /// alone.
    pub detour: bool,
}

impl Door {
    /// Who somebody with these addresses may say that he is.
    pub fn speakers(mac: Mac, addresses: impl Iterator<Item = IpAddr>) -> BTreeSet<Speaker> {
        let mut speakers: BTreeSet<_> = addresses.map(|address| Speaker { mac, address }).collect();
        if speakers.iter().any(|speaker| speaker.address.is_ipv6()) {
            speakers.insert(Speaker { mac, address: Ipv6Addr::UNSPECIFIED.into() });
        }
        speakers
    }

    /// Whether everything goes through, without a filter of ours.
    pub(super) fn is_open(&self) -> bool {
        self.speakers.is_none() && !self.sends_no_ipv6 && !self.gets_no_ipv6
    }

    /// The rules that it has by their blocks.
    pub(super) fn in_blocks(&self) -> impl Iterator<Item = Rule> + use<> {
        let inward = self.rule().filter(|_| !self.detour);
        inward.into_iter().chain(self.gets_no_ipv6.then_some(Rule::NoIpv6))
    }

    /// The rule for what comes in.
    pub(super) fn rule(&self) -> Option<Rule> {
        match self.speakers {
            Some(_) => Some(Rule::Speakers),
            None => self.sends_no_ipv6.then_some(Rule::NoIpv6),
        }
    }
}

impl Speaker {
    pub(super) fn key(self, link: u32) -> Key {
        let address = match self.address {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        };
        let mut key = [0; KEY];
        key[..4].copy_from_slice(&link.to_ne_bytes());
        key[4..10].copy_from_slice(&self.mac);
        key[12..].copy_from_slice(&address.octets());
        key
    }

    /// Its row, if it may have one.
    pub(super) fn row(self, link: u32) -> Option<Row> {
        let IpAddr::V4(address) = self.address else { return None };
        let mut row = [0; ROW];
        row[..4].copy_from_slice(&link.to_ne_bytes());
        row[4..10].copy_from_slice(&self.mac);
        row[12..].copy_from_slice(&address.octets());
        Some(row)
    }

    pub(super) fn parse(key: &Key) -> Option<(u32, Self)> {
        let mac = *key[4..].first_chunk()?;
        let ip = Ipv6Addr::from(*key[12..].first_chunk::<16>()?);
        let v4: Option<Ipv4Addr> = ip.to_ipv4_mapped();
        Some((read_u32(key)?, Self { mac, address: v4.map_or(IpAddr::V6(ip), IpAddr::V4) }))
    }
}
