//! Where nodes reach each other, and that no network of the cluster is there: a node on which it
//! came up would be cut off from the others.

use std::net::IpAddr;

use cnm::network::Subnet;
use ipnetwork::IpNetwork;
use store::Compare;

use super::{Decider, networks::overlap, unwritten_since};
use crate::{
    Error, Result,
    rows::{self, Facts},
};

/// Where a node is reached, with all that is on the link with it.
fn reach(facts: &Facts) -> Option<(IpAddr, IpNetwork)> {
    let address = facts.vtep()?;
    Some((address, facts.link.unwrap_or_else(|| address.into())))
}

impl Decider {
    /// The addresses that no network may have: nodes', and those of the network between them.
    pub(super) async fn of_nodes(&self) -> Result<Vec<IpNetwork>> {
        let config = self.config().await?;
        let mut taken = vec![config.node_subnet];
        taken.extend(config.node_subnet6.map(IpNetwork::V6));
        let nodes = self.nodes().await?;
        taken.extend(nodes.iter().filter_map(|node| Some(reach(&node.facts)?.1)));
        Ok(taken)
    }

    /// Refuses subnets that have addresses by which nodes reach each other. It stays so as long as
    /// the comparison holds: a node may join at the same moment.
    ///
    /// # Errors
    /// [`Error::Underlay`], [`Error::Subnet`]; when the store is away.
    pub(super) async fn clear_of_nodes(&self, subnets: &[Subnet]) -> Result<Compare> {
        let config = self.config().await?;
        let found = self.list::<rows::Node>(self.layout.nodes()).await?;
        let still = unwritten_since(self.layout.nodes(), found.revision);
        let mut nodes: Vec<_> = found.rows.into_iter().map(|found| found.value).collect();
        // Of several whom it would cut off, the same one is named each time.
        nodes.sort_by(|a, b| a.facts.name.cmp(&b.facts.name));
        for Subnet { subnet, .. } in subnets {
            let subnet = *subnet;
            let six = config.node_subnet6.map(IpNetwork::V6);
            if [Some(config.node_subnet), six].iter().flatten().any(|one| overlap(subnet, *one)) {
                let rule = "it has addresses of the network between the cluster's nodes";
                return Err(Error::Subnet { subnet, rule });
            }
            for node in &nodes {
                let Some((address, link)) = reach(&node.facts) else { continue };
                if overlap(subnet, link) {
                    let node = node.facts.name.clone();
                    return Err(Error::Underlay { subnet, link, address, node });
                }
            }
        }
        Ok(still)
    }

    /// Refuses a host that is reached at an address of a network of the cluster. It stays so as
    /// long as the comparison holds: a network may be made at the same moment.
    ///
    /// # Errors
    /// [`Error::Within`]; when the store is away.
    pub(super) async fn clear_of_networks(&self, facts: &Facts) -> Result<Compare> {
        let networks = self.list::<rows::Network>(self.layout.networks()).await?;
        let still = unwritten_since(self.layout.networks(), networks.revision);
        let Some((address, link)) = reach(facts) else { return Ok(still) };
        for found in networks.rows {
            let network = found.value.network;
            let subnets = network.subnets.iter().map(|subnet| subnet.subnet);
            if let Some(subnet) = subnets.into_iter().find(|subnet| overlap(*subnet, link)) {
                let network = network.name.to_string();
                return Err(Error::Within { address, link, subnet, network });
            }
        }
        Ok(still)
    }
}
