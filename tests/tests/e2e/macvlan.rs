//! Macvlan networks: containers on the LAN behind a link of the host's, with addresses of their
//! own there.

use std::{net::IpAddr, time::Duration};

use cnm::{
    Kind, Request,
    endpoint::{CheckEndpoint, Endpoint, Route},
    network::{CreateNetwork, InspectNetwork, Network, RemoveNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{
    Asking as _, Container, Host, Namespace, Ping, World, eventually, kill, kind_of, within,
};
use serde_json::Value;

/// What the README promises.
const SECOND: Duration = Duration::from_secs(1);

/// The LAN is `192.0.2.0/24`, the host's `lan0` is its link there; these addresses of it are ours.
fn lan_network(name: &str, options: &[(&str, &str)]) -> CreateNetwork {
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.range = Some("192.0.2.128/25".parse().unwrap());
    let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    CreateNetwork {
        driver: Some("macvlan".into()),
        subnets: vec![subnet],
        options: options.collect(),
        ..CreateNetwork::named(name)
    }
}

fn make(host: &Host, network: &CreateNetwork) -> Network {
    host.client().call(network).unwrap_or_else(|error| panic!("{error}: {:?}", error.operands))
}

fn put(host: &Host, container: &Container, network: &str) -> Endpoint {
    host.client().attach(&container.to(network))
}

fn ip(endpoint: &Endpoint) -> IpAddr {
    endpoint.addresses[0].ip()
}

const NEIGHBOUR: &str = "192.0.2.2";

/// The one link of this name in a namespace, as `ip` shows it.
fn link(netns: &Namespace, name: &str) -> Value {
    netns.json(&format!("ip -j -d link show {name}"))[0].clone()
}

fn differences(host: &Host, endpoint: &Endpoint) -> Vec<String> {
    let check = CheckEndpoint { endpoint: endpoint.id.to_string(), mac: None, netns: None };
    host.client().call(&check).unwrap().differences
}

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
    assert!(one.gateways.is_empty() && one.dns.is_empty(), "{one:?}");
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
    let (kind, error) = kind_of(host.client().call(&{
        let mut again = web.to("lan");
        again.ifname = Some("lo".parse().unwrap());
        again
    }));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(lan.pings(ip(&endpoint)));
}

#[test]
fn in_private_mode_nobody_sees_the_others() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("macvlan_mode", "private")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    assert!(lan.pings(ip(&one)) && lan.pings(ip(&two)));
    assert!(web.netns.pings_in_vain(ip(&two)));
    assert_eq!(link(&web.netns, "eth0")["linkinfo"]["info_data"]["mode"], "private");
    assert_eq!(differences(&host, &one), Vec::<String>::new());
}

#[test]
fn with_host_access_host_and_containers_reach_each_other() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    let before = host.snapshot();
    let network = lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]);
    let network = make(&host, &network);
    let own = network.subnets[0].aux["host"];
    assert_eq!(own, "192.0.2.128".parse::<IpAddr>().unwrap());
    let empty = host.snapshot();
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.netns.serve_tcp(80);
    web.netns.serve_tcp(81);
    // At the address that it has for them, and at the one that it has for everybody.
    for at in [own, "192.0.2.1".parse().unwrap()] {
        assert_eq!(web.netns.ask_tcp((at, 80).into()).unwrap(), ip(&endpoint));
    }
    assert_eq!(host.netns.ask_tcp((ip(&endpoint), 81).into()).unwrap(), own);
    assert!(lan.pings(ip(&endpoint)) && lan.pings("192.0.2.1".parse().unwrap()));
    let with_web = host.snapshot();

    // Whatever somebody takes away comes back.
    let name = format!("mh-{}", network.id.short());
    host.netns.run(&format!("ip link delete {name}"));
    assert!(host.netns.pings_in_vain(ip(&endpoint)));
    assert!(!differences(&host, &endpoint).is_empty());
    let repaired = host.client().call(&Reconcile {}).unwrap().repaired;
    assert!(repaired.iter().any(|line| line.contains(&name)), "{repaired:?}");
    host.snapshot().same_as(&with_web).unwrap();
    assert!(host.netns.pings(ip(&endpoint)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    host.kill();
    host.start();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());

    let mut db = world.container("db");
    let killed = ip(&put(&host, &db, "lan"));
    let routes = |ip: IpAddr| host.netns.run("ip route").contains(&format!("{ip} "));
    assert!(routes(killed));
    db.netns.kill();
    within(SECOND, "the way there is gone", || if routes(killed) { Err(()) } else { Ok(()) });
    assert!(routes(ip(&endpoint)));
    host.client().detach("web");
    assert!(!routes(ip(&endpoint)));
    host.snapshot().same_as(&empty).unwrap();
    host.client().call(&RemoveNetwork { network: "lan".into() }).unwrap();
    host.snapshot().same_as(&before).unwrap();
}

