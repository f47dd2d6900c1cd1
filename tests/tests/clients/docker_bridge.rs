//! dockerd with its own default bridge beside netd with its own, whichever came first: nobody's address
//! is given out twice, and where both are on one link, netd says so and what to do.

use std::{collections::BTreeSet, fs, net::IpAddr};

use cnm::{endpoint::Endpoint, network::InspectNetwork, system::GetStatus};
use ipnetwork::IpNetwork;
use netd_tests::{Asking as _, Container, Dockerd, Host, HostOptions, World, eventually};

/// With a default bridge, of the name that it has unless told.
const WITH_BRIDGE: [&str; 4] =
    ["--iptables=false", "--ip-masq=false", "--userland-proxy=false", "--bridge="];

fn host(world: &World, more: &str) -> Host {
    let config = format!("docker_socket = \"/run/a-machine/docker/docker.sock\"\n{more}\n");
    world.host_with("a", HostOptions { config, ..HostOptions::default() })
}

/// A container of dockerd's on its default bridge: its address.
#[track_caller]
fn run(dockerd: &Dockerd<'_>, name: &str) -> IpAddr {
    dockerd.run(name, "bridge", &[], &["sleep", "1000"]);
    let told = dockerd.inspect(&["inspect", name]);
    told["NetworkSettings"]["IPAddress"].as_str().unwrap().parse().unwrap()
}

#[track_caller]
fn attached(host: &Host, container: &Container) -> Endpoint {
    host.client().attach(&container.to("bridge"))
}

#[track_caller]
fn problems(host: &Host) -> Vec<String> {
    host.client().call(&GetStatus {}).unwrap().problems
}

/// The bridges of the host.
fn bridges(host: &Host) -> BTreeSet<String> {
    let links = host.netns.json("ip -j link show type bridge");
    let names = links.as_array().unwrap().iter().filter_map(|link| link["ifname"].as_str());
    names.map(str::to_owned).collect()
}

fn subnet(host: &Host) -> IpNetwork {
    let detail = host.client().call(&InspectNetwork { network: "bridge".into() }).unwrap();
    detail.network.subnets[0].subnet
}

/// Each has a bridge and a subnet of its own, on which its containers reach the host.
#[track_caller]
fn are_apart(host: &Host, dockerd: &Dockerd<'_>, web: &Container, endpoint: &Endpoint) {
    assert_eq!(bridges(host), ["docker0", "netd0"].map(str::to_owned).into());
    let theirs = run(dockerd, "theirs");
    assert!(!subnet(host).contains(theirs), "{theirs}");
    assert!(host.netns.pings(theirs) && host.netns.pings(endpoint.addresses[0].ip()));
    assert!(web.netns.pings(endpoint.gateways[0]));
    assert_eq!(problems(host), [""; 0]);
}

#[test]
fn a_dockerd_that_comes_after_netd_has_a_bridge_of_its_own() {
    let world = World::new();
    let host = host(&world, "");
    let machine = world.machine("a", &host.netns);
    let web = world.container("web");
    let endpoint = attached(&host, &web);
    let dockerd = Dockerd::start_with(&machine, &WITH_BRIDGE);
    are_apart(&host, &dockerd, &web, &endpoint);
}

#[test]
fn a_netd_that_comes_after_dockerd_has_a_bridge_of_its_own() {
    let world = World::new();
    let mut host = host(&world, "");
    let machine = world.machine("a", &host.netns);
    // As if it had not been there.
    host.stop();
    host.netctl(&["uninstall"]).success();
    for directory in [host.run_dir(), host.state_dir()] {
        fs::remove_dir_all(directory).unwrap();
    }
    let dockerd = Dockerd::start_with(&machine, &WITH_BRIDGE);
    assert_eq!(bridges(&host), ["docker0".to_owned()].into());
    host.start();
    let web = world.container("web");
    let endpoint = attached(&host, &web);
    are_apart(&host, &dockerd, &web, &endpoint);
}

#[test]
fn one_link_of_both_is_named_and_what_is_said_mends_it() {
    let world = World::new();
    let mut host = host(&world, "default_link = \"docker0\"");
    let machine = world.machine("a", &host.netns);
    let web = world.container("web");
    let endpoint = attached(&host, &web);
    assert_eq!(problems(&host), [""; 0], "there is no dockerd");
    let mut dockerd = Dockerd::start_with(&machine, &WITH_BRIDGE);
    let theirs = run(&dockerd, "theirs");
    assert!(subnet(&host).contains(theirs), "{theirs}: dockerd has taken another bridge");
    let said = problems(&host);
    assert_eq!(said.len(), 1, "{said:?}");
    for part in [
        "dockerd's network bridge is on docker0, which is network bridge's of netd",
        "say default_link = \"netd0\" in netd's configuration",
        "\"bip\": \"172.17.0.1/16\" in /etc/docker/daemon.json",
    ] {
        assert!(said[0].contains(part), "{part} is not in {said:?}");
    }

    // Whoever is in a hurry, and leaves dockerd running, is told so.
    let config = host.run_dir().with_file_name("netd.toml");
    let text = fs::read_to_string(&config).unwrap().replace("docker0", "netd0");
    fs::write(&config, text).unwrap();
    host.stop();
    host.start();
    let said = problems(&host).join("\n");
    assert!(said.contains("network bridge stays on docker0, since veth"), "{said}");

    dockerd.docker(&["rm", "-f", "theirs"]).success();
    dockerd.end("TERM");
    host.stop();
    host.start();
    assert_eq!(bridges(&host), ["netd0".to_owned()].into());
    eventually("its container is on the new link", || {
        if web.netns.pings(endpoint.gateways[0]) { Ok(()) } else { Err(problems(&host)) }
    });
    // dockerd keeps the addresses that its bridge once had, unless it is told others.
    dockerd.start_again();
    let said = problems(&host).join("\n");
    let wanted = format!("dockerd's network bridge has addresses of {}", subnet(&host));
    assert!(said.contains(&wanted) && said.contains("and start dockerd again"), "{said}");
    dockerd.end("TERM");
    fs::write(Dockerd::config(&machine), "{\"bip\": \"172.17.0.1/16\"}").unwrap();
    dockerd.start_again();
    are_apart(&host, &dockerd, &web, &endpoint);
    host.stop();
    host.start();
    assert_eq!(problems(&host), [""; 0]);
    assert_eq!(host.client().endpoints()[0].addresses, endpoint.addresses);
}

#[test]
fn a_link_that_dockerd_deletes_is_named() {
    let world = World::new();
    let mut host = host(&world, "default_link = \"docker0\"");
    let machine = world.machine("a", &host.netns);
    let web = world.container("web");
    let endpoint = attached(&host, &web);
    let _dockerd = Dockerd::start(&machine);
    let said = problems(&host).join("\n");
    assert!(said.contains("takes that for its own or deletes it when it starts"), "{said}");
    // One that was not told to stay goes out of the way by itself.
    let config = host.run_dir().with_file_name("netd.toml");
    let text = fs::read_to_string(&config).unwrap().replace("default_link", "# default_link");
    fs::write(&config, text).unwrap();
    host.stop();
    host.start();
    assert_eq!(bridges(&host), ["netd0".to_owned()].into());
    eventually("its container is on the new link", || {
        if web.netns.pings(endpoint.gateways[0]) { Ok(()) } else { Err(problems(&host)) }
    });
    assert_eq!(problems(&host), [""; 0]);
}
