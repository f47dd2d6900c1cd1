//! What somebody does to the links and rows that lead to other hosts: it is put right, and said.

use std::net::UdpSocket;

use cnm::{Error, Kind, system::Reconcile};
use netd_tests::{Asking as _, Snapshot, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves};

/// The VXLAN device of a host's only network, and the bridge that it is on.
fn device(fleet: &Fleet, host: usize) -> (String, String) {
    let links = fleet.hosts[host].netns.json("ip -j link show type vxlan");
    let link = links.as_array().unwrap().iter().find(|link| link["master"].is_string()).unwrap();
    let word = |key: &str| link[key].as_str().unwrap().to_owned();
    (word("ifname"), word("master"))
}

#[test]
fn rows_that_somebody_spoilt_are_put_right_by_reconcile_which_says_so() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let (mut netd, netns) = (fleet.hosts[0].client(), &fleet.hosts[0].netns);
    let (device, bridge) = device(&fleet, 0);
    let (mac, ip) = (b.endpoint.mac.unwrap(), b.ip());
    for spoil in [
        format!("bridge fdb delete {mac} dev {device} self"),
        format!("bridge fdb replace {mac} dev {device} dst 198.51.100.99 self"),
        format!("bridge fdb add 02:00:00:00:00:99 dev {device} dst 198.51.100.99 self"),
        format!("ip neighbour delete {ip} dev {bridge}"),
    ] {
        netns.run(&spoil);
        let repaired = netd.call(&Reconcile {}).unwrap().repaired;
        let said = repaired.iter().any(|one| one.contains("that lead to other hosts"));
        assert!(said, "{spoil}: {repaired:?}");
        assert_eq!(netd.call(&Reconcile {}).unwrap().repaired, [""; 0], "{spoil}");
        reaches(&a.container.netns, b.ip());
    }
}

#[test]
fn a_device_that_somebody_takes_down_or_off_its_bridge_is_put_right() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let netns = &fleet.hosts[0].netns;
    let (device, bridge) = device(&fleet, 0);
    let links = || {
        let shown = |name: &str| netns.json(&format!("ip -j link show {name}"))[0].clone();
        [device.as_str(), "nx000fff"].map(|name| {
            let link = shown(name);
            (link["flags"].as_array().unwrap().contains(&"UP".into()), link["master"].clone())
        })
    };
    let before = links();
    assert_eq!(before[0], (true, bridge.into()));
    for spoil in [
        format!("ip link set {device} down"),
        format!("ip link set {device} nomaster"),
        "ip link set nx000fff down".to_owned(),
    ] {
        netns.run(&spoil);
        eventually(&format!("it is as before {spoil}"), || {
            let now = links();
            if now == before { Ok(()) } else { Err(format!("{now:?}")) }
        });
        reaches(&a.container.netns, b.ip());
        reaches(netns, b.ip());
        eventually("nothing is said of it any more", || {
            let problems = fleet.hosts[0].client().status().problems;
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        });
    }
}

/// The refusal of a container on the network `shop` of the first host, which leaves nothing there.
fn refused(fleet: &Fleet, name: &str) -> Error {
    let before = Snapshot::of(&fleet.hosts[0].netns);
    let container = fleet.world.container(name);
    let mut netd = fleet.hosts[0].client();
    let (kind, error) = kind_of(netd.call(&container.to("shop")));
    assert_eq!(kind, Kind::Exists, "{error}");
    // The driver's tables, which are laid with its first network, stay.
    let made = Snapshot::of(&fleet.hosts[0].netns).same_as(&before).err();
    let left = made.into_iter().flatten().filter(|line| !line.contains("netd-overlay"));
    assert_eq!(left.collect::<Vec<_>>(), [""; 0], "nothing is left of {error}");
    error
}

#[test]
fn what_is_in_the_way_of_vxlan_is_said_and_nothing_half_made_stays() {
    let fleet = Fleet::new(1);
    let network = fleet.create("shop");
    let (vni, netns) = (network.overlay.unwrap().vni, &fleet.hosts[0].netns);
    let port = netns.inside(|| UdpSocket::bind("0.0.0.0:4789").unwrap());
    let error = refused(&fleet, "a");
    let program = format!("(pid {}) has UDP port 4789", std::process::id());
    assert!(error.message.contains(&program), "{error}");
    assert!(error.message.contains("--data-path-port"), "{error}");
    drop(port);

    netns.run(&format!("ip link add theirs type vxlan id {vni} dstport 4789 dev eth0"));
    let error = refused(&fleet, "b");
    assert!(error.message.contains(&format!("theirs, has VNI {vni}")), "{error}");
    netns.run("ip link delete theirs");

    let bridge = network.link.unwrap();
    netns.run(&format!("ip link add {bridge} type bridge"));
    let error = refused(&fleet, "c");
    assert!(error.message.contains(&format!("a link {bridge} exists already")), "{error}");
    assert!(!error.message.contains("called otherwise"), "it cannot be: {error}");
    netns.run(&format!("ip link delete {bridge}"));
    fleet.run(0, "shop", "d");
}
