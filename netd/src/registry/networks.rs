//! Networks: finding them, what is made and taken away, and addresses that several of them have in
//! common.

use std::{collections::BTreeSet, net::IpAddr};

use cnm::{
    Error, NetworkId, Result,
    network::{Network, Subnet},
};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;

use super::{
    Blocks, NetworkEntry, Registry, Shared, Stage,
    network::{hold, reserved},
    whole,
};

impl Registry {
    /// Every network, by id.
    pub(crate) fn networks(&self) -> impl Iterator<Item = &NetworkEntry> {
        self.networks.values()
    }

    /// The network of this id.
    pub(crate) fn network(&self, id: &NetworkId) -> Option<&NetworkEntry> {
        self.networks.get(id)
    }

    /// As [`Registry::network`].
    pub(crate) fn network_mut(&mut self, id: &NetworkId) -> Option<&mut NetworkEntry> {
        self.networks.get_mut(id)
    }

    /// The network that a user means: by its whole id, its name, or the beginning of its id. A
    /// leading `=` is for those who never mean a beginning. A name that several have means none of them.
    pub(crate) fn resolve_network(&self, given: &str) -> Result<&NetworkEntry> {
        let (whole, given) = whole(given);
        let id = given.parse::<NetworkId>().ok();
        if let Some(entry) = id.and_then(|id| self.networks.get(&id)) {
            return Ok(entry);
        }
        let mut namesakes = self.namesakes(given);
        match (namesakes.next(), namesakes.next()) {
            (Some(entry), None) => return Ok(entry),
            (Some(_), Some(_)) => return Err(self.ambiguous(given)),
            (None, _) => {}
        }
        let mut matches = self
            .networks
            .values()
            .filter(|_| !whole && !given.is_empty())
            .filter(|entry| entry.network.id.as_str().starts_with(given));
        match (matches.next(), matches.count()) {
            (Some(entry), 0) => Ok(entry),
            (Some(_), more) => Err(Error::invalid(format_args!(
                "network {given} is ambiguous ({} matches found based on ID prefix)",
                more + 1
            ))
            .with("network", given)),
            (None, _) => {
                Err(Error::not_found(format_args!("network {given} not found"))
                    .with("network", given))
            }
        }
    }

    /// Adds a network.
    pub(crate) fn add_network(&mut self, network: Network, pools: Vec<Pool>, stage: Stage) {
        self.insert_network(network, pools, stage, None);
    }

    /// Adds a network of the cluster. Where a network of this host has its name, both are found by their
    /// ids alone.
    pub(crate) fn add_shared_network(&mut self, network: Network, blocks: Blocks) {
        self.insert_network(network, Vec::new(), Stage::Open, Some(Shared::new(blocks)));
    }

    fn insert_network(
        &mut self,
        network: Network,
        pools: Vec<Pool>,
        stage: Stage,
        shared: Option<Shared>,
    ) {
        let id = network.id.clone();
        self.network_names.entry(network.name.clone()).or_default().insert(id.clone());
        // What is of the cluster has nothing in common with what is of this host.
        let shares = match shared {
            Some(_) => BTreeSet::new(),
            None => self.sharing(&network).map(|entry| entry.network.id.clone()).collect(),
        };
        let (endpoints, macs, dns, kept_off) = Default::default();
        let mut entry =
            NetworkEntry { network, pools, endpoints, macs, dns, stage, shares, kept_off, shared };
        for other in &entry.shares {
            let taken = self.addresses_of(other).collect::<Vec<_>>();
            taken.into_iter().for_each(|address| hold(&mut entry.pools, address));
            if let Some(other) = self.networks.get_mut(other) {
                reserved(&entry.network).for_each(|address| hold(&mut other.pools, address));
                other.shares.insert(id.clone());
            }
        }
        self.networks.insert(id, entry);
    }

    /// A network has changed; `pools` are those of subnets that it has got.
    pub(crate) fn change_network(&mut self, network: Network, pools: Vec<Pool>) {
        if let Some(entry) = self.networks.get_mut(&network.id) {
            entry.network = network;
            entry.pools.extend(pools);
        }
    }

    /// Forgets a network.
    pub(crate) fn drop_network(&mut self, id: &NetworkId) {
        let Some(entry) = self.networks.remove(id) else { return };
        if let Some(ids) = self.network_names.get_mut(&entry.network.name) {
            ids.remove(id);
            if ids.is_empty() {
                self.network_names.remove(&entry.network.name);
            }
        }
        for other in &entry.shares {
            if let Some(other) = self.networks.get_mut(other) {
                other.shares.remove(id);
            }
            self.give_back(other, reserved(&entry.network), Moment(0));
        }
    }

