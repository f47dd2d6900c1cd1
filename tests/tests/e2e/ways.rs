//! Containers on several networks: which way their packets leave, and what else they are given on
//! the way.

use std::net::IpAddr;

use cnm::{
    Kind,
    client::Client,
    endpoint::{Endpoint, InspectEndpoint, Refusal, Route},
    network::CreateNetwork,
};
use netd_tests::{Asking as _, Container, World, eventually, kind_of};

/// Networks of IPv4 and one, the last, of both families.
fn networks(netd: &mut Client) {
    for name in ["red", "green", "blue"] {
        netd.create(name);
    }
    netd.call(&CreateNetwork { ipv6: Some(true), ..CreateNetwork::named("dual") }).unwrap();
}

fn join(netd: &mut Client, container: &Container, network: &str, priority: i32) -> Endpoint {
    let mut attach = container.to(network);
    attach.gateway_priority = priority;
    netd.attach(&attach)
}

/// The interface by which a container's packets to an address leave.
fn way(container: &Container, to: &str) -> String {
    let route = container.netns.json(&format!("ip -j route get {to}"));
    route[0]["dev"].as_str().unwrap().to_owned()
}

fn elected(netd: &mut Client, endpoint: &Endpoint) -> Vec<IpAddr> {
    let inspect = InspectEndpoint { endpoint: endpoint.id.to_string(), plan: false };
    netd.call(&inspect).unwrap().elected
}

#[test]
fn a_container_leaves_by_the_network_of_the_highest_priority() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    networks(&mut netd);
    let web = world.container("web");
    let red = join(&mut netd, &web, "red", 0);
    assert_eq!(way(&web, "192.0.2.2"), "eth0");
    let green = join(&mut netd, &web, "green", 0);
    assert_eq!(way(&web, "192.0.2.2"), "eth0", "of equals the first");
    let dual = join(&mut netd, &web, "dual", -5);
    assert_eq!(way(&web, "192.0.2.2"), "eth0");
    assert_eq!(way(&web, "2001:db8::2"), "eth2", "each family by itself");
    let blue = join(&mut netd, &web, "blue", 7);
    assert_eq!(way(&web, "192.0.2.2"), "eth3");

    assert_eq!(elected(&mut netd, &blue), blue.gateways);
    assert_eq!(elected(&mut netd, &dual), dual.gateways[1..]);
    assert!(elected(&mut netd, &red).is_empty() && elected(&mut netd, &green).is_empty());

    // When one goes the next takes over, and nothing else changes.
    let leave = |netd: &mut Client, network: &str| {
        let network = Some(network.to_owned());
        let detach = cnm::endpoint::Detach { network, container: "web".into(), ifname: None };
        netd.call(&detach).unwrap();
    };
    let leads = |dev: &str| {
        eventually("the way leads there", || {
            let now = way(&web, "192.0.2.2");
            if now == dev { Ok(()) } else { Err(now) }
        });
    };
    leave(&mut netd, "blue");
    leads("eth0");
    assert_eq!(elected(&mut netd, &red), red.gateways);
    leave(&mut netd, "red");
    leads("eth1");
    join(&mut netd, &web, "red", 0);
    assert_eq!(way(&web, "192.0.2.2"), "eth1", "who stayed goes before who came again");
    let (kind, error) = kind_of(netd.call(&{
        let mut attach = web.to("blue");
        attach.gateway_priority = 1000;
        attach
    }));
    assert!(kind == Kind::Invalid && error.message.contains("-999 to 999"), "{error}");
}

#[test]
fn a_route_that_appears_over_a_subnet_is_reported() {
    let world = World::new();
    let host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    netd.create_on("app", "10.9.0.0/24");
    host.netns.run("ip route add default via 192.0.2.2");
    host.netns.run("ip route add 128.0.0.0/1 via 192.0.2.2");
    assert_eq!(netd.status().problems, [""; 0]);
    for (route, said) in [
        ("10.8.0.0/15 via 192.0.2.2", "10.8.0.0/15 by lan0"),
        ("10.9.0.128/25 via 192.0.2.2 table 7", "10.9.0.128/25 by lan0"),
        ("blackhole 10.9.0.0/24 metric 5", "10.9.0.0/24 is not to be reached"),
    ] {
        host.netns.run(&format!("ip route add {route}"));
        let problems = netd.status().problems;
        assert_eq!(problems.len(), 1, "{route}: {problems:?}");
        let named = problems[0].contains("subnet 10.9.0.0/24 of network app");
        assert!(named && problems[0].contains(said), "{problems:?}");
        host.netns.run(&format!("ip route delete {route}"));
        assert_eq!(netd.status().problems, [""; 0]);
    }
}

