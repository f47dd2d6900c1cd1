//! Subnets that the host itself is on: a network there would cut it off.

use cnm::{
    Kind,
    network::{CreateNetwork, Subnet, UpdateNetwork},
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