    /// The networks with which a network has addresses in common. That there are any was decided
    /// when the later of them was made.
    pub(super) fn sharing<'a>(
        &'a self,
        network: &'a Network,
    ) -> impl Iterator<Item = &'a NetworkEntry> {
        let overlap = |a: &Subnet, b: &Subnet| ipam::overlaps(a.subnet, b.subnet);
        self.networks.values().filter(move |entry| {
            entry.network.id != network.id
                && network
                    .subnets
                    .iter()
                    .any(|a| entry.network.subnets.iter().any(|b| overlap(a, b)))
        })
    }

    /// What a network and its endpoints have of addresses.
    fn addresses_of(&self, network: &NetworkId) -> impl Iterator<Item = IpAddr> {
        let own = self.networks.get(network).into_iter().flat_map(|e| reserved(&e.network));
        let leased = self.endpoints_on(network).flat_map(|endpoint| &endpoint.addresses);
        own.chain(leased.map(IpNetwork::ip))
    }

    /// What the networks that share a subnet with a new one have of it.
    pub(crate) fn shared_addresses(&self, network: &Network) -> Vec<IpAddr> {
        self.sharing(network).flat_map(|entry| self.addresses_of(&entry.network.id)).collect()
    }

    /// Refuses addresses from outside that somebody has already.
    ///
    /// # Errors
    /// `exists`.
    pub(crate) fn not_anybodys(&self, network: &Network, addresses: &[IpAddr]) -> Result<()> {
        let taken: Vec<_> =
            self.addresses_of(&network.id).chain(self.shared_addresses(network)).collect();
        match addresses.iter().find(|address| taken.contains(address)) {
            Some(address) => {
                let refusal = Error::exists(format_args!(
                    "address {address} of network {} is in use already",
                    network.name
                ));
                let refusal = refusal.with("address", address.to_string());
                Err(self.with_holder(network, refusal.with("network", network.id.as_str())))
            }
            None => Ok(()),
        }
    }

    /// Keeps the networks that share a network's subnets from giving out what it has leased.
    pub(crate) fn share(&mut self, network: &NetworkId, addresses: &[IpNetwork]) {
        let Some(entry) = self.networks.get(network) else { return };
        for other in entry.shares.clone() {
            if let Some(other) = self.networks.get_mut(&other) {
                addresses.iter().for_each(|address| hold(&mut other.pools, address.ip()));
            }
        }
    }

    /// Lets the networks that share a network's subnets give out again what was reserved there and is
    /// no more.
    pub(crate) fn unreserve(&mut self, network: &NetworkId, addresses: &[IpAddr], now: Moment) {
        let Some(entry) = self.networks.get(network) else { return };
        for other in entry.shares.clone() {
            self.give_back(&other, addresses.iter().copied(), now);
        }
    }

    /// Gives addresses of a network's endpoint back, to it and to those that share its subnets.
    pub(crate) fn release(&mut self, network: &NetworkId, addresses: &[IpNetwork], now: Moment) {
        let Some(entry) = self.networks.get_mut(network) else { return };
        addresses.iter().for_each(|address| entry.release(address.ip(), now));
        for other in entry.shares.clone() {
            self.give_back(&other, addresses.iter().map(IpNetwork::ip), now);
        }
    }

    /// Keeps addresses that somebody had before a restart from being given to others at once.
    pub(crate) fn let_wait(&mut self, network: &NetworkId, addresses: &[IpNetwork], now: Moment) {
        let Some(entry) = self.networks.get(network) else { return };
        for id in entry.shares.clone().into_iter().chain([network.clone()]) {
            let Some(entry) = self.networks.get_mut(&id) else { continue };
            for address in addresses.iter().map(IpNetwork::ip) {
                if let Some(shared) = &mut entry.shared {
                    shared.blocks.let_wait(address, now);
                }
                for pool in &mut entry.pools {
                    pool.let_wait(address, now);
                }
            }
        }
    }

    /// Gives addresses back to a network that nobody who shares its subnets has any more.
    pub(super) fn give_back(
        &mut self,
        network: &NetworkId,
        addresses: impl Iterator<Item = IpAddr>,
        now: Moment,
    ) {
        let Some(entry) = self.networks.get(network) else { return };
        let all = entry.shares.iter().chain([network]);
        let taken: BTreeSet<IpAddr> = all.flat_map(|id| self.addresses_of(id)).collect();
        let Some(entry) = self.networks.get_mut(network) else { return };
        addresses.filter(|ip| !taken.contains(ip)).for_each(|ip| entry.release(ip, now));
    }
}
