//! Forty at once, by each of the doors, and two hundred by the dearest: all get on, and no two get the
//! same.

use std::{collections::BTreeSet, io::Write as _, thread};

use cnm::{
    Kind, Request,
    endpoint::{CheckEndpoint, Detach, Endpoint},
    network::{CreateNetwork, RemoveNetwork},
    system::Reconcile,
};
use netd_tests::{Asking as _, Container, Host, World, eventually};

const CROWD: usize = 40;

fn crowd(world: &World) -> (Host, Vec<Container>) {
    crowd_of(CROWD, world)
}

fn crowd_of(count: usize, world: &World) -> (Host, Vec<Container>) {
    let host = world.host("a");
    host.client().create("app");
    (host, (0..count).map(|n| world.container(&format!("c{n}"))).collect())
}

/// All are there, different, and reach each other; then all go at once.
fn all_are_there(host: &Host, containers: &[Container], endpoints: &[Endpoint]) {
    assert_eq!(endpoints.len(), containers.len());
    let addresses: BTreeSet<_> = endpoints.iter().map(|e| e.addresses[0].ip()).collect();
    let macs: BTreeSet<_> = endpoints.iter().map(|e| e.mac.unwrap().to_string()).collect();
    let links: BTreeSet<_> = endpoints.iter().map(|e| e.id.link_name().to_string()).collect();
    for distinct in [addresses.len(), macs.len(), links.len()] {
        assert_eq!(distinct, containers.len());
    }
    for container in containers {
        let ip = endpoints
            .iter()
            .find(|e| e.container.id.as_str() == container.id)
            .expect("each has one")
            .addresses[0];
        let shown = container.netns.json("ip -j address show dev eth0");
        assert_eq!(shown[0]["addr_info"][0]["local"], ip.ip().to_string().as_str());
    }
    assert_eq!(host.snapshot().lines("link nd").count(), containers.len());
    let last = endpoints.last().unwrap().addresses[0].ip();
    assert!(containers[0].netns.pings(last));

    thread::scope(|scope| {
        for container in containers {
            scope.spawn(|| assert_eq!(host.client().detach(&container.id).endpoints.len(), 1));
        }
    });
    assert!(host.client().endpoints().is_empty());
    eventually("nothing is left", || {
        let snapshot = host.snapshot();
        if snapshot.lines("link nd").next().is_none() { Ok(()) } else { Err(snapshot) }
    });
}

