//! Networks of the cluster get subnets while they are in use.

use std::net::SocketAddr;

use cnm::{Kind, network::Network};
use netd_tests::{Asking as _, Host, Ping, eventually};

use crate::fleet::{Fleet, Running, reaches, resolves};

/// Half a flow, as others' firewalls see it, is dropped on all hosts.
pub(crate) fn distrust(fleet: &Fleet) {
    for host in &fleet.hosts {
        host.netns.run("nft add table inet other");
        for hook in ["input", "forward", "output"] {
            let chain = format!("{{ type filter hook {hook} priority filter ; policy accept ; }}");
            host.netns.run(&format!("nft add chain inet other {hook} {chain}"));
            host.netns.run(&format!("nft add rule inet other {hook} ct state invalid drop"));
        }
    }
}

/// A TCP connection that goes to and fro, both ways.
fn talks(a: &Running, b: &Running) {
    for (from, to) in [(a, b), (b, a)] {
        eventually("a connection is answered", || {
            let seen = from.container.netns.ask_tcp(SocketAddr::new(to.ip(), 80));
            match seen {
                Ok(seen) if seen == from.ip() => Ok(()),
                other => Err(other),
            }
        });
    }
}

#[test]
fn a_full_network_gets_a_subnet_and_its_endpoints_stay() {
    let mut fleet = Fleet::new(3);
    let create = ["network", "create", "-d", "overlay", "--subnet", "10.77.0.0/29", "shop"];
    fleet.hosts[0].netctl(&create).success();
    for host in 0..3 {
        eventually("every host sees the network", || {
            let seen = fleet.networks(host);
            if seen.contains(&"shop".to_owned()) { Ok(()) } else { Err(seen) }
        });
    }
    distrust(&fleet);
    // Five addresses are for endpoints, and a host may hold one more than it uses.
    let mut old = vec![fleet.run(0, "shop", "old0"), fleet.run(1, "shop", "old1")];
    let (late, error) = loop {
        let container = fleet.world.container(&format!("old{}", old.len()));
        match fleet.hosts[1].client().call(&container.to("shop")) {
            Ok(endpoint) => old.push(Running { container, endpoint }),
            Err(error) => break (container, error),
        }
    };
    assert_eq!(error.kind, Kind::Exhausted, "{error}");
    assert!(error.message.contains("holds"), "{error}");

    resolves(&old[0], "old1", &[old[1].ip()]);
    reaches(&old[0].container.netns, old[1].ip());
    let ping = Ping::start(&old[0].container.netns, old[1].ip());
    let update = ["network", "update", "--json", "--add-subnet", "10.78.0.0/24"];
    let update = [&update[..], &["--label", "tier=web", "shop"]].concat();
    let shown = fleet.hosts[0].netctl(&update);
    let changed: Network = serde_json::from_str(shown.success()).unwrap();
    assert_eq!(changed.subnets.len(), 2);
    assert_eq!(changed.labels["tier"], "web");
    let endpoint =
        eventually("the other host knows of it", || fleet.hosts[1].client().call(&late.to("shop")));
    let mut late = Running { container: late, endpoint };
    // What another host held and did not need may have come back meanwhile.
    while changed.subnets[0].subnet.contains(late.ip()) {
        old.push(late);
        late = fleet.run(1, "shop", &format!("old{}", old.len()));
    }
    assert!(old.len() <= 5 && changed.subnets[1].subnet.contains(late.ip()), "{:?}", late.endpoint);
    assert_eq!(late.endpoint.gateways, ["10.78.0.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(late.endpoint.dns, late.endpoint.gateways);
    let other = fleet.run(0, "shop", "other");
    let third = fleet.run(2, "shop", "third");
    for one in old.iter().chain([&late, &other, &third]) {
        one.container.netns.serve_tcp(80);
    }
    // On one host, and on two; from the old subnet to the new one, and within the new one.
    for (a, b) in [(&old[0], &late), (&old[1], &late), (&late, &other), (&third, &old[0])] {
        talks(a, b);
        resolves(a, &b.container.name, &[b.ip()]);
    }
    for host in &fleet.hosts {
        for to in [&late, &other, &third, &old[1]] {
            reaches(&host.netns, to.ip());
            host.netns.ask_tcp(SocketAddr::new(to.ip(), 80)).unwrap();
        }
    }
    ping.goes_on();

    // What has grown is so after a crash, of netd and of its driver.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    let drivers = fleet.hosts[0].client().status().drivers;
    let overlay = drivers.iter().find(|driver| driver.name == "overlay").unwrap();
    netd_tests::kill(overlay.pid.unwrap());
    ping.goes_on();
    ping.lost_none();
    talks(&late, &other);
    let again = fleet.run(1, "shop", "again");
    resolves(&again, &late.container.name, &[late.ip()]);
    for host in &fleet.hosts[..2] {
        let shown = host.netns.run("ip -o -4 address show");
        assert!(shown.contains("10.77.0.1/29") && shown.contains("10.78.0.1/24"), "{shown}");
    }
    eventually("all is as it should be", || {
        let problems = fleet.hosts[1].client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
}

#[test]
fn a_network_gets_the_other_family() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    let ping = Ping::start(&a.container.netns, b.ip());
    let update = ["network", "update", "--add-subnet", "fd00:77::/64", "shop"];
    fleet.hosts[0].netctl(&update).success();
    // Who was there has no address of it, and gets nothing of it either.
    for (host, one) in fleet.hosts.iter().zip([&a, &b]) {
        let link = one.endpoint.id.link_name();
        eventually("the port of who was there lets no IPv6 through", || {
            let filters = host.netns.run(&format!("tc filter show dev {link} egress"));
            if filters.contains("netd_no_ipv6") { Ok(()) } else { Err(filters) }
        });
    }
    let repaired = fleet.hosts[0].client().call(&cnm::system::Reconcile {}).unwrap().repaired;
    assert_eq!(repaired, Vec::<String>::new(), "the change was whole");
    let both: Vec<_> = ["c", "d"].map(|name| fleet.world.container(name)).into();
    let endpoints: Vec<_> = both
        .iter()
        .zip(&fleet.hosts)
        .map(|(container, host)| {
            eventually("a container gets an address of each family", || {
                let endpoint = host.client().attach(&container.to("shop"));
                if endpoint.addresses.len() == 2 {
                    return Ok(endpoint);
                }
                host.client().detach(&container.id);
                Err(endpoint.addresses)
            })
        })
        .collect();
    let [four, six] = [0, 1].map(|n| endpoints[1].addresses[n].ip());
    assert!(six.is_ipv6());
    reaches(&both[0].netns, six);
    reaches(&both[0].netns, four);
    reaches(&fleet.hosts[0].netns, six);
    reaches(&a.container.netns, four);
    eventually("its name resolves to both", || {
        let words = "-t AAAA -q d";
        let found = Host::ask_name(&a.container.netns, a.endpoint.gateways[0], words);
        if found == [six.to_string()] { Ok(()) } else { Err(found) }
    });
    ping.goes_on();
    ping.lost_none();
}

#[test]
fn what_is_taken_is_not_given_twice() {
    let fleet = Fleet::new(2);
    let made = fleet.create("shop");
    fleet.create("other");
    let taken = made.subnets[0].subnet.to_string();
    for (network, subnet) in [("shop", taken.as_str()), ("other", taken.as_str())] {
        let update = ["network", "update", "--add-subnet", subnet, network];
        let refused = fleet.hosts[0].netctl(&update);
        assert_eq!(refused.code, 4, "{refused:?}");
    }
    // A local network of another host has it: it cannot be used there, and says so.
    fleet.hosts[1].client().create_on("own", "10.79.0.0/24");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let update = ["network", "update", "--add-subnet", "10.79.0.0/16", "shop"];
    fleet.hosts[0].netctl(&update).success();
    let late = fleet.world.container("late");
    eventually("no container comes there", || {
        match fleet.hosts[1].client().call(&late.to("shop")) {
            Err(error) if error.kind == Kind::Exists => Ok(()),
            Ok(_) => {
                fleet.hosts[1].client().detach(&late.id);
                Err("it came".to_owned())
            }
            Err(error) => Err(error.to_string()),
        }
    });
    let problems = fleet.hosts[1].client().status().problems;
    assert!(problems.iter().any(|one| one.contains("own")), "{problems:?}");
    reaches(&a.container.netns, b.ip());
}
