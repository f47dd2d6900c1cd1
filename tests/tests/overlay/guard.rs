//! VXLAN from where it should not come.

use std::net::SocketAddr;

use cnm::peers::{ChangePeers, Elsewhere, Gone, Member};
use netd_tests::{Heard, Namespace, eventually};

use crate::cluster::{Cluster, Underlay, network, plug};

/// Somebody with a VXLAN device of his own, and everything that he needs to know.
struct Stranger(Namespace);

impl Stranger {
    fn new(cluster: &Cluster, last: usize, victim_mac: &str) -> Self {
        let netns = plug(&cluster.world, &cluster.wire, last);
        let (local, victim) = (cluster.vtep(last), cluster.vtep(1));
        netns.run(&format!(
            "ip link add vx type vxlan id 4097 local {local} remote {victim} dstport 4789"
        ));
        netns.run("ip link set vx up");
        netns.run("ip address add 10.1.0.66/16 dev vx");
        netns.run(&format!("ip neighbour add 10.1.0.10 lladdr {victim_mac} dev vx"));
        Self(netns)
    }

    fn shoot(&self, target: SocketAddr) {
        self.0.send_udp(target).unwrap();
    }
}

fn arrives(shoot: impl Fn(), heard: &Heard) {
    eventually("the datagram arrives", || {
        shoot();
        let heard = heard.from();
        if heard.is_empty() { Err(heard) } else { Ok(()) }
    });
}

fn guarded(underlay: Underlay) {
    let mut cluster = Cluster::new(underlay, 2);
    let network = network(1, &["10.1.0.0/16"], cluster.mtu());
    cluster.up(&network);
    let victim = cluster.attach(&network, 0, 10);
    let friend = cluster.attach(&network, 1, 11);
    let heard = victim.netns.serve_udp(99);
    let target = SocketAddr::new(victim.v4(), 99);
    let stranger = Stranger::new(&cluster, 66, &victim.endpoint.mac.unwrap().to_string());
    let dropped = |cluster: &Cluster, counter: &str, shoot: &dyn Fn()| {
        let before = cluster.hosts[0].dropped(counter);
        eventually("the datagram is dropped and counted", || {
            shoot();
            let now = cluster.hosts[0].dropped(counter);
            if now > before { Ok(()) } else { Err(now) }
        });
    };
    let shoot = || stranger.shoot(target);
    dropped(&cluster, "vxlan_strangers", &shoot);
    assert!(heard.from().is_empty());

    // A node of the cluster which is not on the network.
    let mut node = cluster.hosts[1].node.clone();
    (node.number, node.vtep) = (66, cluster.vtep(66));
    node.addresses.clear();
    let there = Elsewhere { nodes: vec![node], ..Elsewhere::default() };
    cluster.hosts[0].peers(&ChangePeers { there, ..ChangePeers::default() });
    dropped(&cluster, "vxlan_misplaced", &shoot);
    assert!(heard.from().is_empty());

    // One that is.
    let members = vec![Member { network: network.id.clone(), node: 66 }];
    let there = Elsewhere { members: members.clone(), ..Elsewhere::default() };
    cluster.hosts[0].peers(&ChangePeers { there, ..ChangePeers::default() });
    arrives(shoot, &heard);

    // And no more.
    let gone = Gone { members, ..Gone::default() };
    cluster.hosts[0].peers(&ChangePeers { gone, ..ChangePeers::default() });
    dropped(&cluster, "vxlan_misplaced", &shoot);
    let gone = Gone { nodes: vec![66], ..Gone::default() };
    cluster.hosts[0].peers(&ChangePeers { gone, ..ChangePeers::default() });
    dropped(&cluster, "vxlan_strangers", &shoot);
    friend.netns.ask_udp(target).unwrap();

    // Whoever looks at the driver sees it too.
    let host = &mut cluster.hosts[0];
    let plan = cnm::driver::PlanEndpoint {
        network: host.local(&network),
        endpoint: victim.endpoint.clone(),
    };
    eventually("the driver tells what the kernel counts", || {
        // A datagram that was shot before may still be on its way, between the one look and the other.
        let seen = host.session.call(&plan).unwrap().observed;
        let differs = |counter: &&str| seen["dropped"][*counter] != host.dropped(counter);
        let counter = ["vxlan_strangers", "vxlan_misplaced"].into_iter().find(differs);
        counter.map_or(Ok(()), |counter| Err(format!("{counter}: {seen}")))
    });
}

#[test]
fn only_members_get_in_over_ipv4() {
    guarded(Underlay::V4);
}

#[test]
fn only_members_get_in_over_ipv6() {
    guarded(Underlay::V6);
}

#[test]
fn another_programs_vxlan_at_the_same_port_is_left_alone() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &["10.1.0.0/16"], 1450);
    cluster.up(&network);
    for (host, other) in [(0, 1), (1, 0)] {
        let (local, remote) = (cluster.vtep(host + 1), cluster.vtep(other + 1));
        let netns = &cluster.hosts[host].netns;
        netns.run(&format!(
            "ip link add fx type vxlan id 77 local {local} remote {remote} dstport 4789"
        ));
        netns.run("ip link set fx up");
        netns.run(&format!("ip address add 172.31.0.{}/24 dev fx", host + 1));
    }
    assert!(cluster.hosts[0].netns.pings("172.31.0.2".parse().unwrap()));
    for host in &mut cluster.hosts {
        assert_eq!(host.sync().repaired, [""; 0]);
        host.down(&network).unwrap();
    }
    assert!(cluster.hosts[0].netns.pings("172.31.0.2".parse().unwrap()));
}
