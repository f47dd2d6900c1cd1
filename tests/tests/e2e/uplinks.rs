//! Subnets that the host itself is on, or a router that it goes by: a network there would cut it off.

use cnm::{
    Kind,
    network::{CheckNetwork, CreateNetwork, Subnet, UpdateNetwork},
};
use netd_tests::{Asking as _, World, eventually, kind_of};

fn on(name: &str, subnet: &str) -> CreateNetwork {
    let subnets = vec![Subnet::new(subnet.parse().unwrap())];
    CreateNetwork { subnets, ..CreateNetwork::named(name) }
}

#[test]
fn a_network_over_the_hosts_own_addresses_is_refused() {
    let world = World::new();
    let host = world.host("h1");
    let lan = host.lan();
    let before = host.snapshot();
    for (subnet, address) in [
        ("192.0.2.0/24", "192.0.2.1"),
        ("192.0.0.0/16", "192.0.2.1"),
        ("192.0.2.0/30", "192.0.2.1"),
        ("2001:db8::/64", "2001:db8::1"),
    ] {
        let (kind, error) = kind_of(host.client().call(&on("app", subnet)));
        assert_eq!(kind, Kind::Exists, "{error}");
        assert!([subnet, address, "lan0"].iter().all(|w| error.message.contains(w)), "{error}");
        assert_eq!(error.operands["link"], "lan0");
    }
    if let Err(differences) = host.snapshot().same_as(&before) {
        panic!("{differences:#?}");
    }
    lan.run("ping -n -c 1 -W 5 192.0.2.1");

    // Nor does one get such a subnet later.
    let app = host.client().call(&on("app", "192.0.3.0/24")).unwrap();
    let more = UpdateNetwork {
        network: app.name.to_string(),
        add_subnets: vec![Subnet::new("192.0.2.0/24".parse().unwrap())],
        ..UpdateNetwork::default()
    };
    let (kind, error) = kind_of(host.client().call(&more));
    assert_eq!(kind, Kind::Exists, "{error}");

    // A part of the link that the host has no address of is its user's to give, and so is what is
    // on a link that leads nowhere.
    host.client().call(&on("part", "192.0.2.128/25")).unwrap();
    host.netns.run("ip link add idle type veth peer name unplugged");
    host.netns.run("ip link set idle up");
    host.netns.run("ip address add 198.18.0.1/24 dev idle");
    host.client().call(&on("nobodys", "198.18.0.0/24")).unwrap();
    let status = eventually("it is said", || {
        let problems = host.client().status().problems;
        if problems.iter().any(|one| one.contains("part")) { Ok(problems) } else { Err(problems) }
    });
    assert!(status.iter().any(|one| one.contains("192.0.2.128/25")), "{status:?}");
}

#[test]
fn a_network_over_a_router_of_the_hosts_is_refused() {
    let world = World::new();
    let host = world.host("h1");
    let _lan = host.lan();
    let netns = &host.netns;
    netns.run("ip route add default via 192.0.2.200");
    netns.run("ip -6 route add default via 2001:db8::8000:0:0:2");
    netns.run("ip route add 198.51.100.0/24 nexthop via 192.0.2.2 nexthop via 192.0.2.66");
    netns.run("ip route add 198.18.5.0/24 via 192.0.2.34 table 77");
    let before = host.snapshot();
    for (subnet, router, route) in [
        ("192.0.2.2/31", "192.0.2.2", "198.51.100.0/24"),
        ("192.0.2.64/27", "192.0.2.66", "198.51.100.0/24"),
        ("192.0.2.32/27", "192.0.2.34", "198.18.5.0/24"),
        ("192.0.2.128/25", "192.0.2.200", "default"),
        ("2001:db8:0:0:8000::/65", "2001:db8::8000:0:0:2", "default"),
    ] {
        let (kind, error) = kind_of(host.client().call(&on("app", subnet)));
        assert_eq!(kind, Kind::Exists, "{error}");
        let words = [subnet, router, route, "lan0"];
        assert!(words.iter().all(|word| error.message.contains(word)), "{error}");
        assert_eq!(error.operands["address"], router, "{error}");
    }
    if let Err(differences) = host.snapshot().same_as(&before) {
        panic!("{differences:#?}");
    }
    // Those whose containers are on the LAN go by these routers as well.
    let lan = CreateNetwork {
        driver: Some("macvlan".into()),
        options: [("parent".to_owned(), "lan0".to_owned())].into(),
        ..on("lan", "192.0.2.0/24")
    };
    host.client().call(&lan).unwrap();
    // A router on a link that leads nowhere is nobody's way, and one behind a container is its network's.
    netns.run("ip link add idle type veth peer name unplugged");
    netns.run("ip link set idle up");
    netns.run("ip address add 198.18.0.1/24 dev idle");
    netns.run("ip route add 198.18.6.0/24 via 198.18.0.130");
    host.client().call(&on("nobodys", "198.18.0.128/25")).unwrap();
    host.client().call(&on("own", "10.77.0.0/24")).unwrap();
    netns.run("ip route add 10.99.0.0/16 via 10.77.0.9");
    host.client().call(&on("other", "10.78.0.0/24")).unwrap();
}

#[test]
fn a_network_over_a_part_of_a_hosts_link_is_made_and_that_is_said() {
    let world = World::new();
    let host = world.host("h1");
    let _lan = host.lan();
    let create = |name: &str, subnet: &str| {
        let made = host.netctl(&["network", "create", "--subnet", subnet, name]);
        made.success();
        made.stderr
    };
    assert_eq!(create("fine", "10.77.0.0/24"), "");
    let said = create("part", "192.0.2.128/25");
    let problem = "subnet 192.0.2.128/25 of network part clashes with the host's route to 192.0.2.0/24 by lan0";
    assert!(said.contains(problem), "{said}");
    let problems = host.client().status().problems;
    assert!(problems.iter().any(|one| one.contains(problem)), "{problems:?}");
    // Whoever asks first hears of it before.
    let check = CheckNetwork { network: on("more", "192.0.2.64/26") };
    let warnings = host.client().call(&check).unwrap().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("192.0.2.64/26 of network more"),
        "{warnings:?}"
    );
    assert!(host.log().contains(problem), "{}", host.log());
}
