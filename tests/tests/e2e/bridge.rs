//! Containers on a bridge network reach each other, and the outside.

use std::net::SocketAddr;

use cnm::{
    endpoint::Endpoint,
    network::{CreateNetwork, RemoveNetwork, Subnet},
};
use netd_tests::{Asking as _, Host, World, eventually};

#[test]
fn two_containers_reach_each_other() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let (web, db) = (world.container("web"), world.container("db"));
    let web_ip = netd.attach(&web.to("app")).addresses[0].ip();
    let db_ip = netd.attach(&db.to("app")).addresses[0].ip();
    assert_ne!(web_ip, db_ip);
    assert!(web.netns.pings(db_ip));
    assert!(db.netns.pings(web_ip));
    web.netns.serve_tcp(80);
    web.netns.serve_udp(80);
    let server = SocketAddr::new(web_ip, 80);
    assert_eq!(db.netns.ask_tcp(server).unwrap(), db_ip);
    assert_eq!(db.netns.ask_udp(server).unwrap(), db_ip);
    assert_eq!(web.netns.ask_tcp(server).unwrap(), web_ip, "itself");
}

#[test]
fn two_containers_reach_each_other_over_ipv6() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "fd00:77::/64");
    let (web, db) = (world.container("web"), world.container("db"));
    let v6 = |endpoint: &Endpoint| endpoint.addresses.iter().find(|a| a.is_ipv6()).unwrap().ip();
    let web_ip = v6(&netd.attach(&web.to("app")));
    let db_ip = v6(&netd.attach(&db.to("app")));
    assert!(web.netns.pings(db_ip));
    web.netns.serve_tcp(80);
    assert_eq!(db.netns.ask_tcp(SocketAddr::new(web_ip, 80)).unwrap(), db_ip);
    let flags = web.netns.run("ip -6 address show dev eth0");
    assert!(!flags.contains("tentative") && !flags.contains("dadfailed"), "{flags}");
}

#[test]
fn the_endpoint_is_what_the_container_has() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    let links = web.netns.json("ip -j address");
    let links = links.as_array().unwrap();
    assert_eq!(links.len(), 2, "lo and one more: {links:?}");
    let eth = links.iter().find(|link| link["ifname"] == "eth0").unwrap();
    assert_eq!(eth["operstate"], "UP");
    assert_eq!(eth["address"], endpoint.mac.unwrap().to_string().as_str());
    assert_eq!(eth["mtu"], endpoint.mtu.unwrap());
    let addresses = eth["addr_info"].as_array().unwrap();
    assert_eq!(addresses.len(), 1, "{addresses:?}");
    assert_eq!(addresses[0]["local"], endpoint.addresses[0].ip().to_string().as_str());
    assert_eq!(addresses[0]["prefixlen"], endpoint.addresses[0].prefix());
    let routes = web.netns.json("ip -j route show default");
    assert_eq!(routes[0]["gateway"], endpoint.gateways[0].to_string().as_str());
    assert!(web.netns.pings(endpoint.gateways[0]));
}

#[test]
fn the_outside_sees_the_hosts_address() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    netd.attach(&web.to("app"));
    lan.serve_tcp(80);
    lan.serve_udp(80);
    // The neighbour has no route back but to the host.
    let server = "192.0.2.2:80".parse().unwrap();
    let own = "192.0.2.1".parse::<std::net::IpAddr>().unwrap();
    assert_eq!(web.netns.ask_tcp(server).unwrap(), own);
    assert_eq!(web.netns.ask_udp(server).unwrap(), own);
    assert!(web.netns.pings("192.0.2.2".parse().unwrap()));
}

#[test]
fn a_container_on_two_networks_reaches_both() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let (proxy, web, db) =
        (world.container("proxy"), world.container("web"), world.container("db"));
    let first = netd.attach(&proxy.to("front"));
    let second = netd.attach(&proxy.to("back"));
    assert_eq!((first.ifname.as_str(), second.ifname.as_str()), ("eth0", "eth1"));
    let web_ip = netd.attach(&web.to("front")).addresses[0].ip();
    let db_ip = netd.attach(&db.to("back")).addresses[0].ip();
    assert!(proxy.netns.pings(web_ip));
    assert!(proxy.netns.pings(db_ip));
    assert!(web.netns.pings_in_vain(db_ip));
}

#[test]
fn a_detach_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let untouched = host.snapshot();
    netd.create("app");
    let before = host.snapshot();
    let web = world.container("web");
    let empty = netd_tests::Snapshot::of(&web.netns);
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap(), "8053:53/udp".parse().unwrap()];
    netd.attach(&attach);
    assert!(host.snapshot().same_as(&before).is_err());
    assert_eq!(netd.detach("web").endpoints.len(), 1);
    eventually("the host is as before", || host.snapshot().same_as(&before));
    eventually("the container has nothing", || {
        let links = web.netns.json("ip -j link");
        if links.as_array().unwrap().len() == 1 { Ok(()) } else { Err(links) }
    });
    assert_eq!(empty.lines("address").count(), 0);
    assert!(netd.endpoints().is_empty());
    assert!(netd.pools().iter().all(|pool| pool.leased == 0));
    assert_eq!(netd.detach("web").endpoints.len(), 0, "again, and still a success");
    netd.call(&RemoveNetwork { network: "app".into() }).unwrap();
    eventually("the network is gone", || host.snapshot().same_as(&untouched));
}

