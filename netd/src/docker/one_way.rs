//! Whether Docker's containers resolve whoever else is on their networks: Docker's own resolver has to
//! know netd's, which is said in dockerd's configuration.

use std::{fs, net::IpAddr};

use cnm::network::Network;
use serde::Deserialize;

use super::plugin::is_dockers;
use crate::netd::Netd;

/// As far as it is needed.
#[derive(Debug, Default, Deserialize)]
struct DaemonJson {
    #[serde(default)]
    dns: Vec<String>,
}

impl Netd {
    /// Says so of a network that dockerd has, where names work one way only.
    pub(crate) fn names_one_way(&self, network: &Network) -> Option<String> {
        if !is_dockers(network) {
            return None;
        }
        if network.link.is_none() {
            return Some(format!(
                "names work one way only on network {}: everybody resolves Docker's containers, and \
                 these each other alone, since netd's resolver is not on the LAN",
                network.name
            ));
        }
        if network.internal {
            return Some(format!(
                "names work one way only on network {}: everybody resolves Docker's containers, and \
                 these each other alone, unless they are on a network that is not internal as well, since \
                 Docker's resolver asks nobody for who has no way out",
                network.name
            ));
        }
        let text = fs::read_to_string(&self.config.docker_config).unwrap_or_default();
        let told: DaemonJson = serde_json::from_str(&text).unwrap_or_default();
        let servers = told.dns.iter().filter_map(|server| server.parse().ok());
        if servers.into_iter().any(|server| self.may_resolve_at(server)) {
            return None;
        }
        Some(format!(
            "names work one way only on network {}: everybody resolves Docker's containers, and these \
             each other alone; netctl docker install lets them resolve everybody",
            network.name
        ))
    }

    /// Whether netd may answer there: at a gateway of its networks, or at an address that is on every
    /// host's links and no other's.
    fn may_resolve_at(&self, server: IpAddr) -> bool {
        let near = matches!(server, IpAddr::V4(server) if server.is_link_local());
        let registry = self.registry.borrow();
        let mut subnets = registry.networks().flat_map(|entry| &entry.network.subnets);
        near || subnets.any(|subnet| subnet.gateway == Some(server))
    }
}
