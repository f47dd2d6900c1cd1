use serde_json::json;

use super::*;

fn created(body: Value) -> Result<CreateNetwork> {
    create(serde_json::from_value(body).expect("a document"))
}

#[test]
fn what_the_command_line_sends_is_a_network() {
    let body = json!({
        "CheckDuplicate": true, "Driver": "bridge", "Scope": "", "EnableIPv6": false,
        "IPAM": {"Driver": "default", "Options": {}, "Config": []}, "Internal": false,
        "Attachable": false, "Ingress": false, "ConfigOnly": false, "ConfigFrom": null,
        "Options": {}, "Labels": {"a": "b"}, "Name": "foo",
    });
    let network = created(body).expect("a network");
    assert_eq!((network.name.as_str(), network.driver.as_deref()), ("foo", Some("bridge")));
    assert_eq!((network.ipv4, network.ipv6, network.internal), (None, None, false));
    assert_eq!(network.labels["a"], "b");
    let body = json!({"Name": "foo", "EnableIPv4": false, "EnableIPv6": true, "IPAM": {"Config": [
        {"Subnet": "10.5.0.0/16", "IPRange": "10.5.1.0/24", "Gateway": "10.5.0.1",
         "AuxiliaryAddresses": {"router": "10.5.0.7"}},
        {"Subnet": ""},
    ]}});
    let network = created(body).expect("a network");
    assert_eq!((network.driver, network.ipv4, network.ipv6), (None, Some(false), Some(true)));
    assert!(!network.options.contains_key("attachable"));
    let body = json!({"Name": "foo", "Attachable": true, "Scope": "local"});
    assert_eq!(created(body).expect("a network").options["attachable"], "true");
    let body = json!({"Name": "foo", "Driver": "overlay", "Scope": "swarm"});
    assert_eq!(created(body).expect("a network").driver.as_deref(), Some("overlay"));
    let [subnet] = &network.subnets[..] else { panic!("one") };
    assert_eq!(subnet.range, "10.5.1.0/24".parse().ok());
    assert_eq!(subnet.gateway, "10.5.0.1".parse().ok());
    assert_eq!(subnet.aux["router"].to_string(), "10.5.0.7");
}

#[test]
fn dockers_other_name_of_its_bridge_is_no_networks() {
    let error = created(json!({"Name": "default"})).expect_err("Docker's own");
    assert_eq!(error.kind, Kind::Denied);
    assert_eq!(error.message, "operation is not permitted on predefined default network");
    created(json!({"Name": "defaults"})).expect("a network");
}

#[test]
fn everything_that_is_wrong_is_said_a_line_each() {
    let body = json!({"Name": "foo", "IPAM": {"Config": [
        {"Subnet": "10.0.0.1/24", "IPRange": "10.0.0.0/16", "Gateway": "10.0.1.1"},
        {"Subnet": "10.1.0.0/24", "IPRange": "10.2.0.0/25",
         "AuxiliaryAddresses": {"a": "10.9.0.1"}},
    ]}});
    assert_eq!(
        created(body).expect_err("wrong").message,
        "invalid network config:\n\
         invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24\n\
         invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24\n\
         invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address\n\
         invalid ip-range 10.2.0.0/25: parent subnet 10.1.0.0/24 doesn't contain ip-range\n\
         invalid auxiliary address 10.9.0.1: parent subnet 10.1.0.0/24 doesn't contain this address"
    );
    for (more, kind) in [
        (json!({"ConfigOnly": true}), Kind::Denied),
        (json!({"ConfigFrom": {"Network": "a"}}), Kind::Denied),
        (json!({"Ingress": true}), Kind::Denied),
        (json!({"Scope": "swarm"}), Kind::Denied),
        (json!({"Scope": "global"}), Kind::Invalid),
        (json!({"Scope": "local", "Driver": "overlay"}), Kind::Invalid),
        (json!({"IPAM": {"Driver": "other"}}), Kind::Invalid),
        (json!({"IPAM": {"Options": {"a": "b"}}}), Kind::Invalid),
        (json!({"IPAM": {"Config": [{"Gateway": "10.0.0.1"}]}}), Kind::Invalid),
    ] {
        let mut body = json!({"Name": "foo"});
        body.as_object_mut().expect("an object").extend(more.as_object().expect("one").clone());
        assert_eq!(created(body.clone()).expect_err("wrong").kind, kind, "{body}");
    }
}

#[test]
fn filters_are_lists_or_maps() {
    let both = [
        r#"{"driver":["null"],"name":["a","b"]}"#,
        r#"{"driver":{"null":true},"name":{"a":true,"b":true}}"#,
    ];
    for text in both {
        let filters = filters(text).expect("filters");
        assert_eq!(filters["driver"], ["none"]);
        assert_eq!(filters["name"], ["a", "b"]);
    }
    assert!(filters("").expect("none").is_empty());
    for bad in ["{", "[]", r#"{"a":1}"#, r#"{"a":[1]}"#] {
        assert_eq!(filters(bad).expect_err(bad).kind, Kind::Invalid);
    }
}

#[test]
fn a_container_gets_what_the_client_wants_for_it() {
    let given: Connect = serde_json::from_value(json!({"Container": "web", "EndpointConfig": {
        "IPAMConfig": {"IPv4Address": "10.5.0.9"}, "Links": null, "Aliases": ["www"],
        "DriverOpts": {"com.docker.network.endpoint.ifname": "lan0"}, "GwPriority": 7,
        "MacAddress": "02:00:00:00:00:07",
    }}))
    .expect("a document");
    let web = Container::new("web".parse().expect("an id"));
    let made = attach("=app", web.clone(), &given).expect("an attach");
    assert_eq!(made.addresses, ["10.5.0.9".parse::<IpAddr>().expect("an address")]);
    assert_eq!((made.gateway_priority, made.netns), (7, None));
    assert_eq!(made.aliases[0].as_str(), "www");
    assert_eq!(made.options["com.docker.network.endpoint.ifname"], "lan0");
    for bad in [
        json!({"Links": ["db"]}),
        json!({"IPAMConfig": {"IPv4Address": "here"}}),
        json!({"IPAMConfig": {"LinkLocalIPs": ["169.254.1.1"]}}),
        json!({"Aliases": ["not a name"]}),
        json!({"MacAddress": "01:00:00:00:00:07"}),
    ] {
        let given = serde_json::from_value(json!({"EndpointConfig": bad})).expect("a document");
        let error = attach("=app", web.clone(), &given).expect_err("wrong");
        assert!(error.message.starts_with("invalid endpoint settings:\n"), "{error}");
    }
}
