//! Certificates end, and are renewed long before: netd and etcd go on with the new ones.

use std::time::{SystemTime, UNIX_EPOCH};

use netd_tests::{Asking as _, Ping, eventually};

use crate::fleet::{Fleet, reaches, resolves};

/// How long they are good for, in seconds.
const LIFE: u64 = 8;

#[test]
fn certificates_are_renewed_and_nobody_notices() {
    let fleet = Fleet::managed(3, 2, &format!("certificate_life = {LIFE}"));
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(2, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let ping = Ping::start(&a.container.netns, b.ip());
    let renewals = |host: usize| {
        let log = fleet.hosts[host].log();
        log.lines().filter(|line| line.contains("certificate was renewed")).count()
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    // Whatever was signed before has ended when this is over.
    let last = now() + LIFE;
    for host in 0..3 {
        let before = renewals(host);
        eventually("it is renewed, and what it had has ended", || {
            let renewed = renewals(host) - before;
            if renewed > 0 && now() > last { Ok(()) } else { Err(renewed) }
        });
    }
    // Connections are made anew: to the managers, to etcd, and between its members.
    for host in 0..2 {
        fleet.signal_etcd_of(host, "KILL").unwrap();
    }
    let c = fleet.run(2, "shop", "c");
    resolves(&a, "c", &[c.ip()]);
    reaches(&c.container.netns, a.ip());
    fleet.create("other");
    let d = fleet.run(2, "other", "d");
    fleet.hosts[2].client().detach(&d.container.id);
    ping.lost_none();
}
