//! Ports that are published on every node: each is one row.

use cnm::EndpointId;
use store::{Compare, Keys, Op, Txn};

use super::{ATTEMPTS, Decider, contended};
use crate::{
    Error, Key, NodeId, Result,
    rows::{self, Schema},
};

impl Decider {
    /// Publishes a port for a node. Asked for again by the same it is as it was.
    ///
    /// # Errors
    /// [`Error::PortTaken`], [`Error::NoNode`], [`Error::Fenced`]; when the store is away.
    pub async fn publish_port(
        &self,
        node: &NodeId,
        epoch: u64,
        protocol: &str,
        port: u16,
        endpoint: Option<EndpointId>,
    ) -> Result<()> {
        let key = Key::Port(protocol.to_owned(), port);
        let row = rows::Port { schema: Schema::default(), node: node.clone(), endpoint };
        for _ in 0..ATTEMPTS {
            let (fence, _) = self.node_at(node, epoch).await?;
            if let Some((_, found)) = self.find::<rows::Port>(&key).await? {
                if found == row {
                    return Ok(());
                }
                let (protocol, node) = (protocol.to_owned(), found.node);
                return Err(Error::PortTaken { protocol, port, node });
            }
            let txn = Txn::new()
                .when(Compare::unchanged(&fence))
                .when(Compare::absent(Keys::One(self.layout.key(&key))))
                .then(self.put(&key, &row));
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("publishing a port"))
    }

    /// Takes a port back that a node published. One that it does not have is back.
    ///
    /// # Errors
    /// When the store is away.
    pub async fn unpublish_port(&self, node: &NodeId, protocol: &str, port: u16) -> Result<()> {
        let key = Key::Port(protocol.to_owned(), port);
        for _ in 0..ATTEMPTS {
            let Some((row, found)) = self.find::<rows::Port>(&key).await? else { return Ok(()) };
            if found.node != *node {
                return Ok(());
            }
            let txn = Txn::new().when(Compare::unchanged(&row)).then(Op::delete(row.key.as_str()));
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("taking a port back"))
    }
}
