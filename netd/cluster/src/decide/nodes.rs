//! Nodes: joining, starting anew, being fenced, being removed.

use std::{net::IpAddr, time::Duration};

use ipnetwork::IpNetwork;
use store::{Compare, Keys, LeaseId, Op, Row, Txn};

use super::{ATTEMPTS, Decider, blocks::seed, choose_block, contended, unwritten_since};
use crate::{
    Error, Key, Layout, NodeId, Result, Role,
    rows::{self, Availability, Config, Facts, NodeOwner, Schema},
};

/// Who is about to become a node.
#[derive(Clone, Debug)]
pub struct Joining {
    /// The id that it chose.
    pub node: NodeId,
    /// What it will be allowed to do.
    pub role: Role,
    /// SHA-256 of its public key, as hexadecimal digits.
    pub public_key: String,
    /// The digest of its token; none for the first node.
    pub joined_with: Option<String>,
    /// What it says of itself.
    pub facts: Facts,
    /// The node that it was before, which goes when it comes.
    pub former: Option<NodeId>,
}

fn row(joining: Joining, ingress: IpAddr, now: u64) -> rows::Node {
    rows::Node {
        schema: Schema::default(),
        id: joining.node,
        role: joining.role,
        availability: Availability::Active,
        epoch: 1,
        ingress,
        public_key: joining.public_key,
        joined_with: joining.joined_with,
        joined: now,
        facts: joining.facts,
    }
}

fn ingress(config: &Config, taken: &[IpNetwork], node: &NodeId) -> Result<IpAddr> {
    let subnet = config.node_subnet;
    let reserved = [subnet.network(), subnet.broadcast()];
    let free = choose_block(subnet, taken, &reserved, 0, seed(node));
    free.map(|free| free.ip()).ok_or(Error::PoolsExhausted)
}

/// Refuses a host that others would not reach: they send from an address of their own family.
fn same_family(new: &Facts, other: &Facts) -> Result<()> {
    let (Some(address), Some(theirs)) = (new.vtep(), other.vtep()) else { return Ok(()) };
    if address.is_ipv4() == theirs.is_ipv4() {
        return Ok(());
    }
    let family = if theirs.is_ipv4() { "IPv4" } else { "IPv6" };
    Err(Error::Family { address, family })
}

/// Whether two hosts are called the same; one that says no name is called nothing.
fn is_called_as(new: &Facts, other: &Facts) -> bool {
    !new.name.is_empty() && new.name.eq_ignore_ascii_case(&other.name)
}

/// The first node of a cluster.
pub(super) fn first(config: &Config, joining: Joining, now: u64) -> Result<rows::Node> {
    let ingress = ingress(config, &[], &joining.node)?;
    Ok(row(joining, ingress, now))
}

/// Adds a node that must not be there yet to a transaction.
pub(super) fn add(layout: &Layout, txn: Txn, node: &rows::Node) -> Txn {
    let (key, address) = (Key::Node(node.id.clone()), Key::Ingress(node.ingress));
    let (key, address) = (layout.key(&key), layout.key(&address));
    let owner = NodeOwner { of: node.id.clone() };
    txn.when(Compare::absent(Keys::one(key.as_str())))
        .when(Compare::absent(Keys::one(address.as_str())))
        .then(Op::put(key, rows::write(node)))
        .then(Op::put(address, rows::write(&owner)))
}

