//! The firewall, tried with traffic on the paths that users' traffic takes.

use cnm::{driver::Driver, endpoint::Endpoint, network::Network};
use netd_bridge::Bridge;

use crate::world::{Sandbox, Server, ask, endpoint, eventually, leave_home, network, ruleset, run};

/// A host with two networks, three containers and a LAN; `web` publishes.
struct World {
    driver: Bridge,
    one: Network,
    web_endpoint: Endpoint,
    web: Sandbox,
    sibling: Sandbox,
    stranger: Sandbox,
    lan: Sandbox,
    _servers: Vec<Server>,
}

impl World {
    fn new(bridged_frames_filtered: bool, internal: bool) -> Self {
        leave_home();
        let value = u8::from(bridged_frames_filtered);
        for family in ["iptables", "ip6tables"] {
            let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
            std::fs::write(path, value.to_string()).unwrap();
        }
        let lan = Sandbox::as_lan("up0", "192.0.2.", "2001:db8::");
        let mut driver = Bridge::default();
        let mut one = network(1, &["10.1.0.0/24", "fd00:1::/64"]);
        one.internal = internal;
        let two = network(2, &["10.2.0.0/24", "fd00:2::/64"]);
        let (web, sibling, stranger) = (Sandbox::new(), Sandbox::new(), Sandbox::new());
        let mut web_endpoint = endpoint(&one, 1);
        web_endpoint.ports = [
            "8080:80",
            "8053:53/udp",
            "127.0.0.1:9090:80",
            "192.0.2.1:7070:80",
            "[2001:db8::1]:7070:80",
        ]
        .map(|port| port.parse().unwrap())
        .to_vec();
        driver.attach(&one, &web_endpoint, &web.path()).unwrap();
        driver.attach(&one, &endpoint(&one, 2), &sibling.path()).unwrap();
        driver.attach(&two, &endpoint(&two, 1), &stranger.path()).unwrap();
        let servers = vec![
            web.serve("TCP6-LISTEN", 80),
            web.serve("UDP4-RECVFROM", 53),
            lan.serve("TCP6-LISTEN", 80),
            lan.serve("UDP4-RECVFROM", 53),
        ];
        Self { driver, one, web_endpoint, web, sibling, stranger, lan, _servers: servers }
    }
}

/// How a dual-stack socket of socat spells an address.
fn spelled(address: &str) -> String {
    match address.parse().unwrap() {
        std::net::IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("0000:0000:0000:0000:0000:ffff:{a:02x}{b:02x}:{c:02x}{d:02x}")
        }
        std::net::IpAddr::V6(ip) => ip.segments().map(|segment| format!("{segment:04x}")).join(":"),
    }
}

fn sees(from: Option<String>, address: &str) {
    assert_eq!(from, Some(spelled(address)), "it should see {address}");
}

fn published(bridged_frames_filtered: bool) {
    let world = World::new(bridged_frames_filtered, false);
    // From the LAN: the client's own address is kept.
    sees(world.lan.ask("TCP4:192.0.2.1:8080"), "192.0.2.2");
    sees(world.lan.ask("TCP6:[2001:db8::1]:8080"), "2001:db8::2");
    sees(world.lan.ask("TCP4:192.0.2.1:7070"), "192.0.2.2");
    sees(world.lan.ask("TCP6:[2001:db8::1]:7070"), "2001:db8::2");
    assert_eq!(world.lan.ask("UDP4:192.0.2.1:8053").as_deref(), Some("192.0.2.2"));
    // From the host, by any of its addresses.
    sees(ask("TCP4:127.0.0.1:8080"), "10.1.0.1");
    sees(ask("TCP4:127.0.0.1:9090"), "10.1.0.1");
    assert!(ask("TCP4:192.0.2.1:8080").is_some());
    assert!(ask("TCP6:[2001:db8::1]:8080").is_some());
    assert_eq!(ask("UDP4:127.0.0.1:8053").as_deref(), Some("10.1.0.1"));
    // From the container itself, its sibling, and another network of netd's.
    sees(world.web.ask("TCP4:192.0.2.1:8080"), "10.1.0.1");
    sees(world.web.ask("TCP4:10.1.0.1:8080"), "10.1.0.1");
    sees(world.web.ask("TCP6:[2001:db8::1]:8080"), "fd00:1::1");
    assert!(world.sibling.ask("TCP4:192.0.2.1:8080").is_some());
    assert!(world.sibling.ask("TCP6:[2001:db8::1]:8080").is_some());
    sees(world.stranger.ask("TCP4:192.0.2.1:8080"), "10.2.0.3");
    sees(world.stranger.ask("TCP4:10.2.0.1:8080"), "10.2.0.3");
    sees(world.stranger.ask("TCP6:[2001:db8::1]:8080"), "fd00:2::3");
}

#[test]
fn published_ports_answer_everybody() {
    published(false);
}

#[test]
fn published_ports_answer_everybody_where_bridged_frames_are_filtered() {
    published(true);
}

