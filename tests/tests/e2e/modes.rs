//! Gateway modes: what a neighbour of the host that knows the way reaches of a network, for every mode,
//! both families, and whatever the host's FORWARD policy is. All of it follows from one table, which
//! is Docker's.

use std::net::{IpAddr, SocketAddr};

use cnm::network::{CreateNetwork, Subnet};
use netd_tests::{Asking as _, Container, Host, Namespace, World};

/// What a neighbour reaches: pings, a published port at the container's address, another port there,
/// and the published port at the host's address.
struct Row {
    mode: &'static str,
    trusted: bool,
    pings: bool,
    published: bool,
    other: bool,
    at_host: bool,
}

const fn row(mode: &'static str, trusted: bool, reached: [bool; 4]) -> Row {
    let [pings, published, other, at_host] = reached;
    Row { mode, trusted, pings, published, other, at_host }
}

const NAT: Row = row("nat", false, [false, false, false, true]);
const TRUSTING: Row = row("nat", true, [false, true, false, true]);
const UNPROTECTED: Row = row("nat-unprotected", false, [true, true, true, true]);
const ROUTED: Row = row("routed", false, [true, true, false, false]);
const ISOLATED: Row = row("isolated", false, [false, false, false, false]);

/// A network in a mode, with one container that publishes port 80 as 8080 and listens at 81 too.
struct Site {
    host: Host,
    lan: Namespace,
    web: Container,
    addresses: Vec<IpAddr>,
}

fn site(world: &World, row: &Row, policy: &str) -> Site {
    let host = world.host("a");
    let lan = host.lan();
    for program in ["iptables-nft", "ip6tables-nft"] {
        host.netns.run(&format!("{program} -P FORWARD {policy}"));
    }
    let mut netd = host.client();
    let mut create =
        CreateNetwork { internal: row.mode == "isolated", ..CreateNetwork::named("app") };
    create.subnets =
        ["10.31.0.0/24", "fd00:31::/64"].map(|s| Subnet::new(s.parse().unwrap())).to_vec();
    create.options.insert("com.docker.network.bridge.gateway_mode_ipv4".into(), row.mode.into());
    create.options.insert("gateway-mode-ipv6".into(), row.mode.into());
    if row.trusted {
        create.options.insert("trusted-interfaces".into(), "eth7:lan0".into());
    }
    netd.call(&create).unwrap();
    let web = world.container("web");
    let mut attach = web.to("app");
    if !create.internal {
        attach.ports = vec!["8080:80".parse().unwrap()];
    }
    let endpoint = netd.attach(&attach);
    web.netns.serve_tcp(80);
    web.netns.serve_tcp(81);
    lan.run("ip route add 10.31.0.0/24 via 192.0.2.1");
    lan.run("ip route add fd00:31::/64 via 2001:db8::1");
    let addresses = endpoint.addresses.iter().map(|address| address.ip()).collect();
    Site { host, lan, web, addresses }
}

fn reaches(row: &Row, policy: &str) {
    let world = World::new();
    let Site { host, lan, web, addresses } = site(&world, row, policy);
    assert_eq!(addresses.len(), 2);
    for address in addresses {
        let (of_host, of_lan) = if address.is_ipv4() {
            ("192.0.2.1", "192.0.2.2")
        } else {
            ("2001:db8::1", "2001:db8::2")
        };
        let (of_host, of_lan): (IpAddr, IpAddr) =
            (of_host.parse().unwrap(), of_lan.parse().unwrap());
        let cell = |server: SocketAddr, reached: bool| {
            let outcome = if reached {
                lan.ask_tcp(server).map(|seen| assert_eq!(seen, of_lan, "its own address is kept"))
            } else {
                lan.try_tcp(server)
            };
            assert_eq!(outcome.is_ok(), reached, "{server} in mode {}: {outcome:?}", row.mode);
        };
        let pinged = if row.pings { lan.pings(address) } else { !lan.pings_in_vain(address) };
        assert_eq!(pinged, row.pings, "ping of {address} in mode {}", row.mode);
        cell(SocketAddr::new(address, 80), row.published);
        cell(SocketAddr::new(address, 81), row.other);
        cell(SocketAddr::new(of_host, 8080), row.at_host);

        // The way out: as the host, as oneself, or none.
        lan_answers(&lan);
        let outside = SocketAddr::new(of_lan, 7000);
        match row.mode {
            "isolated" => assert!(web.netns.try_tcp(outside).is_err()),
            "routed" => assert_eq!(web.netns.ask_tcp(outside).unwrap(), address),
            _ => assert_eq!(web.netns.ask_tcp(outside).unwrap(), of_host),
        }
    }
    // The host is on every network but an isolated one.
    let gateway: IpAddr = "10.31.0.1".parse().unwrap();
    if row.mode == "isolated" {
        assert!(web.netns.pings_in_vain(gateway));
        assert!(!host.netns.run("ip address").contains("10.31.0.1"));
    } else {
        assert!(web.netns.pings(gateway));
    }
}

