//! netd ends and comes back: nothing is lost, and it knows what it missed.

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
