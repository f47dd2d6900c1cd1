//! Who has an address, and who a name, when hosts ask for the same at the same time.

use std::{collections::BTreeSet, net::IpAddr, thread};

use cnm::{Error, Kind, endpoint::Attach};
use netd_tests::{Asking as _, Container, eventually, kind_of};

use crate::fleet::{Fleet, Running, reaches, resolves};

/// An address of the block that one is in, some way from its own.
fn near(one: &Running, way: u32) -> IpAddr {
    match one.ip() {
        IpAddr::V4(ip) => std::net::Ipv4Addr::from_bits(ip.to_bits() ^ way).into(),
        IpAddr::V6(_) => unreachable!("it has IPv4"),
    }
}

#[test]
fn only_the_owner_of_a_block_knows_what_is_free_in_it() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    let wanted = near(&b, 4);
    let at = |name: &str| {
        let container = fleet.world.container(name);
        let attach = Attach { addresses: vec![wanted], ..container.to("shop") };
        (container, attach)
    };
    // The owner gives it to somebody of its own while nobody can hear of it.
    fleet.cable(1, false);
    let (_own, attach) = at("own");
    fleet.hosts[1].client().attach(&attach);
    let (_other, attach) = at("other");
    let (kind, error) = kind_of(fleet.hosts[2].client().call(&attach));
    assert_eq!(kind, Kind::Unavailable, "{error}");
    assert!(error.message.contains("does not answer"), "{error}");
    fleet.cable(1, true);
    eventually("it is refused for good", || match fleet.hosts[2].client().call(&attach) {
        Err(error) if error.kind == Kind::Exists => Ok(()),
        other => Err(format!("{other:?}")),
    });
    resolves(&a, "own", &[wanted]);
}

#[test]
fn of_many_who_ask_for_an_address_one_gets_it() {
    let fleet = Fleet::new(4);
    fleet.create("shop");
    let first = fleet.run(0, "shop", "first");
    for round in 1..=3 {
        let wanted = near(&first, round * 2);
        let asking: Vec<_> = (0..4)
            .map(|host| {
                let container = fleet.world.container(&format!("c{round}-{host}"));
                let attach = Attach { addresses: vec![wanted], ..container.to("shop") };
                let socket = fleet.hosts[host].socket();
                let asked = move || cnm::client::Client::connect(&socket)?.call(&attach);
                (container, thread::spawn(asked))
            })
            .collect();
        let mut given = 0;
        let mut containers = Vec::new();
        for (container, asking) in asking {
            match asking.join().unwrap() {
                Ok(endpoint) => {
                    assert_eq!(endpoint.addresses[0].ip(), wanted);
                    given += 1;
                }
                Err(error) => assert_eq!(error.kind, Kind::Exists, "{error}"),
            }
            containers.push(container);
        }
        assert_eq!(given, 1, "{wanted} in round {round}");
    }
}

#[test]
fn a_mac_address_is_one_containers_wherever_it_runs() {
    let fleet = Fleet::new(2);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    // The second host has heard of it.
    resolves(&b, "a", &[a.ip()]);
    let third = fleet.world.container("third");
    let attach = Attach { mac: a.endpoint.mac, ..third.to("shop") };
    let (kind, error) = kind_of(fleet.hosts[1].client().call(&attach));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(error.message.contains("held by container a on node "), "{error}");
    fleet.hosts[0].client().detach("a");
    eventually("it is free again", || fleet.hosts[1].client().call(&attach).map(drop));
}

#[test]
fn a_name_that_two_hosts_have_leads_to_both() {
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let web = |host: usize, digit: &str| {
        let mut container = fleet.world.container("web");
        container.id = digit.repeat(64);
        let endpoint = fleet.hosts[host].client().attach(&container.to("shop"));
        Running { container, endpoint }
    };
    let webs = [web(0, "a"), web(1, "b")];
    let asker = fleet.run(2, "shop", "asker");
    let mut wanted: Vec<_> = webs.iter().map(|one| one.ip().to_string()).collect();
    wanted.sort_unstable();
    for asker in webs.iter().chain([&asker]) {
        eventually("both answer", || {
            let mut found = asker.asks("web");
            found.sort_unstable();
            if found == wanted { Ok(()) } else { Err(found) }
        });
    }
    // On one host a name is one container's, as everywhere.
    let mut again = fleet.world.container("web");
    again.id = "c".repeat(64);
    let (kind, _) = kind_of(fleet.hosts[1].client().call(&again.to("shop")));
    assert_eq!(kind, Kind::Exists);
    fleet.hosts[0].client().detach(&webs[0].container.id);
    resolves(&asker, "web", &[webs[1].ip()]);
}

/// Attaches so many containers to each of these hosts, all at once: those that came on, and what the
/// others were told.
fn all_at_once(
    fleet: &Fleet,
    hosts: &[usize],
    each: usize,
    network: &str,
) -> (Vec<(usize, Running)>, Vec<Error>, Vec<Container>) {
    let asking = hosts.iter().flat_map(|host| (0..each).map(move |n| (*host, n)));
    let asking: Vec<_> = asking
        .map(|(host, n)| {
            let container = fleet.world.container(&format!("{network}-{host}-{n}"));
            let (attach, socket) = (container.to(network), fleet.hosts[host].socket());
            let asked = move || cnm::client::Client::connect(&socket)?.call(&attach);
            (host, container, thread::spawn(asked))
        })
        .collect();
    let (mut running, mut refused, mut idle) = (Vec::new(), Vec::new(), Vec::new());
    for (host, container, asking) in asking {
        match asking.join().unwrap() {
            Ok(endpoint) => running.push((host, Running { container, endpoint })),
            Err(error) => {
                refused.push(error);
                idle.push(container);
            }
        }
    }
    (running, refused, idle)
}

