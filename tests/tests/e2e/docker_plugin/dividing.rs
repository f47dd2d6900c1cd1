//! A network of netd's to which a Docker comes later that gives addresses out itself: from then on each
//! has a half.

use super::*;

/// Both families' ranges and the labels of `app`.
fn shown(host: &Host) -> (Vec<Option<String>>, BTreeMap<String, String>) {
    let inspect = InspectNetwork { network: "app".into() };
    let network = host.client().call(&inspect).unwrap().network;
    let range = |subnet: &cnm::network::Subnet| subnet.range.map(|range| range.to_string());
    (network.subnets.iter().map(range).collect(), network.labels)
}

fn attached(host: &Host, container: &Container) -> Vec<String> {
    let endpoint = host.client().attach(&container.to("app"));
    endpoint.addresses.iter().map(|address| address.ip().to_string()).collect()
}

#[test]
fn from_then_on_each_has_a_half() {
    let world = World::new();
    let mut host = host(&world);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "--subnet", "fd09::/64", "app"];
    host.netctl(&create).success();
    let before = world.container("before");
    assert_eq!(attached(&host, &before), ["10.9.0.2", "fd09::2"], "all of it is netd's");

    let net = id('a');
    let mut request = network(&net, "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    request["IPv6Data"] = json!([
        {"AddressSpace": "LocalDefault", "Pool": "fd09::/64", "Gateway": "fd09::1/64"}]);
    call("NetworkDriver.CreateNetwork", request);
    let halves = vec![Some("10.9.0.128/25".to_owned()), Some("fd09::8000:0:0:0/65".to_owned())];
    let (ranges, labels) = shown(&host);
    assert_eq!(ranges, halves);
    assert_eq!(labels[&format!("docker-addresses/{net}")], "10.9.0.0/25,fd09::/65");

    // They take turns, over a netd that is killed, and are in nobody's way.
    for n in 0_u8..8 {
        let address = format!("10.9.0.{}/24", n + 3);
        call("NetworkDriver.CreateEndpoint", endpoint(&net, &numbered(n), &address));
        let native = attached(&host, &world.container(&format!("native-{n}")));
        assert_eq!(native[0], format!("10.9.0.{}", 128 + n));
        assert!(native[1].starts_with("fd09::8000:0:0:"), "{native:?}");
        if n == 3 {
            host.kill();
            host.start();
            assert_eq!(shown(&host).0, halves, "it is on record");
        }
    }

    // Who was there before keeps the address, and Docker is told whose it is, and what to do.
    let error = refused("NetworkDriver.CreateEndpoint", endpoint(&net, &id('e'), "10.9.0.2/24"));
    for part in ["container before has it", "--aux-address used=10.9.0.2", "--ipam-driver netd"] {
        assert!(error.contains(part), "{error}");
    }
    let told = host.netctl(&["network", "inspect", "app"]);
    assert!(told.stderr.contains("10.9.0.2 (before)"), "{told:?}");
    assert!(!told.stderr.contains("native"), "{told:?}");

    // It goes, and all of it is netd's again.
    for n in 0_u8..8 {
        call("NetworkDriver.DeleteEndpoint", of(&net, &numbered(n)));
    }
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": net}));
    let (ranges, labels) = shown(&host);
    assert_eq!((ranges, labels), (vec![None, None], BTreeMap::new()));
}

#[test]
fn an_option_of_dockers_own_front_is_named_where_another_is_meant() {
    let world = World::new();
    let _host = host(&world);
    for (wrong, hint) in [
        ("netwrok", "did you mean \"network\"?"),
        ("typ", "did you mean \"type\"?"),
        ("zzzzzzzzzz", ", network, type"),
    ] {
        let error = refused(
            "NetworkDriver.CreateNetwork",
            network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({wrong: "x"})),
        );
        assert!(error.contains(&format!("no option {wrong:?}")) && error.contains(hint), "{error}");
    }
}

fn numbered(n: u8) -> String {
    format!("b{n:063}")
}

#[test]
fn a_part_that_was_said_stays() {
    let world = World::new();
    let host = host(&world);
    let create =
        ["network", "create", "--subnet", "10.9.0.0/24", "--ip-range", "10.9.0.0/26", "app"];
    host.netctl(&create).success();
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    assert_eq!(shown(&host).0, [Some("10.9.0.0/26".to_owned())]);
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
    assert_eq!(shown(&host).0, [Some("10.9.0.0/26".to_owned())]);
}

#[test]
fn what_is_there_while_it_is_used_goes_after_docker_as_well() {
    let world = World::new();
    let host = host(&world);
    let create = ["network", "create", "--subnet", "10.9.0.0/24", "--label", "netd/while-used"];
    host.netctl(&[&create[..], &["app"]].concat()).success();
    let request = network(&id('a'), "10.9.0.0/24", "10.9.0.1/24", json!({"network": "app"}));
    call("NetworkDriver.CreateNetwork", request);
    attached(&host, &world.container("native"));
    host.client().detach("native");
    assert_eq!(shown(&host).0.len(), 1, "Docker has it");
    call("NetworkDriver.DeleteNetwork", json!({"NetworkID": id('a')}));
    eventually("it is gone", || {
        match host.client().call(&InspectNetwork { network: "app".into() }) {
            Err(_) => Ok(()),
            Ok(network) => Err(network.network.labels),
        }
    });
}
