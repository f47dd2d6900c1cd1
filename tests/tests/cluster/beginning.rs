//! What a cluster is begun with, and what is refused before anything is made.

use std::{
    net::TcpListener,
    time::{Duration, Instant},
};

use netd_tests::{Asking as _, World, eventually};
use serde_json::Value;

use crate::fleet::{Fleet, underlay};

#[test]
fn an_address_that_nobody_else_reaches_is_refused() {
    let fleet = Fleet::bare(2);
    let host = &fleet.hosts[0];
    host.netns.run("ip link add one type veth peer name other");
    host.netns.run("ip address add 10.0.0.1 peer 10.0.0.2 dev one");
    for (address, why) in [
        ("127.0.0.1", "loopback"),
        ("::1", "loopback"),
        ("0.0.0.0", "is no address"),
        ("::", "is no address"),
        ("224.0.0.9", "multicast"),
        ("ff02::1", "multicast"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("255.255.255.255", "broadcast"),
        ("198.51.100.77", "no link of this host has the address 198.51.100.77"),
        ("10.0.0.2", "no link of this host has the address 10.0.0.2"),
    ] {
        let refused = host.netctl(&["cluster", "init", "--advertise-addr", address]);
        assert_eq!(refused.code, 2, "{address}: {refused:?}");
        assert!(refused.stderr.contains(why), "{address}: {refused:?}");
        assert!(refused.stderr.contains("--advertise-addr"), "{address}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{address}: {refused:?}");
    }
    let own = underlay(0).to_string();
    for (option, port) in [("--port", "0"), ("--port", "2380"), ("--data-path-port", "0")] {
        let words = ["cluster", "init", "--advertise-addr", &own, option, port];
        let refused = host.netctl(&words);
        assert_eq!(refused.code, 2, "{option} {port}: {refused:?}");
    }
    assert!(fleet.etcd_of(0).is_none(), "nothing was begun");
    host.netctl(&["cluster", "init", "--advertise-addr", &own]).success();
    let made = host.netctl(&["cluster", "token", "create", "--quiet"]).success().trim().to_owned();
    let there = format!("{own}:2377");
    let words = ["cluster", "join", "--token", &made, "--advertise-addr", "127.0.0.1", &there];
    let refused = fleet.hosts[1].netctl(&words);
    assert!(refused.code == 2 && refused.stderr.contains("loopback"), "{refused:?}");
    fleet.hosts[1].netctl(&["cluster", "join", "--token", &made, &there]).success();
}

#[test]
fn an_etcd_that_does_not_answer_is_named_in_time() {
    let fleet = Fleet::bare(1);
    let host = &fleet.hosts[0];
    host.netns.run("ip route add 192.0.2.0/24 dev eth0");
    let own = underlay(0).to_string();
    for (urls, said) in [
        ("http://198.51.100.1:2999", "http://198.51.100.1:2999 (nobody listens there)"),
        ("http://192.0.2.9:2379", "http://192.0.2.9:2379 ("),
        ("http://198.51.100.1:2999,http://192.0.2.9:2379", "there), http://192.0.2.9:2379 ("),
        ("http://198.51.100.1", "end with a port"),
        ("http://198.51.100.1:0", "from 1 to 65535"),
        ("198.51.100.1:2379", "begin with https:// or http://"),
    ] {
        let began = Instant::now();
        let refused = host.netctl(&["cluster", "init", "--advertise-addr", &own, "--etcd", urls]);
        assert!(refused.code != 0 && refused.stderr.contains(said), "{urls}: {refused:?}");
        assert_eq!(refused.stderr.lines().count(), 1, "{refused:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "a caller does not wait longer");
        assert_eq!(fleet.status(0).cluster, None);
    }
    // Nothing of it is in the way of what follows.
    host.netctl(&["cluster", "init", "--advertise-addr", &own]).success();
}

#[test]
fn a_beginning_that_was_broken_off_is_not_taken_for_a_part_of_the_next() {
    let mut fleet = Fleet::bare(1);
    fleet.init();
    let first = fleet.etcd_of(0);
    // What a crash leaves that comes before the membership is written.
    fleet.hosts[0].kill();
    let file = fleet.hosts[0].state_dir().join("cluster/membership.json");
    std::fs::remove_file(file).unwrap();
    fleet.hosts[0].start();
    assert_eq!(fleet.status(0).cluster, None);
    assert_eq!(fleet.etcd_of(0), None);
    fleet.init();
    assert!(fleet.etcd_of(0).is_some() && fleet.etcd_of(0) != first);
    fleet.create("shop");
    fleet.run(0, "shop", "a");
}

#[test]
fn a_new_token_says_by_which_id_it_is_listed() {
    let mut fleet = Fleet::bare(1);
    fleet.init();
    let json = |words: &[&str]| -> Value {
        serde_json::from_str(fleet.hosts[0].netctl(words).success()).unwrap()
    };
    for verb in ["create", "rotate"] {
        let made = json(&["cluster", "token", verb, "--json"]);
        let listed = json(&["cluster", "token", "ls", "--json"]);
        let ids: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|t| &t["id"]).collect();
        assert!(ids.contains(&&made["id"]), "{made} in {listed}");
    }
    let made = json(&["cluster", "token", "create", "--json"]);
    let id = made["id"].as_str().unwrap();
    fleet.hosts[0].netctl(&["cluster", "token", "rm", id]).success();
}

#[test]
fn the_example_with_two_hosts_runs() {
    let world = World::new();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/two-hosts.sh");
    let path = std::env::var("PATH").unwrap_or_default();
    let ran = world.namespace().output(&format!(
        "env PATH={}:{path} sh {script} {}",
        world.programs().display(),
        world.programs().display()
    ));
    let said = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success() && said.contains("hello from the other host"), "{ran:?}");
    let ran = world.namespace().output(&format!("sh {script} /nowhere"));
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success() && said.contains("are not in /nowhere"), "{ran:?}");
}

