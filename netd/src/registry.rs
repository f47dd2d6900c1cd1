//! What netd knows, in memory: networks with their pools, sandboxes, endpoints and ports, and the
//! ways to find each. It decides nothing and touches nothing; the stores hold the same facts.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    rc::Rc,
};

use cnm::{ContainerId, EndpointId, Name, NetworkId, endpoint::Endpoint};

mod blocks;
pub(crate) mod called;
mod endpoints;
pub(crate) mod holders;
mod lan;
mod macs;
mod namesakes;
mod network;
mod networks;
mod ports;
mod sandboxes;
pub(crate) mod sets;
mod ways;

pub(crate) use blocks::{Blocks, Room};
pub(crate) use namesakes::whose;
pub(crate) use network::{NetworkEntry, Shared, Stage, from_outside};
pub(crate) use ports::{Ports, Taker, check_bound, protocols};
pub(crate) use sandboxes::{SandboxEntry, SandboxRecord};
pub(crate) use sets::Wishes;

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

/// What is named, and whether by all of its name.
fn whole(given: &str) -> (bool, &str) {
    given.strip_prefix('=').map_or((false, given), |name| (true, name))
}

#[cfg(test)]
mod tests;
