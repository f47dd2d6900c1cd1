//! An endpoint publishes other ports while it is in use, and whoever else there is has nothing to do
//! with it.

use std::{fs, net::SocketAddr, os::unix::fs::PermissionsExt as _};

use cnm::{
    Kind,
    endpoint::{Endpoint, Port, UpdateEndpoint},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Container, Host, HostOptions, World, eventually};

/// Where what netd says to the driver is written down.
const HEARD: &str = "/run/heard";

/// A host whose driver `bridge` is heard, and hears only what `filter` lets through.
fn overheard(world: &World, filter: &str) -> Host {
    let directory = "/run/between";
    fs::create_dir(directory).unwrap();
    let driver = format!("{directory}/netd-bridge");
    let real = world.programs().join("netd-bridge");
    let script = format!("#!/bin/sh\ntee -a {HEARD} | {filter} | {}\n", real.display());
    fs::write(&driver, script).unwrap();
    fs::set_permissions(&driver, fs::Permissions::from_mode(0o755)).unwrap();
    let plugin_dirs = vec![directory.into()];
    world.host_with("a", HostOptions { plugin_dirs, ..HostOptions::default() })
}

/// How often netd has called a method of the driver.
fn heard(method: &str) -> usize {
    let text = fs::read_to_string(HEARD).unwrap();
    text.lines().filter(|line| line.contains(&format!("{method:?}"))).count()
}

fn publishing(host: &Host, container: &Container, ports: &[&str]) -> Endpoint {
    let mut attach = container.to("app");
    attach.ports = parsed(ports);
    host.client().attach(&attach)
}

fn parsed(ports: &[&str]) -> Vec<Port> {
    ports.iter().map(|port| port.parse().unwrap()).collect()
}

fn publish(host: &Host, endpoint: &Endpoint, ports: &[&str]) -> cnm::Result<Endpoint> {
    host.client().call(&UpdateEndpoint {
        endpoint: endpoint.id.to_string(),
        container: None,
        ports: Some(parsed(ports)),
    })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

#[test]
fn ports_change_by_themselves() {
    let world = World::new();
    let host = overheard(&world, "cat");
    let lan = host.lan();
    host.client().create("app");
    let (web, other) = (world.container("web"), world.container("other"));
    let _served = [web.netns.serve_tcp(80), web.netns.serve_tcp(81), other.netns.serve_tcp(80)];
    let endpoint = publishing(&host, &web, &[]);
    publishing(&host, &other, &["9090:80"]);
    let clean = host.snapshot();
    let syncs = heard("driver.sync");

    let updated = publish(&host, &endpoint, &["8080:80", "8081:81", "7000-7031:80-111"]).unwrap();
    assert_eq!(updated.ports.len(), 3);
    for port in [8080, 8081, 7000, 7001, 9090] {
        lan.ask_tcp(at(port)).unwrap();
    }
    web.netns.ask_tcp(at(8080)).expect("it reaches its own");
    let relayed = "[::1]:8081".parse().unwrap();
    eventually("it is relayed", || host.netns.try_tcp(relayed));
    // One stays, one leads elsewhere, one goes.
    publish(&host, &endpoint, &["8080:80", "8081:80"]).unwrap();
    for (port, open) in [(8080, true), (8081, true), (7000, false), (9090, true)] {
        assert_eq!(lan.try_tcp(at(port)).is_ok(), open, "{port}");
    }
    // What somebody has is refused, and everything stays as it was.
    let refused = publish(&host, &endpoint, &["8082:80", "9090:80"]).unwrap_err();
    assert_eq!(refused.kind, Kind::Exists, "{refused}");
    for (port, open) in [(8080, true), (8082, false), (9090, true)] {
        assert_eq!(lan.try_tcp(at(port)).is_ok(), open, "{port}");
    }
    publish(&host, &endpoint, &[]).unwrap();
    assert!(lan.try_tcp(at(8080)).is_err());
    eventually("nothing is left", || host.snapshot().same_as(&clean));
    assert_eq!(heard("driver.publish"), 3, "each is a change of its own");
    assert_eq!(heard("driver.sync"), syncs, "nobody else was spoken of");
    assert_eq!(host.netctl(&["reconcile"]).code, 0);
    lan.ask_tcp(at(9090)).unwrap();
}

#[test]
fn ports_that_come_later_are_published_where_the_network_says() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let said = |name: &str, address: &str| {
        let option = ("host-binding".to_owned(), address.to_owned());
        CreateNetwork { options: [option].into(), ..CreateNetwork::named(name) }
    };
    host.client().call(&said("app", "127.0.0.1")).unwrap();
    let web = world.container("web");
    let _served = web.netns.serve_tcp(80);
    let endpoint = publishing(&host, &web, &[]);
    let local = "127.0.0.1:8080".parse().unwrap();
    for ports in [&["8080:80"][..], &["8080:80"], &["8080:80", "192.0.2.1:8081:80"]] {
        let updated = publish(&host, &endpoint, ports).unwrap();
        assert_eq!(updated.ports[0], "127.0.0.1:8080:80".parse().unwrap());
        host.netns.ask_tcp(local).expect("from the host's loopback");
        assert!(lan.try_tcp(at(8080)).is_err(), "{ports:?}");
    }
    lan.ask_tcp(at(8081)).expect("what says it goes before");

    host.client().call(&said("far", "198.51.100.1")).unwrap();
    let far = host.client().attach(&world.container("db").to("far"));
    let refused = publish(&host, &far, &["8082:80"]).unwrap_err();
    assert_eq!(refused.kind, Kind::Invalid);
    let why = "on 198.51.100.1: it is none of the host's addresses";
    assert!(refused.message.contains(why), "{refused}");
}

#[test]
fn a_driver_that_changes_none_by_themselves_is_told_everything() {
    let world = World::new();
    let host = overheard(&world, "sed -u s/driver.publish/driver.nothing/");
    let lan = host.lan();
    host.client().create("app");
    let web = world.container("web");
    let _served = web.netns.serve_tcp(80);
    let endpoint = publishing(&host, &web, &[]);
    let syncs = heard("driver.sync");
    publish(&host, &endpoint, &["8080:80"]).unwrap();
    lan.ask_tcp(at(8080)).unwrap();
    assert_eq!((heard("driver.publish"), heard("driver.sync")), (1, syncs + 1));
}

#[test]
fn ports_that_go_are_passed_on_to_the_containers_other_endpoint() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.client().create("app");
    host.client().create("back");
    let web = world.container("web");
    let _served = web.netns.serve_tcp(80);
    let first = publishing(&host, &web, &["8080:80"]);
    let mut attach = web.to("back");
    attach.ports = parsed(&["8080:80"]);
    // What comes in there goes out there.
    attach.gateway_priority = 1;
    let second = host.client().attach(&attach);
    publish(&host, &first, &[]).unwrap();
    lan.ask_tcp(at(8080)).unwrap();
    publish(&host, &second, &[]).unwrap();
    assert!(lan.try_tcp(at(8080)).is_err());
}
