//! Gateway modes: what a neighbour of the host that knows the way, and a member of another network,
//! reach of a network, for every mode, both families, and whatever the host's FORWARD policy is. All of
//! it follows from one table, which is Docker's.

use std::net::{IpAddr, SocketAddr};

use cnm::network::{CreateNetwork, Subnet};
use netd_tests::{Asking as _, Container, Heard, Host, Namespace, World, eventually};

/// What a neighbour reaches: pings, a published port at the container's address, another port there
/// (by TCP, and by UDP without an answer), and the published port at the host's address. A member of
/// another network reaches the last of these alone.
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

/// A network in a mode, with one container that publishes port 80 as 8080 and listens at 81 too, and
/// one beside it; and a container of another network.
struct Site {
    host: Host,
    lan: Namespace,
    web: Container,
    addresses: Vec<IpAddr>,
    heard: Heard,
    friend: Container,
    friends: Vec<IpAddr>,
    stranger: Container,
}

fn subnets(four: &str, six: &str) -> Vec<Subnet> {
    [four, six].map(|subnet| Subnet::new(subnet.parse().unwrap())).to_vec()
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
    create.subnets = subnets("10.31.0.0/24", "fd00:31::/64");
    create.options.insert("com.docker.network.bridge.gateway_mode_ipv4".into(), row.mode.into());
    create.options.insert("gateway-mode-ipv6".into(), row.mode.into());
    if row.trusted {
        create.options.insert("trusted-interfaces".into(), "eth7:lan0".into());
    }
    netd.call(&create).unwrap();
    let other = subnets("10.32.0.0/24", "fd00:32::/64");
    netd.call(&CreateNetwork { subnets: other, ..CreateNetwork::named("other") }).unwrap();
    let (web, friend, stranger) =
        (world.container("web"), world.container("friend"), world.container("stranger"));
    let mut attach = web.to("app");
    if !create.internal {
        attach.ports = vec!["8080:80".parse().unwrap()];
    }
    let all = |endpoint: cnm::endpoint::Endpoint| {
        endpoint.addresses.iter().map(|address| address.ip()).collect::<Vec<_>>()
    };
    let addresses = all(netd.attach(&attach));
    let friends = all(netd.attach(&friend.to("app")));
    netd.attach(&stranger.to("other"));
    web.netns.serve_tcp(80);
    web.netns.serve_tcp(81);
    let heard = web.netns.serve_udp(81);
    lan.run("ip route add 10.31.0.0/24 via 192.0.2.1");
    lan.run("ip route add fd00:31::/64 via 2001:db8::1");
    Site { host, lan, web, addresses, heard, friend, friends, stranger }
}

fn reaches(row: &Row, policy: &str) {
    let world = World::new();
    let site = site(&world, row, policy);
    let Site { host, lan, web, addresses, .. } = &site;
    assert_eq!(addresses.len(), 2);
    for (n, address) in addresses.iter().copied().enumerate() {
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
        strangers(&site, row, n, of_host);
        one_way(&site, row, n, of_lan);

        // The way out: as the host, as oneself, or none.
        lan_answers(lan);
        let outside = SocketAddr::new(of_lan, 7000);
        match row.mode {
            "isolated" => assert!(web.netns.try_tcp(outside).is_err()),
            "routed" => assert_eq!(web.netns.ask_tcp(outside).unwrap(), address),
            _ => assert_eq!(web.netns.ask_tcp(outside).unwrap(), of_host),
        }
    }
    // The host is on every network but an isolated one.
    let own = host.netns.run("ip address");
    if row.mode == "isolated" {
        assert!(!own.contains(" 10.31.0.") && !own.contains(" fd00:31:"), "{own}");
        assert_eq!(host.client().status().problems, [""; 0]);
    } else {
        assert!(web.netns.pings("10.31.0.1".parse().unwrap()), "{own}");
    }
}