/// The neighbour listens at port 7000, from the first time on.
fn lan_answers(lan: &Namespace) {
    if !lan.run("ss -Hlnt").contains(":7000 ") {
        lan.serve_tcp(7000);
    }
}

macro_rules! matrix {
    ($($accept:ident, $drop:ident: $row:ident;)*) => {
        $(
            #[test]
            fn $accept() {
                reaches(&$row, "ACCEPT");
            }

            #[test]
            fn $drop() {
                reaches(&$row, "DROP");
            }
        )*
    };
}

matrix! {
    nat_under_accept, nat_under_drop: NAT;
    nat_with_a_trusted_link_under_accept, nat_with_a_trusted_link_under_drop: TRUSTING;
    nat_unprotected_under_accept, nat_unprotected_under_drop: UNPROTECTED;
    routed_under_accept, routed_under_drop: ROUTED;
    isolated_under_accept, isolated_under_drop: ISOLATED;
}

fn lets_no_stranger_in(row: &Row) {
    let world = World::new();
    let Site { host, addresses, web: _web, .. } = site(&world, row, "ACCEPT");
    let mut netd = host.client();
    netd.create_on("other", "10.32.0.0/24");
    let stranger = world.container("stranger");
    netd.attach(&stranger.to("other"));
    let address = addresses.into_iter().find(IpAddr::is_ipv4).unwrap();
    assert!(stranger.netns.pings_in_vain(address));
    assert!(stranger.netns.try_tcp(SocketAddr::new(address, 80)).is_err());
}

#[test]
fn an_unprotected_network_lets_no_other_networks_members_in() {
    lets_no_stranger_in(&UNPROTECTED);
}

#[test]
fn a_routed_network_lets_no_other_networks_members_in() {
    lets_no_stranger_in(&ROUTED);
}

#[test]
fn a_mode_that_there_is_not_is_refused() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    for (mode, why) in [("bridged", "nat, nat-unprotected"), ("isolated", "internal")] {
        let mut create = CreateNetwork::named("app");
        create.options.insert("gateway-mode".into(), mode.into());
        let (kind, error) = netd_tests::kind_of(netd.call(&create));
        assert_eq!(kind, cnm::Kind::Invalid, "{error}");
        assert!(error.message.contains(why), "{error}");
    }
    assert!(netd.status().problems.is_empty());
}

#[test]
fn members_that_shall_not_reach_each_other_do_not() {
    strangers_on_one_network("0");
}

#[test]
fn members_that_shall_not_reach_each_other_do_not_with_bridge_filter() {
    strangers_on_one_network("1");
}

fn strangers_on_one_network(bridge_filter: &str) {
    let world = World::new();
    let host = world.host("a");
    host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={bridge_filter}"));
    let lan = host.lan();
    let mut netd = host.client();
    let mut create = CreateNetwork::named("app");
    create.options.insert("com.docker.network.bridge.enable_icc".into(), "false".into());
    netd.call(&create).unwrap();
    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let (address, gateway) = (endpoint.addresses[0].ip(), endpoint.gateways[0]);
    netd.attach(&db.to("app"));
    web.netns.serve_tcp(80);
    let heard = web.netns.serve_udp(80);
    assert!(db.netns.pings_in_vain(address));
    assert!(db.netns.try_tcp(SocketAddr::new(address, 80)).is_err());
    db.netns.send_udp(SocketAddr::new(address, 80)).unwrap();
    // Nor through the host.
    db.netns.run(&format!("ip route add {address}/32 via {gateway}"));
    assert!(db.netns.pings_in_vain(address));
    db.netns.run(&format!("ip route delete {address}/32"));
    // The host, the outside and what is published they do reach.
    assert!(db.netns.pings(gateway) && web.netns.pings(gateway));
    assert!(db.netns.pings("192.0.2.2".parse().unwrap()));
    lan.ask_tcp("192.0.2.1:8080".parse().unwrap()).unwrap();
    // Where br_netfilter is on, the bridge itself sees where that leads: to another of its members.
    let published = db.netns.try_tcp("192.0.2.1:8080".parse().unwrap());
    assert_eq!(published.is_ok(), bridge_filter == "0", "{published:?}");
    assert_eq!(heard.from(), Vec::<IpAddr>::new());
}
