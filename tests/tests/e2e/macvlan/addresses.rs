//! Addresses on a LAN where others have theirs.

use super::*;

#[test]
fn addresses_of_ones_own_choice() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("lan");
    attach.addresses = vec!["192.0.2.77".parse().unwrap()];
    attach.mac = Some("02:00:00:00:00:77".parse().unwrap());
    let endpoint = host.client().attach(&attach);
    assert_eq!(ip(&endpoint), "192.0.2.77".parse::<IpAddr>().unwrap());
    assert!(lan.pings(ip(&endpoint)));
    assert!(lan.run("ip neigh").contains("02:00:00:00:00:77"));

    let mut same = db.to("lan");
    same.addresses = attach.addresses.clone();
    let (kind, error) = kind_of(host.client().call(&same));
    assert_eq!(kind, Kind::Exists, "{error}");
    let mut same = db.to("lan");
    same.mac = attach.mac;
    let (kind, error) = kind_of(host.client().call(&same));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert_eq!(error.operands["mac"], "02:00:00:00:00:77");
    assert_eq!(db.netns.json("ip -j link").as_array().unwrap().len(), 1, "nothing is left of it");
    assert!(lan.pings(ip(&endpoint)));
    put(&host, &db, "lan");
}

#[test]
fn networks_of_one_parent_share_their_addresses() {
    let world = World::new();
    let mut host = world.host("a");
    let _lan = host.lan();
    let small = |name: &str, subnet: &str| CreateNetwork {
        subnets: vec![Subnet::new(subnet.parse().unwrap())],
        ..lan_network(name, &[("parent", "lan0")])
    };
    make(&host, &small("one", "192.0.2.128/29"));
    make(&host, &small("two", "192.0.2.128/29"));
    // Of which the others are a part.
    let mut wide = small("wide", "192.0.2.128/28");
    wide.subnets[0].gateway = Some("192.0.2.129".parse().unwrap());
    make(&host, &wide);
    let containers: Vec<_> = (0..6).map(|n| world.container(&format!("c{n}"))).collect();
    let mut given = Vec::new();
    for (container, network) in containers.iter().zip(["one", "two", "wide", "one", "two"]) {
        given.push(ip(&put(&host, container, network)));
    }
    let mut different = given.clone();
    different.sort();
    different.dedup();
    assert_eq!(different.len(), 5, "{given:?}");
    assert!(!given.contains(&"192.0.2.129".parse().unwrap()), "the gateway of one of them");
    for _ in 0..2 {
        let leased = |name: &str, host: &Host| {
            host.client()
                .pools()
                .iter()
                .find(|pool| pool.network_name.as_str() == name)
                .unwrap()
                .leased
        };
        assert_eq!((leased("one", &host), leased("two", &host)), (6, 6), "and the gateway");
        let (kind, error) = kind_of(host.client().call(&containers[5].to("two")));
        assert_eq!(kind, Kind::Exhausted, "{error}");
        host.kill();
        host.start();
    }
    let mut wanted = containers[5].to("two");
    wanted.addresses = vec![given[0]];
    let (kind, error) = kind_of(host.client().call(&wanted));
    assert_eq!(kind, Kind::Exists, "{error}");
    host.client().detach("c0");
    assert_eq!(ip(&host.client().attach(&wanted)), given[0]);

    // A bridge has its addresses for itself.
    let (kind, error) = kind_of(host.client().call(&CreateNetwork {
        driver: None,
        options: std::collections::BTreeMap::default(),
        ..small("bridged", "192.0.2.128/29")
    }));
    assert_eq!(kind, Kind::Exists, "{error}");
    // What was the gateway is anybody's, once it is not any more.
    for container in ["c1", "c2", "c3", "c4", "c5"] {
        host.client().detach(container);
    }
    host.client().call(&RemoveNetwork { network: "wide".into() }).unwrap();
    let mut first = containers[0].to("one");
    first.addresses = vec!["192.0.2.129".parse().unwrap()];
    host.client().attach(&first);
}