/// What a member of another network reaches, in whatever mode this one is.
fn strangers(site: &Site, row: &Row, n: usize, of_host: IpAddr) {
    let Site { stranger, addresses, .. } = site;
    assert!(stranger.netns.pings_in_vain(addresses[n]), "mode {}", row.mode);
    for port in [80, 81] {
        let outcome = stranger.netns.try_tcp(SocketAddr::new(addresses[n], port));
        assert!(outcome.is_err(), "port {port} in mode {}", row.mode);
    }
    let at_host = SocketAddr::new(of_host, 8080);
    if row.at_host {
        stranger.netns.ask_tcp(at_host).unwrap();
    } else {
        assert!(stranger.netns.try_tcp(at_host).is_err(), "the host's port in mode {}", row.mode);
    }
}

/// What nobody answers arrives no more than what is answered.
fn one_way(site: &Site, row: &Row, n: usize, of_lan: IpAddr) {
    let server = SocketAddr::new(site.addresses[n], 81);
    // Where there is no way at all it is not even sent.
    drop(site.stranger.netns.send_udp(server));
    drop(site.lan.send_udp(server));
    // What a member sends afterwards arrives, so what is on its way has had its time.
    site.friend.netns.send_udp(server).unwrap();
    let heard = eventually("what is allowed arrives", || {
        let heard = site.heard.from();
        if heard.contains(&site.friends[n]) { Ok(heard) } else { Err(heard) }
    });
    let of_family = heard.into_iter().filter(|ip| ip.is_ipv4() == of_lan.is_ipv4());
    let others: Vec<_> = of_family.filter(|ip| !site.friends.contains(ip)).collect();
    let expected: &[IpAddr] = if row.other { &[of_lan] } else { &[] };
    assert_eq!(others, expected, "in mode {}", row.mode);
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

#[test]
fn a_mode_that_there_is_not_is_refused() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    for (mode, why) in [("bridged", "nat or nat-unprotected"), ("isolated", "internal")] {
        let mut create = CreateNetwork::named("app");
        create.options.insert("gateway-mode".into(), mode.into());
        let (kind, error) = netd_tests::kind_of(netd.call(&create));
        assert_eq!(kind, cnm::Kind::Invalid, "{error}");
        assert!(error.message.contains(why), "{error}");
    }
    assert!(netd.status().problems.is_empty());
}

#[test]
fn a_network_goes_out_as_the_address_that_it_is_told() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    host.netns.run("ip address add 192.0.2.9/24 dev lan0");
    host.netns.run("ip address add 2001:db8::9/64 dev lan0 nodad");
    let mut netd = host.client();
    let mut create = CreateNetwork::named("app");
    create.subnets = subnets("10.31.0.0/24", "fd00:31::/64");
    create.options.insert("com.docker.network.host_ipv4".into(), "192.0.2.9".into());
    create.options.insert("outbound-ipv6".into(), "2001:db8::9".into());
    netd.call(&create).unwrap();
    let web = world.container("web");
    netd.attach(&web.to("app"));
    lan.serve_tcp(80);
    for (server, own) in [("192.0.2.2:80", "192.0.2.9"), ("[2001:db8::2]:80", "2001:db8::9")] {
        let seen = web.netns.ask_tcp(server.parse().unwrap()).unwrap();
        assert_eq!(seen, own.parse::<IpAddr>().unwrap());
    }
    let mut wrong = CreateNetwork::named("wrong");
    wrong.options.insert("outbound-ipv4".into(), "2001:db8::9".into());
    let (kind, error) = netd_tests::kind_of(netd.call(&wrong));
    assert_eq!(kind, cnm::Kind::Invalid, "{error}");
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
    let published = "192.0.2.1:8080".parse().unwrap();
    if bridge_filter == "0" {
        db.netns.ask_tcp(published).unwrap();
    } else {
        assert!(db.netns.try_tcp(published).is_err());
    }
    assert_eq!(heard.from(), Vec::<IpAddr>::new());
}