#[test]
fn forty_connections_attach_at_once() {
    let world = World::new();
    let (host, containers) = crowd(&world);
    let endpoints: Vec<_> = thread::scope(|scope| {
        let attaching: Vec<_> = containers
            .iter()
            .map(|container| scope.spawn(|| host.client().attach(&container.to("app"))))
            .collect();
        attaching.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    all_are_there(&host, &containers, &endpoints);
}

#[test]
fn forty_attaches_on_one_line() {
    let world = World::new();
    let (host, containers) = crowd(&world);
    let members: Vec<_> = containers
        .iter()
        .zip(0u64..)
        .map(|(container, n)| Request::new(n, &container.to("app")).to_line())
        .collect();
    let line = format!("[{}]\n", members.join(",").replace('\n', ""));
    let answer = host.client().exchange(&line, &[]).unwrap();
    let replies: Vec<cnm::Reply<Endpoint>> = serde_json::from_str(&answer).unwrap();
    let ids: Vec<_> = replies.iter().map(|reply| reply.id.clone().unwrap()).collect();
    assert_eq!(ids, (0..40).map(cnm::RequestId::Number).collect::<Vec<_>>());
    let endpoints: Vec<_> = replies.into_iter().map(|reply| reply.outcome().unwrap()).collect();
    all_are_there(&host, &containers, &endpoints);
}

fn plugins_are_executed_at_once(count: usize) {
    let world = World::new();
    let (host, containers) = crowd_of(count, &world);
    // They are all there before the first has its request.
    let mut plugins: Vec<_> =
        containers.iter().map(|_| host.plugin_command("bridge").spawn().unwrap()).collect();
    for (plugin, container) in plugins.iter_mut().zip(&containers) {
        let line = Request::new(1, &container.to("app")).to_line();
        plugin.stdin.take().unwrap().write_all(line.as_bytes()).unwrap();
    }
    for plugin in plugins {
        let executed = netd_tests::Executed::from(plugin.wait_with_output().unwrap());
        executed.success();
    }
    let endpoints = host.client().endpoints();
    all_are_there(&host, &containers, &endpoints);
}

#[test]
fn forty_plugins_are_executed_at_once() {
    plugins_are_executed_at_once(CROWD);
}

#[test]
fn two_hundred_plugins_are_executed_at_once() {
    plugins_are_executed_at_once(200);
}

#[test]
fn networks_made_at_once_have_different_subnets() {
    let world = World::new();
    let host = world.host("a");
    let before = host.snapshot();
    let create = |n| host.client().create(&format!("n{n}"));
    let networks: Vec<_> = thread::scope(|scope| {
        let making: Vec<_> = (0..20).map(|n| scope.spawn(move || create(n))).collect();
        making.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let subnets: BTreeSet<_> = networks.iter().map(|n| n.subnets[0].subnet.to_string()).collect();
    assert_eq!(subnets.len(), networks.len(), "{subnets:?}");
    thread::scope(|scope| {
        for network in &networks {
            let remove = RemoveNetwork { network: network.id.to_string() };
            let host = &host;
            scope.spawn(move || host.client().call(&remove).unwrap());
        }
    });
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn one_name_is_made_once() {
    let world = World::new();
    let host = world.host("a");
    let outcomes: Vec<_> = thread::scope(|scope| {
        let making: Vec<_> = (0..10)
            .map(|_| scope.spawn(|| host.client().call(&CreateNetwork::named("app"))))
            .collect();
        making.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let made = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(made, 1, "{outcomes:?}");
    for refused in outcomes.into_iter().filter_map(Result::err) {
        assert_eq!(refused.kind, Kind::Exists);
    }
    assert_eq!(host.snapshot().lines("link br-").count(), 1);
}

/// What may come of an attach or a removal in the middle of everything else.
fn is_expected(kind: Kind) -> bool {
    matches!(kind, Kind::Unavailable | Kind::NotFound | Kind::Busy)
}

#[test]
fn a_storm_leaves_nothing() {
    let world = World::new();
    let host = world.host("a");
    let before = host.snapshot();
    let containers: Vec<_> = (0..8).map(|n| world.container(&format!("c{n}"))).collect();
    thread::scope(|scope| {
        for (container, n) in containers.iter().zip(9000..) {
            let host = &host;
            scope.spawn(move || {
                let mut netd = host.client();
                for _ in 0..25 {
                    let mut attach = container.to("app");
                    attach.ports = vec![format!("{n}:80").parse().unwrap()];
                    match netd.call(&attach) {
                        Ok(_) => {}
                        Err(error) => assert!(is_expected(error.kind), "{error}"),
                    }
                    let detach =
                        Detach { network: None, container: container.id.clone(), ifname: None };
                    netd.call(&detach).unwrap();
                }
            });
        }
        // Meanwhile the network comes and goes, and so does the driver.
        scope.spawn(|| {
            let mut netd = host.client();
            for _ in 0..40 {
                for outcome in [
                    netd.call(&CreateNetwork::named("app")).map(drop),
                    netd.call(&RemoveNetwork { network: "app".into() }).map(drop),
                ] {
                    let expected = |e: &cnm::Error| is_expected(e.kind) || e.kind == Kind::Exists;
                    assert!(outcome.as_ref().err().is_none_or(expected), "{outcome:?}");
                }
            }
        });
        scope.spawn(|| {
            for _ in 0..4 {
                let drivers = host.client().status().drivers;
                let bridge = drivers.into_iter().find(|d| d.name == "bridge").unwrap();
                if let Some(pid) = bridge.pid {
                    netd_tests::kill(pid);
                }
                eventually("it is started again", || {
                    let drivers = host.client().status().drivers;
                    let now = drivers.into_iter().find(|d| d.name == "bridge").unwrap();
                    let again = now.pid.is_some() && now.pid != bridge.pid;
                    if again { Ok(()) } else { Err(now) }
                });
            }
        });
    });
    let mut netd = host.client();
    assert!(netd.endpoints().is_empty());
    drop(netd.call(&RemoveNetwork { network: "app".into() }));
    eventually("nothing is left", || host.snapshot().same_as(&before));
    assert!(netd.pools().iter().all(|pool| pool.leased == 0));
    let status = netd.status();
    assert_eq!((status.sandboxes, status.problems), (0, Vec::new()));
}

#[test]
fn what_is_being_attached_is_not_taken_away_by_a_reconcile() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let containers: Vec<_> = (0..24).map(|n| world.container(&format!("c{n}"))).collect();
    thread::scope(|scope| {
        let attach = |some: &'_ [Container]| {
            for container in some {
                host.client().attach(&container.to("app"));
            }
        };
        let attaching: Vec<_> =
            containers.chunks(6).map(|some| scope.spawn(move || attach(some))).collect();
        while attaching.iter().any(|one| !one.is_finished()) {
            let reconciled = netd.call(&Reconcile {}).unwrap();
            assert_eq!(reconciled.lost, [""; 0]);
        }
    });
    let endpoints = netd.endpoints();
    assert_eq!(endpoints.len(), containers.len());
    for endpoint in endpoints {
        let checked = netd.call(&CheckEndpoint::new(endpoint.id.to_string())).unwrap();
        assert_eq!(checked.differences, [""; 0], "{}", endpoint.container.label());
    }
}
