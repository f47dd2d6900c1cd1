use serde_json::json;

use super::*;

const ID: &str = "9a1c27f33b1e4c5aa7f0e0a8e5b1d2c3f4a5b6c7d8e9f0a1b2c3d4e5f6a7b8c9";

fn wanted(generic: Value, space: &str, more: Value) -> Result<Wanted> {
    let mut request = json!({
        "NetworkID": ID,
        "Options": {"com.docker.network.enable_ipv4": true, "com.docker.network.generic": generic},
        "IPv4Data": [{"AddressSpace": space, "Pool": "10.9.0.0/24", "Gateway": "10.9.0.1/24",
            "AuxAddresses": {"printer": "10.9.0.9/24"}}],
        "IPv6Data": null,
    });
    for (key, value) in more.as_object().expect("an object") {
        request[key] = value.clone();
    }
    network(&serde_json::from_value(request).expect("a request"))
}

#[test]
fn a_network_has_dockers_id_for_a_name_unless_one_is_given() {
    let Wanted { create, named, .. } = wanted(json!({}), SPACE, json!({})).expect("a network");
    assert_eq!((create.name.as_str(), named), ("docker-9a1c27f33b1e", false));
    assert_eq!((create.ipv4, create.ipv6, create.internal), (Some(true), Some(false), false));
    assert_eq!(create.labels[&label(ID)], OWN);
    assert_eq!(create.driver, None);
    let generic = json!({"network": "app", "type": "macvlan", "parent": "eth0", "mtu": 1400});
    let Wanted { create, named, .. } = wanted(generic, SPACE, json!({})).expect("a network");
    assert_eq!((create.name.as_str(), named), ("app", true));
    assert_eq!(create.driver.as_deref(), Some("macvlan"));
    assert_eq!(create.options["parent"], "eth0");
    assert_eq!(create.options["mtu"], "1400");
    assert!(!create.options.contains_key("type") && !create.options.contains_key("network"));
}

#[test]
fn of_what_docker_gives_out_netd_has_the_upper_half() {
    let subnet =
        |space| wanted(json!({}), space, json!({})).expect("a network").create.subnets.remove(0);
    let own = subnet(SPACE);
    assert_eq!((own.gateway, own.range), ("10.9.0.1".parse().ok(), None));
    assert_eq!(own.aux["printer"], "10.9.0.9".parse::<IpAddr>().expect("an address"));
    assert_eq!(subnet("LocalDefault").range, "10.9.0.128/25".parse().ok());
}

#[test]
fn what_is_said_of_families_and_ways_out_holds() {
    let more = json!({
        "Options": {"com.docker.network.internal": true},
        "IPv6Data": [{"Pool": "fd00:9::/64"}],
    });
    let create = wanted(json!({}), SPACE, more).expect("a network").create;
    assert_eq!((create.ipv4, create.ipv6, create.internal), (Some(true), Some(true), true));
    assert_eq!(create.subnets[1].gateway, None);
    let null = json!({"IPv4Data": [{"AddressSpace": "null", "Pool": "0.0.0.0/0"}]});
    let create = wanted(json!({}), SPACE, null).expect("a network").create;
    assert_eq!((create.subnets.len(), create.options["ipam"].as_str()), (0, "none"));
    for bad in ["", "10.9.0.0/33", "everywhere"] {
        let more = json!({"IPv4Data": [{"Pool": bad}]});
        assert!(wanted(json!({}), SPACE, more).is_err(), "{bad}");
    }
}

fn ports_of(map: Value) -> Result<Vec<String>> {
    let mut options = Options::new();
    options.insert(PORTMAP.into(), map);
    Ok(ports(Some(&options))?.iter().map(ToString::to_string).collect())
}

#[test]
fn ports_are_dockers_with_other_names() {
    let map = json!([
        {"Proto": 6, "IP": "", "Port": 80, "HostIP": "0.0.0.0", "HostPort": 8080,
         "HostPortEnd": 8080},
        {"Proto": 17, "IP": "", "Port": 53, "HostIP": "", "HostPort": 0, "HostPortEnd": 0},
        {"Proto": 17, "IP": "", "Port": 53, "HostIP": "", "HostPort": 0, "HostPortEnd": 0},
    ]);
    assert_eq!(ports_of(map).expect("ports"), ["0.0.0.0:8080->80/tcp", "0->53/udp"]);
    assert_eq!(ports_of(Value::Null).expect("none"), [""; 0]);
    assert_eq!(ports(None).expect("none"), []);
    for bad in [
        json!([{"Proto": 1, "Port": 80}]),
        json!([{"Proto": 6, "Port": 0}]),
        json!([{"Proto": 6, "Port": 80, "HostIP": "here"}]),
        json!({"80": 8080}),
        json!([{"Proto": 6, "Port": 70000}]),
    ] {
        assert!(ports_of(bad.clone()).is_err(), "{bad}");
    }
}

#[test]
fn dockerd_is_told_what_to_move_and_where_it_leads() {
    let network: Network = serde_json::from_value(json!({
        "id": "1".repeat(64), "name": "app", "driver": "bridge", "created": "",
    }))
    .expect("a network");
    let mut endpoint: Endpoint = serde_json::from_value(json!({
        "id": "e".repeat(64), "network": "1".repeat(64), "network_name": "app",
        "container": {"id": ID}, "ifname": "eth0", "state": "attached",
        "addresses": ["10.9.0.2/24"], "gateways": ["10.9.0.1"],
        "routes": [{"dst": "10.7.0.0/16", "gateway": "10.9.0.9"}, {"dst": "10.10.0.0/24"}],
        "created": "",
    }))
    .expect("an endpoint");
    let told = |network: &Network, endpoint: &Endpoint| {
        serde_json::to_value(joined(network, endpoint, "eth")).expect("JSON")
    };
    assert_eq!(
        told(&network, &endpoint),
        json!({
            "InterfaceName": {"SrcName": "nceeeeeeeeeeee", "DstPrefix": "eth"},
            "Gateway": "10.9.0.1",
            "StaticRoutes": [
                {"Destination": "10.7.0.0/16", "RouteType": 0, "NextHop": "10.9.0.9"},
                {"Destination": "10.10.0.0/24", "RouteType": 1},
            ],
            "DisableGatewayService": false,
        })
    );
    endpoint.gateways.clear();
    endpoint.routes.clear();
    assert_eq!(told(&network, &endpoint)["DisableGatewayService"], true);
    assert!(told(&network, &endpoint).get("Gateway").is_none());
}
