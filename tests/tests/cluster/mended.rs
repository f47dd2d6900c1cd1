//! What somebody does to the links and rows that lead to other hosts: it is put right, and said.

use cnm::system::Reconcile;
use netd_tests::{Asking as _, eventually};

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
            if now == before { Ok(()) } else { Err(now) }
        });
        reaches(&a.container.netns, b.ip());
        reaches(netns, b.ip());
        eventually("nothing is said of it any more", || {
            let problems = fleet.hosts[0].client().status().problems;
            if problems.is_empty() { Ok(()) } else { Err(problems) }
        });
    }
}
