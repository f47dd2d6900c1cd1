//! What must not get through, and proof that it does not: the one who should hear nothing listens.

use std::net::{IpAddr, SocketAddr};

use cnm::network::CreateNetwork;
use netd_tests::{Asking as _, Heard, Namespace, World, eventually};

/// Nothing of what `from` sends arrives at `address`, where these listen on port 80. What `known`
/// sends afterwards does, so that what is on its way has had its time.
fn nothing_arrives(
    from: &Namespace,
    address: IpAddr,
    [tcp, udp]: [&Heard; 2],
    known: (&Namespace, IpAddr),
) {
    let server = SocketAddr::new(address, 80);
    assert!(from.pings_in_vain(address));
    assert!(from.try_tcp(server).is_err());
    // Where there is no way at all it is not even sent.
    drop(from.send_udp(server));
    let before = udp.from().len();
    known.0.send_udp(server).expect("there is a way");
    let later = |heard: Vec<IpAddr>| {
        if heard.len() > before && heard.last() == Some(&known.1) { Ok(heard) } else { Err(heard) }
    };
    let heard = eventually("what is allowed arrives", || later(udp.from()));
    assert!(heard.iter().all(|peer| *peer == known.1), "{heard:?}");
    assert_eq!(tcp.from(), Vec::<IpAddr>::new());
}

/// With packets between ports of a bridge going through the IP tables or not (`br_netfilter`).
fn networks_are_closed(bridge_filter: &str) {
    let world = World::new();
    let host = world.host("a");
    host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={bridge_filter}"));
    let lan = host.lan();
    let mut netd = host.client();
    netd.create_on("one", "10.11.0.0/24");
    netd.create_on("two", "10.12.0.0/24");
    let (web, friend, stranger) =
        (world.container("web"), world.container("friend"), world.container("stranger"));
    let address = netd.attach(&web.to("one")).addresses[0].ip();
    let known = netd.attach(&friend.to("one")).addresses[0].ip();
    netd.attach(&stranger.to("two"));
    let (tcp, udp) = (web.netns.serve_tcp(80), web.netns.serve_udp(80));

    nothing_arrives(&stranger.netns, address, [&tcp, &udp], (&friend.netns, known));
    // The neighbour knows the way, which does not help.
    lan.run("ip route add 10.11.0.0/24 via 192.0.2.1");
    nothing_arrives(&lan, address, [&tcp, &udp], (&friend.netns, known));
    // Whatever others say of forwarding.
    host.netns.run("nft add table ip others");
    host.netns.run(
        "nft add chain ip others forward { type filter hook forward priority -10 ; policy accept ; }",
    );
    nothing_arrives(&lan, address, [&tcp, &udp], (&friend.netns, known));
    nothing_arrives(&stranger.netns, address, [&tcp, &udp], (&friend.netns, known));
}

#[test]
fn networks_are_closed_with_bridge_filter() {
    networks_are_closed("1");
}

#[test]
fn networks_are_closed_without_bridge_filter() {
    networks_are_closed("0");
}

#[test]
fn networks_are_closed_over_ipv6() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create_on("one", "fd00:11::/64");
    netd.create_on("two", "fd00:12::/64");
    let (web, friend, stranger) =
        (world.container("web"), world.container("friend"), world.container("stranger"));
    let v6 = |endpoint: cnm::endpoint::Endpoint| {
        endpoint.addresses.iter().find(|a| a.is_ipv6()).unwrap().ip()
    };
    let address = v6(netd.attach(&web.to("one")));
    let known = v6(netd.attach(&friend.to("one")));
    netd.attach(&stranger.to("two"));
    let (tcp, udp) = (web.netns.serve_tcp(80), web.netns.serve_udp(80));
    nothing_arrives(&stranger.netns, address, [&tcp, &udp], (&friend.netns, known));
    lan.run("ip route add fd00:11::/64 via 2001:db8::1");
    nothing_arrives(&lan, address, [&tcp, &udp], (&friend.netns, known));
}

#[test]
fn an_internal_network_has_no_way_out_or_in() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let subnet = cnm::network::Subnet::new("10.13.0.0/24".parse().unwrap());
    let vault =
        CreateNetwork { internal: true, subnets: vec![subnet], ..CreateNetwork::named("vault") };
    netd.call(&vault).unwrap();
    let (safe, friend, web) =
        (world.container("safe"), world.container("friend"), world.container("web"));
    let endpoint = netd.attach(&safe.to("vault"));
    let address = endpoint.addresses[0].ip();
    let known = netd.attach(&friend.to("vault")).addresses[0].ip();
    netd.attach(&web.to("app"));
    assert!(safe.netns.pings(known), "its members reach each other");
    let (tcp, udp) = (safe.netns.serve_tcp(80), safe.netns.serve_udp(80));
    lan.run("ip route add 10.13.0.0/24 via 192.0.2.1");
    nothing_arrives(&lan, address, [&tcp, &udp], (&friend.netns, known));
    nothing_arrives(&web.netns, address, [&tcp, &udp], (&friend.netns, known));

    // Nor out, even for one who makes himself a route.
    let (tcp, udp) = (lan.serve_tcp(80), lan.serve_udp(80));
    let outside: SocketAddr = "192.0.2.2:80".parse().unwrap();
    for route in ["true", "ip route add default via 10.13.0.1"] {
        drop(safe.netns.output(route));
        assert!(safe.netns.pings_in_vain(outside.ip()));
        assert!(safe.netns.try_tcp(outside).is_err());
        drop(safe.netns.send_udp(outside));
    }
    // What comes from the host itself is there after it.
    host.netns.send_udp(outside).unwrap();
    eventually("the host's packet arrives", || {
        let heard = udp.from();
        if heard.is_empty() { Err(heard) } else { Ok(()) }
    });
    assert_eq!(udp.from(), ["192.0.2.1".parse::<IpAddr>().unwrap()]);
    assert!(tcp.from().is_empty());
}
