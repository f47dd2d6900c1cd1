//! netd as Docker's IPAM driver: pools are netd's subnets, and addresses are leased where everybody's
//! are. dockerd asks for a pool and its gateway before it says what they are for, and for an address
//! before it says for whom; until it does, they are offers, kept in memory alone.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cnm::{
    Error, NetworkId, Result,
    network::{Network, Subnet},
    options::nearest,
    split::upper_half,
};
use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{
    Plugin, is_dockers,
    messages::{OfAddress, RequestPool},
    translate::{DOCKERS_OWN, NETWORK, parsed},
};
use crate::{
    netd::{Netd, address_error},
    networks::plan::check_unicast,
    registry::{Wishes, from_outside},
};

/// What an address is asked for, where it is not for an endpoint.
const KIND: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";

/// What is between a pool's subnet and the part of it that addresses come from, in its id.
const WITHIN: char = '|';

/// What was offered and is not used yet.
#[derive(Debug, Default)]
pub(super) struct Offers {
    /// Subnets of networks to come.
    pools: BTreeSet<IpNetwork>,
    /// Addresses of endpoints to come, and the networks that they are leased of.
    addresses: BTreeMap<IpAddr, NetworkId>,
}

impl Offers {
    /// A subnet has become a network's.
    pub(super) fn settled(&mut self, subnet: IpNetwork) {
        self.pools.remove(&subnet);
    }
}

/// A pool by its id: the subnet, and the part of it that addresses come from.
fn pool(id: &str) -> Result<(IpNetwork, Option<IpNetwork>)> {
    match id.split_once(WITHIN) {
        None => Ok((parsed("PoolID", id)?, None)),
        Some((subnet, part)) => Ok((parsed("PoolID", subnet)?, Some(parsed("PoolID", part)?))),
    }
}

impl Plugin {
    /// A pool: the one that is asked for, which a network may have that is named too, or one that
    /// nobody has.
    pub(super) async fn request_pool(&self, request: RequestPool) -> Result<Value> {
        let options = request.options.as_ref();
        options.map_or(Ok(()), |options| check_options(options.keys().map(String::as_str)))?;
        let name = options.and_then(|options| options.get(NETWORK));
        if let Some(name) = name {
            self.check_named(name)?;
        }
        let of_network = name.and_then(|name| {
            let registry = self.netd.registry.borrow();
            let network = &registry.resolve_network(&format!("={name}")).ok()?.network;
            let mut subnets = network.subnets.iter().map(|subnet| subnet.subnet);
            Some((network.name.to_string(), subnets.find(|subnet| subnet.is_ipv6() == request.v6)))
        });
        let subnet = match (of_network, request.pool.as_str()) {
            (Some((name, None)), _) => {
                return Err(Error::invalid(format_args!(
                    "network {name} of netd has no subnet of this family"
                )));
            }
            // dockerd takes no subnet unasked that the host has a route to: it would ask for another
            // for ever.
            (Some((name, Some(own))), "") => {
                return Err(Error::invalid(format_args!(
                    "network {name} of netd has the subnet {own}: say --subnet {own} as well"
                )));
            }
            (Some((name, Some(own))), given) if parsed::<IpNetwork>("Pool", given)? != own => {
                return Err(Error::invalid(format_args!(
                    "{given} is not the subnet of network {name} of netd, which is {own}"
                )));
            }
            (Some((_, Some(own))), _) => own,
            (None, "") => self.free_subnet(request.v6).await?,
            (None, given) => {
                let given = parsed("Pool", given)?;
                check_unicast(given)?;
                pool_of(given)?;
                self.netd.check_overlap(given, "", false)?;
                given
            }
        };
        let mut id = subnet.to_string();
        if !request.sub_pool.is_empty() {
            let part: IpNetwork = parsed("SubPool", &request.sub_pool)?;
            if !subnet.contains(part.network()) || part.prefix() < subnet.prefix() {
                return Err(Error::invalid(format_args!("{part} is no part of {subnet}")));
            }
            id = format!("{subnet}{WITHIN}{part}");
        }
        if self.network_with(subnet).is_none() {
            self.offers.borrow_mut().pools.insert(subnet);
        }
        Ok(json!({ "PoolID": id, "Pool": subnet.to_string(), "Data": {} }))
    }

