//! What a pool is made of, and [`Layout`]: the same after it was checked, as numbers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;

use crate::error::{AddressRole, Edge, Error, NetworkRole};
use crate::free::Intervals;
use crate::span::{Family, Span, number};

/// What a pool is made of: one subnet of one network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// The subnet, without host bits.
    pub subnet: IpNetwork,
    /// The part of the subnet that addresses are chosen from; without it, all of the subnet.
    pub range: Option<IpNetwork>,
    /// The gateway's address, which nobody else gets.
    pub gateway: Option<IpAddr>,
    /// Auxiliary addresses by name: in use by something on the network that is no container.
    pub aux: BTreeMap<String, IpAddr>,
    /// Parts of the subnet that no address is chosen from. They can still be asked for.
    pub exclude: Vec<IpNetwork>,
    /// For how long after its release an address is not chosen again, so that neighbours and
    /// connections have forgotten who had it.
    pub reuse_delay: Duration,
}

impl PoolConfig {
    /// A whole subnet: nothing reserved or excluded, and no reuse delay.
    pub fn new(subnet: IpNetwork) -> Self {
        Self {
            subnet,
            range: None,
            gateway: None,
            aux: BTreeMap::new(),
            exclude: Vec::new(),
            reuse_delay: Duration::ZERO,
        }
    }
}

/// The checked numbers of a pool. Their memory is that of the configuration.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    subnet: IpNetwork,
    whole: Span,
    /// The subnet without network, broadcast and anycast address.
    usable: Span,
    /// Gateway and auxiliary addresses.
    taken: BTreeMap<u128, AddressRole>,
    /// What may be chosen: in the range, and neither taken nor excluded.
    automatic: Intervals,
    /// How many usable addresses are taken or excluded.
    reserved: u128,
}

impl Layout {
    pub(crate) fn new(config: &PoolConfig) -> Result<Self, Error> {
        let subnet = config.subnet;
        check_host_bits(NetworkRole::Subnet, subnet)?;
        let whole = Span::of(subnet);
        let usable = usable(subnet);
        let mut open = Intervals::default();
        open.insert_run(usable.first, usable.last);
        let size = open.len();
        let mut layout =
            Self { subnet, whole, usable, taken: BTreeMap::new(), automatic: open, reserved: 0 };

        for &excluded in &config.exclude {
            let excluded = layout.part(NetworkRole::Exclusion, excluded)?;
            layout.automatic.remove_run(excluded.first, excluded.last);
        }
        if let Some(gateway) = config.gateway {
            layout.take(AddressRole::Gateway, gateway)?;
        }
        for (name, &address) in &config.aux {
            layout.take(AddressRole::Auxiliary(name.clone()), address)?;
        }
        if layout.taken.len() as u128 == size {
            return Err(Error::SubnetTooSmall { subnet });
        }
        layout.reserved = size - layout.automatic.len();

        if let Some(range) = config.range {
            let range = layout.part(NetworkRole::Range, range)?;
            if let Some(below) = range.first.checked_sub(1) {
                layout.automatic.remove_run(0, below);
            }
            if let Some(above) = range.last.checked_add(1) {
                layout.automatic.remove_run(above, u128::MAX);
            }
        }
        Ok(layout)
    }

    /// What may be chosen while nothing is leased.
    pub(crate) fn automatic(&self) -> &Intervals {
        &self.automatic
    }

    /// How many addresses an interface may have.
    pub(crate) fn usable(&self) -> u128 {
        // No overflow: a block of all 2¹²⁸ addresses has lost its first one.
        self.usable.last - self.usable.first + 1
    }

    /// How many of the usable addresses are gateway, auxiliary or excluded.
    pub(crate) fn reserved(&self) -> u128 {
        self.reserved
    }

    pub(crate) fn address(&self, number: u128) -> IpAddr {
        self.whole.address(number)
    }

    /// The number of an address, if it is of this subnet's family.
    pub(crate) fn number(&self, address: IpAddr) -> Option<u128> {
        (Family::of(address) == self.whole.family).then(|| number(address))
    }

    /// The number of an address that may be leased as far as the configuration goes.
    pub(crate) fn leasable(&self, address: IpAddr) -> Result<u128, Error> {
        let number = self.place(&AddressRole::Lease, address)?;
        match self.taken.get(&number) {
            None => Ok(number),
            Some(by) => Err(Error::AddressInUse { address, subnet: self.subnet, by: by.clone() }),
        }
    }

    fn take(&mut self, role: AddressRole, address: IpAddr) -> Result<(), Error> {
        let number = self.place(&role, address)?;
        if let Some(other) = self.taken.get(&number).cloned() {
            return Err(Error::AddressTwice { role, address, subnet: self.subnet, other });
        }
        self.automatic.remove(number);
        self.taken.insert(number, role);
        Ok(())
    }

    /// The number of an address that an interface in this subnet may have.
    fn place(&self, role: &AddressRole, address: IpAddr) -> Result<u128, Error> {
        let Self { subnet, whole, usable, .. } = *self;
        let number = number(address);
        let role = || role.clone();
        if Family::of(address) != whole.family {
            Err(Error::AddressFamily { role: role(), address, subnet })
        } else if !whole.holds(number) {
            Err(Error::AddressOutside { role: role(), address, subnet })
        } else if !usable.holds(number) {
            let edge = match whole.family {
                Family::V6 => Edge::RouterAnycast,
                Family::V4 if number == whole.first => Edge::Network,
                Family::V4 => Edge::Broadcast,
            };
            Err(Error::AddressEdge { role: role(), address, subnet, edge })
        } else {
            Ok(number)
        }
    }

    /// Checks a part of the subnet.
    fn part(&self, role: NetworkRole, network: IpNetwork) -> Result<Span, Error> {
        let subnet = self.subnet;
        let span = Span::of(network);
        if span.family != self.whole.family {
            return Err(Error::NetworkFamily { role, network, subnet });
        }
        if network.prefix() < subnet.prefix() {
            return Err(Error::NetworkBigger { role, network, subnet });
        }
        check_host_bits(role, network)?;
        if !self.whole.contains(span) {
            return Err(Error::NetworkOutside { role, network, subnet });
        }
        Ok(span)
    }
}

/// Refuses a network with bits set behind its prefix, and says how it should be written.
pub(crate) fn check_host_bits(role: NetworkRole, network: IpNetwork) -> Result<(), Error> {
    if network.ip() == network.network() {
        return Ok(());
    }
    let should = IpNetwork::new(network.network(), network.prefix())
        .expect("the prefix of a network fits its family");
    Err(Error::HostBits { role, network, should })
}

/// The addresses of a subnet that an interface may have. Subnets of one or two addresses have
/// neither broadcast (RFC 3021) nor anycast address (RFC 6164).
fn usable(subnet: IpNetwork) -> Span {
    let whole = Span::of(subnet);
    if whole.last - whole.first <= 1 {
        return whole;
    }
    match whole.family {
        Family::V4 => Span { first: whole.first + 1, last: whole.last - 1, ..whole },
        Family::V6 => Span { first: whole.first + 1, ..whole },
    }
}