#[test]
fn an_internal_network_leads_nowhere() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let before = host.snapshot();
    let internal = CreateNetwork { internal: true, ..lan_network("vault", &[("parent", "lan0")]) };
    // As Docker has it, so does one without a parent; here there is no default route to take.
    let alone = CreateNetwork { driver: Some("macvlan".into()), ..CreateNetwork::named("alone") };
    for network in [internal, alone] {
        let name = network.name.clone();
        let network = make(&host, &network);
        let own = format!("dm-{}", network.id.short());
        assert!(host.snapshot().lines(&format!("link {own} ")).next().is_some());
        let (web, db) = (world.container("web"), world.container("db"));
        let (one, two) = (put(&host, &web, &name), put(&host, &db, &name));
        assert!(web.netns.pings(ip(&two)), "{name}");
        assert!(web.netns.pings_in_vain(NEIGHBOUR.parse().unwrap()));
        assert!(web.netns.pings_in_vain("192.0.2.1".parse().unwrap()));
        assert!(lan.pings_in_vain(ip(&one)));
        assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
        host.client().detach("web");
        host.client().detach("db");
        host.client().call(&RemoveNetwork { network: name }).unwrap();
        host.snapshot().same_as(&before).unwrap();
    }
}

#[test]
fn the_default_routes_link_is_the_parent_and_stays_it() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip route add default via 192.0.2.2");
    let network = make(&host, &lan_network("lan", &[]));
    assert_eq!(network.options["parent"], "lan0");
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.kill();
    host.netns.run("ip route delete default");
    host.start();
    assert_eq!(
        host.client().call(&InspectNetwork { network: "lan".into() }).unwrap().network,
        network
    );
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    let db = world.container("db");
    assert!(lan.pings(ip(&put(&host, &db, "lan"))));
}

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
fn restarts_lose_no_packet() {
    let world = World::new();
    let mut host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "lan"));
    let among = Ping::start(&web.netns, ip(&two));
    let outside = Ping::start(&lan, ip(&one));
    host.kill();
    host.start();
    among.goes_on();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
    let driver = |host: &Host| {
        let drivers = host.client().status().drivers;
        drivers.into_iter().find(|driver| driver.name == "macvlan").unwrap()
    };
    let killed = driver(&host);
    kill(killed.pid.unwrap());
    eventually("the driver is started again", || {
        let now = driver(&host);
        if now.pid.is_some() && now.restarts > killed.restarts { Ok(()) } else { Err(now) }
    });
    outside.goes_on();
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, Vec::<String>::new());
    host.stop();
    host.start();
    among.goes_on();
    among.lost_none();
    outside.lost_none();
    for endpoint in [&one, &two] {
        assert_eq!(differences(&host, endpoint), Vec::<String>::new());
    }
    let next = world.container("next");
    assert!(lan.pings(ip(&put(&host, &next, "lan"))));
    assert_eq!(host.client().detach("web").endpoints, [one.id]);
    assert_eq!(web.netns.json("ip -j link").as_array().unwrap().len(), 1);
}

#[test]
fn a_killed_container_is_released_within_a_second() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let before = host.snapshot();
    let mut web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    web.netns.kill();
    within(SECOND, "the endpoint is released", || {
        let endpoints = host.client().endpoints();
        if endpoints.is_empty() { Ok(()) } else { Err(endpoints) }
    });
    assert_eq!(host.client().status().sandboxes, 0);
    host.snapshot().same_as(&before).unwrap();
    let next = world.container("web");
    let mut attach = next.to("lan");
    attach.addresses = vec![ip(&endpoint)];
    host.client().attach(&attach);
}

