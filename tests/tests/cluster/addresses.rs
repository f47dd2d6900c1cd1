//! Who has an address, and who a name, when hosts ask for the same at the same time.

use std::{net::IpAddr, thread};

use cnm::{Kind, endpoint::Attach};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::fleet::{Fleet, Running, resolves};

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
