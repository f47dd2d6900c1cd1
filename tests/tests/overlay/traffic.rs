//! What reaches what over hosts, and as whom.

use std::net::{IpAddr, SocketAddr};

use netd_tests::Namespace;

use crate::cluster::{Cluster, Running, Underlay, filter_bridged, network, plug};

const SUBNETS: [&str; 2] = ["10.1.0.0/16", "fd00:1::/64"];

fn at(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip, port)
}

/// Everybody reaches everybody: containers each other as themselves, hosts as themselves.
fn all_meet(cluster: &Cluster, containers: &[Running]) {
    for from in containers {
        for to in containers {
            for v4 in [true, false] {
                let (source, target) = (from.ip(v4), to.ip(v4));
                assert!(from.netns.pings(target), "{source} to {target}");
                assert_eq!(from.netns.ask_tcp(at(target, 80)).unwrap(), source);
                assert_eq!(from.netns.ask_udp(at(target, 80)).unwrap(), source);
            }
        }
    }
    for host in &cluster.hosts {
        host.netns.serve_tcp(81);
        for own in &host.node.addresses {
            for from in containers {
                let seen = from.netns.ask_tcp(at(own.ip(), 81)).unwrap();
                assert_eq!(seen, from.ip(own.is_ipv4()), "to host {}", host.node.number);
            }
        }
        for to in containers {
            for v4 in [true, false] {
                let own = host.node.addresses.iter().find(|own| own.is_ipv4() == v4).unwrap().ip();
                let target = to.ip(v4);
                assert!(host.netns.pings(target), "host {} to {target}", host.node.number);
                assert_eq!(host.netns.ask_tcp(at(target, 80)).unwrap(), own);
                assert_eq!(host.netns.ask_udp(at(target, 80)).unwrap(), own);
            }
        }
    }
}

fn three_hosts(underlay: Underlay, bridged: bool) -> (Cluster, Vec<Running>) {
    let mut cluster = Cluster::new(underlay, 3);
    filter_bridged(&cluster, bridged);
    let network = network(1, &SUBNETS, cluster.mtu());
    cluster.up(&network);
    let containers: Vec<_> = (0..3)
        .flat_map(|host| [(host, 10 + host), (host, 20 + host)])
        .map(|(host, number)| cluster.attach(&network, host, u16::try_from(number).unwrap()))
        .collect();
    for container in &containers {
        container.netns.serve_tcp(80);
        container.netns.serve_udp(80);
    }
    (cluster, containers)
}

#[test]
fn containers_and_hosts_meet_over_ipv4() {
    let (cluster, containers) = three_hosts(Underlay::V4, false);
    all_meet(&cluster, &containers);
}

#[test]
fn containers_and_hosts_meet_where_bridged_frames_are_filtered() {
    let (cluster, containers) = three_hosts(Underlay::V4, true);
    all_meet(&cluster, &containers);
}

/// The mark of what was let through is for the rules of others, which come before the packet is sent: the
/// kernel keeps no way to a VTEP for packets with a mark.
#[test]
fn what_is_sent_to_another_host_has_the_mark_no_longer() {
    let (cluster, containers) = three_hosts(Underlay::V4, true);
    let host = &cluster.hosts[0].netns;
    let rules = "
        table inet other {
            chain forward {
                type filter hook forward priority 0
                mark set mark | 0x20000000
                ip daddr 10.1.0.0/16 mark & 0x40000000 != 0 counter comment forward
            }
            chain sent {
                type filter hook postrouting priority 301
                ip daddr 10.1.0.0/16 mark & 0x40000000 != 0 counter comment marked
                ip daddr 10.1.0.0/16 mark & 0x60000000 == 0x20000000 counter comment others
            }
        }";
    assert!(host.command(["nft", rules]).status().unwrap().success());
    assert!(containers[0].netns.pings(containers[2].ip(true)));
    let listed = host.run("nft list table inet other");
    let packets = |what: &str| -> u32 {
        let line = listed.lines().find(|line| line.contains(&format!("\"{what}\""))).unwrap();
        let mut words = line.split_whitespace();
        words.find(|word| *word == "packets").unwrap();
        words.next().unwrap().parse().unwrap()
    };
    assert_eq!(packets("marked"), 0, "{listed}");
    assert!(packets("forward") > 0 && packets("others") == packets("forward"), "{listed}");
}

