//! Addresses that are kept for the container of a name, before there is one and while it is away. They
//! stand in the network's own row, with its subnets, and so outlive everything that the network does.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc};

use cnm::{
    Error, Kind, Name, Result,
    endpoint::Endpoint,
    ipam::{Reserve, Reserved, Unreserve},
    network::{Network, Subnet},
};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;

use super::divided::not_anothers;
use crate::{
    names::called::check_called,
    netd::{Netd, address_error},
    registry::{NetworkEntry, Registry, Stage, from_outside, sets},
};

/// One set of a network's subnets: its family (whether it is IPv6) and its number.
type Set = (bool, u8);

fn set_of(subnet: &Subnet) -> Set {
    (subnet.subnet.is_ipv6(), subnet.set)
}

/// Refuses subnets with reservations where those cannot be kept, and a name that has two addresses of
/// one set.
///
/// # Errors
/// `unsupported` for a driver whose networks span hosts, `invalid` for the other.
pub(super) fn check_subnets(driver: &str, subnets: &[Subnet]) -> Result<()> {
    let mut had: BTreeMap<(String, Set), IpAddr> = BTreeMap::new();
    for subnet in subnets {
        for (name, address) in &subnet.reserved {
            if Netd::is_shared(driver) {
                return Err(Error::unsupported(format_args!(
                    "a network of driver {driver} spans hosts and keeps no address for a name: ask \
                     for {address} when {name} is attached"
                ))
                .with("name", name.as_str()));
            }
            if let Some(other) =
                had.insert((name.as_str().to_ascii_lowercase(), set_of(subnet)), *address)
            {
                return Err(second(name, *address, other));
            }
        }
    }
    Ok(())
}

/// Whether two names are one, as they are in DNS.
fn is_same(one: &Name, other: &Name) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

fn is_called(endpoint: &Endpoint, name: &Name) -> bool {
    endpoint.container.name.as_ref().is_some_and(|own| is_same(own, name))
}

/// What a subnet keeps for a name.
fn kept_for(subnet: &Subnet, name: &Name) -> Option<IpAddr> {
    subnet.reserved.iter().find(|(other, _)| is_same(other, name)).map(|(_, address)| *address)
}

fn forget(subnet: &mut Subnet, name: &Name) {
    subnet.reserved.retain(|other, _| !is_same(other, name));
}

fn second(name: &Name, address: IpAddr, other: IpAddr) -> Error {
    Error::invalid(format_args!(
        "{name} has one address of each family, or of each of the network's sets of subnets: {address} \
         is a second one beside {other}"
    ))
    .with("address", address.to_string())
}

impl Netd {
    /// `ipam.reserve`.
    pub(crate) async fn reserve_addresses(self: &Rc<Self>, params: &Reserve) -> Result<Reserved> {
        let _turn = self.network_turn.lock().await;
        let network = self.keeps_for_names(&params.network)?;
        let name = &params.name;
        // Nobody of another name could ever come for it.
        check_called(name.as_str(), network.name.as_str(), &self.config.dns_domain)?;
        let chosen = {
            let mut registry = self.registry.borrow_mut();
            match &params.addresses[..] {
                [] => choose(&mut registry, &network, name, self.now())?,
                wanted => check(&registry, &network, name, wanted)?,
            }
        };
        let mut changed = network.clone();
        let sets: Vec<Set> =
            chosen.iter().map(|(place, _)| set_of(&network.subnets[*place])).collect();
        for subnet in changed.subnets.iter_mut().filter(|subnet| sets.contains(&set_of(subnet))) {
            forget(subnet, name);
        }
        for (place, address) in chosen {
            changed.subnets[place].reserved.insert(name.clone(), address);
        }
        self.keep_from_now(&network, &changed, name)?;
        Ok(Reserved { addresses: reserved_for(&changed, name) })
    }

    /// `ipam.unreserve`.
    pub(crate) async fn unreserve_addresses(
        self: &Rc<Self>,
        params: &Unreserve,
    ) -> Result<Reserved> {
        let _turn = self.network_turn.lock().await;
        let network = self.keeps_for_names(&params.network)?;
        let mut changed = network.clone();
        for subnet in &mut changed.subnets {
            forget(subnet, &params.name);
        }
        self.keep_from_now(&network, &changed, &params.name)?;
        Ok(Reserved { addresses: reserved_for(&network, &params.name) })
    }

    /// The network that is meant, where addresses of it can be kept.
    fn keeps_for_names(&self, given: &str) -> Result<Network> {
        let registry = self.registry.borrow();
        let NetworkEntry { network, stage, .. } = registry.resolve_network(given)?;
        let name = &network.name;
        let error = if *stage != Stage::Open {
            let why = format!("network {name} is being made or removed: try again");
            Error::new(Kind::Busy, why)
        } else if Self::is_shared(&network.driver) {
            Error::unsupported(format_args!(
                "network {name} spans hosts and keeps no address for a name: ask for the address \
                 itself when the container is attached"
            ))
        } else if from_outside(network) || network.subnets.is_empty() {
            Error::unsupported(format_args!(
                "netd gives out no addresses of network {name}, so it keeps none for a name"
            ))
        } else {
            return Ok(network.clone());
        };
        Err(error.with("network", network.id.as_str()))
    }

