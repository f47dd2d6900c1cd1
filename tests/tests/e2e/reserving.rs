//! Addresses that are kept for the container of a name.

use std::net::IpAddr;

use cnm::{
    Kind,
    client::Client,
    endpoint::Endpoint,
    ipam::{Reserve, Unreserve},
    network::{CreateNetwork, InspectNetwork, Subnet},
};
use netd_tests::{Asking as _, World, kind_of};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reserve(network: &str, name: &str, addresses: &[&str]) -> Reserve {
    let addresses = addresses.iter().map(|text| ip(text)).collect();
    Reserve { network: network.into(), name: name.parse().unwrap(), addresses }
}

fn unreserve(network: &str, name: &str) -> Unreserve {
    Unreserve { network: network.into(), name: name.parse().unwrap() }
}

fn addresses(endpoint: &Endpoint) -> Vec<IpAddr> {
    endpoint.addresses.iter().map(|address| address.ip()).collect()
}

/// What is shown of a network: name and address, and how many of the first subnet are kept back.
fn shown(netd: &mut Client, network: &str) -> (Vec<String>, u64) {
    let shown = netd.call(&InspectNetwork { network: network.into() }).unwrap();
    let subnets = shown.network.subnets.iter().flat_map(|subnet| &subnet.reserved);
    let reserved = subnets.map(|(name, address)| format!("{name} {address}")).collect();
    (reserved, shown.pools[0].reserved)
}

#[test]
fn a_reserved_address_waits_for_its_container_over_everything() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    // Room for five, and a second family.
    let subnets =
        ["10.5.0.0/29", "fd00:5::/64"].map(|text| Subnet::new(text.parse().unwrap())).into();
    netd.call(&CreateNetwork { subnets, ..CreateNetwork::named("app") }).unwrap();
    let said = host.netctl(&["network", "reserve", "--ip", "10.5.0.4", "app", "db"]);
    assert_eq!(said.success(), "10.5.0.4\n");
    // No container could come for it under such a name.
    for name in ["localhost", "a..b", "netd"] {
        let (kind, error) = kind_of(netd.call(&reserve("app", name, &[])));
        assert_eq!(kind, Kind::Invalid, "{error}");
        assert!(error.message.contains(name), "{error}");
    }
    let six = netd.call(&reserve("app", "cache", &["fd00:5::77"])).unwrap();
    assert_eq!(six.addresses, [ip("fd00:5::77")]);
    assert_eq!(
        shown(&mut netd, "app"),
        (vec!["db 10.5.0.4".into(), "cache fd00:5::77".into()], 2),
        "and the gateway"
    );

    // Nobody else gets it, not even the last who could.
    let others: Vec<_> = (0..5).map(|n| world.container(&format!("c{n}"))).collect();
    for one in &others[..4] {
        let endpoint = netd.attach(&one.to("app"));
        assert!(!addresses(&endpoint).contains(&ip("10.5.0.4")), "{endpoint:?}");
    }
    let (kind, error) = kind_of(netd.call(&others[4].to("app")));
    assert_eq!(kind, Kind::Exhausted, "{error}");
    let mut by_name = others[4].to("app");
    by_name.addresses = vec![ip("10.5.0.4")];
    let (kind, error) = kind_of(netd.call(&by_name));
    assert_eq!(kind, Kind::Exists, "{error}");
    assert!(error.message.contains("reserved for db"), "{error}");

    // Nor after a restart, and its own gets it without asking, again and again.
    for _ in 0..2 {
        host.kill();
        host.start();
        let mut netd = host.client();
        let (kind, _) = kind_of(netd.call(&others[4].to("app")));
        assert_eq!(kind, Kind::Exhausted);
        let db = world.container("db");
        let endpoint = netd.attach(&db.to("app"));
        assert_eq!(endpoint.addresses[0].ip(), ip("10.5.0.4"));
        let seen = db.netns.json("ip -j -4 address show eth0");
        assert_eq!(seen[0]["addr_info"][0]["local"], "10.5.0.4");
        host.kill();
        host.start();
        assert_eq!(shown(&mut host.client(), "app").1, 1, "it is leased now");
        host.client().detach("db");
    }
    // When it is kept no more, anybody gets it.
    let mut netd = host.client();
    let said = host.netctl(&["network", "unreserve", "app", "db"]);
    assert_eq!(said.success(), "10.5.0.4\n");
    assert_eq!(host.netctl(&["network", "unreserve", "app", "db"]).success(), "");
    assert_eq!(netd.attach(&others[4].to("app")).addresses[0].ip(), ip("10.5.0.4"));
    for one in &others {
        netd.detach(&one.name);
    }
    netd.call(&unreserve("app", "cache")).unwrap();
    assert_eq!(shown(&mut netd, "app").0, [""; 0]);
}

