//! Nodes and endpoints come, move and go.

use std::collections::BTreeSet;

use cnm::peers::{ChangePeers, Elsewhere, Gone};
use netd_tests::Ping;

use crate::cluster::{Cluster, Running, Underlay, endpoint, network, peer};

fn pair(cluster: &mut Cluster) -> [Running; 2] {
    let network = network(1, &["10.1.0.0/16", "fd00:1::/64"], cluster.mtu());
    cluster.up(&network);
    [(0, 10), (1, 11)].map(|(host, number)| cluster.attach(&network, host, number))
}

#[test]
fn what_was_told_piece_by_piece_is_what_is_told_at_once() {
    let mut cluster = Cluster::new(Underlay::V4, 3);
    let network = network(1, &["10.1.0.0/16", "fd00:1::/64"], 1450);
    cluster.up(&network);
    let running: Vec<_> = (0..6_u16)
        .map(|number| cluster.attach(&network, usize::from(number) % 3, 10 + number))
        .collect();
    assert_eq!(cluster.tell_all(), [0, 0, 0]);
    let before: Vec<_> = cluster.hosts.iter().map(|host| host.rows()).collect();
    // Each row in other words: 4 remote endpoints of 2 addresses, and 2 nodes, none of which is a nexthop.
    let count = |start: &str| before[0].iter().filter(|row| row.starts_with(start)).count();
    assert_eq!((count("neighbour"), count("fdb"), count("nexthop")), (4 * 2 + 2 * 2, 4 * 2 + 2, 0));
    for one in &running[3..] {
        cluster.detach(&network, one);
    }
    assert_eq!(cluster.tell_all(), [0, 0, 0]);
    let again = cluster.attach(&network, 0, 13);
    cluster.attach(&network, 1, 14);
    cluster.attach(&network, 2, 15);
    let after: Vec<_> = cluster.hosts.iter().map(|host| host.rows()).collect();
    assert_eq!(after, before);
    assert!(again.netns.pings(running[1].v4()));
}

#[test]
fn a_node_that_moves_is_followed() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let [a, b] = pair(&mut cluster);
    let rows = cluster.hosts[0].rows().len();
    let netns = &cluster.hosts[1].netns;
    netns.run("sysctl -q net.ipv4.conf.eth0.promote_secondaries=1");
    netns.run("ip address add 192.0.2.52/24 dev eth0");
    let moved = cluster.vtep(52);
    cluster.hosts[1].node.vtep = moved;
    for network in &mut cluster.hosts[1].networks {
        network.overlay.as_mut().unwrap().node.vtep = moved;
    }
    assert!(a.netns.pings(b.v4()));
    // The host itself learns of it from its netd.
    let repaired = cluster.hosts[1].sync().repaired;
    assert_eq!(
        repaired,
        ["have nx001001 send from 192.0.2.52", "have nx001000 send from 192.0.2.52"]
    );
    assert!(a.netns.pings_in_vain(b.v4()), "it is not known there yet");
    let there = Elsewhere { nodes: vec![cluster.hosts[1].node.clone()], ..Elsewhere::default() };
    let change = ChangePeers { there, ..ChangePeers::default() };
    let written = cluster.hosts[0].peers(&change);
    // The node, and its address on the network between the nodes, which is as it was.
    assert!(written <= 4, "{written} rows for one node");
    cluster.hosts[1].netns.run("ip address del 192.0.2.2/24 dev eth0");
    assert!(a.netns.pings(b.v4()));
    assert!(b.netns.pings(a.v6()));
    assert!(cluster.hosts[0].netns.pings(b.v4()));
    assert_eq!(cluster.hosts[0].rows().len(), rows);
    assert_eq!(cluster.tell_all(), [0, 0]);
    let facts = cluster.hosts[0].netns.run("nft list set inet netd-overlay tunnels4");
    assert!(!facts.contains("192.0.2.2 ") && facts.contains("192.0.2.52 . "), "{facts}");
}

fn all_rows_follow(underlay: Underlay) {
    const MANY: u16 = 1000;
    let mut cluster = Cluster::new(underlay, 3);
    let mut network = network(1, &["10.1.0.0/16"], cluster.mtu());
    network.options.insert("broadcast".into(), "on".into());
    cluster.up(&network);
    let [a, c] = [(0, 10), (2, 12)].map(|(host, number)| cluster.attach(&network, host, number));
    let mut ends: Vec<_> = (0..2 * MANY).map(|n| endpoint(&network, 100 + n, &[])).collect();
    for (host, endpoints) in [(1, ends.split_off(MANY.into())), (2, ends)] {
        cluster.hosts[host].endpoints.extend(endpoints);
    }
    cluster.tell_all();
    let before = cluster.hosts[0].forwards();
    let (from, to) = (cluster.vtep(2).to_string(), cluster.vtep(52).to_string());
    // A row for each endpoint, and two for the node: itself, and what goes to everybody.
    let count = before.iter().filter(|row| row[2] == from).count();
    assert_eq!(count, usize::from(MANY) + 2);

    // The driver knows where the node was though it did not say so itself.
    cluster.restart(0);
    cluster.hosts[0].sync();
    let ping = Ping::start(&a.netns, c.v4());
    cluster.hosts[1].node.vtep = cluster.vtep(52);
    let nodes = vec![cluster.hosts[1].node.clone()];
    let there = Elsewhere { nodes, ..Elsewhere::default() };
    let written = cluster.hosts[0].peers(&ChangePeers { there, ..ChangePeers::default() });
    assert!(written <= usize::from(MANY) + 5, "{written} rows");
    let moved = |mut row: [String; 3]| {
        if row[2] == from {
            row[2].clone_from(&to);
        }
        row
    };
    assert_eq!(cluster.hosts[0].forwards(), before.into_iter().map(moved).collect());
    ping.goes_on();
    assert!(ping.lost_none() > 0);
    let everything =
        ChangePeers { complete: true, there: cluster.elsewhere(0), ..ChangePeers::default() };
    assert_eq!(cluster.hosts[0].peers(&everything), 0);
}

