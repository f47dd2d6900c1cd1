//! Sets of subnets: an endpoint has one address of each, from the first subnet of it that has one.

use std::net::IpAddr;

use cnm::{Error, Kind, Name, Result, endpoint::AddressRange, network::Network};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;

use crate::netd::address_error;

/// Places in a network's list of subnets, set by set.
pub(crate) fn of(network: &Network) -> Vec<Vec<usize>> {
    let mut sets: Vec<((bool, u8), Vec<usize>)> = Vec::new();
    for (place, subnet) in network.subnets.iter().enumerate() {
        let key = (subnet.subnet.is_ipv6(), subnet.set);
        match sets.iter_mut().find(|(other, _)| *other == key) {
            Some((_, set)) => set.push(place),
            None => sets.push((key, vec![place])),
        }
    }
    sets.into_iter().map(|(_, set)| set).collect()
}

/// What an endpoint says of the addresses that it is to have.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Wishes<'a> {
    /// Those that it must have, at most one of a set.
    pub(crate) wanted: &'a [IpAddr],
    /// Where the others come from.
    pub(crate) ranges: &'a [AddressRange],
    /// The container's name, for which some may be reserved.
    pub(crate) name: Option<&'a Name>,
    /// Whether it is to have those again that this name had before.
    pub(crate) sticky: bool,
}

/// Leases an address of a set: the one that is wanted, the one that is reserved for the name, one of
/// the ranges, the one it had before, or any.
pub(super) fn lease(
    pools: &mut [Pool],
    set: &[usize],
    wishes: Wishes<'_>,
    now: Moment,
) -> Result<IpNetwork> {
    let Wishes { wanted, ranges, sticky, .. } = wishes;
    let name = wishes.name.map(Name::as_str);
    let owner = name.filter(|_| sticky);
    let has = |pools: &[Pool], place: usize, address: IpAddr| {
        pools.get(place).is_some_and(|pool| pool.config().subnet.contains(address))
    };
    let is_of_set = |address: IpAddr| set.iter().copied().find(|at| has(pools, *at, address));
    if let Some((address, place)) = wanted.iter().find_map(|ip| Some((*ip, is_of_set(*ip)?))) {
        let pool = &mut pools[place];
        pool.allocate_static_as(name, address, now).map_err(|error| address_error(&error))?;
        return with_prefix(pool, address);
    }
    let allowed = |address: &IpAddr| {
        let mut own = ranges.iter().filter(|range| is_of_set(range.first).is_some()).peekable();
        own.peek().is_none() || own.any(|range| (range.first..=range.last).contains(address))
    };
    let reserved = set.iter().find_map(|at| {
        let address = pools[*at].reservation(name?).filter(allowed)?;
        (!pools[*at].is_leased(address)).then_some((*at, address))
    });
    if let Some((place, address)) = reserved {
        let pool = &mut pools[place];
        pool.allocate_static_as(name, address, now).map_err(|error| address_error(&error))?;
        return with_prefix(pool, address);
    }
    let within: Vec<_> =
        ranges.iter().filter_map(|range| Some((*range, is_of_set(range.first)?))).collect();
    let mut refusal = Error::new(Kind::Exhausted, "no address left");
    if !within.is_empty() {
        for (AddressRange { first, last }, place) in within {
            let pool = &mut pools[place];
            match pool.allocate_between(first, last, now) {
                Ok(address) => return with_prefix(pool, address),
                Err(error) => refusal = address_error(&error),
            }
        }
        return Err(refusal);
    }
    let mut set = set.to_vec();
    if let Some(owner) = owner {
        // Where it was before comes first.
        let is_owner = |other: &str| other.eq_ignore_ascii_case(owner);
        set.sort_by_key(|at| !pools[*at].sticky().any(|(other, _)| is_owner(other)));
    }
    for place in set {
        let pool = &mut pools[place];
        let given = match owner {
            Some(owner) => pool.allocate_sticky(owner, now),
            None => pool.allocate(now),
        };
        match given {
            Ok(address) => return with_prefix(pool, address),
            Err(error) => refusal = address_error(&error),
        }
    }
    Err(refusal)
}

fn with_prefix(pool: &Pool, address: IpAddr) -> Result<IpNetwork> {
    IpNetwork::new(address, pool.config().subnet.prefix()).map_err(Error::internal)
}
