//! `mode=routed`: hosts on one link send each other packets as they are, and VXLAN to the others.

use std::net::{IpAddr, SocketAddr};

use netd_tests::{Asking as _, Ping, eventually};

use crate::{
    fleet::{Fleet, Running, reaches, resolves},
    growing::distrust,
};

/// Makes networks, and waits until every host has them.
fn create(fleet: &Fleet, networks: &[&[&str]]) {
    for words in networks {
        let all = [&["network", "create", "-d", "overlay"], *words].concat();
        fleet.hosts[0].netctl(&all).success();
        let name = (*words.last().unwrap()).to_owned();
        for host in 0..fleet.hosts.len() {
            eventually("every host sees the network", || {
                let seen = fleet.networks(host);
                if seen.contains(&name) { Ok(()) } else { Err(seen) }
            });
        }
    }
}

/// The routes of a host to single containers elsewhere.
fn routes(fleet: &Fleet, host: usize) -> Vec<String> {
    let shown = fleet.hosts[host].netns.run("ip route show proto 111");
    shown.lines().map(|line| line.trim().to_owned()).collect()
}

/// How many packets have left a host as VXLAN.
fn tunnelled(fleet: &Fleet, host: usize) -> u64 {
    let shown = fleet.hosts[host].netns.json("ip -j -s link show type vxlan");
    let packets = shown
        .as_array()
        .unwrap()
        .iter()
        .map(|device| device["stats64"]["tx"]["packets"].as_u64().unwrap());
    packets.sum()
}

fn at(running: &Running) -> SocketAddr {
    SocketAddr::new(running.ip(), 80)
}

#[test]
fn hosts_on_one_link_need_no_vxlan() {
    let mut fleet = Fleet::new(3);
    create(&fleet, &[&["--opt", "mode=routed", "shop"], &["other"]]);
    distrust(&fleet);
    let running: Vec<_> = (0..3).map(|host| fleet.run(host, "shop", &format!("c{host}"))).collect();
    let heard: Vec<_> = running.iter().map(|one| one.container.netns.serve_tcp(80)).collect();
    for from in &running {
        for to in &running {
            resolves(from, &to.container.name, &[to.ip()]);
            reaches(&from.container.netns, to.ip());
            let seen = from.container.netns.ask_tcp(at(to)).unwrap();
            assert_eq!(seen, from.ip(), "the address of who asks is kept");
        }
    }
    for host in &fleet.hosts {
        for to in &running {
            reaches(&host.netns, to.ip());
            host.netns.ask_tcp(at(to)).unwrap();
        }
    }
    assert_eq!((0..3).map(|host| tunnelled(&fleet, host)).sum::<u64>(), 0);
    for host in 0..3 {
        assert_eq!(routes(&fleet, host).len(), 2);
        // They are netd's own, and no problem.
        let problems = fleet.hosts[host].client().status().problems;
        let strange: Vec<_> = problems.iter().filter(|said| said.contains("route")).collect();
        assert!(strange.is_empty(), "{strange:?}");
    }

    // Another network's containers do not get there, on this host or by it.
    let stranger = fleet.run(0, "other", "stranger");
    let before: Vec<_> = heard.iter().map(|one| one.from().len()).collect();
    for to in &running {
        stranger.container.netns.try_tcp(at(to)).unwrap_err();
    }
    // Nor does who is no member, even if he knows the way.
    let netns = fleet.beside("198.51.100.66/24");
    netns.run(&format!("ip route add {} via 198.51.100.2", running[1].ip()));
    netns.try_tcp(at(&running[1])).unwrap_err();
    let after: Vec<_> = heard.iter().map(|one| one.from().len()).collect();
    assert_eq!(before, after);

    // Crashes lose nothing, and what is gone leaves nothing.
    let ping = Ping::start(&running[0].container.netns, running[1].ip());
    fleet.hosts[0].kill();
    fleet.hosts[0].start();
    ping.goes_on();
    let drivers = fleet.hosts[0].client().status().drivers;
    let overlay = drivers.iter().find(|driver| driver.name == "overlay").unwrap();
    netd_tests::kill(overlay.pid.unwrap());
    ping.goes_on();
    ping.lost_none();
    fleet.hosts[2].client().detach(&running[2].container.id);
    for (host, left) in [(0, 1), (1, 1), (2, 0)] {
        eventually("routes go with their containers", || {
            let found = routes(&fleet, host);
            if found.len() == left { Ok(()) } else { Err(found) }
        });
    }
    let again = fleet.run(2, "shop", "again");
    resolves(&running[0], "again", &[again.ip()]);
    reaches(&running[0].container.netns, again.ip());
}

#[test]
fn hosts_beyond_a_router_get_vxlan() {
    let mut fleet = Fleet::bare(3);
    fleet.wire.run("sysctl -q net.ipv4.ip_forward=1");
    fleet.wire.run("ip address add 198.51.100.254/24 dev wire");
    fleet.wire.run("ip address add 203.0.113.254/24 dev wire");
    for host in &fleet.hosts[..2] {
        host.netns.run("ip route add 203.0.113.0/24 via 198.51.100.254");
    }
    let far = &fleet.hosts[2].netns;
    far.run("ip address del 198.51.100.3/24 dev eth0");
    far.run("ip address add 203.0.113.3/24 dev eth0");
    far.run("ip route add default via 203.0.113.254");
    let token = fleet.init().token.unwrap();
    for host in 1..3 {
        fleet.join(host, &token).unwrap();
    }
    create(&fleet, &[&["--opt", "mode=routed", "--ipv6", "shop"]]);
    let running: Vec<_> = (0..3).map(|host| fleet.run(host, "shop", &format!("c{host}"))).collect();
    for one in &running {
        one.container.netns.serve_tcp(80);
    }
    for from in &running {
        for to in &running {
            for address in &to.endpoint.addresses {
                reaches(&from.container.netns, address.ip());
                from.container.netns.ask_tcp(SocketAddr::new(address.ip(), 80)).unwrap();
            }
        }
    }
    for (host, there) in [(0, &running[1]), (1, &running[0])] {
        let found = routes(&fleet, host);
        assert!(found.len() == 1 && found[0].starts_with(&there.ip().to_string()), "{found:?}");
    }
    assert_eq!(routes(&fleet, 2), [""; 0]);
    for host in &fleet.hosts {
        for to in &running {
            host.netns.ask_tcp(at(to)).unwrap();
        }
    }
    // One that moves to the other side is reached the other way.
    let moved: IpAddr = "203.0.113.2".parse().unwrap();
    fleet.hosts[1].client().detach(&running[1].container.id);
    eventually("nothing leads there", || {
        let found = routes(&fleet, 0);
        if found.is_empty() { Ok(()) } else { Err((found, moved)) }
    });
}
