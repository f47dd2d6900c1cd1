//! The store is away, or a host is: what runs goes on, local attaches and detaches do, decisions
//! are refused at once, and afterwards all is as if nothing had been.

use std::time::{Duration, Instant};

use cnm::{Kind, network::CreateNetwork};
use netd_tests::{Asking as _, Ping, eventually, kind_of};

use crate::fleet::{Fleet, reaches, resolves};

fn overlay(name: &str) -> CreateNetwork {
    CreateNetwork { driver: Some("overlay".into()), ..CreateNetwork::named(name) }
}

#[test]
fn without_etcd_hosts_go_on_by_themselves() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    fleet.signal_etcd("STOP");
    // Both a manager and a worker say so at once.
    for host in 0..2 {
        let began = Instant::now();
        let (kind, error) = kind_of(fleet.hosts[host].client().call(&overlay("other")));
        assert_eq!(kind, Kind::Unavailable, "{error}");
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "it took as long as a caller may wait: {error}"
        );
    }
    let c = fleet.run(1, "shop", "c");
    reaches(&c.container.netns, b.ip());
    resolves(&b, "c", &[c.ip()]);
    fleet.hosts[1].client().detach(&b.container.id);
    resolves(&c, "b", &[]);
    eventually("it is known that the store is away", || {
        let status = fleet.status(1);
        if status.away_since.is_some() { Ok(()) } else { Err(Box::new(status)) }
    });
    for host in 0..2 {
        let shown = eventually("it is said", || {
            let shown = fleet.hosts[host].netctl(&["node", "ls"]);
            if shown.stderr.contains("away since") { Ok(shown) } else { Err(shown) }
        });
        let ready: Vec<_> =
            shown.success().lines().filter(|line| line.contains(" Ready ")).collect();
        assert!(ready.len() == 1 && ready[0].contains(" * "), "who could say so? {shown:?}");
    }
    let problems = fleet.hosts[1].client().status().problems.join("; ");
    assert!(problems.contains("the cluster's store is away since"), "{problems}");
    for word in ["h2 ", "http2", "transport", "os error", "rustls", "tcp connect"] {
        assert!(!problems.contains(word), "{word} is a library's: {problems}");
    }
    fleet.signal_etcd("CONT");
    resolves(&a, "c", &[c.ip()]);
    resolves(&a, "b", &[]);
    reaches(&a.container.netns, c.ip());
    eventually("the store is back", || {
        let status = fleet.status(1);
        if status.away_since.is_none() && status.unwritten == 0 {
            Ok(())
        } else {
            Err(Box::new(status))
        }
    });
    drop(ping);
    fleet.create("other");
}

#[test]
fn a_host_that_was_cut_off_finds_its_way_back() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let (c, d) = (fleet.run(2, "shop", "c"), fleet.run(2, "shop", "d"));
    resolves(&c, "a", &[a.ip()]);
    resolves(&a, "c", &[c.ip()]);
    let inside = Ping::start(&c.container.netns, d.ip());
    let outside = Ping::start(&a.container.netns, b.ip());
    fleet.cable(2, false);
    let e = fleet.run(2, "shop", "e");
    let f = fleet.run(0, "shop", "f");
    fleet.hosts[0].client().detach(&f.container.id);
    let g = fleet.run(1, "shop", "g");
    reaches(&e.container.netns, c.ip());
    resolves(&e, "d", &[d.ip()]);
    eventually("it is known to be away", || {
        let status = fleet.status(2);
        if status.away_since.is_some() { Ok(()) } else { Err(Box::new(status)) }
    });
    inside.goes_on();
    fleet.cable(2, true);
    resolves(&e, "g", &[g.ip()]);
    resolves(&a, "e", &[e.ip()]);
    resolves(&c, "f", &[]);
    reaches(&e.container.netns, g.ip());
    reaches(&b.container.netns, e.ip());
    inside.lost_none();
    outside.lost_none();
}
