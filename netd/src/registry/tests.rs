use std::net::IpAddr;

use cnm::{
    MacAddr, Result,
    endpoint::{AddressRange, Container, NetnsId, State},
    network::{Network, Subnet},
    sandbox::Sandbox,
};
use ipam::{Moment, Pool, PoolConfig};
use ipnetwork::IpNetwork;

use super::*;

fn network(byte: u8, name: &str) -> Network {
    Network {
        id: NetworkId::from_bytes([byte; 32]),
        name: name.parse().expect("a name"),
        driver: "bridge".into(),
        created: String::new(),
        subnets: vec![Subnet::new("10.9.0.0/29".parse().expect("a subnet"))],
        internal: false,
        predefined: false,
        link: None,
        mtu: None,
        overlay: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        idempotency_key: None,
    }
}

fn registry() -> Registry {
    let mut registry = Registry::default();
    for (byte, name) in [(0xaa, "app"), (0xab, "aaaa"), (0xcc, "ab")] {
        let network = network(byte, name);
        let pool = Pool::new(PoolConfig::new(network.subnets[0].subnet)).expect("a pool");
        registry.add_network(network, vec![pool], Stage::Open);
    }
    registry
}

fn sandbox(id: &str, name: &str, nsid: i32) -> SandboxRecord {
    let mut container = Container::new(id.parse().expect("an id"));
    container.name = name.parse().ok();
    let sandbox = Sandbox {
        container,
        path: None,
        netns: Some(NetnsId { cookie: 7, nsid: Some(nsid) }),
        kept: false,
        created: String::new(),
    };
    SandboxRecord { sandbox, process_start: None }
}

fn endpoint(registry: &mut Registry, byte: u8, on: u8, container: &str) -> Endpoint {
    let network = NetworkId::from_bytes([on; 32]);
    let entry = registry.network_mut(&network).expect("a network");
    let addresses = entry.lease(Wishes::default(), Moment(0)).expect("an address");
    let id: ContainerId = container.parse().expect("an id");
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([byte; 32]),
        network,
        network_name: entry.network.name.clone(),
        container: registry.sandbox(&id).expect("a sandbox").record.sandbox.container.clone(),
        ifname: registry.free_ifname(&id, "eth"),
        state: State::Attached,
        mac: None,
        routes: Vec::new(),
        gateways: addresses.iter().map(|address| address.ip()).collect(),
        addresses,
        metric: registry.next_metric(&id, 0).expect("a priority"),
        dns: vec![],
        aliases: vec![],
        ports: vec!["8080:80".parse().expect("a port")],
        ports_bound: false,
        bandwidth: None,
        netns: None,
        mtu: None,
        options: BTreeMap::new(),
        labels: BTreeMap::new(),
        created: String::new(),
        idempotency_key: None,
    };
    registry.put_endpoint(endpoint.clone().into());
    endpoint
}

fn found(registry: &Registry, given: &str) -> Result<String, cnm::Kind> {
    registry
        .resolve_network(given)
        .map(|entry| entry.network.name.to_string())
        .map_err(|error| error.kind)
}

/// As an attach asks for them, which is sticky where there is an owner.
fn lease_of(
    entry: &mut NetworkEntry,
    wanted: &[IpAddr],
    ranges: &[AddressRange],
    owner: Option<&str>,
) -> Result<Vec<IpNetwork>> {
    let name = owner.map(|owner| owner.parse().expect("a name"));
    let sticky = name.is_some();
    entry.lease(Wishes { wanted, ranges, name: name.as_ref(), sticky }, Moment(0))
}

#[test]
fn a_link_layer_address_is_found_until_its_endpoint_goes() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1", "web", 3));
    let first = endpoint(&mut registry, 1, 0xaa, "c1");
    let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
    let holder = |registry: &Registry, last| {
        let found = registry.holder_of_mac(&first.network, mac(last));
        found.map(|endpoint| endpoint.id.clone())
    };
    assert_eq!(holder(&registry, 1), None);
    // As the driver made it.
    registry.renew_endpoint(Endpoint { mac: Some(mac(1)), ..first.clone() }.into());
    assert_eq!(holder(&registry, 1), Some(first.id.clone()));
    registry.renew_endpoint(Endpoint { mac: Some(mac(2)), ..first.clone() }.into());
    assert_eq!((holder(&registry, 1), holder(&registry, 2)), (None, Some(first.id.clone())));
    let other = NetworkId::from_bytes([0xab; 32]);
    assert!(registry.holder_of_mac(&other, mac(2)).is_none(), "each network has its own");
    registry.drop_endpoint(&first.id, Moment(0));
    assert_eq!(holder(&registry, 2), None);
}