#[test]
fn a_parent_that_goes_takes_its_containers_links_along_and_netd_says_so() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let web = world.container("web");
    let endpoint = put(&host, &web, "lan");
    host.netns.run("ip link delete lan0");
    assert!(!differences(&host, &endpoint).is_empty());
    host.client().call(&Reconcile {}).unwrap();
    eventually("it is reported", || {
        let problems = host.client().status().problems;
        if problems.iter().any(|p| p.contains("has lost its link")) {
            Ok(())
        } else {
            Err(problems)
        }
    });
    let (kind, error) = kind_of(host.client().call(&world.container("db").to("lan")));
    assert_eq!(kind, Kind::NotFound, "{error}");
    assert!(error.message.contains("lan0"), "{error}");
    host.client().detach("web");
    let _lan = host.lan();
    assert!(web.netns.pings_in_vain(NEIGHBOUR.parse().unwrap()));
    put(&host, &web, "lan");
    assert!(web.netns.pings(NEIGHBOUR.parse().unwrap()));
    host.client().call(&RemoveNetwork { network: "lan".into() }).unwrap_err();
}

#[test]
fn the_mtu_is_the_parents_or_a_smaller_one() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip link set lan0 mtu 1400");
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    make(
        &host,
        &lan_network(
            "small",
            &[
                ("parent", "lan0"),
                ("com.docker.network.driver.mtu", "1300"),
                ("bcqueuelen", "2000"),
            ],
        ),
    );
    let too_much = lan_network("large", &[("parent", "lan0"), ("mtu", "1500")]);
    let (kind, error) = kind_of(host.client().call(&too_much));
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(error.message.contains("1400"), "{error}");
    let (web, db) = (world.container("web"), world.container("db"));
    let (one, two) = (put(&host, &web, "lan"), put(&host, &db, "small"));
    assert_eq!((one.mtu, two.mtu), (Some(1400), Some(1300)));
    assert_eq!(link(&web.netns, "eth0")["mtu"], 1400);
    assert_eq!(link(&db.netns, "eth0")["mtu"], 1300);
    assert_eq!(link(&db.netns, "eth0")["linkinfo"]["info_data"]["bcqueuelen"], 2000);
    assert!(lan.pings(ip(&two)));
}

#[test]
fn passthru_is_for_one_network_and_one_container() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("mode", "passthru")]));
    let (kind, error) = kind_of(host.client().call(&lan_network("other", &[("parent", "lan0")])));
    assert_eq!(kind, Kind::Exists, "{error}");
    let (web, db) = (world.container("web"), world.container("db"));
    let endpoint = put(&host, &web, "lan");
    let parent = link(&host.netns, "lan0")["address"].as_str().unwrap().to_owned();
    assert_eq!(endpoint.mac.unwrap().to_string(), parent);
    assert!(lan.pings(ip(&endpoint)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    let (kind, error) = kind_of(host.client().call(&db.to("lan")));
    assert_eq!(kind, Kind::Busy, "{error}");
    assert!(lan.pings(ip(&endpoint)));
    host.client().detach("web");
    assert!(lan.pings(ip(&put(&host, &db, "lan"))));
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
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let before = host.snapshot();
    for (options, expected, word) in [
        (vec![("parent", "lo")], Kind::Invalid, "lo"),
        (vec![("parent", "eth7")], Kind::NotFound, "eth7"),
        (vec![("parent", "eth7.100")], Kind::NotFound, "eth7.100"),
        (vec![("parent", "lan0.4095")], Kind::NotFound, "lan0.4095"),
        (vec![("parent", "lan0"), ("macvlan_mode", "source")], Kind::Invalid, "source"),
        (vec![("parent", "lan0"), ("bcqueuelen", "many")], Kind::Invalid, "many"),
        (vec![("parent", "lan0"), ("host-access", "yes")], Kind::Invalid, "yes"),
        (
            vec![("parent", "lan0"), ("host-access", "true"), ("mode", "vepa")],
            Kind::Invalid,
            "host-access",
        ),
    ] {
        let (kind, error) = kind_of(host.client().call(&lan_network("lan", &options)));
        assert_eq!(kind, expected, "{options:?}: {error}");
        assert!(error.message.contains(word), "{options:?}: {error}");
        host.snapshot().same_as(&before).unwrap();
    }
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let web = world.container("web");
    let mut attach = web.to("lan");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let (kind, error) = kind_of(host.client().call(&attach));
    assert_eq!(kind, Kind::Invalid, "{error}");
}

#[test]
fn a_vlan_is_made_with_its_first_network_and_removed_with_its_last() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let before = host.snapshot();
    let has_vlans =
        host.netns.output("ip link add link lan0 name probe type vlan id 5").status.success();
    if !has_vlans {
        // CONFIG_VLAN_8021Q is missing: what would be sent is tested with the kernel's messages.
        let (kind, error) =
            kind_of(host.client().call(&lan_network("lan", &[("parent", "lan0.100")])));
        assert_eq!(kind, Kind::Unsupported, "{error}");
        assert!(error.message.contains("802.1Q"), "{error}");
        host.snapshot().same_as(&before).unwrap();
        return;
    }
    host.netns.run("ip link delete probe");
    make(&host, &lan_network("one", &[("parent", "lan0.100")]));
    make(&host, &lan_network("two", &[("parent", "lan0.100")]));
    assert_eq!(link(&host.netns, "lan0.100")["linkinfo"]["info_data"]["id"], 100);
    host.client().call(&RemoveNetwork { network: "one".into() }).unwrap();
    link(&host.netns, "lan0.100");
    host.client().call(&RemoveNetwork { network: "two".into() }).unwrap();
    host.snapshot().same_as(&before).unwrap();
}

