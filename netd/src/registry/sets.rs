//! Sets of subnets: an endpoint has one address of each, from the first subnet of it that has one.

use std::net::IpAddr;

use cnm::{Error, Kind, Result, endpoint::AddressRange, network::Network};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;

use crate::netd::address_error;

/// Places in a network's list of subnets, set by set.
pub(super) fn of(network: &Network) -> Vec<Vec<usize>> {
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

/// Leases an address of a set: the one that is wanted, one of the ranges, the one `owner` had, or
/// any.
pub(super) fn lease(
    pools: &mut [Pool],
    set: &[usize],
    wanted: &[IpAddr],
    ranges: &[AddressRange],
    owner: Option<&str>,
    now: Moment,
) -> Result<IpNetwork> {
    let has = |pools: &[Pool], place: usize, address: IpAddr| {
        pools.get(place).is_some_and(|pool| pool.config().subnet.contains(address))
    };
    let is_of_set = |address: IpAddr| set.iter().copied().find(|at| has(pools, *at, address));
    if let Some((address, place)) = wanted.iter().find_map(|ip| Some((*ip, is_of_set(*ip)?))) {
        let pool = &mut pools[place];
        pool.allocate_static(address, now).map_err(|error| address_error(&error))?;
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
        set.sort_by_key(|at| pools[*at].sticky().all(|(other, _)| other != owner));
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
