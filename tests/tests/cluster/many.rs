//! Ten thousand endpoints on a node that is no host: its rows are written by the test, by the first
//! manager's right to write everything.

use ::cluster::{
    Key, Layout, NodeId, Role,
    identity::Directory,
    rows::{self, Availability, Endpoint, Facts, Live, Node, Schema},
};
use cnm::{EndpointId, MacAddr, NetworkId};
use kernel::netns::Netns;
use netd_tests::{Ping, eventually};
use store::{Etcd, EtcdOptions, Op, Store, Txn};

use crate::fleet::{Fleet, resolves};

const MANY: u32 = 10_000;

fn node() -> NodeId {
    "7".repeat(25).parse().unwrap()
}

fn endpoint(layout: &Layout, network: &NetworkId, n: u32) -> (String, Endpoint) {
    let [a, b, c, d] = n.to_be_bytes();
    let mut id = [0x5a; 32];
    id[..4].copy_from_slice(&[d, c, b, a]);
    let key = Key::Endpoint(node(), network.clone(), EndpointId::from_bytes(id));
    let row = Endpoint {
        schema: Schema::default(),
        addresses: vec![[10, 200, c, d].into()],
        mac: MacAddr([2, 0x77, 0, b, c, d]),
        names: vec![format!("far-{n}")],
        ports: Vec::new(),
        sequence: 0,
    };
    (layout.key(&key), row)
}

fn first_rows(layout: &Layout) -> [Op; 2] {
    let node_row = Node {
        schema: Schema::default(),
        id: node(),
        role: Role::Worker,
        availability: Availability::Active,
        epoch: 1,
        ingress: [100, 126, 200, 1].into(),
        public_key: String::new(),
        joined_with: None,
        joined: 0,
        facts: Facts { vtep4: Some([198, 51, 100, 200].into()), mtu: 1500, ..Facts::default() },
    };
    let (boot, version) = (String::new(), String::new());
    let live = Live { schema: Schema::default(), epoch: 1, boot, version };
    [
        Op::put(layout.key(&Key::Node(node())), rows::write(&node_row)),
        Op::put(layout.key(&Key::Live(node())), rows::write(&live)),
    ]
}

/// Does this with the cluster's etcd, where its host is.
fn write(fleet: &Fleet, ops: &[Op]) {
    let status = fleet.status(0);
    let directory = Directory::new(fleet.hosts[0].state_dir().join("cluster"));
    let identity = directory.identity().unwrap().unwrap();
    let options = EtcdOptions { endpoints: status.store, tls: Some(identity.tls()) };
    let work = async {
        let store = Store::Etcd(Etcd::connect(options).await.unwrap());
        for some in ops.chunks(100) {
            store.txn(some.iter().cloned().fold(Txn::new(), Txn::then)).await.unwrap();
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let there = Netns::open(&fleet.hosts[0].netns.path()).unwrap();
    there.inside(&Netns::own().unwrap(), || runtime.block_on(work)).unwrap();
}

fn until_known(fleet: &Fleet, count: usize) {
    eventually("the kernel knows the way to all of them", || {
        let rows = fleet.hosts[1].netns.run("bridge fdb show");
        let known =
            rows.lines().filter(|row| row.contains("02:77:") && row.contains("dst 198.51.100.200"));
        let known = known.count();
        if known == count { Ok(()) } else { Err(known) }
    });
}

#[test]
fn ten_thousand_endpoints_elsewhere_cost_no_packet_when_netd_comes_back() {
    let mut fleet = Fleet::new(2);
    let network = fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let layout = Layout::new(&fleet.status(0).cluster.unwrap().parse().unwrap());
    let row = |n| endpoint(&layout, &network.id, n);
    let mut ops = Vec::from(first_rows(&layout));
    ops.extend((0..MANY).map(row).map(|(key, row)| Op::put(key, rows::write(&row))));
    write(&fleet, &ops);
    until_known(&fleet, MANY as usize);
    let (first, last) = (row(0).1.addresses[0], row(MANY - 1).1.addresses[0]);
    resolves(&b, "far-0", &[first]);
    resolves(&b, &format!("far-{}", MANY - 1), &[last]);

    let ping = Ping::start(&b.container.netns, a.ip());
    fleet.hosts[1].kill();
    write(&fleet, &[Op::delete(row(0).0)]);
    fleet.hosts[1].start();
    until_known(&fleet, MANY as usize - 1);
    resolves(&b, "far-0", &[]);
    resolves(&b, &format!("far-{}", MANY - 1), &[last]);
    ping.goes_on();
    ping.lost_none();
}