#[test]
fn a_network_is_found_by_id_then_name_then_the_ids_beginning() {
    let registry = registry();
    assert_eq!(found(&registry, &"aa".repeat(32)).as_deref(), Ok("app"));
    assert_eq!(found(&registry, "aaaa").as_deref(), Ok("aaaa"), "a name wins over a beginning");
    assert_eq!(found(&registry, "aaa").as_deref(), Ok("app"));
    assert_eq!(found(&registry, "ab").as_deref(), Ok("ab"));
    assert_eq!(found(&registry, "a"), Err(cnm::Kind::Invalid), "two begin so");
    assert_eq!(found(&registry, ""), Err(cnm::Kind::NotFound));
    assert_eq!(found(&registry, "d"), Err(cnm::Kind::NotFound));
}

#[test]
fn a_name_that_two_networks_have_means_neither() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1", "web", 3));
    registry.put_sandbox(sandbox("c2", "db", 4));
    let own = endpoint(&mut registry, 1, 0xaa, "c1");
    let (app, shared) = (NetworkId::from_bytes([0xaa; 32]), network(0xdd, "app"));
    assert_eq!(registry.name_clashes(), [""; 0]);
    let blocks = Blocks::new(&shared, std::time::Duration::ZERO);
    registry.add_shared_network(shared.clone(), blocks);
    for given in ["app", "=app"] {
        let error = registry.resolve_network(given).expect_err("two");
        assert_eq!(
            (error.kind, error.message.as_str()),
            (
                cnm::Kind::Invalid,
                "network app is ambiguous (2 matches found on name): aaaaaaaaaaaa is this host's own, \
                 dddddddddddd is the cluster's; name one by its id"
            )
        );
    }
    for id in [&app, &shared.id] {
        assert_eq!(registry.resolve_network(id.as_str()).expect("whole").network.id, *id);
    }
    let clashes = registry.name_clashes();
    assert!(clashes.len() == 1 && clashes[0].contains("netctl network rm"), "{clashes:?}");
    // Who is on one of them means that one.
    let on = |container: &str, given: &str| {
        let found = registry.resolve_network_of(&container.parse().expect("an id"), given);
        found.expect("clear").map(|entry| entry.network.id.clone())
    };
    assert_eq!(on("c1", "app"), Some(own.network.clone()));
    assert_eq!(on("c1", "=app"), Some(own.network));
    assert_eq!(on("c2", "app"), None);
    assert_eq!(on("c2", "aaaa"), Some(NetworkId::from_bytes([0xab; 32])));
    registry.drop_network(&app);
    assert_eq!(registry.resolve_network("app").expect("one").network.id, shared.id);
    registry.drop_network(&shared.id);
    assert_eq!(found(&registry, "app"), Err(cnm::Kind::NotFound));
}

#[test]
fn a_sandbox_is_found_by_id_then_name_and_two_of_a_name_are_ambiguous() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1abcdef", "web", 3));
    assert!(registry.resolve_sandbox("web").is_ok());
    assert!(registry.resolve_sandbox("c1abc").is_ok());
    registry.put_sandbox(sandbox("c2", "web", 4));
    let error = registry.resolve_sandbox("web").expect_err("two");
    assert_eq!(error.kind, cnm::Kind::Invalid);
    assert_eq!(registry.containers_in(3).len(), 1);
    registry.drop_sandbox(&"c2".parse().expect("an id"));
    assert!(registry.resolve_sandbox("web").is_ok());
    assert!(registry.containers_in(4).is_empty());
}

#[test]
fn who_names_a_container_is_told_its_endpoints() {
    let mut registry = registry();
    let said = |registry: &Registry| registry.resolve_endpoint("web").expect_err("no id").message;
    assert_eq!(said(&registry), "endpoint web not found");
    registry.put_sandbox(sandbox("c1", "web", 1));
    assert_eq!(said(&registry), "endpoint web not found: container web has none");
    let id = endpoint(&mut registry, 1, 0xaa, "c1").id;
    let own = format!("endpoint web not found: container web has {} on network app", id.short());
    assert_eq!(said(&registry), own);
}