#[test]
fn a_port_of_an_address_answers_on_no_other() {
    let world = World::new(true, false);
    // 127.0.0.1 from the LAN, which needs a LAN machine without a loopback of its own.
    world.lan.run("ip route add 127.0.0.1 via 192.0.2.1");
    world.lan.run("sysctl -q net.ipv4.conf.all.route_localnet=1");
    run("sysctl -q net.ipv4.conf.all.route_localnet=1");
    assert_eq!(world.lan.ask("TCP4:127.0.0.1:9090"), None);
    assert_eq!(world.lan.ask("TCP4:192.0.2.1:9090"), None);
    assert_eq!(ask("TCP4:127.0.0.1:7070"), None);
    // Nor does route_localnet let a container reach the host's loopback.
    let stranger = &world.stranger;
    run("ip addr add 127.0.0.5/32 dev lo");
    stranger.run("ip link set lo down");
    stranger.run("sysctl -q net.ipv4.conf.all.route_localnet=1");
    stranger.run("ip route add 127.0.0.5 via 10.2.0.1");
    assert!(!stranger.output("ping -c1 -W1 127.0.0.5").status.success());
}

/// How many datagrams came to a port that somebody reads.
fn received(sandbox: &Sandbox) -> u32 {
    let text = sandbox.run("cat /proc/net/snmp");
    let line = text.lines().rfind(|line| line.starts_with("Udp:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn isolated(bridged_frames_filtered: bool) {
    let world = World::new(bridged_frames_filtered, false);
    // Siblings reach each other at any port.
    sees(world.sibling.ask("TCP4:10.1.0.3:80"), "10.1.0.4");
    sees(world.sibling.ask("TCP6:[fd00:1::3]:80"), "fd00:1::4");
    world.sibling.run("ping -c1 -W2 10.1.0.3");
    // The host reaches its containers.
    sees(ask("TCP4:10.1.0.3:80"), "10.1.0.1");
    // The LAN by a static route, and another network, do not; nor one way.
    let before = received(&world.web);
    for outside in [&world.lan, &world.stranger] {
        assert_eq!(outside.ask("TCP4:10.1.0.3:80"), None);
        assert_eq!(outside.ask("TCP6:[fd00:1::3]:80"), None);
        assert_eq!(outside.ask("UDP4:10.1.0.3:53"), None);
        assert!(!outside.output("ping -c1 -W1 10.1.0.3").status.success());
    }
    assert_eq!(received(&world.web), before, "a datagram came in");
    // Out they go, as the host.
    sees(world.web.ask("TCP4:192.0.2.2:80"), "192.0.2.1");
    sees(world.web.ask("TCP6:[2001:db8::2]:80"), "2001:db8::1");
    assert_eq!(world.web.ask("UDP4:192.0.2.2:53").as_deref(), Some("192.0.2.1"));
}

#[test]
fn nothing_comes_in_unasked() {
    isolated(false);
}

#[test]
fn nothing_comes_in_unasked_where_bridged_frames_are_filtered() {
    isolated(true);
}

#[test]
fn an_internal_network_has_no_way_in_or_out() {
    let world = World::new(true, true);
    sees(world.sibling.ask("TCP4:10.1.0.3:80"), "10.1.0.4");
    let before = received(&world.lan);
    for address in ["TCP4:192.0.2.2:80", "TCP6:[2001:db8::2]:80", "UDP4:192.0.2.2:53"] {
        assert_eq!(world.web.ask(address), None, "{address}");
    }
    assert_eq!(received(&world.lan), before, "a datagram went out");
    for address in ["TCP4:192.0.2.1:8080", "TCP6:[2001:db8::1]:8080", "TCP4:10.1.0.3:80"] {
        assert_eq!(world.lan.ask(address), None, "{address}");
        assert_eq!(world.stranger.ask(address), None, "{address}");
    }
}

#[test]
fn what_touches_no_bridge_of_ours_falls_through() {
    let _world = World::new(true, false);
    let other = Sandbox::as_lan("up1", "198.51.100.", "2001:db8:1::");
    sees(other.ask("TCP4:192.0.2.2:80"), "198.51.100.2");
    sees(other.ask("TCP6:[2001:db8::2]:80"), "2001:db8:1::2");
    assert_eq!(other.ask("UDP4:192.0.2.2:53").as_deref(), Some("198.51.100.2"));
}

#[test]
fn a_port_stops_answering_when_it_is_taken_back() {
    let mut world = World::new(true, false);
    sees(world.lan.ask("TCP4:192.0.2.1:8080"), "192.0.2.2");
    world.driver.detach(&world.one, &world.web_endpoint).unwrap();
    assert_eq!(world.lan.ask("TCP4:192.0.2.1:8080"), None);
    assert!(!ruleset().contains("10.1.0.3"));
}

#[test]
fn a_flow_of_datagrams_follows_the_port_to_its_new_owner() {
    let mut world = World::new(true, false);
    // One flow, which goes on without a pause: the kernel would never ask the rules again.
    let flow = "UDP4:192.0.2.1:6053,sourceport=4000";
    assert_eq!(world.lan.ask(flow), None);
    let _server = world.sibling.serve("UDP4-RECVFROM", 53);
    let mut sibling = endpoint(&world.one, 2);
    sibling.ports = vec!["6053:53/udp".parse().unwrap()];
    world.driver.detach(&world.one, &endpoint(&world.one, 2)).unwrap();
    world.driver.attach(&world.one, &sibling, &world.sibling.path()).unwrap();
    eventually("the flow reaches the port's owner", || world.lan.ask(flow).is_some());
    world.driver.detach(&world.one, &sibling).unwrap();
    let mut web = world.web_endpoint.clone();
    world.driver.detach(&world.one, &web).unwrap();
    web.ports = sibling.ports;
    world.driver.attach(&world.one, &web, &world.web.path()).unwrap();
    eventually("the flow reaches the next owner", || world.lan.ask(flow).is_some());
}
