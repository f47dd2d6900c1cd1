//! What netd knows, in memory: networks with their pools, sandboxes, endpoints and ports, and the
//! ways to find each. It decides nothing and touches nothing; the stores hold the same facts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    rc::Rc,
    sync::Arc,
    time::Instant,
};

use cnm::{
    ContainerId, EndpointId, Error, IfName, MacAddr, Name, NetworkId, Result,
    endpoint::{Endpoint, NetnsId, State},
    network::{Network, Subnet},
    sandbox::Sandbox,
    split::Ranges,
};
use ipam::{Moment, Pool};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use crate::netd::address_error;

mod blocks;
pub(crate) mod called;
pub(crate) mod holders;
mod lan;
mod macs;
mod namesakes;
mod ports;
pub(crate) mod sets;
mod ways;

pub(crate) use blocks::{Blocks, Room};
use called::folded;
pub(crate) use namesakes::whose;
pub(crate) use ports::{Ports, Taker, check_bound, protocols};
pub(crate) use sets::Wishes;

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
    macs: HashMap<MacAddr, EndpointId>,
    /// Where its members can ask for names; empty until the resolver listens.
    pub(crate) dns: Vec<IpAddr>,
    /// Whether it takes endpoints.
    pub(crate) stage: Stage,
    /// The networks whose subnets have addresses in common with its own: none of them gives out
    /// what another has.
    shares: BTreeSet<NetworkId>,
    /// What the host or a router has of its addresses, as it was last seen.
    kept_off: BTreeSet<IpAddr>,
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

/// A sandbox as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// The sandbox.
    pub(crate) sandbox: Sandbox,
    /// When its process started, in clock ticks since the boot, where its process is watched.
    #[serde(default)]
    pub(crate) process_start: Option<u64>,
}

impl SandboxRecord {
    /// The sandbox that comes and goes with its endpoints, of which `endpoint` is the first.
    pub(crate) fn of(
        endpoint: &Endpoint,
        path: Option<String>,
        process_start: Option<u64>,
    ) -> Self {
        let sandbox = Sandbox {
            container: endpoint.container.clone(),
            path,
            netns: endpoint.netns,
            kept: false,
            created: endpoint.created.clone(),
        };
        Self { sandbox, process_start }
    }
}

/// A sandbox and its endpoints.
#[derive(Debug)]
pub(crate) struct SandboxEntry {
    /// As stored.
    pub(crate) record: SandboxRecord,
    /// Its endpoints, in the order in which they came.
    pub(crate) endpoints: Vec<EndpointId>,
    /// When its namespace became known.
    pub(crate) since: Instant,
}

/// Everything.
#[derive(Debug, Default)]
pub(crate) struct Registry {
    networks: BTreeMap<NetworkId, NetworkEntry>,
    network_names: HashMap<Name, BTreeSet<NetworkId>>,
    sandboxes: BTreeMap<ContainerId, SandboxEntry>,
    sandbox_names: HashMap<String, BTreeSet<ContainerId>>,
    endpoints: BTreeMap<EndpointId, Rc<Endpoint>>,
    leaving: BTreeSet<EndpointId>,
    /// Those that were given to somebody who asked again for what was there.
    claimed: BTreeSet<EndpointId>,
    by_nsid: HashMap<i32, BTreeSet<ContainerId>>,
    /// Who answers for which port of the host.
    pub(crate) ports: Ports,
}

