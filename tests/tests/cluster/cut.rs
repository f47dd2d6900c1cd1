//! What would cut a host off, or could never work, is refused when it is asked for, and not when it
//! is used.

use cnm::{
    Kind,
    network::{CreateNetwork, Subnet, UpdateNetwork},
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, reaches, underlay};

fn overlay(name: &str, subnet: &str) -> CreateNetwork {
    CreateNetwork {
        driver: Some("overlay".into()),
        subnets: vec![Subnet::new(subnet.parse().unwrap())],
        ..CreateNetwork::named(name)
    }
}

/// Hosts of which the last is behind a router, on another subnet than the others, and in no cluster.
fn routed_fleet(count: usize) -> Fleet {
    let fleet = Fleet::bare(count);
    fleet.wire.run("sysctl -q net.ipv4.ip_forward=1");
    fleet.wire.run("ip address add 198.51.100.254/24 dev wire");
    fleet.wire.run("ip address add 203.0.113.254/24 dev wire");
    for (number, host) in fleet.hosts.iter().enumerate() {
        if number + 1 < count {
            host.netns.run("ip route add 203.0.113.0/24 via 198.51.100.254");
            continue;
        }
        host.netns.run(&format!("ip address del {}/24 dev eth0", underlay(number)));
        host.netns.run("ip address add 203.0.113.3/24 dev eth0");
        host.netns.run("ip route add default via 203.0.113.254");
    }
    fleet
}

#[test]
fn a_subnet_by_which_nodes_reach_each_other_is_no_networks() {
    let mut fleet = routed_fleet(3);
    let token = fleet.init().token.unwrap();
    for host in 1..3 {
        fleet.join(host, &token).unwrap();
    }
    let before = fleet.networks(0);
    let ask = |subnet: &str| kind_of(fleet.hosts[0].client().call(&overlay("shop", subnet)));
    for (subnet, node, address) in [
        ("198.51.100.0/24", "", "198.51.100.1"),
        ("198.51.0.0/16", "", "198.51.100.1"),
        // None of it is anybody's, and all of it is on the link of two of them.
        ("198.51.100.64/26", "h1", "198.51.100.1"),
        ("203.0.113.0/25", "h3", "203.0.113.3"),
    ] {
        let (kind, error) = ask(subnet);
        assert_eq!(kind, Kind::Exists, "{error}");
        let said = &error.message;
        assert!(said.contains("cut") && said.contains("off"), "{said}");
        assert!([subnet, node, address].iter().all(|word| said.contains(word)), "{said}");
    }
    let (kind, error) = ask("100.126.7.0/24");
    assert_eq!(kind, Kind::Invalid, "{error}");
    assert!(error.message.contains("between the cluster's nodes"), "{error}");
    assert_eq!(fleet.networks(0), before);

    // Nor does a network get one later; what is next to it is as good as any.
    let made = fleet.create_of("shop", "198.51.101.0/24");
    let more = UpdateNetwork {
        network: made.name.to_string(),
        add_subnets: vec![Subnet::new("203.0.113.0/24".parse().unwrap())],
        ..UpdateNetwork::default()
    };
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&more));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(error.message.contains("h3"), "{error}");
    let running = fleet.run(0, "shop", "a");
    reaches(&fleet.hosts[0].netns, running.ip());
}

#[test]
fn a_host_that_is_reached_at_a_networks_address_does_not_join() {
    let mut fleet = routed_fleet(3);
    let token = fleet.init().token.unwrap();
    fleet.join(1, &token).unwrap();
    fleet.hosts[0].client().call(&overlay("shop", "203.0.113.128/25")).unwrap();
    let (kind, error) = kind_of(fleet.join(2, &token));
    assert_eq!(kind, Kind::Exists, "{error}");
    let said = &error.message;
    for word in ["203.0.113.3", "203.0.113.128/25", "shop", "--advertise-addr"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(fleet.status(2).cluster, None);
    fleet.hosts[0].netctl(&["network", "rm", "shop"]).success();
    fleet.join(2, &token).unwrap();
}

#[test]
fn a_host_that_moves_to_a_networks_addresses_keeps_off_it() {
    let mut fleet = Fleet::new(2);
    fleet.create_of("shop", "203.0.113.0/24");
    let _there = fleet.run(0, "shop", "a");
    // The link that it is reached on becomes wider, and netd starts anew.
    let host = &mut fleet.hosts[1];
    host.netns.run("ip address del 198.51.100.2/24 dev eth0");
    host.netns.run("ip address add 198.51.100.2/4 dev eth0");
    host.kill();
    host.start();
    let problem = eventually("it says so", || {
        let problems = fleet.hosts[1].client().status().problems;
        let found = problems.iter().find(|one| one.contains("network shop cannot be used"));
        found.cloned().ok_or(problems)
    });
    assert!(problem.contains("203.0.113.0/24") && problem.contains("198.51.100.2"), "{problem}");
    let container = fleet.world.container("b");
    let (kind, error) = kind_of(fleet.hosts[1].client().call(&container.to("shop")));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(error.message.contains("cannot be used on this host"), "{error}");
}

#[test]
fn a_host_that_lost_the_address_it_is_reached_at_says_so() {
    let fleet = Fleet::new(2);
    let host = &fleet.hosts[1];
    let said = || {
        let problems = host.client().status().problems;
        problems.into_iter().find(|one| one.contains("no link of this host has"))
    };
    assert_eq!(said(), None);
    host.netns.run("ip address del 198.51.100.2/24 dev eth0");
    host.netns.run("ip address add 198.51.100.22/24 dev eth0");
    let problem = said().expect("it says so");
    assert!(problem.contains("the address 198.51.100.2,"), "{problem}");
    host.netns.run("ip address add 198.51.100.2/24 dev eth0");
    assert_eq!(said(), None);
}

#[test]
fn options_that_mean_nothing_are_refused_with_the_network() {
    let fleet = Fleet::new(1);
    for (option, right) in [
        ("mode=bogus", "vxlan or routed"),
        ("broadcast=often", "on or off"),
        ("masquerade=maybe", "true or false"),
        ("hairpin=1.5", "true or false"),
        ("com.docker.network.bridge.enable_ip_masquerade=x", "true or false"),
        ("host-binding=eth0", "IP address"),
        ("ifname-prefix=a/b", "ifname-prefix"),
        ("mtu=tiny", "number"),
        ("mod=routed", "did you mean \"mode\"?"),
    ] {
        let words = ["network", "create", "-d", "overlay", "--opt", option, "shop"];
        let ran = fleet.hosts[0].netctl(&words);
        assert_ne!(ran.code, 0, "{option}");
        assert!(ran.stderr.contains(right), "{option}: {}", ran.stderr);
    }
    assert!(!fleet.networks(0).contains(&"shop".to_owned()));
    for (name, option) in [("fast", "mode=Routed"), ("loud", "broadcast=On")] {
        let words = ["network", "create", "-d", "overlay", "--opt", option, name];
        fleet.hosts[0].netctl(&words).success();
        fleet.run(0, name, name);
    }
    // Nor where hosts could not do it.
    let words = ["network", "create", "-d", "overlay", "--opt", "mode=routed"];
    let words = [&words[..], &["--ipv4=false", "--ipv6", "six"]].concat();
    let ran = fleet.hosts[0].netctl(&words);
    assert_ne!(ran.code, 0);
    assert!(ran.stderr.contains("this network has none"), "{}", ran.stderr);
}
