//! Addresses as whole numbers: a [`Span`] is a run of addresses of one family with both ends
//! included, so that one arithmetic serves IPv4 and IPv6.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The two kinds of address, which never mix.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(_) => Self::V4,
            IpAddr::V6(_) => Self::V6,
        }
    }

    /// Bits of an address.
    pub(crate) fn width(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// All addresses of a network, its first and last one included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) family: Family,
    pub(crate) first: u128,
    pub(crate) last: u128,
}

impl Span {
    pub(crate) fn of(network: IpNetwork) -> Self {
        let family = Family::of(network.ip());
        let first = number(network.network());
        Self { family, first, last: first | block(family.width() - network.prefix()) }
    }

    pub(crate) fn contains(&self, other: Self) -> bool {
        self.family == other.family && self.first <= other.first && other.last <= self.last
    }

    pub(crate) fn overlaps(&self, other: Self) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    pub(crate) fn holds(&self, number: u128) -> bool {
        (self.first..=self.last).contains(&number)
    }

    /// The address with this number in the family of the span.
    pub(crate) fn address(&self, number: u128) -> IpAddr {
        match self.family {
            Family::V4 => {
                let bits = u32::try_from(number).expect("a number in an IPv4 span has 32 bits");
                IpAddr::V4(Ipv4Addr::from_bits(bits))
            }
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(number)),
        }
    }
}

/// The address as a whole number, in network byte order.
pub(crate) fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The number of addresses in a block with so many host bits, less one: the distance from its
/// first to its last address. Less one because a block of 128 host bits has 2¹²⁸ addresses.
pub(crate) fn block(host_bits: u8) -> u128 {
    if host_bits == 0 { 0 } else { u128::MAX >> (128 - host_bits) }
}
