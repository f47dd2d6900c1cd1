//! Who reaches whom: containers, the LAN, what is behind a gateway.

use super::*;

#[test]
fn containers_reach_each_other_and_the_lan_and_leave_nothing() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let before = host.snapshot();
    host.netctl(&[
        "network",
        "create",
        "-d",
        "macvlan",
        "-o",
        "parent=lan0",
        "--subnet",
        "192.0.2.0/24",
        "--ip-range",
        "192.0.2.128/25",
        "lan",
    ])
    .success();
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    assert!(one.gateways.is_empty() && one.dns == [IpAddr::from([127, 0, 0, 11])], "{one:?}");
    assert_eq!(
        (ip(&one), ip(&two)),
        ("192.0.2.128".parse().unwrap(), "192.0.2.129".parse().unwrap())
    );

    assert!(web.netns.pings(ip(&two)) && db.netns.pings(ip(&one)));
    lan.serve_tcp(80);
    web.netns.serve_udp(53);
    assert_eq!(web.netns.ask_tcp("192.0.2.2:80".parse().unwrap()).unwrap(), ip(&one));
    assert_eq!(lan.ask_udp((ip(&one), 53).into()).unwrap(), IpAddr::from([192, 0, 2, 2]));
    assert!(host.netns.pings_in_vain(ip(&one)), "a parent and its macvlans never meet");

    let shown = link(&web.netns, "eth0");
    assert_eq!(shown["linkinfo"]["info_kind"], "macvlan");
    assert_eq!(shown["linkinfo"]["info_data"]["mode"], "bridge");
    assert_eq!(shown["address"], one.mac.unwrap().to_string());
    assert_eq!(shown["mtu"], 1500);
    assert_eq!(differences(&host, &one), Vec::<String>::new());
    host.snapshot().same_as(&before).unwrap();

    host.client().detach("web");
    assert!(web.netns.json("ip -j link").as_array().unwrap().len() == 1, "nothing but lo");
    assert!(db.netns.pings_in_vain(ip(&one)));
    assert!(db.netns.pings(NEIGHBOUR.parse().unwrap()));
    host.client().detach("db");
    host.netctl(&["network", "rm", "lan"]).success();
    host.snapshot().same_as(&before).unwrap();
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn a_container_may_have_a_name_that_is_the_hosts_too() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip link add eth0 type bridge");
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    assert_eq!(endpoint.ifname.as_str(), "eth0");
    assert!(lan.pings(ip(&endpoint)));
    web.netns.run("ip link add taken type bridge");
    for (name, refused) in [("taken", Kind::Exists), ("lo", Kind::Invalid)] {
        let mut again = web.to("lan");
        again.ifname = Some(name.parse().unwrap());
        let (kind, error) = kind_of(host.client().call(&again));
        assert_eq!(kind, refused, "{error}");
    }
    assert!(lan.pings(ip(&endpoint)));
}

#[test]
fn both_families_and_a_gateway() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    lan.run("ip address add 198.51.100.7/32 dev lo");
    lan.run("ip address add 2001:db8:5::7/128 dev lo");
    let mut network = lan_network("lan", &[("parent", "lan0")]);
    network.subnets.push(Subnet::new("2001:db8::/64".parse().unwrap()));
    network.subnets[0].gateway = Some(NEIGHBOUR.parse().unwrap());
    network.subnets[1].gateway = Some("2001:db8::2".parse().unwrap());
    make(&host, &network);
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    assert_eq!(endpoint.addresses.len(), 2);
    assert_eq!(endpoint.gateways.len(), 2);
    assert!(web.netns.pings("198.51.100.7".parse().unwrap()), "through the gateway");
    assert!(web.netns.pings("2001:db8:5::7".parse().unwrap()), "through the gateway");
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn routes_that_are_asked_for_are_there() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let container = world.container("web");
    let mut attach = container.to("lan");
    let route = |dst: &str, gateway: Option<&str>| {
        Route::new(dst.parse().unwrap(), gateway.map(|gateway| gateway.parse().unwrap()))
    };
    attach.routes =
        Some(vec![route("172.30.0.0/16", Some(NEIGHBOUR)), route("172.31.0.0/16", None)]);
    host.client().attach(&attach);
    let routes = container.netns.run("ip route");
    assert!(routes.contains("172.30.0.0/16 via 192.0.2.2 dev eth0"), "{routes}");
    assert!(routes.contains("172.31.0.0/16 dev eth0"), "{routes}");
}