#[test]
fn an_endpoint_gives_back_what_it_held() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1", "web", 3));
    let first = endpoint(&mut registry, 1, 0xaa, "c1");
    let second = endpoint(&mut registry, 2, 0xab, "c1");
    assert_eq!((first.ifname.as_str(), second.ifname.as_str()), ("eth0", "eth1"));
    assert_eq!((first.metric, second.metric), (10_000, 10_001));
    let app = NetworkId::from_bytes([0xaa; 32]);
    let leased = |registry: &Registry| {
        registry.network(&app).expect("app").pools[0].utilisation(Moment(0)).leased
    };
    assert_eq!(leased(&registry), 1);
    registry.drop_endpoint(&first.id, Moment(0));
    assert_eq!(leased(&registry), 0);
    assert_eq!(registry.endpoints_on(&app).count(), 0);
    assert_eq!(registry.free_ifname(&"c1".parse().expect("an id"), "eth").as_str(), "eth0");
    let next = |priority| registry.next_metric(&"c1".parse().expect("an id"), priority);
    assert_eq!(next(0), Ok(10_002), "who came first stays first");
    assert_eq!((next(1), next(-7)), (Ok(9990), Ok(10_070)));
    assert_eq!((next(999), next(-999)), (Ok(10), Ok(19_990)));
    assert!(next(1000).is_err() && next(-1000).is_err() && next(i32::MIN).is_err());
    assert_eq!(registry.elected(&second), second.gateways);
    registry.drop_endpoint(&first.id, Moment(0));
}

#[test]
fn a_name_is_taken_on_its_own_network_only() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1", "web", 3));
    endpoint(&mut registry, 1, 0xaa, "c1");
    let mut other = Container::new("c2".parse().expect("an id"));
    other.name = "web".parse().ok();
    let id = EndpointId::from_bytes([9; 32]);
    let refused = |registry: &Registry, on: u8, other: &Container| {
        registry.not_called_so(&id, &NetworkId::from_bytes([on; 32]), other).map_err(|e| e.message)
    };
    let message = "endpoint with name web already exists in network app";
    assert_eq!(refused(&registry, 0xaa, &other), Err(message.to_owned()));
    assert_eq!(refused(&registry, 0xab, &other), Ok(()));
    other.name = "wEB".parse().ok();
    let error = refused(&registry, 0xaa, &other).expect_err("one name");
    assert!(error.contains("name wEB already exists in network app, spelled web"), "{error}");
    assert_eq!(refused(&registry, 0xab, &other), Ok(()));
}

