//! Bridges that somebody made too small for what is on them, and what cannot be put right: that stays
//! the matter of one network, is said as long as it is so, and is written down once.

use std::{io::Write as _, net::IpAddr, process::Stdio};

use cnm::{
    network::{CreateNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{Asking as _, Container, Host, World, eventually};

/// A network of both families with a container on it; gives the bridge and the container's addresses.
fn dual(host: &Host, web: &Container) -> (String, Vec<IpAddr>) {
    let mut create = CreateNetwork::named("dual");
    create.subnets =
        ["10.21.0.0/24", "fd00:21::/64"].map(|s| Subnet::new(s.parse().unwrap())).to_vec();
    let network = host.client().call(&create).unwrap();
    let endpoint = host.client().attach(&web.to("dual"));
    let addresses = endpoint.addresses.iter().map(|address| address.ip()).collect();
    (network.link.unwrap().to_string(), addresses)
}

fn mtu(host: &Host, link: &str) -> u64 {
    host.netns.json(&format!("ip -j link show {link}"))[0]["mtu"].as_u64().unwrap()
}

/// Whether the host reaches all of a container's addresses.
fn reaches(host: &Host, addresses: &[IpAddr]) -> Result<(), IpAddr> {
    addresses.iter().try_for_each(|to| host.netns.pings(*to).then_some(()).ok_or(*to))
}

#[test]
fn a_bridge_that_was_made_too_small_for_ipv6_has_its_mtu_and_addresses_again() {
    let world = World::new();
    let mut host = world.host("a");
    let (web, late) = (world.container("web"), world.container("late"));
    let (bridge, addresses) = dual(&host, &web);
    let before = host.snapshot();
    let as_before = |host: &Host| {
        eventually("the host is as before", || host.snapshot().same_as(&before));
        eventually("it is reached again", || reaches(host, &addresses));
        assert_eq!(mtu(host, &bridge), 1500);
    };
    host.netns.run(&format!("ip link set {bridge} mtu 1000"));
    as_before(&host);
    assert!(host.log().contains(&format!("the bridge {bridge} has mtu 1000, not 1500")));
    // Nobody watches meanwhile.
    host.kill();
    host.netns.run(&format!("ip link set {bridge} mtu 1000"));
    host.start();
    as_before(&host);
    // Nobody is on it who has the MTU that it had.
    host.client().detach("web");
    host.kill();
    host.netns.run(&format!("ip link set {bridge} mtu 1000"));
    host.start();
    let endpoint = host.client().attach(&late.to("dual"));
    assert_eq!(endpoint.mtu, Some(1500));
    assert_eq!(mtu(&host, &bridge), 1500);
    let reconciled = host.client().call(&Reconcile {}).unwrap();
    assert_eq!(reconciled.repaired, [""; 0]);
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn a_bridge_has_its_mtu_again_whether_it_was_given_one_or_not() {
    let world = World::new();
    let host = world.host("a");
    for (name, given, becomes) in [("given", Some("1500"), 1400), ("uplinks", None, 1000)] {
        let mut create = CreateNetwork::named(name);
        create.options.extend(given.map(|mtu| ("mtu".to_owned(), mtu.to_owned())));
        let bridge = host.client().call(&create).unwrap().link.unwrap().to_string();
        let container = world.container(name);
        host.client().attach(&container.to(name));
        let before = host.snapshot();
        host.netns.run(&format!("ip link set {bridge} mtu {becomes}"));
        eventually("the host is as before", || host.snapshot().same_as(&before));
        assert_eq!(mtu(&host, &bridge), 1500);
    }
}

#[test]
fn a_network_too_small_for_ipv6_needs_nothing() {
    let world = World::new();
    let host = world.host("a");
    let mut create = CreateNetwork::named("small");
    create.options.insert("mtu".to_owned(), "1000".to_owned());
    host.client().call(&create).unwrap();
    let container = world.container("c");
    let endpoint = host.client().attach(&container.to("small"));
    assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, [""; 0]);
    let check = host.netctl(&["endpoint", "check", endpoint.id.as_str()]);
    assert_eq!(check.code, 0, "{check:?}");
}

#[test]
fn what_cannot_be_put_right_of_one_network_is_no_other_networks_matter() {
    let world = World::new();
    let mut host = world.host("a");
    let (web, other) = (world.container("web"), world.container("other"));
    let (bridge, addresses) = dual(&host, &web);
    host.client().create("app");
    let port = host.client().endpoints()[0].id.link_name().to_string();
    host.kill();
    // The kernel puts on no bridge what others take packets from.
    host.netns.run(&format!("ip link set {port} nomaster"));
    host.netns.run(&format!("ip link add link {port} name mv0 type macvlan"));
    host.start();
    host.client().attach(&other.to("app"));
    let problems = host.client().status().problems;
    let named = ["network dual", bridge.as_str(), port.as_str(), "netctl reconcile"];
    assert_eq!(problems.len(), 1, "{problems:?}");
    assert!(named.iter().all(|word| problems[0].contains(word)), "{problems:?}");
    let reconciled = host.client().call(&Reconcile {}).unwrap();
    assert_eq!(reconciled.problems, problems);
    assert_eq!(reconciled.repaired, [""; 0], "what failed was not put right");
    let shown = host.netctl(&["reconcile"]);
    assert_eq!(shown.stdout, format!("not put right: {}\n", problems[0]));
    let before = host.log().matches("network dual").count();
    assert_eq!(before, 1, "it is written down once: {}", host.log());
    // It is tried again.
    host.netns.run("ip link delete mv0");
    eventually("it is reached again", || reaches(&host, &addresses));
    eventually("it is said no more", || {
        let problems = host.client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
}

#[test]
fn a_driver_that_came_up_after_all_is_no_problem_any_more() {
    let world = World::new();
    let mut host = world.host("a");
    for name in ["app", "shop"] {
        host.client().create(name);
    }
    host.kill();
    eventually("the table is no driver's any more", || {
        let deleted = host.netns.output("nft delete table inet netd");
        if deleted.status.success() { Ok(()) } else { Err(deleted) }
    });
    let mut nft = host.netns.command(["nft", "-i"]);
    let mut holder = nft.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut input = holder.stdin.take().unwrap();
    writeln!(input, "add table inet netd {{ flags owner; }}").unwrap();
    eventually("another process has the table", || {
        let tables = host.netns.run("nft list tables");
        if tables.contains("inet netd") { Ok(()) } else { Err(tables) }
    });
    host.start();
    let held = |problem: &&String| problem.contains("belongs to another process");
    eventually("netd says so once", || {
        let problems = host.client().status().problems;
        let count = problems.iter().filter(held).count();
        if count == 1 { Ok(()) } else { Err(problems) }
    });
    drop(input);
    holder.wait().unwrap();
    let container = world.container("c");
    eventually("it works", || host.client().call(&container.to("app")));
    assert_eq!(host.client().status().problems, [""; 0]);
}

#[test]
fn a_link_that_is_lost_is_written_down_once() {
    let world = World::new();
    let host = world.host("a");
    let web = world.container("web");
    dual(&host, &web);
    let port = host.client().endpoints()[0].id.link_name().to_string();
    host.netns.run(&format!("ip link delete {port}"));
    for _ in 0..5 {
        let lost = host.client().call(&Reconcile {}).unwrap().lost;
        assert!(lost.len() == 1 && lost[0].contains("has lost its link"), "{lost:?}");
    }
    assert_eq!(host.log().matches("has lost its link").count(), 1, "{}", host.log());
}
