//! Containers on three hosts reach each other by name and address, and are reached as those on one
//! host are.

use std::net::SocketAddr;

use cnm::endpoint::Detach;
use netd_tests::{Asking as _, eventually};

use crate::fleet::{Fleet, reaches, resolves};

#[test]
fn containers_on_three_hosts_reach_each_other_by_name() {
    let fleet = Fleet::new(3);
    let made = fleet.create("shop");
    assert_eq!(made.mtu, Some(1450), "the underlay's less what VXLAN adds");
    let running = [fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"), fleet.run(2, "shop", "c")];
    for one in &running {
        one.container.netns.serve_tcp(80);
    }
    for from in &running {
        for to in &running {
            resolves(from, &to.container.name, &[to.ip()]);
            resolves(from, &format!("{}.shop", to.container.name), &[to.ip()]);
            reaches(&from.container.netns, to.ip());
            let seen = from.container.netns.ask_tcp(SocketAddr::new(to.ip(), 80)).unwrap();
            assert_eq!(seen, from.ip(), "the address of who asks is kept");
        }
    }
    for host in &fleet.hosts {
        for to in &running {
            reaches(&host.netns, to.ip());
            host.netns.ask_tcp(SocketAddr::new(to.ip(), 80)).unwrap();
        }
    }
}

#[test]
fn what_is_detached_is_gone_everywhere() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let c = fleet.run(2, "shop", "c");
    for one in [&a, &b] {
        resolves(one, "c", &[c.ip()]);
        reaches(&one.container.netns, c.ip());
    }
    let mac = c.endpoint.mac.unwrap().to_string();
    let rows = |host: usize| {
        let netns = &fleet.hosts[host].netns;
        let all = netns.run("bridge fdb show") + &netns.run("ip neighbour show nud permanent");
        all.lines().filter(|line| line.contains(&mac)).map(str::to_owned).collect::<Vec<_>>()
    };
    assert!(!rows(0).is_empty() && !rows(1).is_empty());
    fleet.hosts[2].client().detach(&c.container.id);
    for (host, one) in [(0, &a), (1, &b)] {
        resolves(one, "c", &[]);
        eventually("its rows are gone", || {
            let rows = rows(host);
            if rows.is_empty() { Ok(()) } else { Err(rows) }
        });
        assert_eq!(fleet.status(host).elsewhere, 1);
    }
    // The last of a host takes the network down there, and only there.
    let links = || fleet.hosts[2].netns.run("ip -o link show type vxlan");
    eventually("the network is down", || {
        let links = links();
        if links.contains("nx") { Err(links) } else { Ok(()) }
    });
    reaches(&a.container.netns, b.ip());
    // And it comes up again.
    let again = fleet.run(2, "shop", "d");
    reaches(&again.container.netns, a.ip());
    let detach = Detach { network: None, container: a.container.id.clone(), ifname: None };
    fleet.hosts[0].client().call(&detach).unwrap();
    resolves(&again, "a", &[]);
}

#[test]
fn a_published_port_is_reached_from_the_lan() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let lan = fleet.hosts[1].lan();
    let web = fleet.world.container("web");
    web.netns.serve_tcp(80);
    let mut attach = web.to("shop");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = fleet.hosts[1].client().attach(&attach);
    let seen = lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    assert_eq!(seen.to_string(), "192.0.2.2", "the client's own address");
    let other = fleet.run(0, "shop", "other");
    reaches(&other.container.netns, endpoint.addresses[0].ip());
}

#[test]
fn an_address_is_given_once_on_request_and_by_itself() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let a = fleet.run(0, "shop", "a");
    // One that lies in the other host's block, and is free.
    let wanted = match a.ip() {
        std::net::IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() ^ 4).into(),
        std::net::IpAddr::V6(_) => unreachable!("it has IPv4"),
    };
    let b = fleet.world.container("b");
    let mut attach = b.to("shop");
    attach.addresses = vec![wanted];
    let lent = fleet.hosts[1].client().attach(&attach);
    assert_eq!(lent.addresses[0].ip(), wanted);
    reaches(&b.netns, a.ip());
    // Whose block it is in does not give it away: not by itself, and not on request.
    let c = fleet.world.container("c");
    let mut attach = c.to("shop");
    attach.addresses = vec![wanted];
    eventually("the owner knows of the loan", || match fleet.hosts[0].client().call(&attach) {
        Err(error) if error.kind == cnm::Kind::Exists => Ok(()),
        other => Err(format!("{other:?}")),
    });
    let mut given = vec![("a".to_owned(), a.ip()), ("b".to_owned(), wanted)];
    let mut running = Vec::new();
    for n in 0..40 {
        let name = format!("m{n}");
        running.push(fleet.run(n % 2, "shop", &name));
        let ip = running[n].ip();
        assert!(given.iter().all(|(_, other)| *other != ip), "{name} gets {ip}: {given:?}");
        given.push((name, ip));
    }
}

#[test]
fn a_name_that_resolves_leads_somewhere() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let a = fleet.run(0, "shop", "a");
    for n in 0..10 {
        let name = format!("b{n}");
        let b = fleet.run(1, "shop", &name);
        resolves(&a, &name, &[b.ip()]);
        // Where the name came before the way, ARP would ask once more after a second.
        let ping = a.container.netns.output(&format!("ping -n -c 1 -W 0.9 {}", b.ip()));
        assert!(ping.status.success(), "{name}: {ping:?}");
    }
}
