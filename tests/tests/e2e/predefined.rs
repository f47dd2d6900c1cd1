//! The networks that always exist, and how networks are shown.

use std::net::SocketAddr;

use cnm::{
    Kind,
    network::{InspectNetwork, ListNetworks, RemoveNetwork},
};
use netd_tests::{Asking as _, World, kind_of};
use serde_json::Value;

#[test]
fn bridge_host_and_none_always_exist() {
    let world = World::new();
    let mut host = world.host("a");
    for _ in 0..2 {
        let mut netd = host.client();
        let networks = netd.call(&ListNetworks::default()).unwrap().networks;
        let shown: Vec<_> =
            networks.iter().map(|n| (n.name.as_str(), n.driver.as_str(), n.predefined)).collect();
        let expected = ["bridge", "host", "none"].map(|name| (name, name, true));
        assert_eq!(shown, expected);
        for (name, ..) in expected {
            let (kind, _) = kind_of(netd.call(&RemoveNetwork { network: name.into() }));
            assert_eq!(kind, Kind::Denied);
        }
        host.kill();
        host.start();
    }
    assert!(host.snapshot().lines("link netd0 ").next().is_some());
}

#[test]
fn the_list_is_dockers_table() {
    let world = World::new();
    let host = world.host("a");
    host.client().create("app");
    let table = host.netctl(&["network", "ls"]);
    let lines: Vec<Vec<&str>> =
        table.success().lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0], ["NETWORK", "ID", "NAME", "DRIVER", "SCOPE"]);
    let rest: Vec<_> = lines[1..].iter().map(|words| &words[1..]).collect();
    let expected = [["app", "bridge"], ["bridge", "bridge"], ["host", "host"], ["none", "null"]];
    for (line, [name, driver]) in rest.iter().zip(expected) {
        assert_eq!(line[0], name);
        assert!(line[1] == driver || (name == "none" && line[1] == "none"), "{line:?}");
        assert_eq!(line[2], "local");
    }
    assert_eq!(rest.len(), expected.len());
    assert!(lines[1..].iter().all(|words| words[0].len() == 12), "{lines:?}");
}

#[test]
fn a_network_is_shown_as_docker_shows_it() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.21.0.0/24");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    let shown = host.netctl(&["network", "inspect", "app"]);
    let shown: Value = serde_json::from_str(shown.success()).unwrap();
    let app = &shown[0];
    assert_eq!(app["Name"], "app");
    assert_eq!(app["Driver"], "bridge");
    assert_eq!(app["Scope"], "local");
    assert_eq!(app["IPAM"]["Config"][0]["Subnet"], "10.21.0.0/24");
    assert_eq!(app["IPAM"]["Config"][0]["Gateway"], "10.21.0.1");
    let member = &app["Containers"][&web.id];
    assert_eq!(member["Name"], "web");
    assert_eq!(member["EndpointID"], endpoint.id.as_str());
    assert_eq!(member["IPv4Address"], endpoint.addresses[0].to_string());
    assert_eq!(member["MacAddress"], endpoint.mac.unwrap().to_string());
}

#[test]
fn a_container_on_none_has_loopback_alone() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let before = host.snapshot();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("none"));
    assert!(endpoint.addresses.is_empty() && endpoint.mac.is_none());
    let links = web.netns.json("ip -j link");
    assert_eq!(links.as_array().unwrap().len(), 1);
    assert!(web.netns.pings("127.0.0.1".parse().unwrap()));
    host.snapshot().same_as(&before).unwrap();
    assert_eq!(netd.detach("web").endpoints, [endpoint.id]);
}

#[test]
fn a_container_on_host_is_on_the_host() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let before = host.snapshot();
    let web = world.container("web");
    let mut attach = web.to("host");
    attach.netns = Some(cnm::endpoint::Netns::Path(host.netns.path()));
    attach.container.pid = Some(web.netns.pid());
    let endpoint = netd.attach(&attach);
    assert!(endpoint.addresses.is_empty());
    host.netns.serve_tcp(80);
    lan.ask_tcp(SocketAddr::new("192.0.2.1".parse().unwrap(), 80)).unwrap();
    let shown = netd.call(&InspectNetwork { network: "host".into() }).unwrap();
    assert_eq!(shown.endpoints, [endpoint]);
    host.snapshot().same_as(&before).unwrap();
    netd.detach("web");
    host.snapshot().same_as(&before).unwrap();

    let (kind, error) = kind_of(netd.call(&web.to("host")));
    assert_eq!(kind, Kind::Invalid, "not the host's namespace: {error}");
}
