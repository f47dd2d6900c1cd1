//! IPv6: networks of it alone, subnets of the host's own prefix, ports, names and the way out; and none
//! of it where a network has none.

use std::net::{IpAddr, SocketAddr};

use cnm::network::{CreateNetwork, Network};
use netd_tests::{Asking as _, Host, World};

fn create(name: &str, ipv4: bool, ipv6: bool) -> CreateNetwork {
    CreateNetwork { ipv4: Some(ipv4), ipv6: Some(ipv6), ..CreateNetwork::named(name) }
}

fn bridge(network: &Network) -> String {
    network.link.as_ref().unwrap().to_string()
}

#[test]
fn a_network_of_ipv6_alone_has_everything() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let app = netd.call(&create("app", false, true)).unwrap();
    let other = netd.call(&create("other", false, true)).unwrap();
    let [subnet, second] = [&app, &other].map(|network| {
        assert_eq!(network.subnets.len(), 1, "{network:?}");
        network.subnets[0].subnet
    });
    // A /64 of the prefix that the host has for good (RFC 4193).
    assert_eq!((subnet.prefix(), second.prefix()), (64, 64));
    let prefix = |network: ipnetwork::IpNetwork| match network.ip() {
        IpAddr::V6(ip) => ip.segments()[..3].to_vec(),
        IpAddr::V4(ip) => panic!("{ip}"),
    };
    assert_eq!(prefix(subnet), prefix(second));
    assert_eq!(prefix(subnet)[0] >> 8, 0xfd);
    assert_ne!(subnet, second);

    let (web, db) = (world.container("web"), world.container("db"));
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap(), "8080:80/udp".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    let db_endpoint = netd.attach(&db.to("app"));
    let address = endpoint.addresses[0].ip();
    assert_eq!((endpoint.addresses.len(), endpoint.gateways.len()), (1, 1));
    web.netns.serve_tcp(80);
    web.netns.serve_udp(80);
    lan.serve_tcp(80);
    assert!(db.netns.pings(address));
    let shown = web.netns.run("ip -6 address show dev eth0");
    assert!(!shown.contains("tentative"), "{shown}");
    assert_eq!(web.netns.run("ip -4 address show dev eth0"), "");
    // In, out, and the host itself; hairpin.
    let server: SocketAddr = "[2001:db8::1]:8080".parse().unwrap();
    let neighbour: IpAddr = "2001:db8::2".parse().unwrap();
    assert_eq!(lan.ask_tcp(server).unwrap(), neighbour);
    assert_eq!(lan.ask_udp(server).unwrap(), neighbour);
    let own: IpAddr = "2001:db8::1".parse().unwrap();
    assert_eq!(web.netns.ask_tcp("[2001:db8::2]:80".parse().unwrap()).unwrap(), own);
    host.netns.ask_tcp(server).unwrap();
    web.netns.ask_tcp(server).unwrap();
    // Names.
    let gateway = db_endpoint.gateways[0];
    assert_eq!(db_endpoint.dns, [gateway]);
    assert_eq!(Host::ask_name(&db.netns, gateway, "web AAAA"), [address.to_string()]);
    assert_eq!(Host::ask_name(&db.netns, gateway, "web A"), [""; 0]);
    let pointer = Host::ask_name(&db.netns, gateway, &format!("-x {address}"));
    assert!(pointer.len() == 1 && pointer[0].starts_with("web."), "{pointer:?}");
    // Nobody takes a route from whoever says to be a router.
    for (netns, link) in [(&host.netns, bridge(&app)), (&web.netns, "eth0".to_owned())] {
        let accept = netns.run(&format!("sysctl -n net.ipv6.conf.{link}.accept_ra"));
        assert_eq!(accept.trim(), "0", "{link}");
    }
}

#[test]
fn a_network_without_it_has_none_of_it() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    let app = netd.create("app");
    let off = host.netns.run(&format!("sysctl -n net.ipv6.conf.{}.disable_ipv6", bridge(&app)));
    assert_eq!(off.trim(), "1");
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    assert!(endpoint.addresses.iter().all(|address| address.is_ipv4()));
    assert_eq!(web.netns.run("ip -6 address show dev eth0"), "");
    assert_eq!(web.netns.run("ip -6 route show dev eth0 default"), "");
    let port = host.netns.json(&format!("ip -j -d link show {}", endpoint.id.link_name()));
    assert_eq!(port[0]["inet6_addr_gen_mode"], "none");
}

#[test]
fn a_routed_network_goes_out_as_itself_in_one_family_and_as_the_host_in_the_other() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let mut params = create("app", true, true);
    params.options.insert("gateway-mode-ipv6".into(), "routed".into());
    let app = netd.call(&params).unwrap();
    let web = world.container("web");
    let endpoint = netd.attach(&web.to("app"));
    let six = endpoint.addresses.iter().find(|address| address.is_ipv6()).unwrap().ip();
    lan.run(&format!("ip route add {} via 2001:db8::1", app.subnets[1].subnet));
    lan.serve_tcp(80);
    let host_address: IpAddr = "192.0.2.1".parse().unwrap();
    assert_eq!(web.netns.ask_tcp("[2001:db8::2]:80".parse().unwrap()).unwrap(), six);
    assert_eq!(web.netns.ask_tcp("192.0.2.2:80".parse().unwrap()).unwrap(), host_address);
}
