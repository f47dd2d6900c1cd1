//! A network gets subnets and labels while it is in use.

use std::net::{IpAddr, SocketAddr};

use cnm::{
    Kind,
    endpoint::Endpoint,
    network::{CreateNetwork, InspectNetwork, Subnet, UpdateNetwork},
};
use netd_tests::{Asking as _, Container, Host, Ping, World, eventually, kind_of};

/// The request for a subnet more.
fn more(network: &str, subnet: &str) -> UpdateNetwork {
    let add_subnets = vec![Subnet::new(subnet.parse().unwrap())];
    UpdateNetwork { network: network.into(), add_subnets, ..UpdateNetwork::default() }
}

fn ip(endpoint: &Endpoint) -> IpAddr {
    endpoint.addresses[0].ip()
}

fn resolves(asker: &Container, server: IpAddr, name: &str) -> Vec<String> {
    Host::ask_name(&asker.netns, server, &format!("-q {name}"))
}

fn grows(bridge_filter: &str) {
    let world = World::new();
    let mut host = world.host("a");
    host.netns.run(&format!("sysctl -q net.bridge.bridge-nf-call-iptables={bridge_filter}"));
    let lan = host.lan();
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/29");
    let old: Vec<_> = (0..5).map(|n| world.container(&format!("old{n}"))).collect();
    let endpoints: Vec<_> = old.iter().map(|one| netd.attach(&one.to("app"))).collect();
    let late = world.container("late");
    let (kind, _) = kind_of(netd.call(&late.to("app")));
    assert_eq!(kind, Kind::Exhausted);

    let ping = Ping::start(&old[0].netns, ip(&endpoints[1]));
    let update = ["network", "update", "--add-subnet", "10.6.0.0/24", "--gateway", "10.6.0.254"];
    let update = [&update[..], &["--label", "tier=web", "app"]].concat();
    host.netctl(&update).success();
    let mut attach = late.to("app");
    attach.ports = vec!["8080:80".parse().unwrap()];
    let endpoint = netd.attach(&attach);
    assert!(endpoint.addresses[0].to_string().ends_with("/24"), "{endpoint:?}");
    let gateway: IpAddr = "10.6.0.254".parse().unwrap();
    assert_eq!((&endpoint.gateways, &endpoint.dns), (&vec![gateway], &vec![gateway]));

    // Half a flow, as another's rules see it, is dropped.
    host.netns.run("nft add table inet other");
    host.netns.run(
        "nft add chain inet other every { type filter hook forward priority filter ; policy accept ; }",
    );
    host.netns.run("nft add rule inet other every ct state invalid drop");
    let before = &old[0];
    for one in [before, &late] {
        one.netns.serve_tcp(80);
        one.netns.serve_udp(80);
    }
    for (from, to) in [((before, &endpoints[0]), &endpoint), ((&late, &endpoint), &endpoints[0])] {
        let ((from, own), to) = (from, SocketAddr::new(ip(to), 80));
        assert_eq!(from.netns.ask_tcp(to).unwrap(), ip(own), "the address of who asks is kept");
        assert_eq!(from.netns.ask_udp(to).unwrap(), ip(own));
    }
    assert_eq!(resolves(before, "10.5.0.1".parse().unwrap(), "late"), [ip(&endpoint).to_string()]);
    assert_eq!(resolves(&late, gateway, "old0"), [ip(&endpoints[0]).to_string()]);
    assert!(host.netns.pings(ip(&endpoint)));
    // In and out, as from the first subnet.
    lan.serve_tcp(80);
    let seen = late.netns.ask_tcp("192.0.2.2:80".parse().unwrap()).unwrap();
    assert_eq!(seen.to_string(), "192.0.2.1", "the host's address");
    let published = "192.0.2.1:8080".parse().unwrap();
    assert_eq!(lan.ask_tcp(published).unwrap().to_string(), "192.0.2.2");
    for inside in [before, &late] {
        inside.netns.ask_tcp(published).unwrap();
    }
    lan.run("ip route add 10.6.0.0/24 via 192.0.2.1");
    lan.try_tcp(SocketAddr::new(ip(&endpoint), 80)).unwrap_err();
    let pools = netd.pools();
    let of: Vec<_> = pools.iter().filter(|pool| pool.network_name.as_str() == "app").collect();
    assert_eq!(of.iter().map(|pool| pool.leased).collect::<Vec<_>>(), [5, 1]);

    // And so it is after a crash.
    host.kill();
    ping.goes_on();
    host.start();
    ping.goes_on();
    ping.lost_none();
    let mut netd = host.client();
    assert_eq!(netd.call(&cnm::system::Reconcile {}).unwrap().repaired, [""; 0]);
    let last = world.container("last");
    let last = netd.attach(&last.to("app"));
    assert!(ip(&last).to_string().starts_with("10.6."), "{last:?}");
    let shown = netd.call(&InspectNetwork { network: "app".into() }).unwrap();
    assert_eq!(shown.network.subnets.len(), 2);
    assert_eq!(shown.network.labels["tier"], "web");
    let check = host.netctl(&["endpoint", "check", endpoint.id.as_str()]);
    assert_eq!(check.code, 0, "{check:?}");
    for container in old.iter().chain([&late]).map(|one| one.id.as_str()).chain(["last"]) {
        netd.detach(container);
    }
    host.netctl(&["network", "rm", "app"]).success();
    let rules = host.netns.run("nft list table inet netd");
    assert!(!rules.contains("10.6.0.0"), "{rules}");
}