#[test]
fn a_container_comes_back_by_another_interface() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("front");
    netd.create("back");
    let web = world.container("web");
    for (network, ifname) in [("front", "eth0"), ("back", "eth1"), ("front", "eth2")] {
        let mut attach = web.to(network);
        attach.ifname = ifname.parse().ok();
        // The earlier interface may not be gone yet, and has the default route.
        let gateway = netd.attach(&attach).gateways[0];
        let out = web.netns.run("ip route show default");
        assert!(out.starts_with(&format!("default via {gateway} dev {ifname} ")), "{out}");
        assert_eq!(out.lines().count(), 1, "{out}");
        assert!(web.netns.pings(gateway));
        netd.detach("web");
    }
}

#[test]
fn of_several_subnets_the_next_one_follows_when_one_is_full() {
    let world = World::new();
    let host = world.host("a");
    let create =
        ["network", "create", "--subnet", "10.71.0.0/30", "--subnet", "10.72.0.0/24", "app"];
    host.netctl(&create).success();
    let containers: Vec<_> = (0..3).map(|n| world.container(&format!("c{n}"))).collect();
    let attached: Vec<_> = containers.iter().map(|c| host.client().attach(&c.to("app"))).collect();
    let seen: Vec<_> = attached
        .iter()
        .map(|endpoint| (endpoint.addresses[0].to_string(), endpoint.gateways[0].to_string()))
        .collect();
    let wanted = [
        ("10.71.0.2/30", "10.71.0.1"),
        ("10.72.0.2/24", "10.72.0.1"),
        ("10.72.0.3/24", "10.72.0.1"),
    ];
    assert_eq!(seen, wanted.map(|(address, gateway)| (address.to_owned(), gateway.to_owned())));
    assert_eq!(attached[1].dns, attached[1].gateways, "the resolver that is near");
    for (container, other) in [(0, "10.72.0.3"), (2, "10.71.0.2"), (1, "10.72.0.3")] {
        assert!(containers[container].netns.pings(other.parse().unwrap()), "{container} {other}");
    }
    let found = Host::ask_name(&containers[0].netns, attached[0].dns[0], "c2");
    assert_eq!(found, ["10.72.0.3"]);
    let overlap =
        ["network", "create", "--subnet", "10.73.0.0/16", "--subnet", "10.73.1.0/24", "bad"];
    assert_eq!(host.netctl(&overlap).code, 2);
}

#[test]
fn a_subnet_of_two_addresses_is_enough_for_one_container() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    // Neither has a broadcast (RFC 3021) or an anycast address (RFC 6164).
    let subnets = ["10.41.0.0/31", "fd00:41::/127"].map(|s| Subnet::new(s.parse().unwrap()));
    netd.call(&CreateNetwork { subnets: subnets.to_vec(), ..CreateNetwork::named("app") }).unwrap();
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.41.0.1/31", "fd00:41::1/127"]);
    web.netns.serve_tcp(80);
    lan.serve_tcp(80);
    for (server, outside) in
        [("192.0.2.1:8080", "192.0.2.2:80"), ("[2001:db8::1]:8080", "[2001:db8::2]:80")]
    {
        lan.ask_tcp(server.parse().unwrap()).unwrap();
        web.netns.ask_tcp(server.parse().unwrap()).unwrap();
        web.netns.ask_tcp(outside.parse().unwrap()).unwrap();
    }
    let full = world.container("full");
    let (kind, error) = netd_tests::kind_of(netd.call(&full.to("app")));
    assert_eq!(kind, cnm::Kind::Exhausted, "{error}");
}

#[test]
fn a_subnet_of_one_address_is_enough_where_there_is_no_gateway() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let subnets = ["10.42.0.7/32", "fd00:42::7/128"].map(|s| Subnet::new(s.parse().unwrap()));
    let mut create = CreateNetwork { subnets: subnets.to_vec(), ..CreateNetwork::named("app") };
    let (kind, error) = netd_tests::kind_of(netd.call(&create));
    assert_eq!(kind, cnm::Kind::Invalid);
    assert!(error.message.contains("beside its gateway"), "{error}");
    create.internal = true;
    for family in ["ipv4", "ipv6"] {
        create.options.insert(format!("gateway-mode-{family}"), "isolated".to_owned());
    }
    netd.call(&create).unwrap();
    let (web, full) = (world.container("web"), world.container("full"));
    let endpoint = netd.attach(&web.to("app"));
    let addresses: Vec<_> = endpoint.addresses.iter().map(ToString::to_string).collect();
    assert_eq!(addresses, ["10.42.0.7/32", "fd00:42::7/128"]);
    let (kind, error) = netd_tests::kind_of(netd.call(&full.to("app")));
    assert_eq!(kind, cnm::Kind::Exhausted, "{error}");
}
