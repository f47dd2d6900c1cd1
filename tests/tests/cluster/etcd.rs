//! What happens to etcd: members die, stand still, forget, are replaced, or go back in time. What
//! runs goes on, and afterwards every host knows what is.

use std::{
    fs,
    time::{Duration, Instant},
};

use cnm::{
    cluster::{ListNodes, NodeState, RemoveNode},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Ping, eventually};

use crate::fleet::{Fleet, Running, reaches, resolves, underlay};

fn overlay(name: &str) -> CreateNetwork {
    CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) }
}

/// Waits until a network is made, whoever decides.
fn make(fleet: &Fleet, host: usize, name: &str) {
    eventually("it is decided", || match fleet.hosts[host].client().call(&overlay(name)) {
        // One that nobody answered was made.
        Err(error) if error.kind == cnm::Kind::Exists => Ok(()),
        made => made.map(drop),
    });
    for host in 0..fleet.hosts.len() {
        eventually("every host sees the network", || {
            let seen = fleet.networks(host);
            if seen.contains(&name.to_owned()) { Ok(()) } else { Err(seen) }
        });
    }
}

fn all_know(askers: &[&Running], name: &str, to: &[&Running]) {
    let to: Vec<_> = to.iter().map(|one| one.ip()).collect();
    for asker in askers {
        resolves(asker, name, &to);
    }
}

#[test]
fn a_member_that_dies_is_started_again() {
    let fleet = Fleet::managed(4, 3, "");
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(3, "shop", "b"));
    all_know(&[&a], "b", &[&b]);
    let ping = Ping::start(&a.container.netns, b.ip());
    for _ in 0..2 {
        let leader = fleet.leader();
        let died = fleet.signal_etcd_of(leader, "KILL").unwrap();
        // A majority is left: it goes on, with another leader.
        let c = fleet.run(3, "shop", "c");
        all_know(&[&a], "c", &[&c]);
        eventually("it runs again", || match fleet.etcd_of(leader) {
            Some(pid) if pid != died => fleet.etcdctl(leader, "endpoint health").map(drop),
            other => Err(format!("{other:?}")),
        });
        fleet.hosts[3].client().detach(&c.container.id);
        all_know(&[&a], "c", &[]);
    }
    // All of them at once.
    for host in 0..3 {
        fleet.signal_etcd_of(host, "KILL");
    }
    let c = fleet.run(3, "shop", "c");
    all_know(&[&a], "c", &[&c]);
    make(&fleet, 1, "other");
    ping.lost_none();
}

#[test]
fn a_member_that_ends_at_each_start_is_said_with_its_log() {
    let mut fleet = Fleet::new(1);
    fleet.hosts[0].kill();
    fleet.signal_etcd_of(0, "KILL").unwrap();
    let database = fleet.hosts[0].state_dir().join("cluster/etcd/member/snap/db");
    fs::write(database, "nothing of etcd's").unwrap();
    fleet.hosts[0].start();
    let log = fleet.hosts[0].run_dir().join("etcd.log").display().to_string();
    eventually("it says what the etcd said", || {
        let problems = fleet.hosts[0].client().status().problems;
        let said =
            |one: &String| one.contains("etcd ends soon after each start") && one.contains(&log);
        if problems.iter().any(said) { Ok(()) } else { Err(problems) }
    });
}

#[test]
fn a_leader_that_stands_still_for_15_seconds_changes_nothing() {
    let fleet = Fleet::managed(4, 3, "");
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(3, "shop", "b"));
    let c = fleet.run(1, "shop", "c");
    all_know(&[&a, &c], "b", &[&b]);
    let ping = Ping::start(&a.container.netns, b.ip());
    let leader = fleet.leader();
    fleet.signal_etcd_of(leader, "STOP").unwrap();
    let stopped = Instant::now();
    let mut rounds = 0;
    while stopped.elapsed() < Duration::from_secs(15) {
        let d = fleet.run(3, "shop", "d");
        all_know(&[&a, &b, &c], "d", &[&d]);
        fleet.hosts[3].client().detach(&d.container.id);
        all_know(&[&a, &b, &c], "d", &[]);
        ping.goes_on();
        rounds += 1;
    }
    eprintln!("{rounds} times something came and went while the leader stood still");
    make(&fleet, 1, "other");
    fleet.signal_etcd_of(leader, "CONT").unwrap();
    for host in 0..4 {
        eventually("all are well", || {
            let nodes = fleet.hosts[host].client().call(&ListNodes {}).unwrap().nodes;
            let ready = |node: &cnm::cluster::NodeInfo| node.state == NodeState::Ready;
            let status = fleet.status(host);
            let here = status.away_since.is_none() && status.unwritten == 0;
            if nodes.iter().all(ready) && here { Ok(()) } else { Err(Box::new((nodes, status))) }
        });
        let log = fleet.hosts[host].log();
        assert!(!log.contains("state=Down"), "a leaseholder was given up: {log}");
    }
    all_know(&[&a, &c], "b", &[&b]);
    all_know(&[&b], "c", &[&c]);
    ping.lost_none();
}