#[test]
fn all_rows_of_a_node_that_moves_lead_to_where_it_is() {
    all_rows_follow(Underlay::V4);
}

#[test]
fn over_ipv6_all_rows_of_a_node_that_moves_lead_to_where_it_is() {
    all_rows_follow(Underlay::V6);
}

#[test]
fn over_ipv6_a_host_that_moved_sends_from_where_it_is() {
    let mut cluster = Cluster::new(Underlay::V6, 2);
    let [a, b] = pair(&mut cluster);
    assert!(a.netns.pings(b.v4()) && cluster.hosts[0].netns.pings(b.v4()));
    let moved = cluster.vtep(52);
    cluster.hosts[0].netns.run(&format!("ip address add {moved}/64 dev eth0 nodad"));
    assert!(a.netns.pings(b.v4()) && cluster.hosts[0].netns.pings(b.v4()));
    cluster.hosts[0].node.vtep = moved;
    for network in &mut cluster.hosts[0].networks {
        network.overlay.as_mut().unwrap().node.vtep = moved;
    }
    let rows = cluster.hosts[0].rows();
    cluster.hosts[0].sync();
    assert_eq!(cluster.hosts[0].rows(), rows);
    let there = Elsewhere { nodes: vec![cluster.hosts[0].node.clone()], ..Elsewhere::default() };
    cluster.hosts[1].peers(&ChangePeers { there, ..ChangePeers::default() });
    // It has the address where it was, too.
    assert!(a.netns.pings(b.v4()) && cluster.hosts[0].netns.pings(b.v4()));
}

#[test]
fn rows_of_a_netd_of_before_are_replaced_and_no_packet_is_lost() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let [a, b] = pair(&mut cluster);
    let host = &cluster.hosts[0];
    let (before, rows) = (host.forwards(), host.rows());
    let first = 0x6e00_0000 + 2 * 2;
    host.netns.run(&format!("ip nexthop add id {first} via 192.0.2.2 fdb proto 110"));
    host.netns.run(&format!("ip nexthop add id {} group {first} fdb proto 110", first + 1));
    host.netns.run("ip nexthop add id 7 via 192.0.2.77 fdb");
    for [device, mac, _] in &before {
        host.netns.run(&format!("bridge fdb delete {mac} dev {device} self"));
        host.netns.run(&format!("bridge fdb add {mac} dev {device} nhid {} self", first + 1));
    }
    assert!(host.forwards().is_empty() && a.netns.pings(b.v4()));

    cluster.restart(0);
    let ping = Ping::start(&a.netns, b.v4());
    let from_host = Ping::start(&cluster.hosts[0].netns, b.v4());
    cluster.hosts[0].sync();
    cluster.tell_all();
    ping.goes_on();
    from_host.goes_on();
    assert!(ping.lost_none() > 0 && from_host.lost_none() > 0);
    assert_eq!(cluster.hosts[0].forwards(), before);
    // Another's stays.
    cluster.hosts[0].netns.run("ip nexthop delete id 7");
    assert_eq!(cluster.hosts[0].rows(), rows);
    assert_eq!(cluster.tell_all(), [0, 0]);
}

#[test]
fn with_a_node_goes_everything_of_it() {
    let mut cluster = Cluster::new(Underlay::V4, 3);
    let [a, b] = pair(&mut cluster);
    let network = cluster.hosts[0].networks[0].clone();
    let c = cluster.attach(&network, 2, 12);
    assert!(a.netns.pings(b.v4()) && a.netns.pings(c.v4()));
    let dead = cluster.hosts.remove(1);
    let gone = Gone { nodes: vec![2], ..Gone::default() };
    cluster.tell_others(usize::MAX, &ChangePeers { gone, ..ChangePeers::default() });
    assert!(a.netns.pings(c.v4()));
    assert!(a.netns.pings_in_vain(b.v4()));
    let left = cluster.hosts[0].rows();
    let stale: Vec<_> = left.iter().filter(|row| row.contains("10.1.0.11 ")).collect();
    assert!(stale.is_empty(), "{stale:?}");
    assert_eq!(cluster.tell_all(), [0, 0]);
    // It comes back.
    cluster.hosts.insert(1, dead);
    cluster.tell_all();
    assert!(a.netns.pings(b.v4()));
}

