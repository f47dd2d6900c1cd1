//! Published ports: reached from wherever the host is, with the caller's address preserved.

use std::net::{IpAddr, SocketAddr};

use cnm::{client::Client, endpoint::Endpoint, network::CreateNetwork};
use netd_tests::{Asking as _, Container, World, eventually};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Serves TCP and UDP on port 80 of a container, published under 8080.
fn publish(netd: &mut Client, container: &Container, network: &str, ports: &[&str]) -> Endpoint {
    container.netns.serve_tcp(80);
    container.netns.serve_udp(80);
    let mut attach = container.to(network);
    attach.ports = ports.iter().map(|port| port.parse().unwrap()).collect();
    netd.attach(&attach)
}

/// With packets between ports of a bridge going through the IP tables or not (`br_netfilter`).
fn a_published_port_is_reached_from_everywhere(bridge_filter: &str) {
    let world = World::new();
    let host = world.host("a");
    host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={bridge_filter}"));
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    netd.create("other");
    let (web, friend, stranger) =
        (world.container("web"), world.container("friend"), world.container("stranger"));
    let endpoint = publish(&mut netd, &web, "app", &["8080:80", "8080:80/udp"]);
    let friend_ip = netd.attach(&friend.to("app")).addresses[0].ip();
    let stranger_ip = netd.attach(&stranger.to("other")).addresses[0].ip();
    let outside = at("192.0.2.1:8080");

    assert_eq!(lan.ask_tcp(outside).unwrap(), ip("192.0.2.2"), "from the LAN");
    assert_eq!(lan.ask_udp(outside).unwrap(), ip("192.0.2.2"), "from the LAN, UDP");
    let own = host.netns.ask_tcp(outside).unwrap();
    assert!(own == ip("192.0.2.1") || own == endpoint.gateways[0], "from the host: {own}");
    let own = host.netns.ask_udp(outside).unwrap();
    assert!(own == ip("192.0.2.1") || own == endpoint.gateways[0], "from the host, UDP: {own}");
    host.netns.ask_tcp(at("127.0.0.1:8080")).expect("from the host's loopback");
    host.netns.ask_udp(at("127.0.0.1:8080")).expect("from the host's loopback, UDP");
    let seen = friend.netns.ask_tcp(outside).expect("from the same network");
    assert!(seen == friend_ip || seen == endpoint.gateways[0], "{seen}");
    friend.netns.ask_udp(outside).expect("from the same network, UDP");
    let seen = stranger.netns.ask_tcp(outside).expect("from another network");
    assert!(seen == stranger_ip || seen == endpoint.gateways[0], "{seen}");
    stranger.netns.ask_udp(outside).expect("from another network, UDP");
    web.netns.ask_tcp(outside).expect("from itself");
    web.netns.ask_udp(outside).expect("from itself, UDP");

    let server = web.netns.serve_tcp(81);
    assert!(lan.try_tcp(at("192.0.2.1:81")).is_err(), "not published");
    assert!(server.from().is_empty());
}

#[test]
fn a_published_port_is_reached_from_everywhere_with_bridge_filter() {
    a_published_port_is_reached_from_everywhere("1");
}

#[test]
fn a_published_port_is_reached_from_everywhere_without_bridge_filter() {
    a_published_port_is_reached_from_everywhere("0");
}

#[test]
fn a_port_is_published_over_ipv6() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let create = CreateNetwork { ipv6: Some(true), ..CreateNetwork::named("app") };
    netd.call(&create).unwrap();
    let web = world.container("web");
    publish(&mut netd, &web, "app", &["8080:80"]);
    assert_eq!(lan.ask_tcp(at("[2001:db8::1]:8080")).unwrap(), ip("2001:db8::2"));
    assert_eq!(lan.ask_tcp(at("192.0.2.1:8080")).unwrap(), ip("192.0.2.2"));
    host.netns.ask_tcp(at("[2001:db8::1]:8080")).expect("from the host");
}

