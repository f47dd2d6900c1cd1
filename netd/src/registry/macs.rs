//! Whose the link-layer addresses on a network are: each is one endpoint's, and is found by itself
//! however many there are.

use cnm::{MacAddr, NetworkId, endpoint::Endpoint};

use super::{NetworkEntry, Registry};

impl Registry {
    /// The endpoint on a network that has a link-layer address.
    pub(crate) fn holder_of_mac(&self, network: &NetworkId, mac: MacAddr) -> Option<&Endpoint> {
        self.endpoint(self.network(network)?.macs.get(&mac)?)
    }

    /// Takes down which address an endpoint has by now.
    pub(super) fn note_mac(&mut self, endpoint: &Endpoint) {
        let before = self.endpoints.get(&endpoint.id).cloned();
        let Some(entry) = self.networks.get_mut(&endpoint.network) else { return };
        match before {
            Some(before) if before.mac == endpoint.mac => return,
            Some(before) => entry.forget_mac(&before),
            None => {}
        }
        if let Some(mac) = endpoint.mac {
            entry.macs.insert(mac, endpoint.id.clone());
        }
    }
}

impl NetworkEntry {
    /// Gives an endpoint's address back, unless another one has it.
    pub(super) fn forget_mac(&mut self, endpoint: &Endpoint) {
        let Some(mac) = endpoint.mac else { return };
        if self.macs.get(&mac) == Some(&endpoint.id) {
            self.macs.remove(&mac);
        }
    }
}