impl Registry {
    // Networks.

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
    fn sharing<'a>(&'a self, network: &'a Network) -> impl Iterator<Item = &'a NetworkEntry> {
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
    fn give_back(
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

    // Sandboxes.

    /// Every sandbox, by container.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = &SandboxEntry> {
        self.sandboxes.values()
    }

    /// The sandbox of this container.
    pub(crate) fn sandbox(&self, id: &ContainerId) -> Option<&SandboxEntry> {
        self.sandboxes.get(id)
    }

    /// The sandbox that a user means: by its whole id, its name, or the beginning of its id. With a
    /// leading `=` by its id alone.
    pub(crate) fn resolve_sandbox(&self, given: &str) -> Result<&SandboxEntry> {
        let (whole, given) = whole(given);
        let ambiguous = |n: usize| {
            Error::invalid(format_args!(
                "container {given} is ambiguous ({n} sandboxes match): name it by its id"
            ))
            .with("container", given)
        };
        let id = given.parse::<ContainerId>().ok();
        if let Some(entry) = id.and_then(|id| self.sandboxes.get(&id)) {
            return Ok(entry);
        }
        let name = given.parse::<Name>().ok().filter(|_| !whole);
        if let Some(name) = name {
            let is_spelled_so =
                |entry: &&SandboxEntry| entry.record.sandbox.container.name == Some(name.clone());
            let mut called = self.containers_called(&name).filter(is_spelled_so);
            match (called.next(), called.count()) {
                (Some(entry), 0) => return Ok(entry),
                (Some(_), more) => return Err(ambiguous(more + 1)),
                (None, _) => {}
            };
        }
        let mut matches = self.sandboxes.values().filter(|entry| {
            !whole
                && given.len() >= 4
                && entry.record.sandbox.container.id.as_str().starts_with(given)
        });
        match (matches.next(), matches.count()) {
            (Some(entry), 0) => Ok(entry),
            (Some(_), more) => Err(ambiguous(more + 1)),
            (None, _) => {
                Err(Error::not_found(format_args!("container {given} is not known to netd"))
                    .with("container", given))
            }
        }
    }

    /// Adds a sandbox, or brings it up to date.
    pub(crate) fn put_sandbox(&mut self, record: SandboxRecord) {
        let container = record.sandbox.container.clone();
        let mut since = Instant::now();
        let endpoints = match self.sandboxes.remove(&container.id) {
            Some(old) => {
                self.unindex(&old.record.sandbox);
                if old.record.sandbox.netns == record.sandbox.netns {
                    since = old.since;
                }
                old.endpoints
            }
            None => Vec::new(),
        };
        if let Some(name) = &container.name {
            self.sandbox_names.entry(folded(name)).or_default().insert(container.id.clone());
        }
        if let Some(nsid) = record.sandbox.netns.and_then(|netns| netns.nsid) {
            self.by_nsid.entry(nsid).or_default().insert(container.id.clone());
        }
        self.sandboxes.insert(container.id, SandboxEntry { record, endpoints, since });
    }

    /// It is known now which namespace a sandbox is.
    pub(crate) fn place_sandbox(
        &mut self,
        id: &ContainerId,
        netns: NetnsId,
    ) -> Option<&SandboxRecord> {
        let entry = self.sandboxes.get_mut(id)?;
        let former = entry.record.sandbox.netns.replace(netns).and_then(|netns| netns.nsid);
        entry.since = Instant::now();
        if former != netns.nsid {
            if let Some(nsid) = former {
                self.forget_nsid(nsid, id);
            }
            if let Some(nsid) = netns.nsid {
                self.by_nsid.entry(nsid).or_default().insert(id.clone());
            }
        }
        self.sandboxes.get(id).map(|entry| &entry.record)
    }

    /// Forgets a sandbox.
    pub(crate) fn drop_sandbox(&mut self, id: &ContainerId) {
        if let Some(entry) = self.sandboxes.remove(id) {
            self.unindex(&entry.record.sandbox);
        }
    }

    fn unindex(&mut self, sandbox: &Sandbox) {
        let id = &sandbox.container.id;
        if let Some(name) = &sandbox.container.name
            && let Some(ids) = self.sandbox_names.get_mut(&folded(name))
        {
            ids.remove(id);
            if ids.is_empty() {
                self.sandbox_names.remove(&folded(name));
            }
        }
        if let Some(nsid) = sandbox.netns.and_then(|netns| netns.nsid) {
            self.forget_nsid(nsid, id);
        }
    }

    fn forget_nsid(&mut self, nsid: i32, id: &ContainerId) {
        if let Some(ids) = self.by_nsid.get_mut(&nsid) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_nsid.remove(&nsid);
            }
        }
    }

    /// The ids of all namespaces that a container is in.
    pub(crate) fn nsids(&self) -> impl Iterator<Item = i32> {
        self.by_nsid.keys().copied()
    }

    /// Whether the id of a container's namespace has become another's, which came later: its own
    /// is gone then.
    pub(crate) fn is_outlived(&self, container: &ContainerId) -> bool {
        let Some(entry) = self.sandboxes.get(container) else { return false };
        let Some(netns) = entry.record.sandbox.netns else { return false };
        let Some(nsid) = netns.nsid else { return false };
        self.by_nsid.get(&nsid).into_iter().flatten().filter_map(|id| self.sandboxes.get(id)).any(
            |other| {
                let cookie = other.record.sandbox.netns.map(|netns| netns.cookie);
                cookie.is_some_and(|cookie| cookie != netns.cookie) && other.since > entry.since
            },
        )
    }

    /// The containers in the namespace that netd's own knows by this id.
    pub(crate) fn containers_in(&self, nsid: i32) -> Vec<ContainerId> {
        self.by_nsid.get(&nsid).into_iter().flatten().cloned().collect()
    }

    // Endpoints.

    /// Every endpoint, by id.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values().map(Rc::as_ref)
    }

    /// The endpoint of this id.
    pub(crate) fn endpoint(&self, id: &EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id).map(Rc::as_ref)
    }

    /// The endpoint that a user means: by its whole id, or the beginning of it.
    pub(crate) fn resolve_endpoint(&self, given: &str) -> Result<&Endpoint> {
        if let Some(whole) = given.parse().ok().and_then(|id| self.endpoint(&id)) {
            return Ok(whole);
        }
        let mut matches = self
            .endpoints
            .values()
            .filter(|e| !given.is_empty() && e.id.as_str().starts_with(given));
        match (matches.next(), matches.count()) {
            (Some(endpoint), 0) => Ok(endpoint),
            (Some(_), more) => Err(Error::invalid(format_args!(
                "endpoint {given} is ambiguous ({} matches)",
                more + 1
            ))
            .with("endpoint", given)),
            (None, _) => Err(Error::not_found(format_args!("endpoint {given} not found"))
                .with("endpoint", given)),
        }
    }

    /// The endpoints of a container, in the order in which they came.
    pub(crate) fn endpoints_of(&self, container: &ContainerId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.sandboxes.get(container).map(|entry| entry.endpoints.as_slice());
        ids.unwrap_or_default().iter().filter_map(|id| self.endpoint(id))
    }

    /// The endpoints on a network.
    pub(crate) fn endpoints_on(&self, network: &NetworkId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.networks.get(network).map(|entry| &entry.endpoints);
        ids.into_iter().flatten().filter_map(|id| self.endpoint(id))
    }

    /// Adds an endpoint, or brings it up to date. Its sandbox and network are known.
    pub(crate) fn put_endpoint(&mut self, endpoint: Rc<Endpoint>) {
        if let Some(entry) = self.networks.get_mut(&endpoint.network) {
            entry.endpoints.insert(endpoint.id.clone());
        }
        if let Some(entry) = self.sandboxes.get_mut(&endpoint.container.id)
            && !entry.endpoints.contains(&endpoint.id)
        {
            entry.endpoints.push(endpoint.id.clone());
        }
        self.note_mac(&endpoint);
        self.endpoints.insert(endpoint.id.clone(), endpoint);
    }

    /// An endpoint that is there has changed in what nothing looks it up by but its link-layer address.
    pub(crate) fn renew_endpoint(&mut self, endpoint: Rc<Endpoint>) {
        self.note_mac(&endpoint);
        match self.endpoints.get_mut(&endpoint.id) {
            Some(known) => *known = endpoint,
            None => self.put_endpoint(endpoint),
        }
    }

    /// An endpoint is another container's than was known when it came.
    pub(crate) fn hand_over(&mut self, endpoint: Rc<Endpoint>, record: SandboxRecord) {
        let earlier = self.endpoint(&endpoint.id).map(|known| known.container.id.clone());
        if let Some(earlier) = earlier.filter(|id| *id != endpoint.container.id) {
            let mut empty = false;
            if let Some(entry) = self.sandboxes.get_mut(&earlier) {
                entry.endpoints.retain(|id| *id != endpoint.id);
                empty = entry.endpoints.is_empty() && !entry.record.sandbox.kept;
            }
            if empty {
                self.drop_sandbox(&earlier);
            }
        }
        let container = &endpoint.container;
        match self.sandbox(&container.id).map(|entry| &entry.record) {
            None => self.put_sandbox(record),
            // It has another name by now.
            Some(known) if known.sandbox.container.name != container.name => {
                let mut known = known.clone();
                known.sandbox.container.name = container.name.clone();
                self.put_sandbox(known);
            }
            Some(_) => {}
        }
        self.put_endpoint(endpoint);
    }

    /// An endpoint is being taken away: it still holds what it holds, and is wanted no more.
    pub(crate) fn leave(&mut self, id: &EndpointId) {
        self.leaving.insert(id.clone());
    }

    /// An endpoint is given to somebody who asked for it again.
    pub(crate) fn claim(&mut self, id: &EndpointId) {
        self.claimed.insert(id.clone());
    }

    /// Whether somebody has an endpoint who asked for it again.
    pub(crate) fn is_claimed(&self, id: &EndpointId) -> bool {
        self.claimed.contains(id)
    }

    /// Whether a driver should have this endpoint.
    pub(crate) fn is_wanted(&self, endpoint: &Endpoint) -> bool {
        endpoint.state == State::Attached && !self.leaving.contains(&endpoint.id)
    }

    /// Whether a driver was or will be asked for this endpoint, and has not answered.
    pub(crate) fn is_coming(&self, endpoint: &Endpoint) -> bool {
        endpoint.state == State::Attaching && !self.leaving.contains(&endpoint.id)
    }

    /// An endpoint as its driver is to make it: without the ports that lead to its container through
    /// another one.
    pub(crate) fn published(&self, endpoint: &Endpoint) -> Endpoint {
        let mut endpoint = endpoint.clone();
        endpoint.ports.retain(|port| self.ports.leads_through(&endpoint.id, port));
        endpoint
    }

    /// Forgets an endpoint and gives its addresses and ports back.
    pub(crate) fn drop_endpoint(&mut self, id: &EndpointId, now: Moment) {
        let Some(endpoint) = self.endpoints.remove(id) else { return };
        self.leaving.remove(id);
        self.claimed.remove(id);
        self.ports.release(id, &endpoint.ports);
        if let Some(entry) = self.networks.get_mut(&endpoint.network) {
            entry.endpoints.remove(id);
            entry.forget_mac(&endpoint);
        }
        self.release(&endpoint.network, &endpoint.addresses, now);
        if let Some(entry) = self.sandboxes.get_mut(&endpoint.container.id) {
            entry.endpoints.retain(|other| other != id);
        }
    }

    /// A name for the container's next interface.
    pub(crate) fn free_ifname(&self, container: &ContainerId, prefix: &str) -> IfName {
        let taken: BTreeSet<&str> =
            self.endpoints_of(container).map(|endpoint| endpoint.ifname.as_str()).collect();
        (0..)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| !taken.contains(name.as_str()))
            .and_then(|name| name.parse().ok())
            .unwrap_or_else(IfName::eth0)
    }
}

/// Addresses of a network that none of its endpoints may have, or none but one.
fn reserved(network: &Network) -> impl Iterator<Item = IpAddr> {
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

fn on_its_subnet(network: &Network, address: IpAddr) -> Option<IpNetwork> {
    IpNetwork::new(address, network.subnet_of(address)?.subnet.prefix()).ok()
}

/// Keeps pools from giving out an address. One that has it reserved does not do so anyway.
fn hold(pools: &mut [Pool], address: IpAddr) {
    for pool in pools.iter_mut().filter(|pool| pool.config().subnet.contains(address)) {
        pool.restore(address).ok();
    }
}

/// What is named, and whether by all of its name.
fn whole(given: &str) -> (bool, &str) {
    given.strip_prefix('=').map_or((false, given), |name| (true, name))
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

#[cfg(test)]
mod tests;