#[test]
fn addresses_from_outside_are_taken_as_they_are() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("ipam", "none")]));
    make(&host, &lan_network("given", &[("parent", "lan0")]));
    assert!(host.client().pools().iter().all(|pool| pool.network_name.as_str() != "lan"));
    let (web, db, other) =
        (world.container("web"), world.container("db"), world.container("other"));
    let mut attach = web.to("lan");
    attach.addresses = vec!["192.0.2.128".parse().unwrap()];
    let endpoint = host.client().attach(&attach);
    assert_eq!(endpoint.addresses, ["192.0.2.128/24".parse().unwrap()]);
    assert!(lan.pings(ip(&endpoint)));
    let mut same = db.to("lan");
    same.addresses = attach.addresses.clone();
    let (kind, error) = kind_of(host.client().call(&same));
    assert_eq!(kind, Kind::Exists, "{error}");
    // Whoever is to ask for one by itself has none from netd.
    let bare = put(&host, &db, "lan");
    assert!(bare.addresses.is_empty());
    assert_eq!(link(&db.netns, "eth0")["operstate"], "UP");
    assert_ne!(ip(&put(&host, &other, "given")), ip(&endpoint));
    let (kind, error) =
        kind_of(host.client().call(&lan_network("wrong", &[("parent", "lan0"), ("ipam", "dhcp")])));
    assert_eq!(kind, Kind::Invalid, "{error}");
}

#[test]
fn the_hosts_own_addresses_and_its_routers_are_nobody_elses() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    // The host is .1 on the LAN, its router .2, and has one more address of it elsewhere.
    host.netns.run("ip route add default via 192.0.2.2");
    host.netns.run("ip link add other type bridge");
    host.netns.run("ip address add 192.0.2.4/32 dev other");
    let mut small = lan_network("lan", &[("parent", "lan0")]);
    small.subnets = vec![Subnet::new("192.0.2.0/29".parse().unwrap())];
    make(&host, &small);
    let pool = || {
        let pools = host.client().pools();
        pools.into_iter().find(|pool| pool.network_name.as_str() == "lan").unwrap()
    };
    assert_eq!((pool().usable, pool().available), (6, 3), "it is known before anybody comes");
    let containers: Vec<_> = (0..4).map(|n| world.container(&format!("c{n}"))).collect();
    let given: Vec<_> = containers[..2].iter().map(|c| ip(&put(&host, c, "lan"))).collect();
    let address = |last: u8| IpAddr::from([192, 0, 2, last]);
    assert_eq!(given, [address(3), address(5)]);
    assert!(lan.pings(given[0]) && host.netns.pings(address(2)));

    for (wanted, word) in [(1, "lan0"), (2, "router"), (4, "other")] {
        let mut attach = containers[2].to("lan");
        attach.addresses = vec![address(wanted)];
        let (kind, error) = kind_of(host.client().call(&attach));
        assert_eq!(kind, Kind::Exists, "{error}");
        assert!(error.message.contains(word), "{error}");
        assert_eq!(error.operands["address"], address(wanted).to_string());
    }
    assert_eq!(pool().available, 1, "a refusal keeps nothing");

    // What the host gets later is its own from then on, and what it gives up is anybody's.
    host.netns.run("ip address add 192.0.2.6/24 dev lan0");
    let (kind, error) = kind_of(host.client().call(&containers[2].to("lan")));
    assert_eq!(kind, Kind::Exhausted, "{error}");
    host.netns.run("ip address delete 192.0.2.4/32 dev other");
    assert_eq!(ip(&put(&host, &containers[2], "lan")), address(4));
    host.netns.run("ip route delete default");
    assert_eq!(ip(&put(&host, &containers[3], "lan")), address(2), "no router any more");
    // A container that the host's address is given to keeps it, and so does the record.
    host.netns.run("ip address add 192.0.2.3/32 dev other");
    let (kind, error) = kind_of(host.client().call(&world.container("c4").to("lan")));
    assert_eq!(kind, Kind::Exhausted, "{error}");
    host.netns.run("ip address delete 192.0.2.3/32 dev other");
    let (kind, error) = kind_of(host.client().call(&world.container("c4").to("lan")));
    assert_eq!(kind, Kind::Exhausted, "{error}");
    assert_eq!(pool().available, 0);
}

#[test]
fn the_hosts_own_macvlan_keeps_off_its_own_addresses_too() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut small = lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]);
    small.subnets = vec![Subnet::new("192.0.2.0/29".parse().unwrap())];
    host.netns.run("ip route add default via 192.0.2.2");
    let network = make(&host, &small);
    assert_eq!(network.subnets[0].aux["host"], IpAddr::from([192, 0, 2, 3]));
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    assert_eq!(ip(&endpoint), IpAddr::from([192, 0, 2, 4]));
    assert!(lan.pings(ip(&endpoint)) && host.netns.pings(ip(&endpoint)));
}

#[test]
fn an_address_from_outside_is_not_the_hosts_own() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("ipam", "none")]));
    let web = world.container("web");
    let mut attach = web.to("lan");
    attach.addresses = vec!["192.0.2.1".parse().unwrap()];
    let (kind, error) = kind_of(host.client().call(&attach));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(error.message.contains("lan0"), "{error}");
}