#[test]
fn a_port_on_one_address_is_not_on_others() {
    let world = World::new();
    let host = world.host("a");
    host.netns.run("ip address add 192.0.2.9/32 dev lo");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let (web, api, db) = (world.container("web"), world.container("api"), world.container("db"));
    publish(&mut netd, &web, "app", &["192.0.2.1:8080:80"]);
    let api_ip = publish(&mut netd, &api, "app", &["192.0.2.9:8080:80"]).addresses[0].ip();
    let heard = db.netns.serve_tcp(80);
    let mut attach = db.to("app");
    attach.ports = vec!["127.0.0.1:5432:80".parse().unwrap()];
    netd.attach(&attach);

    assert_eq!(lan.ask_tcp(at("192.0.2.1:8080")).unwrap(), ip("192.0.2.2"));
    assert_eq!(lan.ask_tcp(at("192.0.2.9:8080")).unwrap(), ip("192.0.2.2"));
    assert_ne!(api_ip, ip("192.0.2.9"));
    host.netns.ask_tcp(at("127.0.0.1:5432")).expect("from the host's loopback");
    let before = heard.from().len();
    assert!(lan.try_tcp(at("192.0.2.1:5432")).is_err());
    // Not even when the neighbour sends packets for 127.0.0.1 its way.
    lan.run("sysctl -q net.ipv4.conf.all.route_localnet=1");
    lan.run("ip route add 127.0.0.1 via 192.0.2.1 table 7");
    lan.run("ip rule add priority 0 to 127.0.0.1 lookup 7");
    drop(lan.try_tcp(at("127.0.0.1:5432")));
    assert_eq!(heard.from().len(), before);
}

#[test]
fn a_port_left_open_is_chosen_and_told() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let web = world.container("web");
    let ports = publish(&mut netd, &web, "app", &["80", "80"]).ports;
    let (first, second) = (ports[0].host_port, ports[1].host_port);
    assert!(first >= 1024 && second >= 1024 && first != second, "{ports:?}");
    for port in [first, second] {
        let server = SocketAddr::new(ip("192.0.2.1"), port);
        assert_eq!(lan.ask_tcp(server).unwrap(), ip("192.0.2.2"));
    }
}

#[test]
fn of_a_choice_of_ports_the_first_that_is_free_is_published() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    host.netns.serve_tcp(8000);
    let containers = ["one", "two"].map(|name| world.container(name));
    for (container, port) in containers.iter().zip([8001, 8002]) {
        let endpoint = publish(&mut netd, container, "app", &["8000-8002:80"]);
        assert_eq!(endpoint.ports[0].to_string(), format!("{port}->80/tcp"), "the host has 8000");
        lan.ask_tcp(at(&format!("192.0.2.1:{port}"))).unwrap();
    }
    let late = world.container("late");
    let mut attach = late.to("app");
    attach.ports = vec!["8000-8002:80".parse().unwrap()];
    let (kind, error) = netd_tests::kind_of(netd.call(&attach));
    assert_eq!(kind, cnm::Kind::Exists, "{error}");
    assert!(error.message.contains("from 8000 to 8002/tcp"), "{error}");
}

#[test]
fn a_port_is_gone_with_its_container_and_goes_to_the_next() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let before = host.snapshot();
    let (old, new) = (world.container("old"), world.container("new"));
    let server = at("192.0.2.1:8080");
    publish(&mut netd, &old, "app", &["8080:80", "8080:80/udp"]);
    // From one source port, so that the kernel remembers where the flow went.
    let old_heard = old.netns.serve_udp(90);
    lan.ask_udp(server).unwrap();
    netd.detach("old");
    assert!(lan.try_tcp(server).is_err(), "nobody has it");
    publish(&mut netd, &new, "app", &["8080:80", "8080:80/udp"]);
    assert_eq!(lan.ask_tcp(server).unwrap(), ip("192.0.2.2"));
    assert_eq!(lan.ask_udp(server).unwrap(), ip("192.0.2.2"));
    assert!(old_heard.from().is_empty());
    netd.detach("new");
    eventually("the host is as before", || host.snapshot().same_as(&before));
}

#[test]
fn a_udp_flow_follows_its_port_to_the_next_container() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    netd.create("app");
    let (old, new) = (world.container("old"), world.container("new"));
    let old_heard = old.netns.serve_udp(80);
    let new_heard = new.netns.serve_udp(80);
    let port = "8080:80/udp".parse().unwrap();
    let mut attach = old.to("app");
    attach.ports = vec![port];
    netd.attach(&attach);
    // One socket: for conntrack all of its packets are one flow.
    let socket = lan.inside(|| std::net::UdpSocket::bind("192.0.2.2:4000")).unwrap();
    socket.connect("192.0.2.1:8080").unwrap();
    let speaks = |heard: &netd_tests::Heard| {
        let before = heard.from().len();
        eventually("the container hears the flow", || {
            // Whether the last one was refused does not matter to the next.
            drop(socket.send(b"hello"));
            let now = heard.from().len();
            if now > before { Ok(()) } else { Err(now) }
        });
    };
    speaks(&old_heard);
    netd.detach("old");
    let mut attach = new.to("app");
    attach.ports = vec![port];
    netd.attach(&attach);
    speaks(&new_heard);
    let before = old_heard.from().len();
    speaks(&new_heard);
    assert_eq!(old_heard.from().len(), before);
}
