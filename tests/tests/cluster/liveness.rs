//! Hosts that are silent: one is given up after a while and finds its way back; many at once are
//! not believed.

use std::time::{Duration, Instant};

use cnm::{
    cluster::{ListNodes, NodeState},
    endpoint::Attach,
};
use netd_tests::{Asking as _, Ping, eventually};
use serde_json::{Value, json};

use crate::fleet::{Fleet, reaches, resolves};

/// Has the cluster conclude sooner, and addresses rest for a second.
pub(crate) fn hasten(fleet: &Fleet, down_after: u64, fence_after: u64) {
    let cluster = fleet.status(0).cluster.unwrap();
    let key = format!("/netd/{cluster}/cfg");
    let row = fleet.etcdctl(0, &format!("get --print-value-only {key}")).unwrap();
    let mut row: Value = serde_json::from_str(row.trim()).unwrap();
    row["down_after"] = json!(down_after);
    row["fence_after"] = json!(fence_after);
    row["cooldown"] = json!(1);
    fleet.etcdctl(0, &format!("put {key} {row}")).unwrap();
}

pub(crate) fn state(fleet: &Fleet, asked: usize, of: &str) -> NodeState {
    let nodes = fleet.hosts[asked].client().call(&ListNodes {}).unwrap().nodes;
    nodes.iter().find(|node| node.name == of).unwrap().state
}

#[test]
fn who_is_away_for_too_long_is_given_up_and_finds_its_way_back() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    hasten(&fleet, 1, 1);
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let (c, d, e) =
        (fleet.run(2, "shop", "c"), fleet.run(2, "shop", "d"), fleet.run(2, "shop", "e"));
    for one in [&a, &b] {
        resolves(one, "c", &[c.ip()]);
    }
    let inside = Ping::start(&d.container.netns, e.ip());
    let outside = Ping::start(&a.container.netns, b.ip());
    fleet.cable(2, false);
    eventually("it is given up", || match state(&fleet, 1, "h3") {
        NodeState::Fenced => Ok(()),
        state => Err(state),
    });
    resolves(&a, "c", &[]);
    eventually("nothing of it is left", || match fleet.status(0).elsewhere {
        1 => Ok(()),
        n => Err(n),
    });
    // Somebody gets one of its addresses, and it goes on without knowing.
    let taker = fleet.world.container("taker");
    let attach = Attach { addresses: vec![c.ip()], ..taker.to("shop") };
    eventually("its addresses are free", || fleet.hosts[0].client().call(&attach));
    let f = fleet.run(2, "shop", "f");
    reaches(&f.container.netns, d.ip());
    inside.goes_on();

    fleet.cable(2, true);
    for (name, one) in [("d", &d), ("e", &e), ("f", &f)] {
        resolves(&a, name, &[one.ip()]);
        reaches(&b.container.netns, one.ip());
    }
    resolves(&f, "taker", &[c.ip()]);
    let about = c.ip().to_string();
    eventually("it is told which address is another's", || {
        let problems = fleet.hosts[2].client().status().problems;
        let told = problems.iter().any(|problem| problem.starts_with(&about));
        if told { Ok(()) } else { Err(problems) }
    });
    resolves(&a, "c", &[]);
    eventually("it is one of them again", || match state(&fleet, 0, "h3") {
        NodeState::Ready => Ok(()),
        state => Err(state),
    });
    fleet.hosts[2].client().detach(&c.container.id);
    let again = fleet.run(2, "shop", "c");
    assert_ne!(again.ip(), c.ip());
    resolves(&a, "c", &[again.ip()]);
    eventually("all is well", || {
        let problems = fleet.hosts[2].client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
    inside.lost_none();
    outside.lost_none();
}

#[test]
fn for_how_long_somebody_is_away_survives_who_watched() {
    let mut fleet = Fleet::new(2);
    hasten(&fleet, 1, 900);
    let nodes = fleet.hosts[0].client().call(&ListNodes {}).unwrap().nodes;
    let node = &nodes.iter().find(|node| node.name == "h2").unwrap().id;
    let key = format!("/netd/{}/n/{node}/away", fleet.status(0).cluster.unwrap());
    let get = format!("get --print-value-only {key}");
    fleet.hosts[1].kill();
    let row = eventually("it is noted", || match fleet.etcdctl(0, &get)?.trim() {
        "" => Err("not yet".to_owned()),
        row => Ok(row.to_owned()),
    });
    let mut row: Value = serde_json::from_str(&row).unwrap();
    assert!(row["seconds"].as_u64().is_some_and(|seconds| seconds > 0), "{row}");
    // As if it had been watched for a quarter of an hour.
    fleet.hosts[0].kill();
    row["seconds"] = json!(1000);
    fleet.etcdctl(0, &format!("put {key} {row}")).unwrap();
    fleet.hosts[0].start();
    eventually("it is given up", || match state(&fleet, 0, "h2") {
        NodeState::Fenced => Ok(()),
        state => Err(state),
    });
    fleet.hosts[1].start();
    eventually("it is back", || match state(&fleet, 0, "h2") {
        NodeState::Ready => Ok(()),
        state => Err(state),
    });
    let left = fleet.etcdctl(0, &get).unwrap();
    assert_eq!(left.trim(), "", "it says itself that it lives");
}

#[test]
fn many_that_go_silent_at_once_are_not_believed() {
    let mut fleet = Fleet::new(4);
    fleet.create("shop");
    // What each said last may be three seconds apart.
    hasten(&fleet, 5, 1);
    let running: Vec<_> = (0..4).map(|host| fleet.run(host, "shop", &format!("c{host}"))).collect();
    for host in 1..4 {
        resolves(&running[0], &format!("c{host}"), &[running[host].ip()]);
    }
    let ping = Ping::start(&running[0].container.netns, running[3].ip());
    for host in 1..4 {
        fleet.hosts[host].kill();
    }
    let silent = || {
        let problems = fleet.hosts[0].client().status().problems;
        problems.into_iter().find(|problem| problem.contains("went silent at once"))
    };
    eventually("the brake is on", || silent().ok_or(()));
    // For longer than it takes to give somebody up.
    let braked = Instant::now();
    while braked.elapsed() < Duration::from_secs(8) {
        for host in 1..4 {
            let state = state(&fleet, 0, &format!("h{}", host + 1));
            assert_eq!(state, NodeState::Suspect);
            resolves(&running[0], &format!("c{host}"), &[running[host].ip()]);
        }
        ping.goes_on();
    }
    for host in 1..4 {
        fleet.hosts[host].start();
    }
    eventually("the brake is off", || {
        let problems = fleet.hosts[0].client().status().problems;
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    });
    for host in 1..4 {
        eventually("it is well", || match state(&fleet, 0, &format!("h{}", host + 1)) {
            NodeState::Ready => Ok(()),
            state => Err(state),
        });
    }
    ping.lost_none();
}
