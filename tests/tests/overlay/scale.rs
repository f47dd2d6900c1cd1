//! Ten thousand endpoints elsewhere.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};

use cnm::{
    MacAddr,
    peers::{ChangePeers, Elsewhere, Gone, Node, Peer},
};
use netd_tests::{Ping, eventually};

use crate::cluster::{Cluster, Host, Underlay, network};

const NODES: u32 = 50;
const PEERS: u32 = 10_000;

fn many(cluster: &Cluster, network: &cnm::network::Network) -> Elsewhere {
    let mut there = cluster.elsewhere(0);
    let nodes = 100..100 + NODES;
    there.nodes.extend(nodes.map(|number| Node {
        number,
        vtep: format!("192.0.2.{number}").parse().unwrap(),
        addresses: vec![format!("100.64.0.{number}/16").parse().unwrap()],
    }));
    there.peers.extend((0..PEERS).map(|n| {
        let [_, _, high, low] = n.to_be_bytes();
        Peer {
            network: network.id.clone(),
            node: 100 + n % NODES,
            mac: MacAddr([2, 0x77, 0, 0, high, low]),
            addresses: vec![[10, 1, 100 + high, low].into()],
        }
    }));
    there
}

fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn ten_thousand_endpoints_are_known_and_stay_known() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number));
    let there = many(&cluster, &network);
    let everything = ChangePeers { complete: true, there, ..Default::default() };
    let timed = |what: &str, cluster: &mut Cluster, change: &ChangePeers| {
        let start = Instant::now();
        let rows = cluster.hosts[0].peers(change);
        println!("{what}: {rows} rows in {:?}", start.elapsed());
        rows
    };
    let before = resident(cluster.hosts[0].session.pid());
    let rows = timed("10,000 endpoints on 50 nodes", &mut cluster, &everything);
    assert_eq!(rows, 3 * 10_000 + 2 * 50);
    let grown = resident(cluster.hosts[0].session.pid()).saturating_sub(before);
    println!("the session grew by {grown} kB");
    assert_eq!(timed("the same again", &mut cluster, &everything), 0);

    let ping = Ping::start(&a.netns, b.v4());
    cluster.restart(0);
    let start = Instant::now();
    assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
    assert_eq!(cluster.hosts[0].peers(&everything), 0);
    println!("a new session in sync: {:?}", start.elapsed());
    ping.goes_on();
    ping.lost_none();

    let mut moved = everything.there.nodes.last().unwrap().clone();
    moved.vtep = "192.0.2.200".parse().unwrap();
    let there = Elsewhere { nodes: vec![moved.clone()], ..Elsewhere::default() };
    let rows = timed("a node moves", &mut cluster, &ChangePeers { there, ..Default::default() });
    // Each of its endpoints, and its own: of the last of 50 nodes.
    assert!(rows <= 10_000 / 50 + 4, "{rows} rows");
    let gone = Gone { nodes: vec![moved.number], ..Gone::default() };
    timed("a node goes", &mut cluster, &ChangePeers { gone, ..Default::default() });
    let there = Elsewhere {
        nodes: everything.there.nodes[1..2].to_vec(),
        peers: everything.there.peers[..1].to_vec(),
        ..Elsewhere::default()
    };
    timed("one endpoint", &mut cluster, &ChangePeers { there, ..Default::default() });
    timed("the missing ones", &mut cluster, &everything);
    let nobody = ChangePeers { complete: true, there: cluster.elsewhere(0), ..Default::default() };
    timed("all but one go", &mut cluster, &nobody);
    let before: Vec<_> = cluster.hosts.iter().map(Host::rows).collect();
    let told = cluster.tell_all();
    let after: Vec<_> = cluster.hosts.iter().map(Host::rows).collect();
    let differ: Vec<_> = before.iter().zip(&after).map(|(was, is)| was ^ is).collect();
    assert_eq!((told, before), (vec![0, 0], after), "these rows differ: {differ:?}");
    assert!(a.netns.pings(b.v4()));
}