#[test]
fn what_is_not_said_is_what_the_container_has_or_the_next() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/24");
    let web = world.container("web");
    let has = addresses(&netd.attach(&web.to("app")));
    assert_eq!(netd.call(&reserve("app", "web", &[])).unwrap().addresses, has);
    netd.detach("web");
    let next = netd.call(&reserve("app", "db", &[])).unwrap().addresses;
    assert_ne!(next, has);
    assert_eq!(netd.call(&reserve("app", "db", &[])).unwrap().addresses, next, "the same again");
    let (db, web) = (world.container("db"), world.container("web2"));
    assert_eq!(addresses(&netd.attach(&db.to("app"))), next);
    // A container of the same name is the same one to those who ask by name.
    let mut attach = web.to("app");
    attach.container.name = Some("web".parse().unwrap());
    assert_eq!(addresses(&netd.attach(&attach)), has);
    // Another address in its place, as soon as the container comes again.
    netd.call(&reserve("app", "web", &["10.5.0.200"])).unwrap();
    netd.detach("web");
    assert_eq!(addresses(&netd.attach(&attach)), [ip("10.5.0.200")]);
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let world = World::new();
    let host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/24");
    let web = world.container("web");
    netd.attach(&web.to("app"));
    netd.call(&reserve("app", "db", &["10.5.0.9"])).unwrap();
    let before = shown(&mut netd, "app");
    for (wanted, kind, says) in [
        (reserve("app", "x", &["10.5.0.2"]), Kind::Exists, "in use by container web"),
        (reserve("app", "x", &["10.5.0.9"]), Kind::Exists, "reserved for db"),
        (reserve("app", "x", &["10.5.0.1"]), Kind::Exists, "gateway"),
        (reserve("app", "x", &["10.5.0.255"]), Kind::Invalid, "broadcast"),
        (reserve("app", "x", &["10.6.0.1"]), Kind::Invalid, "no configured subnet"),
        (reserve("app", "x", &["10.5.0.7", "10.5.0.8"]), Kind::Invalid, "second one"),
        (reserve("none", "x", &[]), Kind::Unsupported, "gives out no addresses"),
        (reserve("nobody", "x", &[]), Kind::NotFound, "not found"),
    ] {
        let (found, error) = kind_of(netd.call(&wanted));
        assert_eq!(found, kind, "{wanted:?}: {error}");
        assert!(error.message.contains(says), "{error}");
    }
    assert_eq!(shown(&mut netd, "app"), before);
    // Nor when a network is made.
    let mut subnet = Subnet::new("10.6.0.0/24".parse().unwrap());
    subnet.reserved = [("db".parse().unwrap(), ip("10.7.0.1"))].into();
    let (kind, _) = kind_of(
        netd.call(&CreateNetwork { subnets: vec![subnet], ..CreateNetwork::named("other") }),
    );
    assert_eq!(kind, Kind::Invalid);
    let (kind, _) = kind_of(netd.call(&InspectNetwork { network: "other".into() }));
    assert_eq!(kind, Kind::NotFound);
}

