//! Single addresses that somebody asks for by name, wherever they are.

use std::net::IpAddr;

use cnm::NetworkId;
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use store::{Compare, Op, Txn};

use super::{ATTEMPTS, Decider, Found, contended, networks::reserved, unwritten_since};
use crate::{Error, Key, NodeId, Result, rows};

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
}

fn block_of(found: &Found<rows::Block>) -> Option<IpNetwork> {
    match found.key {
        Key::Block(_, block) => Some(block),
        _ => None,
    }
}

impl Decider {
    /// Gives a node one address of a network.
    ///
    /// # Errors
    /// [`Error::AddressTaken`], [`Error::Subnet`] for an address that no endpoint can have,
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
            let rule = "it is outside the network's subnets, or reserved";
            let subnet = network.subnet_of(address).filter(|s| !reserved(s).contains(&address));
            subnet.ok_or(Error::Subnet { subnet: one, rule })?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            let around = blocks.rows.iter().find_map(|found| {
                Some((found, block_of(found)?)).filter(|b| b.1.contains(address))
            });
            let Some((found, block)) = around else {
                if self.store.txn(self.claim(node, epoch, &fence, id, one)).await?.held {
                    return Ok(Claimed::Block(one));
                }
                continue;
            };
            match found.value.lent.get(&address) {
                Some(holder) if holder == node => return Ok(Claimed::Lent(block)),
                Some(holder) => return Err(Error::AddressTaken { address, node: holder.clone() }),
                None if found.value.node == *node => return Ok(Claimed::Own(block)),
                // Whoever has a single address has asked for it.
                None if block == one => {
                    return Err(Error::AddressTaken { address, node: found.value.node.clone() });
                }
                None => {}
            }
            let endpoints = self.layout.endpoints_on(&found.value.node, id);
            let used = self.list::<rows::Endpoint>(endpoints.clone()).await?;
            if used.rows.iter().any(|endpoint| endpoint.value.addresses.contains(&address)) {
                return Err(Error::AddressTaken { address, node: found.value.node.clone() });
            }
            let mut lent = found.value.clone();
            lent.lent.insert(address, node.clone());
            let txn = Txn::new()
                .when(Compare::unchanged(&fence))
                .when(Compare::unchanged(&found.row))
                .when(unwritten_since(endpoints, used.revision))
                .then(self.put(&found.key, &lent));
            if self.store.txn(txn).await?.held {
                return Ok(Claimed::Lent(block));
            }
        }
        Err(contended("claiming an address"))
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
                (alone && found.value.node == *node) || found.value.lent.get(&address) == Some(node)
            });
            let Some(found) = found else { return Ok(()) };
            let txn = Txn::new().when(Compare::unchanged(&found.row));
            let mut block = found.value.clone();
            let txn = if block.lent.remove(&address).is_some() {
                txn.then(self.put(&found.key, &block))
            } else {
                txn.then(Op::delete(found.row.key.as_str()))
            };
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("releasing an address"))
    }
}
