//! Whose an address is that somebody else is refused.

use std::net::IpAddr;

use cnm::{Error, Kind, docker::ENDPOINT, endpoint::Endpoint, network::Network};

use super::{NetworkEntry, Registry};

/// What to call whoever has an endpoint, for people: dockerd tells whose it is after it has asked for it.
pub(crate) fn called(endpoint: &Endpoint) -> String {
    let id = endpoint.container.id.as_str();
    match endpoint.labels.get(ENDPOINT) {
        Some(own) if own == id => "a container that Docker is starting".to_owned(),
        _ => format!("container {}", endpoint.container.label()),
    }
}

impl Registry {
    /// Says whose an address is in a refusal that names it, where a pool knows no more than that it is
    /// leased.
    pub(crate) fn with_holder(&self, network: &Network, mut error: Error) -> Error {
        let address = error.operands.get("address").and_then(|address| address.as_str());
        let address = address.and_then(|address| address.parse().ok());
        if error.kind != Kind::Exists {
            return error;
        }
        if let Some(address) = address {
            let whose = self.whose(network, address);
            let whose = whose.as_deref().unwrap_or("somebody has it who is just coming or going");
            error.message = format!("{}: {whose}", error.message);
        }
        error
    }

    /// Whose an address of a network is, or of one that shares its subnet: a clause.
    fn whose(&self, network: &Network, address: IpAddr) -> Option<String> {
        let own = self.network(&network.id).and_then(|own| self.whose_on(own, address));
        own.or_else(|| {
            let mut others = self.sharing(network);
            others.find_map(|other| {
                let whose = self.whose_on(other, address)?;
                Some(format!("{whose} on network {}", other.network.name))
            })
        })
    }

    fn whose_on(&self, entry: &NetworkEntry, address: IpAddr) -> Option<String> {
        let has = |own: &ipnetwork::IpNetwork| own.ip() == address;
        let mut endpoints = self.endpoints_on(&entry.network.id);
        if let Some(endpoint) = endpoints.find(|endpoint| endpoint.addresses.iter().any(has)) {
            return Some(format!("{} has it", called(endpoint)));
        }
        entry.network.subnets.iter().find_map(|subnet| {
            if subnet.gateway == Some(address) {
                return Some("it is the gateway".to_owned());
            }
            let mut aux = subnet.aux.iter().filter(|(_, own)| **own == address);
            let mut reserved = subnet.reserved.iter().filter(|(_, own)| **own == address);
            let aux = aux.next().map(|(name, _)| format!("it is the auxiliary address {name}"));
            aux.or_else(|| reserved.next().map(|(name, _)| format!("it is reserved for {name}")))
        })
    }
}