#[test]
fn names_that_differ_by_case_are_one_and_each_is_found_as_it_is_spelled() {
    let mut registry = registry();
    let called = |registry: &Registry, name: &str| {
        let name: Name = name.parse().expect("a name");
        let called = registry.networks_called(&name);
        called.map(|entry| entry.network.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(called(&registry, "APP"), ["app"]);
    assert_eq!(called(&registry, "apps"), [""; 0]);
    assert_eq!(found(&registry, "APP"), Err(cnm::Kind::NotFound), "commands say it as it is");
    // What was stored when both could be made.
    registry.add_network(network(0xdd, "App"), Vec::new(), Stage::Open);
    for name in ["app", "App"] {
        assert_eq!(called(&registry, name), ["app", "App"]);
        assert_eq!(found(&registry, name).as_deref(), Ok(name));
    }
    registry.drop_network(&NetworkId::from_bytes([0xaa; 32]));
    assert_eq!(called(&registry, "app"), ["App"]);
    registry.put_sandbox(sandbox("c1", "web", 3));
    registry.put_sandbox(sandbox("c2", "Web", 4));
    let id = |given: &str| {
        let entry = registry.resolve_sandbox(given);
        entry.map(|entry| entry.record.sandbox.container.id.to_string()).map_err(|e| e.kind)
    };
    assert_eq!((id("web"), id("Web")), (Ok("c1".into()), Ok("c2".into())));
    assert_eq!(id("WEB"), Err(cnm::Kind::NotFound));
    let both = registry.containers_called(&"WEB".parse().expect("a name")).count();
    assert_eq!(both, 2);
}

#[test]
fn a_whole_name_is_no_beginning() {
    let mut registry = registry();
    registry.put_sandbox(sandbox("c1c1c1", "web", 3));
    let network = |given: &str| registry.resolve_network(given).is_ok();
    let whole = NetworkId::from_bytes([0xaa; 32]);
    assert!(network("=app") && network(&format!("={whole}")));
    assert!(network("aaaaa") && !network("=aaaaa") && network("=aaaa") && !network("="));
    let sandbox = |given: &str| registry.resolve_sandbox(given).is_ok();
    assert!(sandbox("web") && sandbox("c1c1") && sandbox("=c1c1c1"));
    assert!(!sandbox("=web") && !sandbox("=c1c1") && !sandbox("="));
}

#[test]
fn what_comes_from_outside_is_kept_from_others() {
    let mut registry = registry();
    let entry = registry.network_mut(&NetworkId::from_bytes([0xaa; 32])).expect("app");
    let subnet = entry.pools[0].config().subnet;
    let first = entry.lease(Wishes::default(), Moment(0)).expect("free")[0];
    let at = |n: usize| -> IpNetwork {
        let ip = subnet.iter().nth(n).expect("within");
        IpNetwork::new(ip, subnet.prefix()).expect("its prefix")
    };
    let elsewhere: IpNetwork = "192.0.2.7/24".parse().expect("an address");
    entry.keep(&[at(5), elsewhere], None, Moment(0)).expect("nobody has them");
    let error = entry.keep(&[at(6), first], None, Moment(0)).expect_err("somebody has one");
    assert_eq!(error.kind, cnm::Kind::Exists);
    assert!(entry.pools[0].is_leased(at(5).ip()) && !entry.pools[0].is_leased(at(6).ip()));
    assert!(lease_of(entry, &[at(5).ip()], &[], None).is_err());
    entry.release(at(5).ip(), Moment(0));
    entry.release(elsewhere.ip(), Moment(0));
    assert!(lease_of(entry, &[at(5).ip()], &[], None).is_ok());
}

#[test]
fn a_full_network_leases_all_or_nothing() {
    let mut registry = registry();
    let entry = registry.network_mut(&NetworkId::from_bytes([0xaa; 32])).expect("app");
    let six: IpNetwork = "fd00::/64".parse().expect("a subnet");
    entry.pools.insert(0, Pool::new(PoolConfig::new(six)).expect("a pool"));
    entry.network.subnets.insert(0, Subnet::new(six));
    for _ in 0..6 {
        assert_eq!(entry.lease(Wishes::default(), Moment(0)).expect("free").len(), 2);
    }
    let error = entry.lease(Wishes::default(), Moment(0)).expect_err("full");
    assert_eq!(error.kind, cnm::Kind::Exhausted);
    assert_eq!(entry.pools[0].utilisation(Moment(0)).leased, 6, "the IPv6 address is given back");
}

#[test]
fn a_name_in_another_spelling_has_its_address_of_a_later_subnet_again() {
    let mut network = network(7, "grown");
    network.subnets = ["10.9.0.0/30", "10.9.1.0/30"]
        .map(|text| Subnet::new(text.parse().expect("a subnet")))
        .into();
    let mut registry = Registry::default();
    let pools = crate::networks::pools(&network, std::time::Duration::ZERO).expect("pools");
    registry.add_network(network.clone(), pools, Stage::Open);
    let entry = registry.network_mut(&network.id).expect("it is there");
    let mut lease = |owner| {
        let leased = lease_of(entry, &[], &[], owner).expect("there is room");
        leased[0].ip()
    };
    let first = [lease(None), lease(None)];
    let own = lease(Some("Web"));
    assert!(network.subnets[1].subnet.contains(own), "{own}");
    for address in first.into_iter().chain([own]) {
        entry.release(address, Moment(0));
    }
    let again = lease_of(entry, &[], &[], Some("wEB")).expect("there is room");
    assert_eq!(again[0].ip(), own);
}

#[test]
fn each_set_of_subnets_gives_an_address() {
    let mut network = network(7, "sets");
    let subnet = |text: &str, set| Subnet { set, ..Subnet::new(text.parse().expect("a subnet")) };
    network.subnets = vec![
        subnet("10.9.0.0/30", 0),
        subnet("10.9.1.0/30", 1),
        subnet("10.9.2.0/30", 0),
        subnet("fd00::/126", 1),
    ];
    let mut registry = Registry::default();
    let pools = crate::networks::pools(&network, std::time::Duration::ZERO).expect("pools");
    registry.add_network(network.clone(), pools, Stage::Open);
    let entry = registry.network_mut(&network.id).expect("it is there");
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let texts = |addresses: Vec<IpNetwork>| {
        addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
    };
    let mut lease = |wanted: &[IpAddr], ranges: &[AddressRange], owner| {
        lease_of(entry, wanted, ranges, owner).map(texts)
    };
    let first = lease(&[], &[], None).expect("one of each");
    assert_eq!(first, "10.9.0.1/30 10.9.1.1/30 fd00::1/126");
    let range = |first, last| AddressRange { first: ip(first), last: ip(last) };
    let ranges = [range("10.9.2.2", "10.9.2.2"), range("fd00::3", "fd00::3")];
    assert_eq!(
        lease(&[ip("10.9.1.2")], &ranges, None),
        Ok("10.9.2.2/30 10.9.1.2/30 fd00::3/126".into())
    );
    let error = lease(&[], &ranges, None).expect_err("the ranges are used up");
    assert!(error.message.contains("10.9.2.2"), "{error}");
    // The second set has nothing left, and so nothing of the first is taken.
    for _ in 0..2 {
        let error = lease(&[], &[], None).expect_err("full");
        assert_eq!(
            (error.kind, error.message.contains("10.9.1.0/30")),
            (cnm::Kind::Exhausted, true)
        );
    }
    entry.release(ip("10.9.1.1"), Moment(0));
    let mut lease = |owner| lease_of(entry, &[], &[], owner).map(texts);
    assert_eq!(lease(Some("web")), Ok("10.9.0.2/30 10.9.1.1/30 fd00::2/126".into()));
    for address in ["10.9.0.1", "10.9.0.2", "10.9.1.1", "fd00::2"] {
        entry.release(ip(address), Moment(0));
    }
    let again = lease_of(entry, &[], &[], Some("web")).map(texts);
    assert_eq!(again, Ok("10.9.0.2/30 10.9.1.1/30 fd00::2/126".into()), "as it had before");
    // Where the first subnet of a set is full, the next one has room.
    for address in ["10.9.1.1", "fd00::2"] {
        entry.release(ip(address), Moment(0));
    }
    entry.release(ip("10.9.0.2"), Moment(0));
    entry.pools[0].allocate_static(ip("10.9.0.1"), Moment(0)).expect("free");
    entry.pools[0].allocate_static(ip("10.9.0.2"), Moment(0)).expect("free");
    let other = entry.lease(Wishes::default(), Moment(0)).map(texts);
    assert_eq!(other, Ok("10.9.2.1/30 10.9.1.1/30 fd00::2/126".into()));
}

#[test]
fn an_id_that_became_anothers_outlives_its_first_owner() {
    let mut registry = registry();
    let id = |text: &str| text.parse::<ContainerId>().expect("an id");
    registry.put_sandbox(sandbox("c1", "web", 3));
    assert!(!registry.is_outlived(&id("c1")));
    let mut second = sandbox("c2", "db", 3);
    second.sandbox.netns = Some(NetnsId { cookie: 8, nsid: Some(3) });
    registry.put_sandbox(second);
    assert!(registry.is_outlived(&id("c1")) && !registry.is_outlived(&id("c2")));
    // Two containers of one namespace live and die together.
    registry.put_sandbox(sandbox("c3", "pod", 4));
    registry.put_sandbox(sandbox("c4", "pod2", 4));
    assert!(!registry.is_outlived(&id("c3")) && !registry.is_outlived(&id("c4")));
}

#[test]
fn networks_with_addresses_in_common_share_them() {
    let mut registry = Registry::default();
    let with = |byte: u8, name: &str, subnet: &str, gateway: Option<&str>| {
        let mut network = network(byte, name);
        network.subnets = vec![Subnet::new(subnet.parse().expect("a subnet"))];
        network.subnets[0].gateway = gateway.map(|ip| ip.parse().expect("an address"));
        network
    };
    let networks = [
        with(10, "a", "10.9.0.0/29", None),
        with(11, "b", "10.9.0.0/29", Some("10.9.0.1")),
        with(12, "c", "10.9.0.0/28", None),
        with(13, "d", "10.10.0.0/29", None),
    ];
    for network in &networks {
        let pools = crate::networks::pools(network, std::time::Duration::ZERO).expect("pools");
        registry.add_network(network.clone(), pools, Stage::Open);
    }
    let now = Moment(1);
    let lease = |registry: &mut Registry, n: usize| {
        let id = &networks[n].id;
        let entry = registry.network_mut(id).expect("it is there");
        let addresses = entry.lease(Wishes::default(), now).expect("there is one");
        registry.share(id, &addresses);
        addresses[0]
    };
    let given: Vec<_> = [0, 1, 2].iter().map(|n| lease(&mut registry, *n).to_string()).collect();
    assert_eq!(given, ["10.9.0.2/29", "10.9.0.3/29", "10.9.0.4/28"]);
    assert_eq!(lease(&mut registry, 3).to_string(), "10.10.0.1/29", "they are strangers");
    let leased = |registry: &Registry, n: usize| {
        registry.network(&networks[n].id).expect("it is there").pools[0].leases().count()
    };
    assert_eq!([0, 1, 2, 3].map(|n| leased(&registry, n)), [4, 3, 4, 1], "and the gateway");
    registry.release(&networks[0].id, &["10.9.0.2/29".parse().expect("an address")], now);
    assert_eq!([0, 1, 2, 3].map(|n| leased(&registry, n)), [3, 2, 3, 1]);
    registry.drop_network(&networks[1].id);
    assert!([0, 2].iter().all(|n| {
        !registry.network(&networks[*n].id).expect("it is there").pools[0]
            .is_leased("10.9.0.1".parse().expect("an address"))
    }));
}

#[test]
fn what_the_host_has_is_nobody_elses_until_it_gives_it_up() {
    let mut registry = registry();
    let id = NetworkId::from_bytes([0xaa; 32]);
    let ip = |last: u8| IpAddr::from([10, 9, 0, last]);
    let leases = |registry: &Registry| {
        let entry = registry.network(&id).expect("a network");
        entry.pools[0].leases().collect::<Vec<_>>()
    };
    registry.put_sandbox(sandbox("c1", "web", 3));
    registry.keep_off(&id, [ip(1), ip(2)].into(), Moment(0));
    let web = endpoint(&mut registry, 1, 0xaa, "c1");
    assert_eq!(web.addresses[0].ip(), ip(3));
    assert_eq!(leases(&registry), [ip(1), ip(2), ip(3)]);
    // It takes what an endpoint has, and gives it up again: the endpoint keeps it.
    registry.keep_off(&id, [ip(1), ip(3)].into(), Moment(1));
    assert_eq!(leases(&registry), [ip(1), ip(3)]);
    registry.keep_off(&id, [ip(1)].into(), Moment(2));
    assert_eq!(leases(&registry), [ip(1), ip(3)]);
    registry.drop_endpoint(&web.id, Moment(3));
    assert_eq!(leases(&registry), [ip(1)]);
}

#[test]
fn of_several_subnets_the_first_with_room_gives_an_address_of_each_family() {
    let mut registry = Registry::default();
    let mut network = network(0xaa, "app");
    let subnets = ["10.9.0.0/30", "fd00::/64", "10.8.0.0/24"];
    network.subnets =
        subnets.iter().map(|text| Subnet::new(text.parse().expect("a subnet"))).collect();
    let pool = |subnet: &Subnet| {
        let gateway = subnet.subnet.iter().nth(1);
        let config = PoolConfig { gateway, ..PoolConfig::new(subnet.subnet) };
        Pool::new(config).expect("a pool")
    };
    let pools = network.subnets.iter().map(pool).collect();
    let id = network.id.clone();
    registry.add_network(network, pools, Stage::Open);
    let entry = registry.network_mut(&id).expect("a network");
    let mut lease = |wanted: &[&str], owner: Option<&str>| {
        let wanted: Vec<IpAddr> = wanted.iter().map(|ip| ip.parse().expect("ip")).collect();
        let leased = lease_of(entry, &wanted, &[], owner);
        leased.map(|all| all.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(lease(&["10.8.0.9"], Some("web")).expect("free"), ["10.8.0.9/24", "fd00::2/64"]);
    assert!(lease(&["10.8.0.9"], None).is_err(), "of that subnet or not at all");
    assert_eq!(lease(&[], None).expect("free"), ["10.9.0.2/30", "fd00::3/64"]);
    let third = lease(&[], None).expect("free");
    assert!(third[0].starts_with("10.8.0.") && third[0].ends_with("/24"), "{third:?}");
}
