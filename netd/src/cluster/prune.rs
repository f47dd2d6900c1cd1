//! Networks of the cluster that nobody is on. Each host gives out addresses of blocks of its own and is
//! heard of afterwards, so all are asked for the blocks that they do not need: a network of which no host
//! has any left is removed, and one that somebody was attached to meanwhile stays.

use std::{
    rc::Rc,
    time::{Duration, Instant},
};

use ::cluster::{Role, messages::Decision};
use cnm::{
    Kind, NetworkId, Result,
    network::{Network, Pruned},
};
use tokio::time::sleep;

use super::Cluster;
use crate::netd::Netd;

/// How long hosts have to give back what they hold of a network, and how often it is looked at.
const PATIENCE: Duration = Duration::from_secs(2);
const AGAIN: Duration = Duration::from_millis(50);

impl Netd {
    /// Removes those of these networks of the cluster that nobody is on, and says of those that stay
    /// why, unless that is since somebody is on them.
    pub(crate) async fn prune_shared(self: &Rc<Self>, unused: Vec<Network>, pruned: &mut Pruned) {
        let cluster = match self.member() {
            Ok(cluster) => cluster,
            Err(error) => return pruned.notes.push(error.message),
        };
        if cluster.kept.borrow().role != Role::Manager {
            let names: Vec<_> = unused.iter().map(|network| network.name.as_str()).collect();
            return pruned.notes.push(format!(
                "networks of the cluster stay, since this host is a worker ({}): prune on a manager",
                names.join(", ")
            ));
        }
        // All of them at once: what the hosts have to do for one does not wait for another.
        let tries = unused.iter().map(|network| self.prune_one(&cluster, &network.id));
        let outcomes = futures_util::future::join_all(tries).await;
        for (network, outcome) in unused.into_iter().zip(outcomes) {
            match outcome {
                Ok(true) => pruned.removed.push(network.name),
                Ok(false) => {}
                Err(error) => {
                    let why = error.message;
                    pruned.notes.push(format!("network {} stays: {why}", network.name));
                }
            }
        }
    }

    /// Whether it is gone by this.
    async fn prune_one(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) -> Result<bool> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if cluster.view.borrow().remotes(id).next().is_some() {
                return Ok(false);
            }
            match cluster.decide(Decision::PruneNetwork { network: id.clone() }).await {
                Ok(_) => break,
                Err(error) if error.kind == Kind::NotFound => return Ok(false),
                Err(error) if !error.operands.contains_key("holders") => {
                    // Somebody is on it.
                    return if error.kind == Kind::Busy { Ok(false) } else { Err(error) };
                }
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => {}
            }
            cluster.decide(Decision::RecallBlocks { network: id.clone() }).await?;
            sleep(AGAIN).await;
        }
        self.rest(id).await;
        // Where this host has not heard of it yet it soon will.
        drop(cluster.until("the removal", |view| !view.networks.contains_key(id)).await);
        Ok(true)
    }

    /// Gives back what this host holds of a network's addresses and does not need, since somebody asks
    /// for it. Nobody there could take an address for its former owner's: what was just given back
    /// does not have to rest.
    pub(super) fn give_back_now(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) {
        self.return_loans(id);
        let idle = {
            let registry = self.registry.borrow();
            let entry = registry.network(id).filter(|entry| entry.endpoints.is_empty());
            let shared = entry.and_then(|entry| entry.shared.as_ref());
            shared.map(|shared| shared.blocks.own().collect::<Vec<_>>()).unwrap_or_default()
        };
        let (netd, cluster, id) = (self.clone(), cluster.clone(), id.clone());
        tokio::task::spawn_local(async move {
            for block in idle {
                if let Err(error) = netd.release_block(&cluster, &id, block).await {
                    tracing::info!(network = id.short(), %block, %error, "block kept");
                }
            }
        });
    }
}
