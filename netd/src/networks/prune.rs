//! Networks that nobody is on: removed together. Those of the cluster as well, on a manager: nobody on
//! any host is on them then.

use std::rc::Rc;

use cnm::{
    Result,
    network::{Network, PruneNetworks, Pruned},
};

use super::filter;
use crate::{netd::Netd, registry::NetworkEntry};

impl Netd {
    /// `network.prune`.
    pub(crate) async fn prune_networks(self: &Rc<Self>, params: &PruneNetworks) -> Result<Pruned> {
        let _turn = self.network_turn.lock().await;
        let (unused, notes) = Self::without_dockers(self.unused(params)?);
        let (shared, own): (Vec<_>, Vec<_>) =
            unused.into_iter().partition(|network| Self::is_shared(&network.driver));
        let mut pruned = Pruned { notes, ..Pruned::default() };
        for network in own {
            let still = self
                .registry
                .borrow()
                .network(&network.id)
                .is_some_and(|entry| entry.endpoints.is_empty());
            if still {
                self.unmake_network(&network).await?;
                pruned.removed.push(network.name);
            }
        }
        if !shared.is_empty() {
            self.prune_shared(shared, &mut pruned).await;
        }
        pruned.removed.sort();
        Ok(pruned)
    }

    /// The networks that a prune is about, as far as this host knows.
    fn unused(&self, params: &PruneNetworks) -> Result<Vec<Network>> {
        let registry = self.registry.borrow();
        let idle = |entry: &&NetworkEntry| {
            let comes = |shared: &crate::registry::Shared| shared.coming > 0;
            entry.endpoints.is_empty()
                && !entry.network.predefined
                && !entry.shared.as_ref().is_some_and(comes)
        };
        let mut unused = Vec::new();
        for entry in registry.networks().filter(idle) {
            if filter::prunes(&params.filters, &entry.network)? {
                unused.push(entry.network.clone());
            }
        }
        Ok(unused)
    }
}