/// Has permanent neighbours come and go, so many at a time, in a namespace that nobody else knows, until
/// it is dropped. The kernel has one table for all namespaces.
struct Churn {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Churn {
    fn start(cluster: &Cluster, count: u32) -> Self {
        let netns = cluster.world.namespace();
        netns.run("ip link add br0 type bridge");
        netns.run("ip link set br0 up");
        let line = |verb: &str, tail: &str| {
            let one = |n: u32| {
                let [_, _, high, low] = n.to_be_bytes();
                format!("neighbour {verb} 10.7.{high}.{low} dev br0{tail}\n")
            };
            (0..count).map(one).collect::<String>()
        };
        let both = [line("replace", " lladdr 02:00:00:00:00:07"), line("delete", "")].concat();
        fs::write("/run/churn", both).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                netns.run("ip -batch /run/churn");
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Churn {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || thread::panicking());
    }
}

#[test]
fn rows_are_not_lost_while_those_of_others_come_and_go() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    let _running = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number));
    cluster.tell_all();
    let before = cluster.hosts[0].rows();
    let there = many(&cluster, &network);
    let everything = ChangePeers { complete: true, there, ..Default::default() };
    let nobody = ChangePeers { complete: true, there: cluster.elsewhere(0), ..Default::default() };
    let churn = Churn::start(&cluster, 20_000);
    for round in 0..3 {
        cluster.hosts[0].peers(&everything);
        for again in 0..4 {
            assert_eq!(cluster.hosts[0].peers(&everything), 0, "round {round}, look {again}");
        }
        cluster.hosts[0].peers(&nobody);
        assert_eq!(cluster.hosts[0].peers(&nobody), 0, "round {round}");
    }
    drop(churn);
    assert_eq!(cluster.hosts[0].rows(), before);
}

#[test]
fn a_driver_that_dies_half_way_is_carried_on_by_the_next() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number));
    let before = cluster.hosts[0].rows();
    let there = many(&cluster, &network);
    let everything = ChangePeers { complete: true, there, ..Default::default() };
    let nobody = ChangePeers { complete: true, there: cluster.elsewhere(0), ..Default::default() };
    let ping = Ping::start(&a.netns, b.v4());
    let mut half = 0;
    for (told, done) in [(&everything, 30_100), (&nobody, 0)] {
        cluster.hosts[0].session.tell(told);
        eventually("it is under way", || {
            let now = cluster.hosts[0].rows();
            if now.len() == before.len() && done > 0 { Err(now.len()) } else { Ok(()) }
        });
        cluster.hosts[0].session.kill();
        let rows = cluster.hosts[0].rows().len() - before.len();
        half += usize::from(rows != 10_000 * 3 + 50 * 2 && rows != 0);
        cluster.restart(0);
        assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
        cluster.hosts[0].peers(told);
        assert_eq!(cluster.hosts[0].peers(told), 0);
        ping.goes_on();
    }
    println!("killed in the middle {half} times of 2");
    assert_eq!(cluster.hosts[0].rows(), before);
    ping.lost_none();
}

#[test]
fn what_comes_in_parts_is_done_with_the_last() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    let [a, b] = [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number));
    cluster.tell_all();
    let before = cluster.hosts[0].rows();
    let ping = Ping::start(&a.netns, b.v4());
    let there = many(&cluster, &network);
    let everything = ChangePeers { complete: true, there, ..Default::default() };
    let parts: Vec<_> = everything.clone().parts().collect();
    let (last, others) = parts.split_last().unwrap();
    assert!(others.len() > 1, "they fit into {} lines", parts.len());
    // Twice, since whoever was interrupted begins again.
    for _ in 0..2 {
        for part in others {
            assert_eq!(cluster.hosts[0].peers(part), 0);
        }
    }
    assert_eq!(cluster.hosts[0].rows(), before);
    // The second time from the beginning, or there would be too many.
    assert_eq!(cluster.hosts[0].peers(last), 3 * 10_000 + 2 * 50);
    assert_eq!(cluster.hosts[0].peers(&everything), 0);

    // Half of it is not everything, whatever comes between.
    cluster.hosts[0].peers(&others[0]);
    cluster.hosts[0].peers(&ChangePeers::default());
    let refused = cluster.hosts[0].session.call(last).unwrap_err();
    assert_eq!(refused.kind, cnm::Kind::Invalid, "{refused}");
    cluster.restart(0);
    cluster.hosts[0].sync();
    let refused = cluster.hosts[0].session.call(&others[1]).unwrap_err();
    assert_eq!(refused.kind, cnm::Kind::Invalid, "{refused}");
    assert_eq!(cluster.hosts[0].peers(&everything), 0);

    let few: Vec<_> =
        ChangePeers { complete: true, there: cluster.elsewhere(0), ..Default::default() }
            .parts()
            .collect();
    assert_eq!(few.len(), 1);
    cluster.hosts[0].peers(&few[0]);
    assert_eq!(cluster.hosts[0].rows(), before);
    ping.goes_on();
    ping.lost_none();
}
