//! Which network is the worse for what of a plan was not done.

use std::collections::{BTreeMap, BTreeSet};

use cnm::{NetworkId, network::Network};
use netd_bridge::Segment;
use words::Undone;

use crate::{Tunnel, plan::Step};

/// The networks that are not as they should be, and one sentence for each device that is not.
pub(crate) fn of_networks(
    undone: Undone<Step>,
    networks: &[&Network],
    tunnels: &[Tunnel],
) -> (BTreeSet<NetworkId>, Vec<String>) {
    let mut first = BTreeMap::<String, kernel::Error>::new();
    for (step, error) in undone.failed {
        // What fails next does so because of it.
        first.entry(step.link().unwrap_or_default().to_owned()).or_insert(error);
    }
    let (mut unfinished, mut problems) = (BTreeSet::new(), undone.besides);
    for (link, error) in first {
        let is_its = |tunnel: &&Tunnel| {
            tunnel.name == link || tunnel.bridge.as_ref().is_some_and(|bridge| *bridge == link)
        };
        let Some(tunnel) = tunnels.iter().find(is_its) else {
            problems.push(error.to_string());
            continue;
        };
        let on_it = |network: &&&Network| Some(Segment::of(network).bridge) == tunnel.bridge;
        let network = networks.iter().find(on_it);
        unfinished.extend(network.map(|network| network.id.clone()));
        let name = network.map(|network| format!("network {}", network.name));
        let whose = name.as_deref().unwrap_or("the network between the nodes");
        problems.push(format!(
            "{whose} is not as it should be on its VXLAN device {}: {error}; netd tries again by itself: find \
             what is in its way (ip -d link show type vxlan), and have it try at once with netctl reconcile",
            tunnel.name
        ));
    }
    (unfinished, problems)
}