#[test]
fn containers_and_hosts_meet_over_ipv6() {
    let (cluster, containers) = three_hosts(Underlay::V6, false);
    all_meet(&cluster, &containers);
}

fn full_size(underlay: Underlay) {
    let (cluster, containers) = three_hosts(underlay, false);
    let fits = cluster.mtu() - 28;
    let ping = |size: u32| {
        let line = format!("ping -n -c1 -W5 -M do -s {size} {}", containers[2].v4());
        containers[0].netns.output(&line).status.success()
    };
    assert!(ping(fits));
    assert!(!ping(fits + 1));
    // As large as the host may send, and back over the network between the nodes.
    let line = format!("ping -n -c1 -W5 -M do -s {fits} {}", containers[2].v4());
    cluster.hosts[0].netns.run(&line);
}

#[test]
fn a_packet_of_full_size_crosses_ipv4_and_a_larger_one_is_refused() {
    full_size(Underlay::V4);
}

#[test]
fn a_packet_of_full_size_crosses_ipv6_and_a_larger_one_is_refused() {
    full_size(Underlay::V6);
}

#[test]
fn who_is_unknown_is_not_asked_for_on_other_hosts() {
    let (cluster, containers) = three_hosts(Underlay::V4, false);
    let from = &containers[0].netns;
    let host = &cluster.hosts[0];
    let sent = || host.packets("nx001001", "tx");
    let before = sent();
    assert!(from.pings_in_vain("10.1.77.77".parse().unwrap()));
    assert!(from.pings_in_vain("fd00:1::7777".parse().unwrap()));
    assert_eq!(sent(), before, "a question has left the host");
    // Who is known is answered for: of a ping to somebody new nothing crosses but itself.
    for target in [containers[2].v4(), containers[2].v6()] {
        let before = sent();
        assert!(from.pings(target));
        assert_eq!(sent(), before + 1, "more than the ping has left the host for {target}");
    }
    let arp = from.run("ip neighbour show");
    assert!(arp.contains("02:42:00"), "{arp}");
}

fn elsewhere(cluster: &Cluster) -> Namespace {
    let server = plug(&cluster.world, &cluster.wire, 100);
    server.serve_tcp(80);
    server.serve_udp(80);
    server
}

#[test]
fn a_container_leaves_by_its_own_host() {
    let (cluster, containers) = three_hosts(Underlay::V4, false);
    let _server = elsewhere(&cluster);
    for container in &containers {
        for (target, base) in [("192.0.2.100", "192.0.2."), ("2001:db8::64", "2001:db8::")] {
            let own: IpAddr = format!("{base}{}", container.host + 1).parse().unwrap();
            let target = at(target.parse().unwrap(), 80);
            assert_eq!(container.netns.ask_tcp(target).unwrap(), own);
            assert_eq!(container.netns.ask_udp(target).unwrap(), own);
        }
    }
}

#[test]
fn a_published_port_answers_on_its_containers_host() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let network = network(1, &SUBNETS, 1450);
    cluster.up(&network);
    let web = cluster.publish(&network, 1, 10, &["8080:80"]);
    let other = cluster.attach(&network, 0, 11);
    let heard = web.netns.serve_tcp(80);
    let lan = elsewhere(&cluster);
    for (host, client) in [("192.0.2.2", "192.0.2.100"), ("2001:db8::2", "2001:db8::64")] {
        let target = at(host.parse().unwrap(), 8080);
        let client: IpAddr = client.parse().unwrap();
        assert_eq!(lan.ask_tcp(target).unwrap(), client);
        // Another host, a container there, and the container itself.
        cluster.hosts[0].netns.ask_tcp(target).unwrap();
        other.netns.ask_tcp(target).unwrap();
        web.netns.ask_tcp(target).unwrap();
        cluster.hosts[1].netns.ask_tcp(target).unwrap();
    }
    cluster.hosts[1].netns.ask_tcp(at("127.0.0.1".parse().unwrap(), 8080)).unwrap();
    assert!(!heard.from().is_empty());
    // Nothing else comes in.
    lan.run("ip route add 10.1.0.0/16 via 192.0.2.2");
    lan.try_tcp(at(web.v4(), 80)).unwrap_err();
    lan.try_tcp(at("192.0.2.1".parse().unwrap(), 8080)).unwrap_err();
    cluster.detach(&network, &web);
    lan.try_tcp(at("192.0.2.2".parse().unwrap(), 8080)).unwrap_err();
}