    /// Writes down what is reserved for a name from now on, and has the pools keep to it.
    fn keep_from_now(&self, before: &Network, changed: &Network, name: &Name) -> Result<()> {
        let now = self.now();
        let mut registry = self.registry.borrow_mut();
        let entry = registry.network_mut(&before.id);
        let pools = entry.map(|entry| entry.pools.as_mut_slice()).unwrap_or_default();
        let kept = keep(pools, changed, name, now)
            .and_then(|()| self.stores.put_network(changed).map_err(Error::from));
        if let Err(error) = kept {
            // What was kept before can be kept again.
            keep(pools, before, name, now).ok();
            return Err(error);
        }
        registry.change_network(changed.clone(), Vec::new());
        let (had, has) = (reserved_for(before, name), reserved_for(changed, name));
        let alone: Vec<_> = has.iter().map(|address| (*address).into()).collect();
        registry.share(&before.id, &alone);
        registry.unreserve(&before.id, &had, now);
        tracing::info!(network = %before.name, %name, addresses = ?has, "addresses reserved");
        Ok(())
    }
}

/// What a network keeps for a name.
fn reserved_for(network: &Network, name: &Name) -> Vec<IpAddr> {
    network.subnets.iter().filter_map(|subnet| kept_for(subnet, name)).collect()
}

/// Has pools keep for a name what its network says, and nothing else.
fn keep(pools: &mut [Pool], network: &Network, name: &Name, now: Moment) -> Result<()> {
    let subnets = || network.subnets.iter().map(|subnet| kept_for(subnet, name));
    for (pool, reserved) in pools.iter_mut().zip(subnets()) {
        if pool.reservation(name.as_str()) != reserved {
            pool.unreserve(name.as_str());
        }
    }
    for (pool, reserved) in pools.iter_mut().zip(subnets()) {
        if let Some(address) = reserved {
            pool.reserve(name.as_str(), address, now).map_err(|error| address_error(&error))?;
        }
    }
    Ok(())
}

/// Makes sure that addresses can be kept for a name; gives each with its subnet's place in the
/// network's list.
fn check(
    registry: &Registry,
    network: &Network,
    name: &Name,
    wanted: &[IpAddr],
) -> Result<Vec<(usize, IpAddr)>> {
    let mut checked: Vec<(usize, IpAddr)> = Vec::new();
    for address in wanted {
        let place = network.subnets.iter().position(|subnet| subnet.subnet.contains(*address));
        let place = place.ok_or_else(|| {
            Error::invalid(format_args!(
                "no configured subnet of network {} contains IP address {address}",
                network.name
            ))
            .with("address", address.to_string())
        })?;
        let set = |place: usize| set_of(&network.subnets[place]);
        if let Some((_, other)) = checked.iter().find(|(at, _)| set(*at) == set(place)) {
            return Err(second(name, *address, *other));
        }
        not_in_use(registry, network, place, name, *address)?;
        if kept_for(&network.subnets[place], name) != Some(*address) {
            not_anothers(network, *address, &BTreeMap::new())?;
        }
        checked.push((place, *address));
    }
    Ok(checked)
}

/// Refuses an address that somebody has who does not have the name.
fn not_in_use(
    registry: &Registry,
    network: &Network,
    place: usize,
    name: &Name,
    address: IpAddr,
) -> Result<()> {
    let pool = registry.network(&network.id).and_then(|entry| entry.pools.get(place));
    if !pool.is_some_and(|pool| pool.is_leased(address)) {
        return Ok(());
    }
    let has = |endpoint: &&Endpoint| endpoint.addresses.iter().any(|own| own.ip() == address);
    let whose = match registry.endpoints_on(&network.id).find(has) {
        Some(endpoint) if is_called(endpoint, name) => return Ok(()),
        Some(endpoint) => format!("container {}", endpoint.container.label()),
        None => "somebody else on the same subnet".to_owned(),
    };
    Err(Error::exists(format_args!(
        "address {address} of network {} is in use by {whose}: reserve another, or detach that first",
        network.name
    ))
    .with("address", address.to_string())
    .with("network", network.id.as_str()))
}

/// An address of each set of subnets, and its subnet's place in the network's list: the one that is
/// kept for the name, the one that it has, or the next.
fn choose(
    registry: &mut Registry,
    network: &Network,
    name: &Name,
    now: Moment,
) -> Result<Vec<(usize, IpAddr)>> {
    let named = |endpoint: &&Endpoint| is_called(endpoint, name);
    let holder = registry.endpoints_on(&network.id).find(named);
    let has: Vec<IpAddr> = holder.iter().flat_map(|e| &e.addresses).map(IpNetwork::ip).collect();
    let entry = registry.network_mut(&network.id);
    let pools = entry.map(|entry| entry.pools.as_mut_slice()).unwrap_or_default();
    let mut chosen: Vec<(usize, IpAddr)> = Vec::new();
    for set in sets::of(network) {
        let subnets = || set.iter().map(|place| (*place, &network.subnets[*place]));
        let own = |(place, subnet): (usize, &Subnet)| {
            let lies_in = |address: &&IpAddr| subnet.subnet.contains(**address);
            Some((place, *has.iter().find(lies_in)?))
        };
        let kept = subnets().find_map(|(place, s)| Some((place, kept_for(s, name)?)));
        let mut next = Err(Error::new(Kind::Exhausted, "no address left"));
        if let Some(known) = kept.or_else(|| subnets().find_map(own)) {
            next = Ok(known);
        } else {
            for (place, _) in subnets() {
                let Some(pool) = pools.get_mut(place) else { continue };
                next = pool
                    .reserve_any(name.as_str(), now)
                    .map(|address| (place, address))
                    .map_err(|error| address_error(&error).with("network", network.id.as_str()));
                if next.is_ok() {
                    break;
                }
            }
        }
        match next {
            Ok(found) => chosen.push(found),
            Err(error) => {
                keep(pools, network, name, now).ok();
                return Err(error);
            }
        }
    }
    Ok(chosen)
}
