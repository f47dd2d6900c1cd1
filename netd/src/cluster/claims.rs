//! That the addresses which endpoints of this host have are this host's in the store, too: after
//! the others gave it up, after the store went back in time, and whenever a block is lost. One that
//! is another's by now is reported, and others are not told of it.

use std::{net::IpAddr, rc::Rc, time::Duration};

use ::cluster::{
    decide::Claimed,
    messages::{Decided, Decision},
};
use cnm::{Kind, NetworkId, endpoint::Endpoint};
use tokio::time::sleep;

use super::Cluster;
use crate::netd::Netd;

/// How soon what could not be claimed is claimed again.
const AGAIN: Duration = Duration::from_millis(200);

impl Netd {
    /// Claims what has to be claimed, for as long as it is polled.
    pub(super) async fn keep_addresses(self: Rc<Self>, cluster: Rc<Cluster>) {
        loop {
            cluster.claim.notified().await;
            while !self.claim_strays(&cluster).await {
                sleep(AGAIN).await;
            }
        }
    }

    /// The addresses that endpoints here have and that are not this host's in the store, of one
    /// network or of all.
    pub(super) fn strays(
        &self,
        cluster: &Cluster,
        only: Option<&NetworkId>,
    ) -> Vec<(Endpoint, IpAddr)> {
        let (registry, view) = (self.registry.borrow(), cluster.view.borrow());
        let mut strays = Vec::new();
        for entry in registry.networks().filter(|entry| entry.shared.is_some()) {
            let id = &entry.network.id;
            // On a network that is gone nobody has an address.
            if only.is_some_and(|only| only != id) || !view.networks.contains_key(id) {
                continue;
            }
            for endpoint in registry.endpoints_on(id).filter(|e| registry.is_wanted(e)) {
                let addresses = endpoint.addresses.iter().map(|address| address.ip());
                let lost = addresses.filter(|address| !view.is_ours(id, *address));
                strays.extend(lost.map(|address| (endpoint.clone(), address)));
            }
        }
        strays
    }

    /// Claims them; whether it is known of each what became of it.
    pub(super) async fn claim_strays(self: &Rc<Self>, cluster: &Rc<Cluster>) -> bool {
        let mut known = true;
        for (endpoint, address) in self.strays(cluster, None) {
            let network = endpoint.network.clone();
            match cluster.decide(Decision::ClaimAddress { network, address }).await {
                Ok(Decided::Address { claimed: Claimed::Asked(_) }) => known = false,
                Ok(_) => self.is_undisputed(cluster, &endpoint, address),
                Err(error) if error.kind == Kind::Exists => {
                    self.is_disputed(cluster, &endpoint, address);
                }
                Err(error) if error.kind == Kind::NotFound || error.kind == Kind::Invalid => {
                    tracing::warn!(%address, %error, "address not claimed");
                }
                Err(error) => {
                    tracing::debug!(%address, %error, "address not claimed yet");
                    return false;
                }
            }
        }
        known
    }

    fn is_disputed(&self, cluster: &Cluster, endpoint: &Endpoint, address: IpAddr) {
        let is_here = {
            // It may have gone while the others were asked, and what it would be told of with it.
            let registry = self.registry.borrow();
            registry.endpoint(&endpoint.id).is_some_and(|endpoint| registry.is_wanted(endpoint))
        };
        if !is_here || !cluster.disputed.borrow_mut().insert(endpoint.id.clone()) {
            return;
        }
        let why = format!(
            "{address} of {} on {} was given away while this host was out of reach: detach it and \
             attach it again",
            endpoint.container.label(),
            endpoint.network_name
        );
        tracing::error!("{why}");
        self.problems.borrow_mut().insert(problem_of(address), why);
        self.compare_own(cluster);
    }

    fn is_undisputed(&self, cluster: &Cluster, endpoint: &Endpoint, address: IpAddr) {
        tracing::info!(%address, endpoint = endpoint.id.short(), "address claimed again");
        self.settle_dispute(cluster, endpoint);
        self.compare_own(cluster);
    }

    /// An endpoint is gone, or has its addresses again.
    pub(super) fn settle_dispute(&self, cluster: &Cluster, endpoint: &Endpoint) {
        if cluster.disputed.borrow_mut().remove(&endpoint.id) {
            let mut problems = self.problems.borrow_mut();
            for address in &endpoint.addresses {
                problems.remove(&problem_of(address.ip()));
            }
        }
    }
}

fn problem_of(address: IpAddr) -> String {
    format!("address {address}")
}