#[test]
fn neighbours_are_told_who_has_an_address_now() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    // Linux keeps to the first of two answers within a second of each other.
    lan.run("sysctl -qw net.ipv4.neigh.eth0.locktime=0");
    let mut network = lan_network("lan", &[("parent", "lan0")]);
    network.subnets.push(Subnet::new("2001:db8::/64".parse().unwrap()));
    make(&host, &network);
    let addresses: Vec<IpAddr> =
        vec!["192.0.2.77".parse().unwrap(), "2001:db8::77".parse().unwrap()];
    for name in ["web", "db"] {
        let container = world.container(name);
        let mut attach = container.to("lan");
        attach.addresses = addresses.clone();
        let endpoint = host.client().attach(&attach);
        let mac = endpoint.mac.unwrap().to_string();
        if name == "web" {
            assert!(addresses.iter().all(|address| lan.pings(*address)));
        }
        // The second time without a word to either.
        for address in &addresses {
            eventually("the neighbour knows", || {
                let known = lan.run(&format!("ip neigh show {address} dev eth0"));
                if known.contains(&mac) { Ok(()) } else { Err(known) }
            });
        }
        host.client().detach(name);
    }
}

#[test]
fn what_somebody_gave_back_another_has_at_once() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let containers = [world.container("web"), world.container("db")];
    let mac: cnm::MacAddr = "02:00:00:00:00:77".parse().unwrap();
    // To the other one, and to the same one again: one address, one name.
    for (turn, container) in [0, 1, 1, 0].map(|n| &containers[n]).into_iter().enumerate() {
        let mut attach = container.to("lan");
        attach.mac = Some(mac);
        attach.addresses = vec!["192.0.2.77".parse().unwrap()];
        let endpoint = host.client().attach(&attach);
        assert!(lan.pings(ip(&endpoint)), "{turn}");
        assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
        host.client().detach(&container.id);
        let links = container.netns.json("ip -j link");
        assert_eq!(links.as_array().unwrap().len(), 1, "{turn}: from the answer on");
    }
    assert!(lan.pings_in_vain("192.0.2.77".parse().unwrap()), "nobody has it");
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

#[test]
fn what_another_driver_is_about_to_take_away_is_not_in_the_way() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    make(&host, &CreateNetwork::named("app"));
    // As the bridge and the overlay driver leave the host ends of endpoints that were detached.
    for (at, group) in ["0x6e657465", "0x6e657481"].into_iter().enumerate() {
        for network in ["lan", "app"] {
            let container = world.container(&format!("{network}-{at}"));
            let end = format!("nd-{network}-{at}");
            host.netns.run(&format!("ip link add {end} up type veth peer {end}-in"));
            host.netns.run(&format!("ip link set {end}-in netns {}", container.netns.path()));
            // Before it is condemned: with the driver's group, it is soon gone.
            container.netns.run(&format!("ip link set {end}-in name eth0 up"));
            container.netns.run("ip route add default dev eth0");
            host.netns.run(&format!("ip link set {end} group {group}"));
            let endpoint = put(&host, &container, network);
            assert_eq!(endpoint.ifname.as_str(), "eth0");
            assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
        }
    }
    let foreign = world.container("foreign");
    host.netns.run("ip link add other type veth peer other-in");
    host.netns.run(&format!("ip link set other-in netns {} name eth0", foreign.netns.path()));
    assert_eq!(kind_of(host.client().call(&foreign.to("lan"))).0, Kind::Exists);
    assert!(lan.pings(ip(&put(&host, &world.container("last"), "lan"))));
}
