//! One network as netd knows it: its addresses, its endpoints, how far it has come, and what it has
//! besides when it is of the cluster.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
};

use cnm::{
    EndpointId, MacAddr, Name, NetworkId, Result, endpoint::Endpoint, network::Network,
    split::Ranges,
};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;
use tokio::sync::Mutex;

use super::{Blocks, Wishes, sets};
use crate::netd::address_error;

/// A network and its addresses.
#[derive(Debug)]
pub(crate) struct NetworkEntry {
    /// The network.
    pub(crate) network: Network,
    /// One pool for each of its subnets, in their order.
    pub(crate) pools: Vec<Pool>,
    /// Its endpoints.
    pub(crate) endpoints: BTreeSet<EndpointId>,
    /// Which of them has which link-layer address.
    pub(super) macs: HashMap<MacAddr, EndpointId>,
    /// Where its members can ask for names; empty until the resolver listens.
    pub(crate) dns: Vec<IpAddr>,
    /// Whether it takes endpoints.
    pub(crate) stage: Stage,
    /// The networks whose subnets have addresses in common with its own: none of them gives out
    /// what another has.
    pub(super) shares: BTreeSet<NetworkId>,
    /// What the host or a router has of its addresses, as it was last seen.
    pub(super) kept_off: BTreeSet<IpAddr>,
    /// What it has besides when it is of the cluster; its pools are empty then.
    pub(crate) shared: Option<Shared>,
}

/// What a network of the cluster has besides.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Whether it is up on this host.
    pub(crate) up: bool,
    /// With which subnets it came up.
    pub(crate) up_with: Vec<IpNetwork>,
    /// How many attaches to it are under way.
    pub(crate) coming: usize,
    /// Those of its addresses that this host gives out.
    pub(crate) blocks: Blocks,
    /// It is brought up and taken down by one at a time.
    pub(crate) turn: Arc<Mutex<()>>,
    /// Blocks are claimed by one at a time: what one gets may do for many.
    pub(crate) claiming: Arc<Mutex<()>>,
    /// Addresses of others' blocks that attaches under way are about to have.
    pub(crate) awaited: Vec<IpAddr>,
    /// How often hosts were asked to give its addresses back, as far as this one has heard.
    pub(crate) recalled: u32,
}

impl Shared {
    /// Down, with these addresses.
    pub(crate) fn new(blocks: Blocks) -> Self {
        let (turn, claiming) = Default::default();
        let (up_with, awaited) = Default::default();
        Self { up: false, up_with, coming: 0, blocks, turn, claiming, awaited, recalled: 0 }
    }
}

/// How far a network has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its driver is making it and may fail: it takes no endpoints yet.
    Making,
    /// It is there.
    Open,
    /// It is being taken away: it takes no endpoints any more.
    Leaving,
}

impl NetworkEntry {
    /// Gives addresses from other parts of subnets by itself; who has one keeps it.
    pub(crate) fn give_from(&mut self, ranges: &Ranges) {
        for pool in &mut self.pools {
            let range = ranges.get(&pool.config().subnet);
            if let Some(other) = range.and_then(|range| pool.with_range(*range).ok()) {
                *pool = other;
            }
        }
    }

    /// Whether the host or a router has an address.
    pub(crate) fn is_kept_off(&self, address: IpAddr) -> bool {
        self.kept_off.contains(&address)
    }

    /// Sees to it that nobody else gets addresses that came from outside. All or none.
    pub(crate) fn keep(
        &mut self,
        addresses: &[IpNetwork],
        name: Option<&Name>,
        now: Moment,
    ) -> Result<()> {
        let name = name.map(Name::as_str);
        let mut kept = Vec::new();
        for address in addresses {
            let own =
                self.pools.iter_mut().find(|pool| pool.config().subnet.contains(address.ip()));
            let Some(pool) = own else { continue };
            if let Err(error) = pool.allocate_static_as(name, address.ip(), now) {
                kept.iter().for_each(|ip| self.release(*ip, now));
                return Err(address_error(&error).with("network", self.network.id.as_str()));
            }
            kept.push(address.ip());
        }
        Ok(())
    }

    /// An address of each set of subnets, as it is wished. All or none.
    pub(crate) fn lease(&mut self, wishes: Wishes<'_>, now: Moment) -> Result<Vec<IpNetwork>> {
        let wanted = wishes.wanted;
        if let Some(shared) = &mut self.shared {
            return shared.blocks.lease(wanted, now);
        }
        if from_outside(&self.network) {
            return Ok(wanted.iter().filter_map(|ip| on_its_subnet(&self.network, *ip)).collect());
        }
        let mut leased: Vec<IpNetwork> = Vec::new();
        for set in sets::of(&self.network) {
            match sets::lease(&mut self.pools, &set, wishes, now) {
                Ok(address) => leased.push(address),
                Err(error) => {
                    leased.iter().for_each(|address| self.release(address.ip(), now));
                    return Err(error.with("network", self.network.id.as_str()));
                }
            }
        }
        Ok(leased)
    }

    /// Takes an endpoint's addresses as they were stored.
    pub(crate) fn restore(&mut self, endpoint: &Endpoint) {
        if let Some(shared) = &mut self.shared {
            endpoint.addresses.iter().for_each(|address| shared.blocks.restore(address.ip()));
        }
        for pool in &mut self.pools {
            let subnet = pool.config().subnet;
            for address in endpoint.addresses.iter().filter(|a| subnet.contains(a.ip())) {
                if let Err(error) = pool.restore(address.ip()) {
                    tracing::error!(endpoint = endpoint.id.short(), %address, %error, "no lease");
                }
            }
        }
    }

    /// Gives an address back to its pool.
    pub(crate) fn release(&mut self, address: IpAddr, now: Moment) {
        if let Some(shared) = &mut self.shared {
            shared.blocks.release(address, now);
        }
        for pool in &mut self.pools {
            if pool.config().subnet.contains(address) {
                pool.release(address, now);
            }
        }
    }
}

/// Addresses of a network that none of its endpoints may have, or none but one.
pub(super) fn reserved(network: &Network) -> impl Iterator<Item = IpAddr> {
    network.subnets.iter().flat_map(|subnet| {
        let others = subnet.aux.values().chain(subnet.reserved.values()).copied();
        subnet.gateway.into_iter().chain(others)
    })
}

/// Whether a network's addresses are not netd's to give out: its endpoints have those that whoever
/// attaches them says, or none.
pub(crate) fn from_outside(network: &Network) -> bool {
    network.options.get("ipam").is_some_and(|service| service == "none")
}

pub(super) fn on_its_subnet(network: &Network, address: IpAddr) -> Option<IpNetwork> {
    IpNetwork::new(address, network.subnet_of(address)?.subnet.prefix()).ok()
}

/// Keeps pools from giving out an address. One that has it reserved does not do so anyway.
pub(super) fn hold(pools: &mut [Pool], address: IpAddr) {
    for pool in pools.iter_mut().filter(|pool| pool.config().subnet.contains(address)) {
        pool.restore(address).ok();
    }
}
