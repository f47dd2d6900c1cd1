//! Single addresses, wherever they are: those that somebody asks for by name, and those that others
//! can spare when nobody has a block left to claim.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use cnm::{NetworkId, network::Network};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use store::{Compare, Op, Txn};

use super::{ATTEMPTS, Decider, Found, Listing, blocks::exhausted, contended, networks::reserved};
use crate::{
    Error, Holder, Key, NodeId, Result,
    rows::{self, NodeOwner},
};

/// How a node comes to have an address that it asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Claimed {
    /// It is in a block of its own: whether it is free there only the node itself knows.
    Own(IpNetwork),
    /// It was nobody's, and is a block by itself now.
    Block(IpNetwork),
    /// It is in another's block, whose owner leaves it alone from now on.
    Lent(IpNetwork),
    /// It is in another's block, whose owner has been asked whether it is free.
    Asked(IpNetwork),
}

/// An address that another node was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// Which.
    pub address: IpAddr,
    /// The node in whose block it is.
    pub node: NodeId,
}

/// Whom and what to ask for no more.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Avoid {
    /// Nodes that do not answer.
    pub nodes: BTreeSet<NodeId>,
    /// Addresses that their nodes need themselves.
    pub addresses: BTreeSet<IpAddr>,
}

fn block_of(found: &Found<rows::Block>) -> Option<IpNetwork> {
    match found.key {
        Key::Block(_, block) => Some(block),
        _ => None,
    }
}

/// Refuses an address that no endpoint of a network can have.
fn check_given(network: &Network, address: IpAddr) -> Result<()> {
    let Some(subnet) = network.subnet_of(address) else {
        let subnets = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        return Err(Error::AddressOutside { address, network: network.id.clone(), subnets });
    };
    if !reserved(subnet).contains(&address) {
        return Ok(());
    }
    let aux = subnet.aux.iter().find(|(_, own)| **own == address);
    let what = match aux {
        _ if subnet.gateway == Some(address) => "the gateway".to_owned(),
        Some((name, _)) => format!("the auxiliary address {name}"),
        None if address == subnet.subnet.network() => "the network's own".to_owned(),
        None => "the broadcast address".to_owned(),
    };
    Err(Error::AddressKept { address, subnet: subnet.subnet, what })
}

impl Decider {
    /// Gives a node one address of a network. Where it is another's to give, that one is asked;
    /// asked for again it is known what became of it.
    ///
    /// # Errors
    /// [`Error::AddressTaken`], [`Error::Resting`], [`Error::AddressOutside`], [`Error::AddressKept`],
    /// [`Error::NoNetwork`], [`Error::NoNode`], [`Error::Fenced`]; when the store is away.
    pub async fn claim_address(
        &self,
        node: &NodeId,
        epoch: u64,
        id: &NetworkId,
        address: IpAddr,
    ) -> Result<Claimed> {
        let one = IpNetwork::from(address);
        for _ in 0..ATTEMPTS {
            let (fence, _) = self.node_at(node, epoch).await?;
            let network = self.network(id).await?.network;
            check_given(&network, address)?;
            let rests = self.rests(id).await?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            let around = blocks.rows.iter().find_map(|found| {
                Some((found, block_of(found)?)).filter(|b| b.1.contains(address))
            });
            let Some((found, block)) = around else {
                let of_others = |found: &Found<NodeOwner>| match found.key {
                    Key::Rest(_, rest) => rest.contains(address) && found.value.of != *node,
                    _ => false,
                };
                if rests.rows.iter().any(of_others) {
                    return Err(Error::Resting { address });
                }
                if self.store.txn(self.claim(node, epoch, &fence, id, one, &rests)).await?.held {
                    return Ok(Claimed::Block(one));
                }
                continue;
            };
            let mut row = found.value.clone();
            match row.lent.get(&address).or_else(|| row.asked.get(&address)) {
                Some(holder) if holder == node && row.lent.contains_key(&address) => {
                    return Ok(Claimed::Lent(block));
                }
                Some(holder) if holder == node => return Ok(Claimed::Asked(block)),
                Some(holder) => return Err(self.taken(id, address, holder.clone()).await?),
                None if found.value.node == *node => return Ok(Claimed::Own(block)),
                // Whoever has a single address has asked for it.
                None if block == one && row.refused.get(&address) != Some(node) => {
                    return Err(self.taken(id, address, found.value.node.clone()).await?);
                }
                None => {}
            }
            let endpoints = self.layout.endpoints_on(&row.node, id);
            let used = self.list::<rows::Endpoint>(endpoints).await?;
            let known = used.rows.iter().any(|one| one.value.addresses.contains(&address));
            let refused = row.refused.get(&address) == Some(node);
            if known && !refused {
                return Err(self.taken(id, address, row.node).await?);
            }
            if refused {
                row.refused.remove(&address);
            } else {
                row.asked.insert(address, node.clone());
            }
            let txn = Txn::new()
                .when(Compare::unchanged(&fence))
                .when(Compare::unchanged(&found.row))
                .then(self.put(&found.key, &row));
            if self.store.txn(txn).await?.held {
                if refused {
                    return Err(self.taken(id, address, row.node).await?);
                }
                return Ok(Claimed::Asked(block));
            }
        }
        Err(contended("claiming an address"))
    }