/// Death at a step: afterwards the kernel is as the record says.
fn dies_at(point: &str) {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0"), ("host-access", "true")]));
    let (bystander, web) = (world.container("bystander"), world.container("web"));
    let beside = put(&host, &bystander, "lan");
    let routes = host.netns.run("ip route");
    let died = host.arm(point);
    let line = Request::new(1, &web.to("lan")).to_line();
    let attached = host.plugin("macvlan", &line);
    let detach = cnm::endpoint::Detach { network: None, container: web.id.clone(), ifname: None };
    let detach = || host.plugin("macvlan", &Request::new(1, &detach).to_line());
    detach().success();
    assert!(died(), "nobody comes to {point}: {attached:?}");
    detach().success();
    eventually("nothing is left in the container", || {
        let links = web.netns.json("ip -j link");
        if links.as_array().unwrap().len() == 1 { Ok(()) } else { Err(links) }
    });
    eventually("nor on the host", || {
        let now = host.netns.run("ip route");
        if now == routes { Ok(()) } else { Err(now) }
    });
    eventually("it can be attached again", || match host.plugin("macvlan", &line) {
        executed if executed.code == 0 => Ok(()),
        executed => Err(executed),
    });
    let endpoint =
        host.client().endpoints().into_iter().find(|e| e.container.id.as_str() == web.id);
    let endpoint = endpoint.unwrap();
    assert!(lan.pings(ip(&endpoint)) && host.netns.pings(ip(&endpoint)));
    assert!(web.netns.pings(ip(&beside)));
    assert_eq!(differences(&host, &endpoint), Vec::<String>::new());
    assert_eq!(host.client().status().problems, Vec::<String>::new());
}

/// A test for each point, and one that no point is missing.
macro_rules! points {
    ($($test:ident: $point:literal,)*) => {
        $(
            #[test]
            fn $test() {
                dies_at($point);
            }
        )*

        #[test]
        fn every_point_is_visited() {
            let own = cnm::fault::POINTS.iter().filter(|point| point.starts_with("macvlan."));
            assert_eq!(own.copied().collect::<Vec<_>>(), [$($point),*]);
        }
    };
}

points! {
    before_link: "macvlan.attach.before-link",
    after_link: "macvlan.attach.after-link",
    after_config: "macvlan.attach.after-config",
    after_routes: "macvlan.attach.after-routes",
    detach_before_routes: "macvlan.detach.before-routes",
    detach_after_routes: "macvlan.detach.after-routes",
    detach_after_link: "macvlan.detach.after-link",
}

#[test]
fn routes_that_are_asked_for_are_there() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    make(&host, &lan_network("lan", &[("parent", "lan0")]));
    let container = world.container("web");
    let mut attach = container.to("lan");
    let route = |dst: &str, gateway: Option<&str>| Route {
        dst: dst.parse().unwrap(),
        gateway: gateway.map(|gateway| gateway.parse().unwrap()),
    };
    attach.routes =
        Some(vec![route("172.30.0.0/16", Some(NEIGHBOUR)), route("172.31.0.0/16", None)]);
    host.client().attach(&attach);
    let routes = container.netns.run("ip route");
    assert!(routes.contains("172.30.0.0/16 via 192.0.2.2 dev eth0"), "{routes}");
    assert!(routes.contains("172.31.0.0/16 dev eth0"), "{routes}");
}
