//! What can be wrong with a pool's configuration or a request for an address. Where Docker has a
//! sentence for it, the sentence is Docker's.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::DefaultPool;
use crate::span::Family;

/// Why a pool, an address or a subnet was refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A network has bits set behind its prefix.
    #[error("invalid {role} {network}: it should be {should}")]
    HostBits {
        /// What the network was given as.
        role: NetworkRole,
        /// The network as given.
        network: IpNetwork,
        /// The same network without its host bits.
        should: IpNetwork,
    },

    /// An ip-range or exclusion of the other address family.
    #[error("invalid {role} {network}: parent subnet is an {} block", Family::of(.subnet.ip()))]
    NetworkFamily {
        /// What the network was given as.
        role: NetworkRole,
        /// The network as given.
        network: IpNetwork,
        /// The subnet of the pool.
        subnet: IpNetwork,
    },

    /// An ip-range or exclusion with a shorter prefix than the subnet.
    #[error("invalid {role} {network}: CIDR block is bigger than its parent subnet {subnet}")]
    NetworkBigger {
        /// What the network was given as.
        role: NetworkRole,
        /// The network as given.
        network: IpNetwork,
        /// The subnet of the pool.
        subnet: IpNetwork,
    },

    /// An ip-range or exclusion somewhere else.
    #[error("invalid {role} {network}: parent subnet {subnet} doesn't contain {role}")]
    NetworkOutside {
        /// What the network was given as.
        role: NetworkRole,
        /// The network as given.
        network: IpNetwork,
        /// The subnet of the pool.
        subnet: IpNetwork,
    },

    /// An address of the other address family.
    #[error(
        "invalid {}: parent subnet is an {} block",
        .role.with(*.address), Family::of(.subnet.ip())
    )]
    AddressFamily {
        /// What the address was given as.
        role: AddressRole,
        /// The address as given.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: IpNetwork,
    },

    /// An address somewhere else.
    #[error(
        "invalid {}: parent subnet {subnet} doesn't contain this address",
        .role.with(*.address)
    )]
    AddressOutside {
        /// What the address was given as.
        role: AddressRole,
        /// The address as given.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: IpNetwork,
    },

    /// An address of the subnet that no interface may have.
    #[error("invalid {}: it is the {edge} address of subnet {subnet}", .role.with(*.address))]
    AddressEdge {
        /// What the address was given as.
        role: AddressRole,
        /// The address as given.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: IpNetwork,
        /// What the subnet needs it for.
        edge: Edge,
    },

    /// An auxiliary address that is the gateway too, or two of the same address.
    #[error("invalid {}: it is the {other} of subnet {subnet} too", .role.with(*.address))]
    AddressTwice {
        /// What the address was given as.
        role: AddressRole,
        /// The address as given.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: IpNetwork,
        /// What it had been given as before.
        other: AddressRole,
    },

    /// Gateway and auxiliary addresses are all the subnet has.
    #[error(
        "invalid subnet {subnet}: beside its gateway and auxiliary addresses it has none for \
         containers; name a larger one"
    )]
    SubnetTooSmall {
        /// The subnet as given.
        subnet: IpNetwork,
    },

    /// A default pool from which subnets of the wanted size cannot be cut.
    #[error("invalid default address pool {base}: subnets of /{size} cannot be cut from it")]
    DefaultPoolSize {
        /// The range of the default pool.
        base: IpNetwork,
        /// Prefix length of the subnets to cut.
        size: u8,
    },

    /// Somebody has this address: a lease, the gateway or an auxiliary address.
    #[error("address {address} is already in use on subnet {subnet}{}", .by.reason())]
    AddressInUse {
        /// The address as asked for.
        address: IpAddr,
        /// The subnet of the pool.
        subnet: IpNetwork,
        /// Who has it.
        by: AddressRole,
    },

    /// Every address that is given out automatically is leased.
    #[error("no address left in {}: {leased} of {leased} leased", within(*.subnet, *.range))]
    NoAddress {
        /// The subnet of the pool.
        subnet: IpNetwork,
        /// The part of the subnet that addresses are chosen from, if not all of it.
        range: Option<IpNetwork>,
        /// How many addresses there are to choose from, all of them leased.
        leased: u128,
    },

    /// Every address of a range that is given out automatically is leased.
    #[error("no address left from {first} to {last} in {subnet}")]
    NoAddressBetween {
        /// The subnet of the pool.
        subnet: IpNetwork,
        /// The first address that was to choose from.
        first: IpAddr,
        /// The last one.
        last: IpAddr,
    },

    /// No subnet of any default pool is free.
    #[error("all predefined address pools have been fully subnetted ({})", list(.pools))]
    NoSubnet {
        /// The pools that were searched.
        pools: Vec<DefaultPool>,
    },

    /// No /64 of the host's own unique local prefix is free.
    #[error("no /64 left in {prefix}, the unique local prefix of this host")]
    NoUla {
        /// The /48 that was searched.
        prefix: IpNetwork,
    },
}