    /// That a node has an address, and for whom, as far as it has said so.
    async fn taken(&self, id: &NetworkId, address: IpAddr, node: NodeId) -> Result<Error> {
        let endpoints = self.layout.endpoints_on(&node, id);
        let used = self.list::<rows::Endpoint>(endpoints).await?;
        let holder = used.rows.into_iter().find_map(|found| match found.key {
            Key::Endpoint(_, _, endpoint) if found.value.addresses.contains(&address) => {
                Some(Holder { endpoint, container: found.value.names.into_iter().next() })
            }
            _ => None,
        });
        Ok(Error::AddressTaken { address, node, holder })
    }

    /// Asks another node for an address of its blocks that nobody is known to have, for a node that
    /// finds none to claim: that node says whether it can spare it.
    ///
    /// # Errors
    /// [`Error::Exhausted`] when there is none, [`Error::NoNetwork`], [`Error::NoNode`],
    /// [`Error::Fenced`]; when the store is away.
    pub async fn borrow_address(
        &self,
        node: &NodeId,
        epoch: u64,
        id: &NetworkId,
        ipv6: bool,
        avoid: &Avoid,
    ) -> Result<Asked> {
        for _ in 0..ATTEMPTS {
            let (fence, _) = self.node_at(node, epoch).await?;
            let network = self.network(id).await?.network;
            let rests = self.rests(id).await?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            let others = blocks.rows.iter().filter(|found| {
                let owner = &found.value.node;
                let family = block_of(found).is_some_and(|block| block.is_ipv6() == ipv6);
                family && owner != node && !avoid.nodes.contains(owner)
            });
            let Some((found, address)) = self.spare_of(&network, others, avoid).await? else {
                return Err(exhausted(&network, &blocks, &rests, ipv6));
            };
            let mut row = found.value.clone();
            row.asked.insert(address, node.clone());
            let txn = Txn::new()
                .when(Compare::unchanged(&fence))
                .when(Compare::unchanged(&found.row))
                .then(self.put(&found.key, &row));
            if self.store.txn(txn).await?.held {
                return Ok(Asked { address, node: row.node });
            }
        }
        Err(contended("borrowing an address"))
    }

    /// The first address of blocks that nobody is known to have, or to ask for.
    async fn spare_of<'a>(
        &self,
        network: &Network,
        blocks: impl Iterator<Item = &'a Found<rows::Block>>,
        avoid: &Avoid,
    ) -> Result<Option<(&'a Found<rows::Block>, IpAddr)>> {
        let mut used: BTreeMap<&NodeId, BTreeSet<IpAddr>> = BTreeMap::new();
        for found in blocks {
            let row = &found.value;
            let Some(block) = block_of(found) else { continue };
            let Some(subnet) = network.subnet_of(block.network()) else { continue };
            if !used.contains_key(&row.node) {
                let endpoints = self.layout.endpoints_on(&row.node, &network.id);
                let Listing { rows, .. } = self.list::<rows::Endpoint>(endpoints).await?;
                let addresses = rows.into_iter().flat_map(|found| found.value.addresses);
                used.insert(&row.node, addresses.collect());
            }
            let (used, reserved) = (&used[&row.node], reserved(subnet));
            let spoken_for = [&row.lent, &row.asked, &row.refused];
            let is_spare = |address: &IpAddr| {
                !reserved.contains(address)
                    && !used.contains(address)
                    && !avoid.addresses.contains(address)
                    && !spoken_for.iter().any(|of| of.contains_key(address))
            };
            if let Some(address) = block.iter().find(is_spare) {
                return Ok(Some((found, address)));
            }
        }
        Ok(None)
    }

    /// The owner of a block says whether an address of it is free that another has asked for. It
    /// may have been taken back meanwhile.
    ///
    /// # Errors
    /// [`Error::Denied`] for another's block; when the store is away.
    pub async fn lend_address(
        &self,
        node: &NodeId,
        id: &NetworkId,
        block: IpNetwork,
        address: IpAddr,
        free: bool,
    ) -> Result<()> {
        let key = Key::Block(id.clone(), block);
        for _ in 0..ATTEMPTS {
            let Some((row, mut found)) = self.find::<rows::Block>(&key).await? else {
                return Ok(());
            };
            if found.node != *node {
                let what = format!("lend address {address} of a block of another's");
                return Err(Error::Denied { who: format!("node {node}"), what });
            }
            let Some(who) = found.asked.remove(&address) else { return Ok(()) };
            let answered = if free { &mut found.lent } else { &mut found.refused };
            answered.insert(address, who);
            let txn = Txn::new().when(Compare::unchanged(&row)).then(self.put(&key, &found));
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("lending an address"))
    }

    /// Takes an address back that a node had asked for. One that it does not have is back.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn release_address(
        &self,
        node: &NodeId,
        id: &NetworkId,
        address: IpAddr,
    ) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            let found = blocks.rows.iter().find(|found| {
                let alone = block_of(found) == Some(IpNetwork::from(address));
                let block = &found.value;
                let of = [&block.lent, &block.asked, &block.refused];
                let asked_for = of.into_iter().any(|of| of.get(&address) == Some(node));
                (alone && block.node == *node) || asked_for
            });
            let Some(found) = found else { return Ok(()) };
            let txn = Txn::new().when(Compare::unchanged(&found.row));
            let mut block = found.value.clone();
            let txn = if block.node == *node {
                txn.then(Op::delete(found.row.key.as_str()))
            } else {
                for of in [&mut block.lent, &mut block.asked, &mut block.refused] {
                    of.retain(|of, who| *of != address || who != node);
                }
                txn.then(self.put(&found.key, &block))
            };
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("releasing an address"))
    }
}
