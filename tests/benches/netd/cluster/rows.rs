//! Rows of nodes that are no hosts, written into the cluster's etcd as they would write them.

use std::ops::Range;

use ::cluster::{
    ClusterId, Key, Layout, NodeId, Role,
    identity::Directory,
    rows::{self, Schema},
};
use anyhow::{Context, Result};
use cnm::{EndpointId, MacAddr, NetworkId, network::ListNetworks};
use kernel::netns::Netns;
use store::{Etcd, EtcdOptions, Op, Store, Txn};
use tokio::runtime::{Builder, Runtime};

use super::fleet::{Fleet, NETWORK};

/// How many rows are written at once: fewer than etcd takes.
const AT_ONCE: usize = 100;

/// How many nodes there are.
const NODES: u32 = 50;

/// Nodes that are no hosts, by the first manager's right to write everything.
pub(crate) struct Others {
    store: Store,
    layout: Layout,
    network: NetworkId,
    runtime: Runtime,
    place: Netns,
    home: Netns,
}

/// What endpoint number `n` is called.
pub(crate) fn name_of(n: u32) -> String {
    format!("far-{n}")
}

/// A spread of ids, as random ones have it.
fn id(n: u32) -> EndpointId {
    let mut bytes = [0x5a; 32];
    bytes[..4].copy_from_slice(&n.wrapping_mul(0x9e37_79b1).to_be_bytes());
    EndpointId::from_bytes(bytes)
}

fn node(n: u32) -> Result<NodeId> {
    Ok(format!("{:025}", n % NODES).parse()?)
}

impl Others {
    pub(crate) fn of(fleet: &mut Fleet) -> Result<Self> {
        let (place, home) = (fleet.place(0)?, Netns::own()?);
        let status = fleet.status(0)?;
        let cluster: ClusterId = status.cluster.context("it is in a cluster")?.parse()?;
        let identity = Directory::new(fleet.hosts[0].dir().join("state/cluster")).identity()?;
        let tls = Some(identity.context("it has a certificate")?.tls());
        let listed = fleet.hosts[0].client.call(&ListNetworks::default())?.networks;
        let network = listed.into_iter().find(|network| network.name.as_str() == NETWORK);
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let options = EtcdOptions { endpoints: status.store, tls };
        let etcd = place.inside(&home, || runtime.block_on(Etcd::connect(options)))??;
        Ok(Self {
            store: Store::Etcd(etcd),
            layout: Layout::new(&cluster),
            network: network.context("it has a network")?.id,
            runtime,
            place,
            home,
        })
    }

    /// Waits for the store, where it is reached from.
    fn wait<T>(&self, work: impl Future<Output = store::Result<T>>) -> Result<T> {
        Ok(self.place.inside(&self.home, || self.runtime.block_on(work))??)
    }

    fn run(&self, ops: impl Iterator<Item = Result<Op>>) -> Result<()> {
        let ops: Vec<_> = ops.collect::<Result<_>>()?;
        for some in ops.chunks(AT_ONCE) {
            let txn = some.iter().cloned().fold(Txn::new(), Txn::then);
            self.wait(self.store.txn(txn))?;
        }
        Ok(())
    }

    fn key(&self, n: u32) -> Result<String> {
        Ok(self.layout.key(&Key::Endpoint(node(n)?, self.network.clone(), id(n))))
    }

    /// Writes all nodes. Each lives, and never says so again.
    pub(crate) fn write_nodes(&self) -> Result<()> {
        self.run((0..NODES).flat_map(|n| [self.node(n), self.live(n)]))
    }

    fn node(&self, n: u32) -> Result<Op> {
        let last = u8::try_from(n + 1)?;
        let row = rows::Node {
            schema: Schema::default(),
            id: node(n)?,
            role: Role::Worker,
            availability: rows::Availability::Active,
            epoch: 1,
            ingress: [100, 126, 200, last].into(),
            public_key: String::new(),
            joined_with: None,
            joined: 0,
            facts: rows::Facts {
                name: format!("far-host-{n}"),
                vtep4: Some([198, 51, 100, last].into()),
                mtu: 1500,
                ..rows::Facts::default()
            },
        };
        Ok(Op::put(self.layout.key(&Key::Node(node(n)?)), rows::write(&row)))
    }

    fn live(&self, n: u32) -> Result<Op> {
        let (boot, version) = (String::new(), String::new());
        let row = rows::Live { schema: Schema::default(), epoch: 1, boot, version };
        Ok(Op::put(self.layout.key(&Key::Live(node(n)?)), rows::write(&row)))
    }

    /// Writes endpoints.
    pub(crate) fn write(&self, numbers: Range<u32>) -> Result<()> {
        self.run(numbers.map(|n| {
            let [_, a, b, c] = n.to_be_bytes();
            let row = rows::Endpoint {
                schema: Schema::default(),
                addresses: vec![[10, 216 + a, b, c].into()],
                mac: MacAddr([2, 0x77, 0, a, b, c]),
                names: vec![name_of(n), format!("{n:012x}")],
                ports: Vec::new(),
                sequence: 0,
            };
            Ok(Op::put(self.key(n)?, rows::write(&row)))
        }))
    }

    /// Deletes an endpoint.
    pub(crate) fn delete(&self, n: u32) -> Result<()> {
        self.run(std::iter::once_with(|| Ok(Op::delete(self.key(n)?))))
    }

    /// The store's revision.
    pub(crate) fn revision(&self) -> Result<u64> {
        Ok(self.wait(self.store.state(self.layout.all()))?.1)
    }

    /// Keys and values of all endpoints together, in bytes, and how many endpoints there are.
    pub(crate) fn bytes_of_endpoints(&self) -> Result<(f64, f64)> {
        let rows = self.wait(self.store.all(self.layout.all_own()))?.rows;
        let endpoints = rows.iter().filter(|row| row.key.contains("/ep/"));
        let sizes: Vec<_> = endpoints.map(|row| row.key.len() + row.value.len()).collect();
        let number = |count: usize| u32::try_from(count).map(f64::from);
        Ok((number(sizes.iter().sum())?, number(sizes.len())?))
    }
}