#[test]
fn who_comes_at_once_gets_every_address_of_a_network() {
    let fleet = Fleet::new(3);
    for (network, subnet, hosts, room) in [
        ("one", "10.77.1.0/29", &[1][..], 5),
        ("three", "10.77.2.0/29", &[0, 1, 2], 5),
        ("wide", "10.77.3.0/28", &[0, 1, 2], 13),
    ] {
        fleet.create_of(network, subnet);
        let (running, refused, _idle) = all_at_once(&fleet, hosts, 6, network);
        let addresses: BTreeSet<_> = running.iter().map(|(_, one)| one.ip()).collect();
        assert_eq!(addresses.len(), running.len(), "no address twice");
        let wanted = room.min(hosts.len() * 6);
        assert_eq!(running.len(), wanted, "{network}: {refused:?}");
        assert_eq!(refused.len(), hosts.len() * 6 - wanted);
        for error in refused {
            assert_eq!(error.kind, Kind::Exhausted, "{error}");
            let said = error.message;
            assert!(said.contains(network) && said.contains(subnet), "{said}");
            let held = |host: usize| running.iter().filter(|(there, _)| *there == host).count();
            assert!(
                (0..3).any(|host| {
                    held(host) > 0 && said.contains(&format!("h{} holds", host + 1))
                }),
                "{said}"
            );
        }
    }
}

#[test]
fn an_address_that_was_borrowed_is_anybodys_again() {
    let fleet = Fleet::new(3);
    fleet.create_of("shop", "10.77.1.0/28");
    // The first host has all of it, as it came first.
    let _first = fleet.run(0, "shop", "first");
    let (running, refused, _) = all_at_once(&fleet, &[1], 12, "shop");
    assert_eq!((running.len(), refused.len()), (12, 0), "{refused:?}");
    let late = fleet.world.container("late");
    for host in 0..3 {
        let (kind, error) = kind_of(fleet.hosts[host].client().call(&late.to("shop")));
        assert_eq!(kind, Kind::Exhausted, "{error}");
        assert!(error.message.contains("h2 holds 12"), "{error}");
    }
    let (_, asker) = &running[11];
    for (host, (_, gone)) in running.iter().enumerate().take(3) {
        fleet.hosts[1].client().detach(&gone.container.id);
        let endpoint =
            eventually("it is given back", || fleet.hosts[host].client().call(&late.to("shop")));
        let ip = endpoint.addresses[0].ip();
        assert_eq!(ip, gone.ip());
        resolves(asker, "late", &[ip]);
        reaches(&asker.container.netns, ip);
        fleet.hosts[host].client().detach(&late.id);
        eventually("it is given back again", || {
            fleet.hosts[1].client().call(&gone.container.to("shop"))
        });
    }
}

#[test]
fn the_blocks_of_a_host_are_shown_with_how_full_they_are() {
    let fleet = Fleet::new(2);
    let network = fleet.create_of("shop", "10.77.9.0/24");
    let shown = |host: usize| -> Vec<_> {
        let pools = fleet.hosts[host].client().pools();
        pools.into_iter().filter(|pool| pool.network == network.id).collect()
    };
    assert_eq!(shown(0), []);
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&b, "a", &[a.ip()]);
    let blocks = [&a, &b].map(|one| near(one, 0));
    for (host, own) in blocks.into_iter().enumerate() {
        let pools = shown(host);
        let used: Vec<_> = pools.iter().filter(|pool| pool.leased > 0).collect();
        let [pool] = &used[..] else { panic!("{pools:?}") };
        let block = pool.block.unwrap();
        assert!(block.contains(own) && block.prefix() > 24, "{block}");
        assert_eq!((pool.subnet, pool.leased), (network.subnets[0].subnet, 1));
        assert_eq!(pool.usable, pool.leased + pool.available, "{pool:?}");
        let listed = fleet.hosts[host].netctl(&["ipam", "ls"]);
        let row = listed.success().lines().find(|line| line.contains(&block.to_string()));
        let row: Vec<_> = row.unwrap().split_whitespace().map(str::to_owned).collect();
        assert_eq!(row[..5], ["shop", "10.77.9.0/24", &*block.to_string(), "10.77.9.1", "1"]);
    }
    // One address of the other's block is a block of its own.
    let (wanted, c) = (near(&b, 4), fleet.world.container("c"));
    let attach = Attach { addresses: vec![wanted], ..c.to("shop") };
    fleet.hosts[0].client().attach(&attach);
    let one = |pool: &cnm::ipam::Pool| pool.block == Some(wanted.into());
    let pools = shown(0);
    assert_eq!(pools.iter().find(|pool| one(pool)).map(|pool| pool.leased), Some(1), "{pools:?}");
    let lender = shown(1).into_iter().find(|pool| pool.leased > 0).unwrap();
    assert_eq!((lender.leased, lender.usable), (1, 1 + lender.available), "{lender:?}");
}