#[test]
fn what_was_forgotten_meanwhile_is_found_out() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let c = fleet.run(2, "shop", "c");
    all_know(&[&a, &b, &c], "c", &[&c]);
    let ping = Ping::start(&a.container.netns, b.ip());
    fleet.cable(2, false);
    fleet.hosts[1].client().detach(&c.container.id);
    let d = fleet.run(1, "shop", "d");
    let e = fleet.run(0, "shop", "e");
    all_know(&[&a, &b], "d", &[&d]);
    fleet.hosts[0].client().detach(&e.container.id);
    all_know(&[&b], "e", &[]);
    // Before the watcher has seen any of it.
    let revision = fleet.status(0).revision;
    fleet.etcdctl(0, &format!("compact {revision} --physical")).unwrap();
    fleet.cable(2, true);
    all_know(&[&c], "d", &[&d]);
    all_know(&[&c], "e", &[]);
    reaches(&c.container.netns, d.ip());
    // Those who watched all the time did not notice.
    let f = fleet.run(2, "shop", "f");
    all_know(&[&a, &b], "f", &[&f]);
    ping.lost_none();
}

#[test]
fn a_member_is_replaced() {
    let mut fleet = Fleet::managed(3, 3, "");
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    all_know(&[&a], "b", &[&b]);
    let ping = Ping::start(&a.container.netns, b.ip());
    // The disk of the third is lost.
    fleet.hosts[2].kill();
    fleet.signal_etcd_of(2, "KILL").unwrap();
    fs::remove_dir_all(fleet.hosts[2].state_dir().join("cluster")).unwrap();
    let remove = RemoveNode { node: "h3".into(), force: true };
    eventually("it is removed", || fleet.hosts[0].client().call(&remove));
    let members = fleet.etcdctl(0, "member list").unwrap();
    assert_eq!(members.lines().count(), 2, "{members}");
    fleet.hosts[2].start();
    fleet.join_as_manager(2);
    eventually("three are well", || {
        let members = fleet.etcdctl(0, "member list")?;
        let well = (0..3).all(|host| fleet.etcdctl(host, "endpoint health").is_ok());
        if members.lines().count() == 3 && well { Ok(()) } else { Err(members) }
    });
    let c = fleet.run(2, "shop", "c");
    all_know(&[&a, &b], "c", &[&c]);
    // One may die now that could not before.
    fleet.signal_etcd_of(0, "KILL").unwrap();
    make(&fleet, 1, "other");
    ping.lost_none();
}

#[test]
fn an_old_copy_of_the_store_is_noticed_and_takes_nothing_away() {
    let mut fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    all_know(&[&a], "b", &[&b]);
    fleet.etcdctl(0, "snapshot save /run/snapshot").unwrap();
    // What the copy does not know: endpoints, the only block of a host, and a network.
    let (c, d) = (fleet.run(1, "shop", "c"), fleet.run(2, "shop", "d"));
    all_know(&[&a, &c], "d", &[&d]);
    fleet.create("later");
    let (e, f) = (fleet.run(1, "later", "e"), fleet.run(1, "later", "f"));
    for n in 0..40 {
        let g = fleet.run(n % 2, "shop", "g");
        fleet.hosts[n % 2].client().detach(&g.container.id);
    }
    let pings = [(&a, &b), (&c, &d), (&b, &d), (&e, &f)]
        .map(|(from, to)| Ping::start(&from.container.netns, to.ip()));

    let node = fleet.status(0).node.unwrap();
    fleet.hosts[0].kill();
    fleet.signal_etcd_of(0, "KILL").unwrap();
    let data = fleet.hosts[0].state_dir().join("cluster/etcd");
    fs::remove_dir_all(&data).unwrap();
    let (data, peer) = (data.display(), underlay(0));
    fleet
        .etcdctl(
            0,
            &format!(
                "snapshot restore /run/snapshot --name {node} --data-dir {data} \
                 --initial-cluster {node}=https://{peer}:2380 \
                 --initial-advertise-peer-urls https://{peer}:2380"
            ),
        )
        .unwrap();
    fleet.hosts[0].start();
    for host in 0..3 {
        eventually("it is noticed", || {
            let problems = fleet.hosts[host].client().status().problems;
            let noticed = problems.iter().any(|problem| problem.contains("went back"));
            if noticed { Ok(()) } else { Err(problems) }
        });
    }
    for asker in [&a, &b] {
        all_know(&[asker], "c", &[&c]);
        all_know(&[asker], "d", &[&d]);
    }
    eventually("every row is written again", || {
        let keys = fleet.etcdctl(0, "get --prefix /netd/ --keys-only")?;
        let rows = keys.lines().filter(|key| key.contains("/ep/")).count();
        if rows == 6 { Ok(()) } else { Err(keys) }
    });
    // The addresses that are in use are nobody else's.
    let g: Vec<_> = (0..20).map(|n| fleet.run(n % 3, "shop", &format!("g{n}"))).collect();
    let mut all: Vec<_> = g.iter().chain([&a, &b, &c, &d]).map(Running::ip).collect();
    all.sort_unstable();
    let given = all.len();
    all.dedup();
    assert_eq!(all.len(), given, "an address was given twice: {all:?}");
    reaches(&g[0].container.netns, d.ip());
    // The network that the copy does not know is gone for all but those who use it.
    assert!(!fleet.networks(0).contains(&"later".to_owned()));
    let problems = fleet.hosts[1].client().status().problems;
    assert!(problems.iter().any(|problem| problem.contains("is in use here")), "{problems:?}");
    for ping in pings {
        ping.lost_none();
    }
    make(&fleet, 0, "fresh");
}