/// What a caller branches on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The request can never be fulfilled as it is.
    Invalid,
    /// Somebody else has what was asked for.
    Exists,
    /// Nothing is left to choose from.
    Exhausted,
    /// What was named does not exist. No error of this crate is of this kind, since releasing and
    /// forgetting what is not there is no error; it is here for those who look up pools by name.
    NotFound,
}

impl Error {
    /// Which kind of error this is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::HostBits { .. }
            | Self::NetworkFamily { .. }
            | Self::NetworkBigger { .. }
            | Self::NetworkOutside { .. }
            | Self::AddressFamily { .. }
            | Self::AddressOutside { .. }
            | Self::AddressEdge { .. }
            | Self::AddressTwice { .. }
            | Self::SubnetTooSmall { .. }
            | Self::DefaultPoolSize { .. } => Kind::Invalid,
            Self::AddressInUse { .. } => Kind::Exists,
            Self::NoAddress { .. }
            | Self::NoAddressBetween { .. }
            | Self::NoSubnet { .. }
            | Self::NoUla { .. } => Kind::Exhausted,
        }
    }
}

/// What a network in an error was given as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkRole {
    /// The subnet of a pool.
    Subnet,
    /// The part of the subnet that addresses are chosen from.
    Range,
    /// A part of the subnet that no address is chosen from.
    Exclusion,
    /// A range that subnets are cut from.
    DefaultPool,
}

impl fmt::Display for NetworkRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Subnet => "subnet",
            Self::Range => "ip-range",
            Self::Exclusion => "exclusion",
            Self::DefaultPool => "default address pool",
        })
    }
}

/// What an address in an error was given as.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AddressRole {
    /// The gateway of the subnet.
    Gateway,
    /// The auxiliary address of this name.
    Auxiliary(String),
    /// An address leased or to be leased.
    Lease,
    /// The address that is reserved for this owner.
    Reservation(String),
}

impl AddressRole {
    /// The role and the address, as in `gateway 10.0.0.1` or `auxiliary address nas=10.0.0.2`.
    fn with(&self, address: IpAddr) -> String {
        match self {
            Self::Auxiliary(_) => format!("{self}={address}"),
            Self::Gateway | Self::Lease | Self::Reservation(_) => format!("{self} {address}"),
        }
    }

    /// The end of a sentence that says an address is taken: nothing for a plain lease.
    fn reason(&self) -> String {
        match self {
            Self::Lease => String::new(),
            Self::Gateway | Self::Auxiliary(_) => format!(": it is the {self}"),
            Self::Reservation(_) => format!(": it is {self}"),
        }
    }
}

impl fmt::Display for AddressRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Auxiliary(name) => write!(f, "auxiliary address {name}"),
            Self::Lease => f.write_str("address"),
            Self::Reservation(owner) => write!(f, "reserved for {owner}"),
        }
    }
}

/// An address of a subnet that has a meaning of its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Edge {
    /// The first address of an IPv4 subnet (RFC 1122, section 3.2.1.3).
    Network,
    /// The last address of an IPv4 subnet (RFC 1122, section 3.2.1.3).
    Broadcast,
    /// The first address of an IPv6 subnet, which all its routers have (RFC 4291, section 2.6.1).
    RouterAnycast,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Network => "network",
            Self::Broadcast => "broadcast",
            Self::RouterAnycast => "subnet-router anycast",
        })
    }
}

fn within(subnet: IpNetwork, range: Option<IpNetwork>) -> String {
    match range {
        Some(range) => format!("ip-range {range} of {subnet}"),
        None => subnet.to_string(),
    }
}

fn list(pools: &[DefaultPool]) -> String {
    let pools = pools.iter().map(|pool| format!("{} by /{}", pool.base, pool.size));
    pools.collect::<Vec<_>>().join(", ")
}