#[test]
fn an_address_of_the_cluster_rests_over_a_restart() {
    let mut fleet = Fleet::new(2);
    fleet.create("shop");
    fleet.hosts[1].client().create("own");
    for network in ["shop", "own"] {
        let a = fleet.run(1, network, "a");
        fleet.hosts[1].client().detach(&a.container.id);
        fleet.hosts[1].kill();
        fleet.hosts[1].start();
        let container = fleet.world.container("b");
        let attach = container.to(network);
        let b = eventually("it comes up", || fleet.hosts[1].client().call(&attach));
        assert_ne!(b.addresses[0].ip(), a.ip(), "{network}");
        fleet.hosts[1].client().detach(&container.id);
    }
}

#[test]
fn who_has_a_port_of_etcd_is_named_before_anything_is_made() {
    let fleet = Fleet::bare(1);
    let host = &fleet.hosts[0];
    let own = underlay(0).to_string();
    let words = ["cluster", "init", "--advertise-addr", &own];
    for (at, port) in [("0.0.0.0", 2379), ("198.51.100.1", 2380)] {
        let listener = host.netns.inside(|| TcpListener::bind((at, port))).unwrap();
        let refused = host.netctl(&words);
        let whose = format!("cannot listen at {own}:{port}: process ");
        let pid = format!("(pid {})", std::process::id());
        assert_eq!(refused.code, 4, "{refused:?}");
        assert!(refused.stderr.contains(&whose) && refused.stderr.contains(&pid), "{refused:?}");
        assert_eq!(fleet.etcd_of(0), None, "nothing was begun");
        drop(listener);
    }
    host.netctl(&words).success();
}

#[test]
fn an_etcd_that_ends_is_told_with_its_last_words() {
    let fleet = Fleet::bare(1);
    let host = &fleet.hosts[0];
    let own = underlay(0).to_string();
    let words = ["cluster", "init", "--advertise-addr", &own];
    // It runs, and ends before anybody could have asked it.
    let fake = host.run_dir().join("fake");
    let said = r#"{"level":"fatal","msg":"cannot begin","error":"the disk is elsewhere"}"#;
    std::fs::write(&fake, format!("#!/bin/sh\nread -t 0.3 x <>/dev/zero\necho '{said}'\nexit 1\n"))
        .unwrap();
    let fake = fake.display();
    host.netns.run(&format!("chmod 755 {fake}"));
    let netd = host.client().status().pid;
    host.netns.run(&format!("nsenter -m -t {netd} mount --bind {fake} /usr/bin/etcd"));
    let refused = host.netctl(&words);
    assert!(refused.stderr.contains("cannot begin: the disk is elsewhere"), "{refused:?}");
    assert!(refused.stderr.contains("etcd.log"), "{refused:?}");
    host.netns.run(&format!("nsenter -m -t {netd} umount /usr/bin/etcd"));
    host.netctl(&words).success();
}
