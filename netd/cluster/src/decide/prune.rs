//! Networks that nobody needs. A node attaches from a block of addresses that it holds and asks nobody,
//! and its endpoint is in the store a moment later: so what is known of endpoints does not say that
//! nobody is on a network, and that no node holds addresses of it does.

use std::collections::BTreeSet;

use cnm::NetworkId;
use store::{Compare, Txn};

use super::{ATTEMPTS, Decider, contended};
use crate::{Error, Key, Result, rows};

impl Decider {
    /// Removes a network that nobody is on or is about to be: no node holds addresses of it. An attach
    /// that claims some at the same time is decided before this or after, and in the first case the
    /// network stays.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::InUse`], [`Error::Held`]; when the store is away.
    pub async fn prune_network(&self, id: &NetworkId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let found = self.find::<rows::Network>(&Key::Network(id.clone())).await?;
            let (row, network) =
                found.ok_or_else(|| Error::NoNetwork { network: id.short().to_owned() })?;
            let nodes: BTreeSet<_> = self.nodes().await?.into_iter().map(|node| node.id).collect();
            self.unused(id, &nodes).await?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?.rows;
            let holders: BTreeSet<_> = blocks.into_iter().map(|block| block.value.node).collect();
            if !holders.is_empty() {
                let nodes = holders.into_iter().collect();
                return Err(Error::Held { network: id.clone(), nodes });
            }
            let txn =
                self.removal(&row, &network).await?.when(Compare::absent(self.layout.blocks(id)));
            if self.store.txn(self.without_endpoints(txn, id, &nodes)).await?.held {
                return Ok(());
            }
        }
        Err(contended("pruning a network"))
    }

    /// Asks all nodes to give back what they hold of a network's addresses and do not need.
    ///
    /// # Errors
    /// [`Error::NoNetwork`]; when the store is away.
    pub async fn recall_blocks(&self, id: &NetworkId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let key = Key::Network(id.clone());
            let found = self.find::<rows::Network>(&key).await?;
            let (row, mut network) =
                found.ok_or_else(|| Error::NoNetwork { network: id.short().to_owned() })?;
            network.recalled = network.recalled.wrapping_add(1);
            let txn = Txn::new().when(Compare::unchanged(&row)).then(self.put(&key, &network));
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("asking for addresses back"))
    }
}
