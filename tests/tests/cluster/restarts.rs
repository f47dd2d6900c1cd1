//! netd ends and comes back: nothing is lost, and it knows what it missed. What others do to the
//! kernel's tables is put right.

use std::collections::BTreeSet;

use cnm::system::Reconcile;
use netd_tests::{Asking as _, Ping, eventually};

use crate::fleet::{Fleet, reaches, resolves};

#[test]
fn a_crash_of_netd_loses_nothing() {
    let mut fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    for host in 0..2 {
        fleet.hosts[host].kill();
        ping.goes_on();
        fleet.hosts[host].start();
        ping.goes_on();
    }
    ping.lost_none();
    resolves(&a, "b", &[b.ip()]);
    resolves(&b, "a", &[a.ip()]);
    // What happened while one was away it learns.
    fleet.hosts[1].kill();
    let c = fleet.run(0, "shop", "c");
    fleet.hosts[0].client().detach(&a.container.id);
    fleet.hosts[1].start();
    resolves(&b, "c", &[c.ip()]);
    resolves(&b, "a", &[]);
    reaches(&b.container.netns, c.ip());
    reaches(&c.container.netns, b.ip());
}

#[test]
fn a_container_that_dies_while_netd_is_away_is_gone_everywhere() {
    let mut fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, mut b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    fleet.hosts[1].kill();
    b.container.netns.kill();
    fleet.hosts[1].start();
    resolves(&a, "b", &[]);
    eventually("nothing is left of it", || match fleet.status(0).elsewhere {
        0 => Ok(()),
        n => Err(n),
    });
}

#[test]
fn a_device_that_somebody_deleted_is_made_again_with_all_that_was_on_it() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    let here = &fleet.hosts[0].netns;
    let devices = || {
        let listed = here.json("ip -j link show type vxlan");
        let name = |link: &serde_json::Value| link["ifname"].as_str().unwrap().to_owned();
        listed.as_array().unwrap().iter().map(name).collect::<BTreeSet<_>>()
    };
    let before = devices();
    assert!(!before.is_empty());
    for device in &before {
        here.run(&format!("ip link delete {device}"));
        reaches(&a.container.netns, b.ip());
        reaches(here, b.ip());
        eventually("the devices are there", || {
            let now = devices();
            if now == before { Ok(()) } else { Err(now) }
        });
        let log = fleet.hosts[0].log();
        assert!(log.contains(&format!("the link {device} is gone")), "{log}");
    }
}

#[test]
fn rows_that_others_took_away_are_there_again_when_they_are_looked_at() {
    let fleet = Fleet::new(2);
    let network = fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    reaches(&a.container.netns, b.ip());
    let (here, mac) = (&fleet.hosts[0].netns, b.endpoint.mac.unwrap().to_string());
    let (bridge, ip) = (network.id.link_name(), b.ip());
    let rows = || {
        let mut rows: Vec<_> = here.run("bridge fdb show").lines().map(str::to_owned).collect();
        rows.extend(
            here.run(&format!("ip neighbour show {ip} dev {bridge}")).lines().map(str::to_owned),
        );
        rows.retain(|row| row.contains(&mac));
        rows.sort();
        rows
    };
    let before = rows();
    assert_eq!(before.len(), 3, "{before:?}");
    let tunnel = before.iter().find_map(|row| row.split_once(" dev ")?.1.split(' ').next());
    let tunnel = tunnel.unwrap();
    for which in ["master", "self"] {
        here.run(&format!("bridge fdb del {mac} dev {tunnel} {which}"));
    }
    here.run(&format!("ip neighbour del {ip} dev {bridge}"));
    assert_eq!(rows(), [""; 0]);
    fleet.hosts[0].client().call(&Reconcile {}).unwrap();
    eventually("they are there again", || match rows() {
        rows if rows == before => Ok(()),
        rows => Err(rows),
    });
    reaches(&a.container.netns, ip);
}

#[test]
fn a_crash_of_the_driver_loses_nothing() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    let drivers = fleet.hosts[0].client().status().drivers;
    let overlay = drivers.iter().find(|driver| driver.name == "overlay").unwrap();
    netd_tests::kill(overlay.pid.unwrap());
    ping.goes_on();
    let c = fleet.run(1, "shop", "c");
    reaches(&a.container.netns, c.ip());
    fleet.hosts[1].client().detach(&c.container.id);
    let mac = c.endpoint.mac.unwrap().to_string();
    eventually("the driver forgets what is gone", || {
        let rows = fleet.hosts[0].netns.run("bridge fdb show");
        if rows.contains(&mac) { Err(rows) } else { Ok(()) }
    });
    ping.lost_none();
}
