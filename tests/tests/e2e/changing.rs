//! Options of a network change while it is in use, and everything follows at once.

use std::net::IpAddr;

use cnm::{
    Kind,
    network::{CreateNetwork, InspectNetwork, Network, Subnet, UpdateNetwork},
    system::Reconcile,
};
use netd_tests::{
    Asking as _, Container, Host, HostOptions, Namespace, Ping, World, eventually, kind_of,
};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A network of both families.
fn app(host: &Host, options: &[(&str, &str)]) -> Network {
    let subnets =
        ["10.5.0.0/24", "fd00:5::/64"].map(|text| Subnet::new(text.parse().unwrap())).into();
    let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    let create = CreateNetwork { subnets, options, ..CreateNetwork::named("app") };
    host.client().call(&create).unwrap()
}

fn update(host: &Host, words: &[&str]) {
    host.netctl(&[&["network", "update"][..], words, &["app"]].concat()).success();
}

fn mtu(netns: &Namespace, link: &str) -> u64 {
    netns.json(&format!("ip -j link show dev {link}"))[0]["mtu"].as_u64().unwrap()
}

/// Pings with packets that are as long as an MTU, and not to be cut.
fn passes(from: &Container, to: IpAddr, mtu: u32) -> bool {
    let payload = mtu - 28;
    from.netns.output(&format!("ping -n -c 1 -W 1 -M do -s {payload} {to}")).status.success()
}

#[test]
fn every_link_of_a_network_gets_another_mtu_under_traffic() {
    let world = World::new();
    let mut host = world.host("a");
    let network = app(&host, &[("com.docker.network.driver.mtu", "1500")]);
    let bridge = network.link.unwrap().to_string();
    let containers = ["one", "two", "three"].map(|name| world.container(name));
    let mut netd = host.client();
    let endpoints: Vec<_> = containers
        .iter()
        .map(|container| {
            let mut attach = container.to("app");
            // One of them with a limit, of whose bucket the MTU is a part.
            if container.name == "three" {
                attach.bandwidth = serde_json::from_value(serde_json::json!({
                    "ingress": {"rate": 100_000_000}, "egress": {"rate": 100_000_000}}))
                .unwrap();
            }
            netd.attach(&attach)
        })
        .collect();
    let to = endpoints[1].addresses[0].ip();
    let are = |host: &Host, wanted: u32| {
        let wanted = u64::from(wanted);
        assert_eq!(mtu(&host.netns, &bridge), wanted);
        for (container, endpoint) in containers.iter().zip(&endpoints) {
            assert_eq!(mtu(&host.netns, endpoint.id.link_name().as_str()), wanted);
            assert_eq!(mtu(&container.netns, "eth0"), wanted, "{}", container.name);
        }
        for endpoint in host.client().endpoints() {
            assert_eq!(endpoint.mtu.map(u64::from), Some(wanted));
        }
    };
    are(&host, 1500);
    assert!(passes(&containers[0], to, 1500));
    let ping = Ping::start(&containers[0].netns, to);
    for wanted in [1400, 9000, 1300] {
        update(&host, &["-o", &format!("mtu={wanted}")]);
        are(&host, wanted);
        assert!(passes(&containers[0], to, wanted), "{wanted}");
        assert!(!passes(&containers[0], to, wanted + 1), "{wanted}");
        assert_eq!(host.client().call(&Reconcile {}).unwrap().repaired, [""; 0]);
        for endpoint in &endpoints {
            let check = host.netctl(&["endpoint", "check", endpoint.id.as_str()]);
            assert_eq!(check.code, 0, "{check:?}");
        }
    }
    ping.goes_on();
    host.kill();
    host.start();
    ping.goes_on();
    ping.lost_none();
    are(&host, 1300);
    assert_eq!(host.client().status().problems, [""; 0]);
    let mut netd = host.client();
    assert_eq!(netd.call(&Reconcile {}).unwrap().repaired, [""; 0]);
    let late = world.container("late");
    netd.attach(&late.to("app"));
    assert_eq!(mtu(&late.netns, "eth0"), 1300);
    let shown = netd.call(&InspectNetwork { network: "app".into() }).unwrap().network;
    assert_eq!(shown.options["mtu"], "1300");
    assert_eq!(shown.options.len(), 1, "the other name is gone: {:?}", shown.options);
}

#[test]
fn members_are_kept_apart_and_let_together_again() {
    let world = World::new();
    let mut host = world.host("a");
    app(&host, &[]);
    let (one, two) = (world.container("one"), world.container("two"));
    let mut netd = host.client();
    netd.attach(&one.to("app"));
    let to: Vec<_> = netd.attach(&two.to("app")).addresses.iter().map(|a| a.ip()).collect();
    for apart in [true, false, true] {
        let value = if apart { "false" } else { "true" };
        update(&host, &["-o", &format!("com.docker.network.bridge.enable_icc={value}")]);
        for to in &to {
            if apart {
                assert!(one.netns.pings_in_vain(*to), "{to}");
            } else {
                // Who asked in vain just now asks again after a second.
                eventually("they reach each other", || {
                    one.netns.pings(*to).then_some(()).ok_or(to)
                });
            }
        }
        let ports = host.netns.json("bridge -j -d link show");
        for port in ports.as_array().unwrap() {
            assert_eq!(port["isolated"], apart, "{port}");
        }
        assert!(host.netns.pings(to[0]), "the host reaches them all the while");
        host.kill();
        host.start();
    }
    let late = world.container("late");
    host.client().attach(&late.to("app"));
    assert!(late.netns.pings_in_vain(to[0]));
    update(&host, &["--opt-rm", "icc"]);
    eventually("they reach each other", || late.netns.pings(to[0]).then_some(()).ok_or(to[0]));
}