#[test]
fn networks_do_not_meet() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let (one, two) =
        (network(1, &SUBNETS, 1450), network(2, &["10.2.0.0/16", "fd00:2::/64"], 1450));
    let mut sealed = network(3, &["10.3.0.0/16"], 1450);
    sealed.internal = true;
    for network in [&one, &two, &sealed] {
        cluster.up(network);
    }
    let ours: Vec<_> = (0..2).map(|host| cluster.attach(&one, host, 10)).collect();
    let theirs: Vec<_> = (0..2).map(|host| cluster.attach(&two, host, 20)).collect();
    let inside: Vec<_> = [(0, 30), (1, 31)].map(|(h, n)| cluster.attach(&sealed, h, n)).into();
    drop(ours.iter().map(|one| one.netns.serve_tcp(80)).collect::<Vec<_>>());
    for to in &theirs {
        to.netns.serve_tcp(80);
        for v4 in [true, false] {
            ours[0].netns.try_tcp(at(to.ip(v4), 80)).unwrap_err();
        }
    }
    inside[1].netns.serve_tcp(80);
    assert_eq!(inside[0].netns.ask_tcp(at(inside[1].v4(), 80)).unwrap(), inside[0].v4());
    let _server = elsewhere(&cluster);
    inside[0].netns.try_tcp(at("192.0.2.100".parse().unwrap(), 80)).unwrap_err();
    inside[0].netns.try_tcp(at("100.64.0.2".parse().unwrap(), 80)).unwrap_err();
}

#[test]
fn what_goes_to_everybody_crosses_where_that_is_wanted() {
    let mut cluster = Cluster::new(Underlay::V4, 2);
    let quiet = network(1, &["10.1.0.0/16"], 1450);
    let mut loud = network(2, &["10.2.0.0/16"], 1450);
    loud.options.insert("broadcast".into(), "on".into());
    for network in [&quiet, &loud] {
        cluster.up(network);
    }
    let shout = |from: &Running, to: &str| {
        let to: SocketAddr = to.parse().unwrap();
        from.netns.inside(|| {
            let socket = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.set_broadcast(true).unwrap();
            socket.send_to(b"hello", to).unwrap();
        });
    };
    let [a, b] = [(0, 10), (1, 11)].map(|(host, n)| cluster.attach(&quiet, host, n));
    let [c, d] = [(0, 20), (1, 21)].map(|(host, n)| cluster.attach(&loud, host, n));
    let (hears_not, hears) = (b.netns.serve_udp(99), d.netns.serve_udp(99));
    shout(&a, "10.1.255.255:99");
    // The kernel lets a port take part a moment after its link is up.
    netd_tests::eventually("a shout is heard", || {
        shout(&c, "10.2.255.255:99");
        if hears.from().first() == Some(&c.v4()) { Ok(()) } else { Err(hears.from()) }
    });
    // What was sent before that has had its time.
    a.netns.ask_udp(at(b.v4(), 99)).unwrap();
    assert_eq!(hears_not.from(), [a.v4()]);
    let flooded = cluster.hosts[0].netns.run("bridge fdb show dev nx001002");
    assert!(flooded.contains("00:00:00:00:00:00 dst 192.0.2.2 "), "{flooded}");
}
