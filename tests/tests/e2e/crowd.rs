//! Forty at once, by each of the doors: all get on, and no two get the same.

use std::{collections::BTreeSet, io::Write as _, thread};

use cnm::{Request, endpoint::Endpoint};
use netd_tests::{Asking as _, Container, Host, World, eventually};

const CROWD: usize = 40;

fn crowd(world: &World) -> (Host, Vec<Container>) {
    let host = world.host("a");
    host.client().create("app");
    (host, (0..CROWD).map(|n| world.container(&format!("c{n}"))).collect())
}

/// All are there, different, and reach each other; then all go at once.
fn all_are_there(host: &Host, containers: &[Container], endpoints: &[Endpoint]) {
    assert_eq!(endpoints.len(), containers.len());
    let addresses: BTreeSet<_> = endpoints.iter().map(|e| e.addresses[0].ip()).collect();
    let macs: BTreeSet<_> = endpoints.iter().map(|e| e.mac.unwrap().to_string()).collect();
    let links: BTreeSet<_> = endpoints.iter().map(|e| e.id.link_name().to_string()).collect();
    for distinct in [addresses.len(), macs.len(), links.len()] {
        assert_eq!(distinct, CROWD);
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
    assert_eq!(host.snapshot().lines("link nd").count(), CROWD);
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

#[test]
fn forty_plugins_are_executed_at_once() {
    let world = World::new();
    let (host, containers) = crowd(&world);
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