#[test]
fn what_is_gone_goes_on_all_networks_where_the_device_of_one_went_before() {
    let mut cluster = Cluster::new(Underlay::V4, 3);
    let [a, _b] = pair(&mut cluster);
    let network = cluster.hosts[0].networks[0].clone();
    let c = cluster.attach(&network, 2, 12);
    let other = crate::cluster::network(2, &["10.2.0.0/16"], 1450);
    cluster.up(&other);
    let members = [(0, 20), (1, 21)].map(|(host, number)| cluster.attach(&other, host, number));
    assert!(members[0].netns.pings(members[1].v4()));
    let device = |name: &str| format!("ip link delete {name}");
    cluster.hosts[0].netns.run(&device("nx001001"));
    let dead = cluster.hosts.remove(1);
    let gone = Gone { nodes: vec![2], ..Gone::default() };
    cluster.tell_others(usize::MAX, &ChangePeers { gone, ..ChangePeers::default() });
    let stale = |cluster: &Cluster| {
        let mut rows = cluster.hosts[0].rows();
        rows.retain(|row| row.contains("10.2.0.21 ") || row.contains("192.0.2.2 "));
        let facts = cluster.hosts[0].netns.run("nft list table inet netd-overlay");
        rows.extend(facts.lines().filter(|line| line.contains("192.0.2.2 ")).map(str::to_owned));
        rows
    };
    assert_eq!(stale(&cluster), BTreeSet::new());
    // The look that comes each minute finds nothing to do beyond what is missing with the device.
    cluster.tell_all();
    assert_eq!(stale(&cluster), BTreeSet::new());
    cluster.hosts[0].sync();
    cluster.tell_all();
    assert!(a.netns.pings(c.v4()));
    cluster.hosts.insert(1, dead);
    cluster.tell_all();
    assert!(members[0].netns.pings(members[1].v4()));
    assert_eq!(cluster.tell_all(), [0, 0, 0]);
}

#[test]
fn an_endpoint_that_moves_is_found_where_it_is() {
    let mut cluster = Cluster::new(Underlay::V4, 3);
    let [a, b] = pair(&mut cluster);
    let network = cluster.hosts[0].networks[0].clone();
    assert!(a.netns.pings(b.v4()));
    // Away from host 2 and up on host 3, told as one change.
    let was = peer(&b.endpoint, 2);
    let (endpoint, host) = (b.endpoint.clone(), &mut cluster.hosts[1]);
    let overlay = host.local(&network);
    host.session
        .call(&cnm::driver::DetachEndpoint {
            network: overlay,
            endpoint: endpoint.clone(),
            netns: None,
            stays: false,
        })
        .unwrap();
    host.endpoints.clear();
    let host = &mut cluster.hosts[2];
    // What it was told of the endpoint when that was elsewhere goes first.
    let gone = Gone { peers: vec![was.clone()], ..Gone::default() };
    host.peers(&ChangePeers { gone: gone.clone(), ..ChangePeers::default() });
    let sandbox = cluster.world.namespace();
    let params = cnm::driver::AttachEndpoint {
        network: host.local(&network),
        endpoint: endpoint.clone(),
        netns: sandbox.path(),
    };
    host.session.call(&params).unwrap();
    host.endpoints.push(endpoint.clone());
    let there = Elsewhere { peers: vec![peer(&endpoint, 3)], ..Elsewhere::default() };
    let change = ChangePeers { there, gone, ..Default::default() };
    cluster.hosts[0].peers(&change);
    cluster.hosts[1].peers(&change);
    assert!(a.netns.pings(b.v4()));
    assert!(sandbox.pings(a.v6()));
    assert_eq!(cluster.tell_all(), [0, 0, 0]);
}

#[test]
fn a_driver_that_is_killed_costs_no_packet_and_leaves_nothing_to_do() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let [a, b] = pair(&mut cluster);
    let before: Vec<_> = cluster.hosts.iter().map(|host| host.rows()).collect();
    let ping = Ping::start(&a.netns, b.v4());
    let from_host = Ping::start(&cluster.hosts[0].netns, b.v4());
    for host in [0, 1] {
        cluster.restart(host);
        ping.goes_on();
        assert_eq!(cluster.hosts[host].sync().repaired, [""; 0]);
    }
    assert_eq!(cluster.tell_all(), [0, 0]);
    ping.goes_on();
    from_host.goes_on();
    assert!(ping.lost_none() > 0);
    assert!(from_host.lost_none() > 0);
    let after: Vec<_> = cluster.hosts.iter().map(|host| host.rows()).collect();
    assert_eq!(after, before);
    // Nothing was told of the others: what is known of them is still there.
    cluster.restart(0);
    assert_eq!(cluster.hosts[0].sync().repaired, [""; 0]);
    assert_eq!(cluster.hosts[0].rows(), before[0]);
    let late = cluster.hosts[0].networks[0].clone();
    let c = cluster.attach(&late, 1, 12);
    assert!(a.netns.pings(c.v4()));
}