impl Decider {
    /// All nodes.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn nodes(&self) -> Result<Vec<rows::Node>> {
        let nodes = self.list(self.layout.nodes()).await?.rows;
        Ok(nodes.into_iter().map(|node| node.value).collect())
    }

    /// A node, if it is one.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn find_node(&self, node: &NodeId) -> Result<Option<rows::Node>> {
        Ok(self.find(&Key::Node(node.clone())).await?.map(|(_, node)| node))
    }

    /// Adds a node to a transaction, which the token's use is the other part of.
    ///
    /// # Errors
    /// [`Error::Family`] when the others are reached by another; [`Error::Namesake`] when one of them is
    /// called as it is; [`Error::NodeThere`] when one that is alive is reached where it is to be;
    /// [`Error::Within`] when it is reached at an address of a network;
    /// [`Error::PoolsExhausted`] when the node subnet is; when the store is away.
    pub async fn join(&self, txn: Txn, joining: Joining, now: u64) -> Result<Txn> {
        let config = self.config().await?;
        let nodes = self.list::<rows::Node>(self.layout.nodes()).await?;
        let txn = txn.when(unwritten_since(self.layout.nodes(), nodes.revision));
        let is_other = |node: &rows::Node| joining.former.as_ref() != Some(&node.id);
        for node in nodes.rows.into_iter().map(|node| node.value).filter(is_other) {
            same_family(&joining.facts, &node.facts)?;
            if is_called_as(&joining.facts, &node.facts) {
                let address = node.facts.vtep();
                return Err(Error::Namesake { name: node.facts.name, node: node.id, address });
            }
            self.elsewhere(&joining.facts, node).await?;
        }
        let clear = self.clear_of_networks(&joining.facts).await?;
        let taken = self.store.all(self.layout.ingress()).await?.rows;
        let taken = taken.iter().filter_map(|row| match self.layout.parse(&row.key) {
            Some(Key::Ingress(address)) => Some(IpNetwork::from(address)),
            _ => None,
        });
        let ingress = ingress(&config, &taken.collect::<Vec<_>>(), &joining.node)?;
        Ok(add(&self.layout, txn.when(clear), &row(joining, ingress, now)))
    }

    /// Refuses a host that is to be reached where a node is that is alive: what is for one would come to the other.
    async fn elsewhere(&self, new: &Facts, other: rows::Node) -> Result<()> {
        let Some(address) = new.vtep().filter(|own| other.facts.vtep() == Some(*own)) else {
            return Ok(());
        };
        let (node, name) = (other.id, other.facts.name);
        match self.find::<rows::Live>(&Key::Live(node.clone())).await? {
            Some(_) => Err(Error::NodeThere { address, name, node }),
            None => Ok(()),
        }
    }

    /// The node that a host was before, which joins: one of its name, at its address. Its place is free
    /// when it is not alive, and that of a manager is no worker's.
    ///
    /// # Errors
    /// [`Error::StillAlive`]; when the store is away.
    pub async fn former(&self, facts: &Facts, role: Role) -> Result<Option<NodeId>> {
        let Some(address) = facts.vtep() else { return Ok(None) };
        let mut nodes = self.nodes().await?.into_iter();
        let may = |node: &rows::Node| role == Role::Manager || node.role == Role::Worker;
        let former = nodes.find(|node| {
            may(node) && is_called_as(facts, &node.facts) && node.facts.vtep() == Some(address)
        });
        let Some(rows::Node { id: node, facts: Facts { name, .. }, .. }) = former else {
            return Ok(None);
        };
        if self.find::<rows::Live>(&Key::Live(node.clone())).await?.is_some() {
            return Err(Error::StillAlive { name, node, address });
        }
        Ok(Some(node))
    }

    /// A node has started: what it says of itself, and the epoch in which it is from now on.
    ///
    /// # Errors
    /// [`Error::NoNode`]; when the store is away.
    pub async fn start_node(&self, node: &NodeId, facts: &Facts) -> Result<rows::Node> {
        self.change_node(node, |row| {
            row.epoch += 1;
            row.facts.clone_from(facts);
        })
        .await
    }

    /// A node says something else of itself, in the epoch in which it is.
    ///
    /// # Errors
    /// [`Error::NoNode`]; when the store is away.
    pub async fn update_node(&self, node: &NodeId, facts: &Facts) -> Result<rows::Node> {
        self.change_node(node, |row| row.facts.clone_from(facts)).await
    }

    /// Whether a node takes new work.
    ///
    /// # Errors
    /// [`Error::NoNode`]; when the store is away.
    pub async fn set_availability(
        &self,
        node: &NodeId,
        availability: Availability,
    ) -> Result<rows::Node> {
        self.change_node(node, |row| row.availability = availability).await
    }

    /// A node's key was signed anew.
    ///
    /// # Errors
    /// [`Error::NoNode`]; when the store is away.
    pub async fn renew_node(&self, node: &NodeId, public_key: &str) -> Result<rows::Node> {
        self.change_node(node, |row| public_key.clone_into(&mut row.public_key)).await
    }

    async fn change_node(
        &self,
        node: &NodeId,
        change: impl Fn(&mut rows::Node),
    ) -> Result<rows::Node> {
        for _ in 0..ATTEMPTS {
            let (row, mut found) = self.node(node).await?;
            change(&mut found);
            let txn = Txn::new()
                .when(Compare::unchanged(&row))
                .then(self.put(&Key::Node(node.clone()), &found));
            if self.store.txn(txn).await?.held {
                return Ok(found);
            }
        }
        Err(contended("changing a node"))
    }

    /// A node has been gone for too long: it is in another epoch from now on, its endpoints are
    /// deleted, its blocks and ports given back. What it does in the old epoch is refused.
    ///
    /// # Errors
    /// [`Error::NoNode`]; [`Error::Fenced`] when it has started anew meanwhile; when the store is
    /// away.
    pub async fn fence_node(&self, node: &NodeId, epoch: u64) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let (row, mut found) = self.node_at(node, epoch).await?;
            found.epoch += 1;
            let txn = Txn::new()
                .when(Compare::unchanged(&row))
                .when(Compare::absent(Keys::One(self.layout.key(&Key::Live(node.clone())))))
                .then(self.put(&Key::Node(node.clone()), &found))
                .then(Op::Delete(self.layout.endpoints(node)));
            if self.store.txn(txn).await?.held {
                // What a node still has when it is back in time it keeps.
                let (fenced, _) = self.node_at(node, found.epoch).await?;
                return self.sweep(node, found.epoch, Compare::unchanged(&fenced)).await;
            }
            if self.find::<rows::Live>(&Key::Live(node.clone())).await?.is_some() {
                return Err(Error::Fenced { node: node.clone(), epoch, now: epoch });
            }
        }
        Err(contended("fencing a node"))
    }

    /// A node has been away for so long at least: whoever comes to watch it goes on from there.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn note_away(&self, node: &NodeId, long: Duration) -> Result<()> {
        let key = Key::Away(node.clone());
        let noted = self.find::<rows::Away>(&key).await?;
        let seconds = long.as_secs();
        if noted.as_ref().is_some_and(|(_, noted)| noted.seconds >= seconds) {
            return Ok(());
        }
        let modified = noted.map_or(0, |(row, _)| row.modified);
        let row = rows::Away { schema: Schema::default(), seconds };
        let txn = Txn::new()
            .when(Compare::modified(self.layout.key(&key), modified))
            .when(Compare::present(self.layout.key(&Key::Node(node.clone()))))
            .when(Compare::absent(Keys::One(self.layout.key(&Key::Live(node.clone())))))
            .then(self.put(&key, &row));
        // Who is back, or gone for good, is not away; and others may have noted it.
        self.store.txn(txn).await?;
        Ok(())
    }

    /// A node belongs to the cluster no more: all that is its own goes. Asked for again it finishes
    /// what was left.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn remove_node(&self, node: &NodeId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let Some((row, found)) = self.find::<rows::Node>(&Key::Node(node.clone())).await?
            else {
                return self.sweep(node, u64::MAX, self.removed(node)).await;
            };
            let address = self.layout.key(&Key::Ingress(found.ingress));
            let txn = Txn::new()
                .when(Compare::unchanged(&row))
                .then(Op::delete(row.key.as_str()))
                .then(Op::delete(address))
                .then(Op::Delete(self.layout.own(node)));
            if self.store.txn(txn).await?.held {
                return self.sweep(node, u64::MAX, self.removed(node)).await;
            }
        }
        Err(contended("removing a node"))
    }

    fn removed(&self, node: &NodeId) -> Compare {
        Compare::absent(Keys::One(self.layout.key(&Key::Node(node.clone()))))
    }

    /// Takes back what a node claimed before `epoch`, in which nobody can claim any more, as long
    /// as `still` holds. Others get its addresses when these have rested.
    async fn sweep(&self, node: &NodeId, epoch: u64, still: Compare) -> Result<()> {
        let mut resting = None;
        for found in self.list::<rows::Block>(self.layout.all_blocks()).await?.rows {
            let mut block = found.value;
            let any = block.forget(node);
            if block.node == *node && block.epoch < epoch {
                let Key::Block(network, range) = &found.key else { continue };
                let mut txn = Txn::new()
                    .when(still.clone())
                    .when(Compare::unchanged(&found.row))
                    .then(Op::delete(found.row.key.as_str()));
                if resting.is_none() {
                    resting = self.resting(node).await?;
                }
                if let Some((lease, of)) = &resting {
                    let key = self.layout.key(&Key::Rest(network.clone(), *range));
                    txn = txn.then(Op::put_leased(key, of.clone(), *lease));
                }
                // What others have of it is theirs alone from now on.
                for (address, holder) in std::mem::take(&mut block.lent) {
                    let Some(holder) = self.find_node(&holder).await? else { continue };
                    let alone = Key::Block(network.clone(), IpNetwork::from(address));
                    let row = rows::Block::new(holder.id, holder.epoch);
                    txn = txn.then(self.put(&alone, &row));
                }
                self.store.txn(txn).await?;
            } else if any {
                let put = self.put(&found.key, &block);
                self.unless_changed(&still, &found.row, put).await?;
            }
        }
        for found in self.list::<rows::Port>(self.layout.ports()).await?.rows {
            if found.value.node == *node {
                let delete = Op::delete(found.row.key.as_str());
                self.unless_changed(&still, &found.row, delete).await?;
            }
        }
        if epoch == u64::MAX {
            self.store.delete(self.layout.own(node)).await?;
        }
        Ok(())
    }

    /// What says that addresses were a node's until a moment ago, and the lease that it ends with;
    /// nothing where they need no rest.
    async fn resting(&self, node: &NodeId) -> Result<Option<(LeaseId, Vec<u8>)>> {
        let seconds = self.config().await?.cooldown;
        if seconds == 0 {
            return Ok(None);
        }
        let lease = self.store.grant(Duration::from_secs(seconds)).await?;
        Ok(Some((lease, rows::write(&NodeOwner { of: node.clone() }))))
    }

    /// Who was faster knew better.
    async fn unless_changed(&self, still: &Compare, row: &Row, op: Op) -> Result<()> {
        let txn = Txn::new().when(still.clone()).when(Compare::unchanged(row)).then(op);
        self.store.txn(txn).await?;
        Ok(())
    }
}