#[test]
fn on_a_lan_no_network_of_the_same_parent_gives_it_out() {
    let world = World::new();
    let mut host = world.host("a");
    let _lan = host.lan();
    let mut netd = host.client();
    for name in ["one", "two"] {
        let mut network = CreateNetwork::named(name);
        network.driver = Some("macvlan".into());
        network.options = [("parent".to_owned(), "lan0".to_owned())].into();
        network.subnets = vec![Subnet::new("192.0.2.128/29".parse().unwrap())];
        network.subnets[0].gateway = Some(ip("192.0.2.129"));
        netd.call(&network).unwrap();
    }
    netd.call(&reserve("one", "db", &["192.0.2.130"])).unwrap();
    for _ in 0..2 {
        let other = world.container("other");
        let endpoint = host.client().attach(&other.to("two"));
        assert_ne!(addresses(&endpoint), [ip("192.0.2.130")]);
        host.client().detach("other");
        let mut by_name = other.to("two");
        by_name.addresses = vec![ip("192.0.2.130")];
        let (kind, error) = kind_of(host.client().call(&by_name));
        assert_eq!(kind, Kind::Exists, "{error}");
        host.kill();
        host.start();
    }
    let db = world.container("db");
    let mut netd = host.client();
    assert_eq!(addresses(&netd.attach(&db.to("one"))), [ip("192.0.2.130")]);
    netd.detach("db");
    netd.call(&unreserve("one", "db")).unwrap();
    let other = world.container("other");
    let mut by_name = other.to("two");
    by_name.addresses = vec![ip("192.0.2.130")];
    assert_eq!(addresses(&netd.attach(&by_name)), [ip("192.0.2.130")]);
}

#[test]
fn a_name_is_one_whatever_its_case() {
    let world = World::new();
    let mut host = world.host("a");
    let mut netd = host.client();
    netd.create_on("app", "10.5.0.0/24");
    netd.call(&reserve("app", "Db", &["10.5.0.77"])).unwrap();
    netd.call(&reserve("app", "dB", &["10.5.0.78"])).unwrap();
    assert_eq!(shown(&mut netd, "app").0, ["dB 10.5.0.78"], "one address in place of the other");
    let [db, web] = ["DB", "Web"].map(|name| world.container(name));
    assert_eq!(addresses(&netd.attach(&db.to("app"))), [ip("10.5.0.78")]);
    assert_eq!(netd.call(&reserve("app", "db", &[])).unwrap().addresses, [ip("10.5.0.78")]);
    // What it is called is shown as it was said last.
    assert_eq!(shown(&mut netd, "app").0, ["db 10.5.0.78"]);
    let static_one = |name: &str| {
        let container = world.container(name);
        let attach =
            cnm::endpoint::Attach { addresses: vec![ip("10.5.0.90")], ..container.to("app") };
        (container, attach)
    };
    netd.call(&reserve("app", "cache", &["10.5.0.90"])).unwrap();
    let (_other, attach) = static_one("other");
    assert_eq!(kind_of(netd.call(&attach)).0, Kind::Exists);
    let (_cache, attach) = static_one("CACHE");
    assert_eq!(addresses(&netd.attach(&attach)), [ip("10.5.0.90")]);
    assert_eq!(netd.call(&unreserve("app", "Cache")).unwrap().addresses, [ip("10.5.0.90")]);
    assert_eq!(shown(&mut netd, "app").0, ["db 10.5.0.78"]);

    let sticky = |container: &netd_tests::Container| cnm::endpoint::Attach {
        sticky: true,
        ..container.to("app")
    };
    let had = addresses(&netd.attach(&sticky(&web)));
    netd.detach("Web");
    host.kill();
    host.start();
    let mut netd = host.client();
    let again = world.container("wEB");
    assert_eq!(addresses(&netd.attach(&sticky(&again))), had);
}
