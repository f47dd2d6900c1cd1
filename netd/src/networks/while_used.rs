//! Networks that are there only while somebody is on them: whoever made one learns of nobody else who is
//! on it, nor of an end that it has while netd is away.

use std::rc::Rc;

use cnm::{
    Kind, NetworkId,
    docker::NETWORK_PREFIX,
    network::{RemoveNetwork, WHILE_USED},
};

use crate::{
    netd::Netd,
    registry::{NetworkEntry, Stage},
};

/// Whether nobody needs it any more.
fn is_unneeded(entry: &NetworkEntry) -> bool {
    entry.stage == Stage::Open
        && entry.endpoints.is_empty()
        && entry.network.labels.contains_key(WHILE_USED)
        && !entry.network.labels.keys().any(|key| key.starts_with(NETWORK_PREFIX))
}

impl Netd {
    /// Has the network go that an endpoint was on, if it was the last one that needed it.
    pub(crate) fn left_behind(self: &Rc<Self>, network: &NetworkId) {
        if !self.registry.borrow().network(network).is_some_and(is_unneeded) {
            return;
        }
        let (netd, network) = (self.clone(), network.clone());
        // The container whose turn it is need not wait for it.
        tokio::task::spawn_local(async move { netd.remove_unneeded(&network).await });
    }

    /// Has all of them go that nobody needs any more: of an earlier boot, and of an end while netd was
    /// away.
    pub(crate) async fn remove_all_unneeded(self: &Rc<Self>) {
        let unneeded: Vec<_> = {
            let registry = self.registry.borrow();
            let unneeded = registry.networks().filter(|entry| is_unneeded(entry));
            unneeded.map(|entry| entry.network.id.clone()).collect()
        };
        for network in &unneeded {
            self.remove_unneeded(network).await;
        }
    }

    async fn remove_unneeded(self: &Rc<Self>, network: &NetworkId) {
        let remove = RemoveNetwork { network: format!("={network}") };
        match self.remove_network(&remove).await {
            // Somebody has come meanwhile, or somebody else has taken it away.
            Err(error) if !matches!(error.kind, Kind::Busy | Kind::NotFound) => {
                tracing::error!(network = network.short(), %error, "not removed after its last endpoint");
            }
            _ => {}
        }
    }
}