    /// Refuses a network that is not there: whoever names one means its addresses.
    fn check_named(&self, name: &str) -> Result<()> {
        let registry = self.netd.registry.borrow();
        if registry.resolve_network(&format!("={name}")).is_ok() {
            return Ok(());
        }
        let own = || registry.networks().map(|entry| &entry.network).filter(|own| !own.predefined);
        let hint = match nearest(name, own().map(|own| own.name.as_str())) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None => {
                let all: Vec<_> = own().map(|own| own.name.as_str()).collect();
                let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
                format!(
                    "there are {all}; for a new one leave --ipam-opt out, and say -o network={name}"
                )
            }
        };
        Err(Error::not_found(format_args!("netd has no network {name:?} (--ipam-opt): {hint}"))
            .with("network", name))
    }

    /// A subnet that nobody has, and that was not offered before.
    async fn free_subnet(&self, v6: bool) -> Result<IpNetwork> {
        let mut taken = self.netd.host.taken().await;
        taken.extend(self.offers.borrow().pools.iter().copied());
        let registry = self.netd.registry.borrow();
        for entry in registry.networks() {
            taken.extend(entry.network.subnets.iter().map(|subnet| subnet.subnet));
        }
        let chosen = if v6 {
            ipam::choose_ula(self.netd.host.id(), &taken)
        } else {
            ipam::choose_subnet(&self.netd.config.default_pools, &taken)
        };
        chosen.map_err(|error| address_error(&error))
    }

    /// The network that has exactly this subnet. On a LAN several may: one whose addresses netd gives, and
    /// all of them, rather than one of which Docker gives the lower half itself; and one of Docker's.
    fn network_with(&self, subnet: IpNetwork) -> Option<Network> {
        let registry = self.netd.registry.borrow();
        let networks = registry.networks().map(|entry| &entry.network);
        let with = |network: &&Network| network.subnets.iter().any(|own| own.subnet == subnet);
        let is_others = |network: &Network| {
            let half = |own: &Subnet| own.subnet == subnet && own.range == upper_half(subnet);
            from_outside(network) || network.subnets.iter().any(half)
        };
        let first = networks
            .filter(with)
            .min_by_key(|network| (is_others(network), !is_dockers(network), &network.created));
        first.cloned()
    }

    /// Nobody asks for the pool any more.
    pub(super) fn release_pool(&self, id: &str) {
        if let Ok((subnet, _)) = pool(id) {
            self.offers.borrow_mut().settled(subnet);
        }
    }

    /// An address: a gateway's, one that was named, or the next.
    pub(super) async fn request_address(&self, request: &OfAddress) -> Result<Value> {
        let (subnet, part) = pool(&request.pool)?;
        let wanted: Option<IpAddr> = match request.address.as_str() {
            "" => None,
            text => Some(parsed("Address", text)?),
        };
        let kind = request.options.as_ref().and_then(|options| options.get(KIND));
        let network = self.network_with(subnet);
        let address = match &network {
            _ if wanted.is_some_and(|wanted| !subnet.contains(wanted)) => {
                return Err(Error::invalid(format_args!("{} is not in {subnet}", request.address)));
            }
            Some(network) if kind.is_some_and(|kind| kind == GATEWAY) => {
                gateway_of(network, subnet, wanted)?
            }
            None if kind.is_some_and(|kind| kind == GATEWAY) => match wanted {
                Some(wanted) => wanted,
                None => first(subnet)?,
            },
            Some(network) if Netd::is_shared(&network.driver) => {
                self.lease_of_this_host(network, subnet, wanted).await?
            }
            Some(network) => self.lease(network, subnet, part, wanted)?,
            // One that is kept for somebody else, as dockerd says again when it makes the network.
            None => wanted.ok_or_else(|| {
                Error::invalid(format_args!(
                    "netd has no network with {subnet}, and gives addresses of its own networks alone: remove \
                     Docker's and make it again with -d netd as well, or without --ipam-driver"
                ))
            })?,
        };
        let address = IpNetwork::new(address, subnet.prefix()).map_err(Error::internal)?;
        Ok(json!({ "Address": address.to_string(), "Data": {} }))
    }

    fn lease(
        &self,
        network: &Network,
        subnet: IpNetwork,
        part: Option<IpNetwork>,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr> {
        let now = self.netd.now();
        let mut registry = self.netd.registry.borrow_mut();
        let entry = registry.network_mut(&network.id);
        let mut pools = entry.into_iter().flat_map(|entry| &mut entry.pools);
        let pool = pools.find(|pool| pool.config().subnet == subnet).ok_or_else(|| {
            Error::unsupported(format_args!(
                "addresses of network {} are not this host's alone: leave --ipam-driver out",
                network.name
            ))
        })?;
        let leased = match (wanted, part) {
            (Some(wanted), _) => pool.allocate_static(wanted, now).map(|()| wanted),
            (None, Some(part)) => pool.allocate_between(part.network(), part.broadcast(), now),
            (None, None) => pool.allocate(now),
        };
        let address =
            leased.map_err(|error| registry.with_holder(network, address_error(&error)))?;
        registry.share(&network.id, &[IpNetwork::from(address)]);
        drop(registry);
        self.offers.borrow_mut().addresses.insert(address, network.id.clone());
        Ok(address)
    }

    /// An address of a network of the cluster: of a block that this host owns, or the one that was named.
    async fn lease_of_this_host(
        &self,
        network: &Network,
        subnet: IpNetwork,
        wanted: Option<IpAddr>,
    ) -> Result<IpAddr> {
        let mut wanted: Vec<_> = wanted.into_iter().collect();
        let coming = self.netd.make_room(network, &wanted).await?;
        wanted.extend(coming.borrowed());
        let now = self.netd.now();
        let leased = {
            let mut registry = self.netd.registry.borrow_mut();
            let entry = registry.network_mut(&network.id);
            let entry = entry.ok_or_else(|| Error::not_found("the network went away"))?;
            let wishes = Wishes { wanted: &wanted, ranges: &[], name: None, sticky: false };
            match entry.lease(wishes, now) {
                Ok(leased) => leased,
                Err(error) => return Err(registry.with_holder(network, error)),
            }
        };
        // dockerd asks for each family by itself.
        let (own, others): (Vec<_>, Vec<_>) =
            leased.into_iter().partition(|address| address.is_ipv4() == subnet.is_ipv4());
        self.netd.registry.borrow_mut().release(&network.id, &others, now);
        let own = own.first().ok_or_else(|| {
            Error::invalid(format_args!("{subnet} is no subnet of network {}", network.name))
        })?;
        self.offers.borrow_mut().addresses.insert(own.ip(), network.id.clone());
        Ok(own.ip())
    }

    /// Offers have become an endpoint's: it leases them itself, and until it has, nobody else gets
    /// them, since they have just been given back.
    pub(super) fn hand_in(&self, network: &Network, addresses: &[IpAddr]) {
        addresses.iter().for_each(|address| self.give_back(&network.id, *address));
    }

    /// Gives an address back that was offered and not used. What an endpoint has goes with that.
    pub(super) fn release_address(&self, request: &OfAddress) {
        let Ok(address) = parsed::<IpAddr>("Address", &request.address) else { return };
        let network = self.offers.borrow().addresses.get(&address).cloned();
        if let Some(network) = network {
            self.give_back(&network, address);
        }
    }

    /// A dockerd has started, and asks anew for whatever it needs: what one before it was offered and
    /// did not use is nobody's.
    pub(super) fn forget_offers(&self) {
        self.offers.borrow_mut().pools.clear();
        let lent: Vec<_> = self.offers.borrow().addresses.clone().into_iter().collect();
        lent.iter().for_each(|(address, network)| self.give_back(network, *address));
    }

    fn give_back(&self, network: &NetworkId, address: IpAddr) {
        if self.offers.borrow_mut().addresses.remove(&address).is_some() {
            let now = self.netd.now();
            self.netd.registry.borrow_mut().release(network, &[IpNetwork::from(address)], now);
        }
    }
}