#[test]
fn a_full_network_gets_a_subnet_and_its_endpoints_stay() {
    grows("0");
}

#[test]
fn a_full_network_gets_a_subnet_with_bridge_filter() {
    grows("1");
}

#[test]
fn an_internal_network_gets_a_subnet_and_stays_internal() {
    let world = World::new();
    let host = world.host("a");
    let lan = host.lan();
    let mut netd = host.client();
    let subnets = vec![Subnet::new("10.5.0.0/24".parse().unwrap())];
    let vault = CreateNetwork { internal: true, subnets, ..CreateNetwork::named("vault") };
    netd.call(&vault).unwrap();
    netd.call(&more("vault", "10.6.0.0/24")).unwrap();
    let (a, b) = (world.container("a"), world.container("b"));
    let [mut first, mut second] = [a.to("vault"), b.to("vault")];
    first.addresses = vec!["10.5.0.9".parse().unwrap()];
    second.addresses = vec!["10.6.0.9".parse().unwrap()];
    let (one, two) = (netd.attach(&first), netd.attach(&second));
    assert!(one.gateways.is_empty() && two.gateways.is_empty());
    assert!(a.netns.pings(ip(&two)) && b.netns.pings(ip(&one)));
    let heard = lan.serve_udp(99);
    b.netns.send_udp("192.0.2.2:99".parse().unwrap()).unwrap_err();
    assert!(heard.from().is_empty());
}

#[test]
fn a_network_gets_the_other_family_and_loses_labels() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/24");
    let (old, new) = (world.container("old"), world.container("new"));
    let before = netd.attach(&old.to("app"));
    let labels = ["network", "update", "--label", "team=shop", "--label", "tier=web", "app"];
    host.netctl(&labels).success();
    let update = ["network", "update", "--label-rm", "team", "--add-subnet", "fd00:5::/64", "app"];
    host.netctl(&update).success();
    let shown = netd.call(&InspectNetwork { network: "app".into() }).unwrap().network;
    assert_eq!(shown.labels.into_iter().collect::<Vec<_>>(), [("tier".into(), "web".into())]);
    let endpoint = netd.attach(&new.to("app"));
    let six = endpoint.addresses[1].ip();
    assert!(six.is_ipv6() && host.netns.pings(six));
    assert!(new.netns.pings("fd00:5::1".parse().unwrap()));
    assert!(old.netns.pings(ip(&endpoint)) && new.netns.pings(ip(&before)));
    assert_eq!(netd.call(&cnm::system::Reconcile {}).unwrap().repaired, [""; 0]);
    eventually("its name resolves to both", || {
        let words = "-t AAAA -q new";
        let found = Host::ask_name(&old.netns, before.gateways[0], words);
        if found == [six.to_string()] { Ok(()) } else { Err(found) }
    });
}

#[test]
fn sticky_addresses_are_had_again_in_whichever_subnet_they_are() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/30");
    netd.call(&more("app", "10.6.0.0/24")).unwrap();
    let (filler, web) = (world.container("filler"), world.container("web"));
    netd.attach(&filler.to("app"));
    let mut attach = web.to("app");
    attach.sticky = true;
    let first = netd.attach(&attach);
    assert!(ip(&first).to_string().starts_with("10.6."));
    netd.detach("web");
    netd.detach("filler");
    let second = netd.attach(&attach);
    assert_eq!(second.addresses, first.addresses, "though the first subnet has room");
}

#[test]
fn what_a_network_cannot_get_is_refused_and_nothing_of_it_stays() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/24");
    netd.create_on("other", "10.6.0.0/24");
    let before = host.snapshot();
    let mut refused = |update: &UpdateNetwork, expected: Kind| {
        let (kind, error) = kind_of(netd.call(update));
        assert_eq!(kind, expected, "{error}");
    };
    refused(&more("app", "10.6.0.128/25"), Kind::Exists);
    refused(&more("app", "10.5.0.0/16"), Kind::Exists);
    refused(&more("app", "224.0.0.0/24"), Kind::Invalid);
    refused(&more("nobody", "10.7.0.0/24"), Kind::NotFound);
    refused(&more("host", "10.7.0.0/24"), Kind::Unsupported);
    let mut twice = more("app", "10.7.0.0/24");
    twice.add_subnets.push(Subnet::new("10.7.0.0/25".parse().unwrap()));
    refused(&twice, Kind::Invalid);
    let mut outside = more("app", "10.7.0.0/24");
    outside.add_subnets[0].gateway = Some("10.8.0.1".parse().unwrap());
    refused(&outside, Kind::Invalid);
    host.snapshot().same_as(&before).unwrap();
    let shown = netd.call(&InspectNetwork { network: "app".into() }).unwrap().network;
    assert_eq!(shown.subnets.len(), 1);
}
