//! Who is refused an address hears whose it is, by each of the ways that there are to ask for one.

use netd_tests::{Asking as _, Container, Host, World};

/// Why a container does not get an address.
#[track_caller]
fn refused(host: &Host, container: &Container, network: &str, address: &str) -> String {
    let netns = container.netns.path();
    let words = ["attach", "--netns", &netns, "--name", "other", "--ip", address, network];
    let executed = host.netctl(&words);
    assert_eq!(executed.code, 4, "{executed:?}");
    executed.stderr
}

#[test]
fn whose_an_address_is_is_said() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let create = ["network", "create", "--subnet", "10.7.0.0/24", "--aux-address", "nas=10.7.0.9"];
    host.netctl(&[&create[..], &["app"]].concat()).success();
    host.netctl(&["network", "reserve", "--ip", "10.7.0.8", "app", "db"]).success();
    let [web, other] = ["web", "other"].map(|name| world.container(name));
    let mut attach = web.to("app");
    attach.addresses = vec!["10.7.0.7".parse().unwrap()];
    host.client().attach(&attach);
    for (address, whose) in [
        ("10.7.0.7", "container web has it"),
        ("10.7.0.1", "it is the gateway"),
        ("10.7.0.9", "nas"),
        ("10.7.0.8", "db"),
    ] {
        let said = refused(&host, &other, "app", address);
        assert!(said.contains(address) && said.trim_end().ends_with(whose), "{said}");
    }

    // Two networks on one LAN share its addresses.
    for name in ["one", "two"] {
        let lan = ["-d", "macvlan", "-o", "parent=lan0", "--subnet", "192.0.2.0/24"];
        host.netctl(&[&["network", "create"], &lan[..], &[name]].concat()).success();
    }
    let mut attach = web.to("one");
    attach.ifname = "eth1".parse().ok();
    attach.addresses = vec!["192.0.2.70".parse().unwrap()];
    host.client().attach(&attach);
    let said = refused(&host, &other, "two", "192.0.2.70");
    assert!(said.contains("container web has it on network one"), "{said}");

    // Where the addresses come from outside.
    let outside = ["network", "create", "--subnet", "10.8.0.0/24", "-o", "ipam=none", "brought"];
    host.netctl(&outside).success();
    let mut attach = web.to("brought");
    attach.ifname = "eth2".parse().ok();
    attach.addresses = vec!["10.8.0.7".parse().unwrap()];
    host.client().attach(&attach);
    let said = refused(&host, &other, "brought", "10.8.0.7");
    assert!(said.contains("container web has it"), "{said}");
}