/// The gateway of a network that is there.
fn gateway_of(network: &Network, subnet: IpNetwork, wanted: Option<IpAddr>) -> Result<IpAddr> {
    let own = network.subnets.iter().find(|own| own.subnet == subnet);
    let own = own.and_then(|own| own.gateway);
    match (own, wanted) {
        (Some(own), Some(wanted)) if own != wanted => Err(Error::invalid(format_args!(
            "the gateway of network {} of netd is {own}, not {wanted}",
            network.name
        ))),
        (Some(own), _) => Ok(own),
        (None, Some(wanted)) => Ok(wanted),
        (None, None) => first(subnet),
    }
}

/// The first address of a subnet that an interface can have.
fn first(subnet: IpNetwork) -> Result<IpAddr> {
    pool_of(subnet)?.allocate(ipam::Moment(0)).map_err(|error| address_error(&error))
}

/// The addresses of a subnet, if it can be one.
fn pool_of(subnet: IpNetwork) -> Result<ipam::Pool> {
    ipam::Pool::new(ipam::PoolConfig::new(subnet))
        .map_err(|error| address_error(&error).with("subnet", subnet.to_string()))
}

/// Refuses options that mean nothing here, but for what dockerd says itself.
fn check_options<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<()> {
    match names.find(|name| *name != NETWORK && !name.starts_with(DOCKERS_OWN)) {
        None => Ok(()),
        Some(unknown) => Err(Error::invalid(format_args!(
            "netd's IPAM has no option {unknown:?}: there is --ipam-opt network=NAME"
        ))
        .with("option", unknown)),
    }
}