#[test]
fn names_of_others_are_asked_of_other_servers_from_then_on() {
    let world = World::new();
    let config = "dns_upstreams = [\"192.0.2.99:53\"]".to_owned();
    let mut host = world.host_with("a", HostOptions { config, ..HostOptions::default() });
    let lan = host.lan();
    let server = lan.serve_udp_with(53, netd_tests::one_address);
    app(&host, &[("dns", "192.0.2.98")]);
    let client = world.container("client");
    let gateway = host.client().attach(&client.to("app")).gateways[0];
    let ask = |name: &str| Host::ask_name(&client.netns, gateway, name);
    update(&host, &["-o", "dns=192.0.2.2"]);
    assert_eq!(ask("example.org A"), ["203.0.113.7"]);
    assert_eq!(ask("client A").len(), 1, "its own names are as before");
    host.kill();
    host.start();
    assert_eq!(ask("example.net A"), ["203.0.113.7"]);
    update(&host, &["--opt-rm", "dns", "-o", "dns.corp=192.0.2.2"]);
    let before = server.from().len();
    assert_eq!(ask("www.corp A"), ["203.0.113.7"]);
    assert_eq!(server.from().len(), before + 1);
}

#[test]
fn what_is_published_follows_the_gateway_mode_and_the_masquerade() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let network = app(&host, &[]);
    let web = world.container("web");
    let mut attach = web.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let own = host.client().attach(&attach).addresses[0].ip();
    web.netns.serve_tcp(80);
    lan.serve_tcp(80);
    lan.run("ip route add 10.5.0.0/24 via 192.0.2.1");
    let (of_host, of_lan) = ("192.0.2.1:8080".parse().unwrap(), "192.0.2.2:80".parse().unwrap());
    let at_home = (own, 80).into();
    lan.ask_tcp(of_host).unwrap();
    lan.try_tcp(at_home).unwrap_err();
    assert_eq!(web.netns.ask_tcp(of_lan).unwrap(), ip("192.0.2.1"), "as the host");
    update(&host, &["-o", "gateway-mode=routed"]);
    lan.try_tcp(of_host).unwrap_err();
    lan.ask_tcp(at_home).unwrap();
    assert_eq!(web.netns.ask_tcp(of_lan).unwrap(), own, "as itself");
    update(&host, &["--opt-rm", "gateway-mode", "-o", "masquerade=false"]);
    lan.ask_tcp(of_host).unwrap();
    lan.try_tcp(at_home).unwrap_err();
    assert_eq!(web.netns.ask_tcp(of_lan).unwrap(), own);
    update(&host, &["--opt-rm", "masquerade"]);
    assert_eq!(web.netns.ask_tcp(of_lan).unwrap(), ip("192.0.2.1"));
    assert!(network.options.is_empty());
}

#[test]
fn what_cannot_change_is_refused_and_everything_stays() {
    let world = World::new();
    let host = world.host("a");
    app(&host, &[("mtu", "1400")]);
    let web = world.container("web");
    host.client().attach(&web.to("app"));
    let inspect = || host.client().call(&InspectNetwork { network: "app".into() }).unwrap();
    let (before, kernel) = (inspect(), host.snapshot());
    for (set, unset, kind, says) in [
        (&[("link", "br9")][..], &[][..], Kind::Unsupported, "make another network with it"),
        (&[("layout", "routed")], &[], Kind::Unsupported, "layout"),
        (&[("gateway-mode", "isolated")], &[], Kind::Unsupported, "isolated"),
        (&[("resolver", "inside")], &[], Kind::Unsupported, "resolver"),
        (&[], &["ipam"], Kind::Unsupported, "ipam"),
        (&[], &["mtu"], Kind::Invalid, "say which"),
        (&[("mtuu", "1300")], &[], Kind::Invalid, "did you mean \"mtu\"?"),
        (&[], &["mtuu"], Kind::Invalid, "did you mean \"mtu\"?"),
        (&[("mtu", "5")], &[], Kind::Invalid, "mtu"),
        (&[("mtu", "1000")], &[], Kind::Invalid, "IPv6 needs"),
        (&[("gateway-mode", "open")], &[], Kind::Invalid, "gateway-mode"),
        (&[("dns", "nowhere")], &[], Kind::Invalid, "nowhere"),
        (&[("host-binding", "x")], &[], Kind::Invalid, "host-binding"),
        // All of it or nothing.
        (&[("icc", "false"), ("outbound-ipv4", "fd00::1")], &[], Kind::Invalid, "outbound-ipv4"),
    ] {
        let update = UpdateNetwork {
            network: "app".into(),
            options: set.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
            remove_options: unset.iter().map(|name| (*name).to_owned()).collect(),
            ..UpdateNetwork::default()
        };
        let (found, error) = kind_of(host.client().call(&update));
        assert_eq!(found, kind, "{update:?}: {error}");
        assert!(error.message.contains(says), "{says}: {error}");
        assert_eq!(inspect(), before, "{update:?}");
    }
    host.snapshot().same_as(&kernel).unwrap();
    let lan = host.lan();
    let mut network = CreateNetwork::named("lan");
    network.driver = Some("macvlan".into());
    network.options = [("parent".to_owned(), "lan0".to_owned())].into();
    host.client().call(&network).unwrap();
    let update = UpdateNetwork {
        network: "lan".into(),
        options: [("mode".to_owned(), "private".to_owned())].into(),
        ..UpdateNetwork::default()
    };
    assert_eq!(kind_of(host.client().call(&update)).0, Kind::Unsupported);
    drop(lan);
}
