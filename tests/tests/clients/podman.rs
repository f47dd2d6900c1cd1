//! Podman 4 with the CNI backend.

use std::net::SocketAddr;

use netd_tests::{Podman, eventually};

use crate::{
    podman_netd::crowds,
    site::{Plugins, Site},
};

/// What a container on a network gets from a place.
#[track_caller]
fn fetched(podman: &Podman<'_>, network: &str, place: &str) -> String {
    let url = format!("http://{place}/");
    let options = ["--rm", "--network", network];
    let executed = podman.run(&options, &["curl", "-sS", "--max-time", "5", &url]);
    executed.success().to_owned()
}

fn publishes(plugins: Plugins) -> Site {
    let site = Site::new(plugins);
    site.network("app", 1);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    let address = podman.address("web", "app");
    Site::within(address, 1);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    site.greeted(&site.host.netns, "127.0.0.1:8080", "web");
    assert_eq!(fetched(&podman, "app", &address.to_string()), "I am web\n");
    // Another one may not have the port; the first one keeps it.
    podman.serve("other", &["--network", "app"]);
    let other = podman.address("other", "app");
    assert!(site.host.netns.pings(other) && other != address);
    podman.execute(&["rm", "--force", "--time", "0", "other"]).success();
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    let closed = site.lan.try_tcp(SocketAddr::from(([192, 0, 2, 1], 8080)));
    assert!(closed.is_err(), "the port is open after the container is gone");
    // And it is free again.
    podman.serve("next", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "next");
    site
}

#[test]
fn a_port_is_published_until_the_container_is_gone() {
    publishes(Plugins::Ours);
}

#[test]
fn a_port_is_published_by_the_reference() {
    publishes(Plugins::Reference);
}

fn moves(plugins: Plugins) -> Site {
    let site = Site::new(plugins);
    site.network("app", 1);
    site.network("back", 2);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app,back", "-p", "8080:80"]);
    let (app, back) = (podman.address("web", "app"), podman.address("web", "back"));
    Site::within(app, 1);
    Site::within(back, 2);
    for (network, address) in [("app", app), ("back", back)] {
        assert_eq!(fetched(&podman, network, &address.to_string()), "I am web\n", "{network}");
    }
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["network", "disconnect", "app", "web"]).success();
    assert!(site.host.netns.pings_in_vain(app), "it is still on the network");
    // The port leads to it by its other network.
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    assert_eq!(fetched(&podman, "back", &back.to_string()), "I am web\n");
    podman.execute(&["network", "connect", "app", "web"]).success();
    let app = podman.address("web", "app");
    assert_eq!(fetched(&podman, "app", &app.to_string()), "I am web\n");
    assert_eq!(fetched(&podman, "back", &back.to_string()), "I am web\n");
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    site
}

#[test]
fn a_container_comes_and_goes_between_two_networks() {
    moves(Plugins::Ours);
}

#[test]
fn a_container_moves_on_the_reference() {
    moves(Plugins::Reference);
}

fn reconnects(plugins: Plugins) -> Site {
    let site = Site::new(plugins);
    site.network("app", 1);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    // Podman itself holds the port as long as the container runs.
    let listening = site.host.netns.run("ss -H -l -t -n sport = :8080");
    assert!(listening.contains(":8080"), "nobody listens: {listening}");
    podman.execute(&["network", "disconnect", "app", "web"]).success();
    podman.execute(&["network", "connect", "app", "web"]).success();
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    site
}

#[test]
fn a_container_with_a_port_leaves_its_network_and_comes_back() {
    reconnects(Plugins::Ours);
}

#[test]
fn a_container_with_a_port_comes_back_on_the_reference() {
    reconnects(Plugins::Reference);
}

fn restarts(plugins: Plugins) -> Site {
    let site = Site::new(plugins);
    site.network("app", 1);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app", "-p", "8080:80"]);
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["restart", "--time", "0", "web"]).success();
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["stop", "--time", "0", "web"]).success();
    eventually("the port is closed", || {
        match site.lan.try_tcp(SocketAddr::from(([192, 0, 2, 1], 8080))) {
            Ok(()) => Err("it is open"),
            Err(_) => Ok(()),
        }
    });
    site.bare();
    podman.execute(&["start", "web"]).success();
    site.greeted(&site.lan, "192.0.2.1:8080", "web");
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    site
}

#[test]
fn a_container_is_stopped_and_started() {
    restarts(Plugins::Ours);
}

#[test]
fn a_container_is_stopped_and_started_on_the_reference() {
    restarts(Plugins::Reference);
}

#[test]
fn containers_have_names() {
    let site = Site::new(Plugins::Ours);
    site.network("app", 1);
    let podman = Podman::new(&site.machine);
    podman.serve("web", &["--network", "app"]);
    assert_eq!(fetched(&podman, "app", "web"), "I am web\n");
    // The network is one of netd's: what netctl runs is on it as well.
    let words = ["run", "--network", "app", "--name", "native", "--"];
    let curl = ["curl", "-sS", "--max-time", "5", "http://web/"];
    let native = site.host.netctl(&[&words[..], &curl].concat());
    assert_eq!(native.success(), "I am web\n");
}

#[test]
fn a_container_of_two_names_is_laid_anew_and_leaves_nothing() {
    let site = Site::new(Plugins::Ours);
    let directory = site.machine.directory().join("net.d").display().to_string();
    for name in ["app", "back"] {
        let create = ["network", "create", "--cni", "--cni-dir", &directory, name];
        site.host.netctl(&create).success();
    }
    let podman = Podman::new(&site.machine);
    let before = site.host.snapshot();
    let networks = ["--network", "app:alias=www", "--network", "back", "-p", "8080:80"];
    podman.serve("web", &networks);
    let address = podman.address("web", "app");
    let is_there = || {
        for place in ["web", "www", &address.to_string()] {
            assert_eq!(fetched(&podman, "app", place), "I am web\n", "{place}");
        }
        assert_eq!(fetched(&podman, "back", "web"), "I am web\n");
        site.greeted(&site.lan, "192.0.2.1:8080", "web");
    };
    is_there();
    podman.execute(&["network", "reload", "web"]).success();
    assert_eq!(podman.address("web", "app"), address);
    is_there();
    podman.execute(&["rm", "--force", "--time", "0", "web"]).success();
    site.bare();
    eventually("the host is as it was", || before.same_as(&site.host.snapshot()));
}

#[test]
fn thirty_containers_by_cni_come_at_once() {
    let site = Site::new(Plugins::Ours);
    site.network("app", 1);
    crowds(&site, &Podman::new(&site.machine), 30);
}
