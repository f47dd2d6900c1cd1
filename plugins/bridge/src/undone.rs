//! Which network is the worse for what of a plan was not done.

use std::collections::{BTreeMap, HashMap};

use cnm::{Result, network::Network};
use words::{Undone, refusal};

use crate::{Port, Segment, plan::Step};

/// The bridges of networks that are not as they should be, and one sentence for each of these.
///
/// # Errors
/// What failed of the host's own, which all networks need.
pub(crate) fn of_networks(
    undone: Undone<Step>,
    networks: &[Network],
    ports: &[Port],
) -> Result<(Vec<String>, Vec<String>)> {
    let bridges: HashMap<_, _> = networks
        .iter()
        .flat_map(|network| {
            let segment = Segment::of(network);
            let bridges: Vec<_> = segment.bridges().cloned().collect();
            bridges.into_iter().map(move |bridge| (bridge, network))
        })
        .collect();
    let joins: HashMap<_, _> =
        ports.iter().map(|port| (port.host.as_str(), &port.bridge)).collect();
    let mut problems = undone.besides;
    let mut by_bridge = BTreeMap::<String, Vec<String>>::new();
    for (step, error) in undone.failed {
        let link = step.link().unwrap_or_default();
        let bridge = joins.get(link).map_or(link, |bridge| bridge.as_str());
        if bridges.contains_key(bridge) {
            by_bridge.entry(bridge.to_owned()).or_default().push(error.to_string());
        } else if matches!(step, Step::SetParameter { .. }) {
            return Err(refusal(error));
        } else {
            problems.push(error.to_string());
        }
    }
    for (bridge, errors) in &by_bridge {
        let Some(network) = bridges.get(bridge) else { continue };
        problems.push(format!(
            "network {} is not as it should be on its bridge {bridge}: {}; netd tries again by \
             itself: find what is in its way (ip -d address show dev {bridge}; ip -d link show \
             master {bridge}), and have it try at once with netctl reconcile",
            network.name,
            errors.join("; ")
        ));
    }
    Ok((by_bridge.into_keys().collect(), problems))
}