#[test]
fn an_interface_has_the_parameters_that_it_was_given() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.ifname = "lan.7".parse().ok();
    let option = "com.docker.network.endpoint.sysctls".to_owned();
    let wanted = "net.ipv4.conf.IFNAME.log_martians=1,net.ipv4.neigh.IFNAME.ucast_solicit=7";
    attach.options.insert(option.clone(), wanted.to_owned());
    netd.attach(&attach);
    let read = |path: &str| web.netns.run(&format!("cat /proc/sys/net/ipv4/{path}"));
    assert_eq!(read("conf/lan.7/log_martians").trim(), "1");
    assert_eq!(read("neigh/lan.7/ucast_solicit").trim(), "7");
    let other = world.container("other");
    for wanted in ["net.ipv4.ip_forward=1", "net.ipv4.conf.IFNAME.nothing=1"] {
        let mut attach = other.to("app");
        attach.options.insert(option.clone(), wanted.to_owned());
        kind_of(netd.call(&attach));
        assert_eq!(netd.endpoints().len(), 1, "nothing is left of it");
    }
}

#[test]
fn interfaces_and_ports_are_as_the_network_says() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let mut create = CreateNetwork::named("app");
    for (name, value) in [
        ("com.docker.network.bridge.host_binding_ipv4", "192.0.2.1"),
        ("com.docker.network.container_iface_prefix", "lan"),
    ] {
        create.options.insert(name.to_owned(), value.to_owned());
    }
    netd.call(&create).unwrap();
    let web = world.container("web");
    web.netns.serve_tcp(80);
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let made = netd.attach(&attach);
    assert_eq!((made.ifname.as_str(), made.ports[0].host_ip), ("lan0", "192.0.2.1".parse().ok()));
    assert_eq!(way(&web, "192.0.2.2"), "lan0");
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    assert!(host.netns.try_tcp("127.0.0.1:8080".parse().unwrap()).is_err());
}

#[test]
fn what_a_network_is_joined_with_is_said_with_it() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("front", "10.9.0.0/24");
    netd.create_on("back", "10.8.0.0/24");
    let run = host.netctl(&[
        "run",
        "--network",
        "back",
        "--network",
        "name=front,gw-priority=1,ip=10.9.0.77,ifname=lan7",
        "--",
        "ip",
        "route",
        "get",
        "192.0.2.2",
    ]);
    let printed = run.success();
    assert!(printed.contains("via 10.9.0.1 dev lan7 src 10.9.0.77"), "{printed}");
}

#[test]
fn who_gets_anothers_address_is_known_at_once() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.call(&CreateNetwork { ipv6: Some(true), ..CreateNetwork::named("app") }).unwrap();
    let (old, new, friend) =
        (world.container("old"), world.container("new"), world.container("friend"));
    let had = netd.attach(&old.to("app"));
    netd.attach(&friend.to("app"));
    let ips: Vec<IpAddr> = had.addresses.iter().map(|address| address.ip()).collect();
    for ip in &ips {
        assert!(friend.netns.pings(*ip) && host.netns.pings(*ip), "{ip}");
    }
    netd.detach("old");
    let mut attach = new.to("app");
    attach.addresses.clone_from(&ips);
    let has = netd.attach(&attach);
    assert_ne!(has.mac, had.mac);
    let mac = has.mac.unwrap().to_string();
    for (netns, whose) in [(&friend.netns, "a neighbour"), (&host.netns, "the host")] {
        for ip in &ips {
            eventually("who knew the old one knows the new one", || {
                let known = netns.json(&format!("ip -j neighbour show to {ip}"));
                if known[0]["lladdr"] == mac.as_str() { Ok(()) } else { Err((whose, known)) }
            });
        }
    }
}

#[test]
fn routes_that_lead_nowhere_say_so_or_do_not() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    lan.run("ip address add 198.51.100.1/32 dev lo");
    host.netns.run("ip route add 198.51.100.1 via 192.0.2.2");
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let there: std::net::SocketAddr = "198.51.100.1:80".parse().unwrap();
    lan.serve_tcp(80);
    let anywhere = Route::new("0.0.0.0/0".parse().unwrap(), None);
    let nowhere = Route::new("198.51.100.0/24".parse().unwrap(), None);
    // The container keeps such a route, which is made anew each time.
    for (refusal, errno) in [
        (Refusal::Unreachable, nix::errno::Errno::EHOSTUNREACH),
        (Refusal::Prohibit, nix::errno::Errno::EACCES),
        (Refusal::Blackhole, nix::errno::Errno::EINVAL),
    ] {
        let mut attach = web.to("app");
        attach.routes = Some(vec![anywhere, Route { refusal: Some(refusal), ..nowhere }]);
        let endpoint = netd.attach(&attach);
        let error = web.netns.try_tcp(there).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(errno as i32), "{refusal}");
        web.netns.ask_tcp("192.0.2.2:80".parse().unwrap()).unwrap();
        let check = cnm::endpoint::CheckEndpoint::new(endpoint.id.to_string());
        assert_eq!(netd.call(&check).unwrap().differences, [""; 0]);
        netd.detach("web");
    }
}
