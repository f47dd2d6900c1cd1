//! Decisions: what is shared is changed by one transaction each, which compares what the decision
//! rests on. When others were faster it is looked at anew, a bounded number of times. Only managers
//! can write what is written here.

use serde::de::DeserializeOwned;
use store::{Compare, Keys, Op, Row, Store, Txn};

use crate::{
    ClusterId, Error, Key, Layout, NodeId, Result,
    rows::{self, Config, Meta, Schema},
};

mod addresses;
mod blocks;
mod networks;
mod nodes;
mod ports;
mod prune;
mod underlay;

pub use addresses::{Asked, Avoid, Claimed};
pub use blocks::{Idle, block_bits, choose_block, wants_another};
pub use networks::{
    Changes, Wanted, choose_subnet, choose_vni, create_network_txn, random_ula, usual_gateway,
};
pub use nodes::Joining;

/// How often a decision is tried when others are faster.
const ATTEMPTS: u32 = 32;

/// The shared part of a cluster's store, and how it is changed.
#[derive(Clone, Debug)]
pub struct Decider {
    store: Store,
    layout: Layout,
}

impl Decider {
    /// For the cluster of this layout.
    pub fn new(store: Store, layout: Layout) -> Self {
        Self { store, layout }
    }

    /// The store that it writes.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Where things lie in it.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Writes the first rows of a cluster: what it is, and its first node.
    ///
    /// # Errors
    /// [`Error::Denied`] when the store has a cluster of this id; when it is away.
    pub async fn init(
        &self,
        cluster: &ClusterId,
        config: &Config,
        first: Joining,
        now: u64,
    ) -> Result<rows::Node> {
        let meta = Meta { schema: Schema::default(), cluster: cluster.clone(), created: now };
        let node = nodes::first(config, first, now)?;
        let txn = Txn::new()
            .when(Compare::absent(self.layout.all()))
            .then(self.put(&Key::Meta, &meta))
            .then(self.put(&Key::Config, config));
        let txn = nodes::add(&self.layout, txn, &node);
        if self.store.txn(txn).await?.held {
            return Ok(node);
        }
        let who = format!("netctl cluster init of {cluster}");
        Err(Error::Denied { who, what: "begin where a cluster is".to_owned() })
    }

    /// What holds for the whole cluster.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn config(&self) -> Result<Config> {
        Ok(self.find(&Key::Config).await?.map(|(_, config)| config).unwrap_or_default())
    }

    fn put(&self, key: &Key, value: &impl serde::Serialize) -> Op {
        Op::put(self.layout.key(key), rows::write(value))
    }

    async fn find<T: DeserializeOwned>(&self, key: &Key) -> Result<Option<(Row, T)>> {
        match self.store.get(self.layout.key(key)).await? {
            Some(row) => {
                let value = rows::read(&row)?;
                Ok(Some((row, value)))
            }
            None => Ok(None),
        }
    }

    async fn list<T: DeserializeOwned>(&self, keys: Keys) -> Result<Listing<T>> {
        let page = self.store.all(keys).await?;
        let mut listing = Listing { revision: page.revision, rows: Vec::new() };
        for row in page.rows {
            // What a later version keeps there is none of ours.
            let Some(key) = self.layout.parse(&row.key) else { continue };
            let value = rows::read(&row)?;
            listing.rows.push(Found { key, row, value });
        }
        Ok(listing)
    }

    /// A node, when it is at `epoch`.
    async fn node_at(&self, node: &NodeId, epoch: u64) -> Result<(Row, rows::Node)> {
        let (row, found) = self.node(node).await?;
        if found.epoch == epoch {
            return Ok((row, found));
        }
        Err(Error::Fenced { node: node.clone(), epoch, now: found.epoch })
    }

    async fn node(&self, node: &NodeId) -> Result<(Row, rows::Node)> {
        let found = self.find(&Key::Node(node.clone())).await?;
        found.ok_or_else(|| Error::NoNode { node: node.to_string() })
    }
}

/// Rows that were read together.
struct Listing<T> {
    revision: u64,
    rows: Vec<Found<T>>,
}

/// A row that was read.
struct Found<T> {
    key: Key,
    row: Row,
    value: T,
}

/// That no row of `keys` was written since `revision`; that none was deleted it does not say.
fn unwritten_since(keys: Keys, revision: u64) -> Compare {
    Compare { keys, test: store::Test::Modified(store::Relation::Less, revision + 1) }
}

fn contended(what: &'static str) -> Error {
    Error::Contended { what, attempts: ATTEMPTS }
}

#[cfg(test)]
mod tests;
