//! Addresses of a network that somebody has who is no endpoint: the host, and its routers.

use std::{collections::BTreeSet, net::IpAddr};

use cnm::NetworkId;
use ipam::Moment;

use super::Registry;

impl Registry {
    /// Has a network give out none of these addresses, and those again of which that was said
    /// before and is not now. What an endpoint has already it keeps.
    pub(crate) fn keep_off(
        &mut self,
        network: &NetworkId,
        addresses: BTreeSet<IpAddr>,
        now: Moment,
    ) {
        let Some(entry) = self.networks.get_mut(network) else { return };
        let before = std::mem::replace(&mut entry.kept_off, addresses.clone());
        self.give_back(network, before.difference(&addresses).copied(), now);
        let Some(entry) = self.networks.get_mut(network) else { return };
        for address in addresses {
            let own = entry.pools.iter_mut().filter(|pool| pool.config().subnet.contains(address));
            // One that is leased or reserved is kept from others anyway.
            own.for_each(|pool| drop(pool.allocate_static(address, now)));
        }
    }
}
