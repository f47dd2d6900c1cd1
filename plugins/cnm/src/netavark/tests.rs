use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    MacAddr,
    driver::Capabilities,
    endpoint::{Assigned, Attach, Endpoint},
    network::CreateNetwork,
    options::{IPAM, LINK, MTU, Options},
};

const ID: &str = "53ce4390f2adb1681eb1a90ec8b48c49c015e0a8d336c197637e7f65e365fa9e";

fn bridge() -> Info {
    Info {
        name: "bridge".into(),
        version: "0.1.0".into(),
        protocols: vec![crate::PROTOCOL],
        capabilities: Capabilities { addresses: true, ..Capabilities::default() },
        options: Some(Options::of(&[MTU, LINK, IPAM], &[])),
    }
}

/// A network as Podman hands it to `create`, with more keys or others.
fn network(more: Value) -> Value {
    let mut network = json!({
        "name": "app", "id": ID, "driver": "netd-bridge", "created": "0001-01-01T00:00:00Z",
        "ipv6_enabled": false, "internal": false, "dns_enabled": true,
    });
    for (key, value) in more.as_object().expect("an object") {
        network[key] = value.clone();
    }
    network
}

fn created(more: Value) -> Result<String> {
    create::create(&bridge(), decode("create", network(more).to_string().as_bytes())?)
}

/// What `setup` is handed, with more keys of the network and of the container on it.
fn setup_of(of_network: Value, here: Value, ports: Value) -> Setup {
    let mut options = json!({"aliases": ["4c01db0b339c"], "interface_name": "eth0",
        "static_ips": null, "static_mac": null, "options": null});
    for (key, value) in here.as_object().expect("an object") {
        options[key] = value.clone();
    }
    let document = json!({
        "container_id": "4c01db0b339c", "container_name": "web", "port_mappings": ports,
        "network": network(of_network), "network_options": options,
    });
    decode("setup", document.to_string().as_bytes()).expect("a document")
}

fn attach_of(of_network: Value, here: Value, ports: Value) -> Result<Attach> {
    translate::attach(&bridge(), &setup_of(of_network, here, ports))
}

fn create_of(more: Value) -> CreateNetwork {
    translate::create(&bridge(), &setup_of(more, json!({}), Value::Null).network).expect("netd's")
}

#[test]
fn who_it_is() {
    assert_eq!(
        run(&bridge(), "info", None),
        Ok(r#"{"version":"0.1.0","api_version":"1.0.0"}"#.into())
    );
}

#[test]
fn an_error_is_one_key() {
    let error = run(&bridge(), "destroy", None).expect_err("unknown");
    assert_eq!(
        refusal(&error),
        r#"{"error":"unknown subcommand \"destroy\": it should be info, create, setup or teardown"}"#
    );
}

#[test]
fn a_network_comes_back_in_podmans_order_with_who_gives_addresses() {
    assert_eq!(
        created(json!({})).expect("a network"),
        format!(
            "{{\"name\":\"app\",\"id\":\"{ID}\",\"driver\":\"netd-bridge\",\
             \"created\":\"0001-01-01T00:00:00Z\",\"ipv6_enabled\":false,\"internal\":false,\
             \"dns_enabled\":true,\"ipam_options\":{{\"driver\":\"netd\"}}}}"
        )
    );
    let given = json!({
        "network_interface": "br7", "subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}],
        "labels": {"a": "b"}, "options": {"mtu": "1400"}, "ipam_options": {"driver": ""},
        "tomorrow": [1],
    });
    let back: Value =
        serde_json::from_str(&created(given.clone()).expect("a network")).expect("JSON");
    let mut expected = network(given);
    expected["ipam_options"]["driver"] = json!("netd");
    assert_eq!(back, expected, "nothing else changes, and what is unknown stays");
}

#[test]
fn podman_gives_addresses_of_the_lower_half_where_it_insists() {
    let given = json!({
        "subnets": [{"subnet": "10.9.0.0/24"}, {"subnet": "fd00:9::/64"}],
        "ipam_options": {"driver": "host-local"},
    });
    let back: Value = serde_json::from_str(&created(given).expect("a network")).expect("JSON");
    assert_eq!(back["subnets"][0]["lease_range"], json!({"end_ip": "10.9.0.127"}));
    assert_eq!(back["subnets"][1]["lease_range"], json!({"end_ip": "fd00:9::7fff:ffff:ffff:ffff"}));
    let create = create_of(json!({
        "subnets": back["subnets"], "ipam_options": {"driver": "host-local"},
    }));
    let ranges: Vec<_> =
        create.subnets.iter().map(|s| s.range.expect("half").to_string()).collect();
    assert_eq!(ranges, ["10.9.0.128/25", "fd00:9:0:0:8000::/65"]);
}

#[test]
fn what_cannot_be_is_refused_before_podman_writes_it_down() {
    for (more, sentence) in [
        (json!({"name": "-a"}), "invalid name"),
        (json!({"options": {"mtuu": "1400"}}), "did you mean \"mtu\"?"),
        (json!({"ipam_options": {"driver": "dhcp"}}), "takes no addresses by DHCP"),
        (json!({"ipam_options": {"driver": "host-local"}}), "needs a subnet"),
        (json!({"ipam_options": {"driver": "other"}}), "unknown IPAM driver \"other\""),
        (
            json!({"routes": [{"destination": "10.7.0.0/16", "route_type": "blackhole"}]}),
            "is of type blackhole",
        ),
    ] {
        let error = created(more).expect_err(sentence);
        assert!(error.message.contains(sentence), "{error}");
    }
    for text in ["", "{", "[]", "7", "{}", r#"{"name":7}"#, "\u{0}"] {
        let error = decode::<Network>("create", text.as_bytes()).expect_err(text);
        assert!(error.message.starts_with("cannot decode what create is given"), "{error}");
    }
}

#[test]
fn a_network_is_netds_in_its_own_words() {
    let create = create_of(json!({}));
    assert_eq!((create.name.as_str(), create.driver.as_deref()), ("app", Some("bridge")));
    assert_eq!((create.ipv4, create.ipv6, create.internal), (Some(true), Some(false), false));
    assert_eq!(create.labels[translate::LABEL], ID);
    let create = create_of(json!({
        "subnets": [{"subnet": "fd00:9::/64"}], "internal": true, "network_interface": "br7",
        "network_dns_servers": ["192.0.2.53", "fd00::53"],
    }));
    assert_eq!((create.ipv4, create.ipv6, create.internal), (Some(false), Some(true), true));
    assert_eq!(create.options["link"], "br7");
    assert_eq!(create.options["dns"], "192.0.2.53,fd00::53");
    let create = create_of(json!({"ipam_options": {"driver": "none"}}));
    assert_eq!((create.ipv4, create.options["ipam"].as_str()), (Some(false), "none"));
}

#[test]
fn an_attach_says_whose_it_is_and_that_podman_binds_the_ports() {
    let ports = json!([
        {"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"},
        {"host_ip": "192.0.2.1", "container_port": 80, "host_port": 8080, "range": 1, "protocol": "tcp"},
        {"host_ip": "127.0.0.1", "container_port": 53, "host_port": 5300, "range": 4,
         "protocol": "udp"},
    ]);
    let here = json!({"static_mac": "02:00:00:00:00:07", "static_ips": ["10.9.0.7"]});
    let attach = attach_of(json!({}), here, ports).expect("an attach");
    assert_eq!(attach.network, "=app");
    assert_eq!(attach.container.name, "web".parse().ok());
    assert_eq!(attach.aliases, ["4c01db0b339c".parse().expect("a name")]);
    let shown: Vec<_> = attach.ports.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["8080->80/tcp", "127.0.0.1:5300-5303->53-56/udp"], "each once");
    assert!(attach.ports_bound);
    assert_eq!(attach.mac, Some(MacAddr([2, 0, 0, 0, 0, 7])));
    assert_eq!(attach.addresses, ["10.9.0.7".parse::<std::net::IpAddr>().expect("an address")]);
    let loopback = json!([{"host_ip": "::1", "container_port": 80, "host_port": 8080, "range": 1,
        "protocol": "tcp"}]);
    let error = attach_of(json!({}), json!({}), loopback).expect_err("Podman has it itself");
    assert!(error.message.contains("leave the address out"), "{error}");
    let attach = attach_of(json!({}), json!({}), Value::Null).expect("an attach");
    assert!(!attach.ports_bound && attach.assigned.is_none() && attach.routes.is_none());
    let none = json!({"ipam_options": {"driver": "none"}});
    let attach = attach_of(none, json!({}), Value::Null).expect("an attach");
    assert_eq!(attach.assigned, Some(Assigned::default()));
}

#[test]
fn a_lease_range_is_where_addresses_come_from() {
    let ranges = |lease: Value, ipam: &str| {
        let subnets = json!({"subnets": [{"subnet": "10.9.0.0/24", "lease_range": lease}],
            "ipam_options": {"driver": ipam}});
        let attach = attach_of(subnets, json!({}), Value::Null).expect("an attach");
        let text =
            |range: &crate::endpoint::AddressRange| format!("{}-{}", range.first, range.last);
        attach.ranges.iter().map(text).collect::<Vec<_>>()
    };
    let both = json!({"start_ip": "10.9.0.20", "end_ip": "10.9.0.30"});
    assert_eq!(ranges(both.clone(), "netd"), ["10.9.0.20-10.9.0.30"]);
    assert_eq!(ranges(json!({"start_ip": "10.9.0.20"}), "netd"), ["10.9.0.20-10.9.0.254"]);
    assert_eq!(ranges(json!({"end_ip": "10.9.0.30"}), "netd"), ["10.9.0.0-10.9.0.30"]);
    assert_eq!(ranges(Value::Null, "netd"), [""; 0]);
    assert_eq!(ranges(both, "host-local"), [""; 0], "Podman has given them out itself");
}

#[test]
fn routes_are_beside_the_default_unless_they_are_one() {
    let routes = json!({"routes": [{"destination": "10.7.0.0/16", "gateway": "10.9.0.9",
        "metric": 50}, {"destination": "::/0", "gateway": "fd00:9::9"}]});
    let attach = attach_of(routes, json!({}), Value::Null).expect("an attach");
    let shown: Vec<_> = attach.routes.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(shown, ["10.7.0.0/16 via 10.9.0.9 metric 50", "::/0 via fd00:9::9", "0.0.0.0/0"]);
}

#[test]
fn a_port_that_podman_holds_at_the_loopback_as_well_is_a_port_of_each_family() {
    let asked = |here: Value, subnets: &[&str], held: &str| -> Vec<String> {
        let port = |ip: &str| {
            json!({"host_ip": ip, "container_port": 80, "host_port": 8080, "range": 1,
                "protocol": "tcp"})
        };
        let subnets: Vec<_> = subnets.iter().map(|subnet| json!({"subnet": subnet})).collect();
        let attach = attach_of(json!({"subnets": subnets}), here, json!([port(""), port(held)]));
        attach.expect("an attach").ports.iter().map(ToString::to_string).collect()
    };
    let (four, six) = ("0.0.0.0:8080->80/tcp", "[::]:8080->80/tcp");
    for held in ["::", "::1"] {
        assert_eq!(asked(json!({}), &["10.9.0.0/24"], held), [four]);
        assert_eq!(asked(json!({}), &["10.9.0.0/24", "fd00:9::/64"], held), [four, six]);
        assert_eq!(asked(json!({}), &["fd00:9::/64"], held), [six]);
        assert_eq!(asked(json!({"static_ips": ["fd00:9::2"]}), &[], held), [six]);
        assert_eq!(asked(json!({}), &[], held), [four]);
    }
    assert_eq!(asked(json!({}), &["10.9.0.0/24"], "2001:db8::1"), ["8080->80/tcp"]);
}

#[test]
fn ports_that_are_none_are_refused() {
    let one = |key: &str, value: Value| {
        let mut port = json!({"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1,
            "protocol": "tcp"});
        port[key] = value;
        attach_of(json!({}), json!({}), json!([port])).expect_err(key).message
    };
    assert!(one("protocol", json!("tcp,udp")).contains("invalid protocol \"tcp,udp\""));
    assert!(one("protocol", json!("")).contains("invalid protocol"));
    assert!(one("host_ip", json!("here")).contains("invalid host_ip \"here\""));
    assert!(one("container_port", json!(0)).contains("invalid container_port 0"));
}

#[test]
fn options_of_netavarks_own_drivers_are_netds_words() {
    let of = |options: Value| {
        let network = network(json!({ "options": options }));
        words::of("bridge", &serde_json::from_value(network).expect("a network"))
    };
    let words = of(json!({
        "isolate": "strict", "mtu": "0", "vlan": "", "mode": "managed", "metric": "50",
        "no_default_route": "1", "outbound_addr4": "192.0.2.7", "com.docker.network.driver.mtu": "1400",
    }))
    .expect("netd's");
    assert_eq!((words.metric, words.no_default_route), (Some(50), true));
    let options: Vec<_> = words.options.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(options, ["com.docker.network.driver.mtu=1400", "outbound-ipv4=192.0.2.7"]);
    for (option, value) in
        [("vlan", "7"), ("vrf", "red"), ("mode", "unmanaged"), ("bclim", "3"), ("isolate", "0")]
    {
        let error = of(json!({ option: value })).expect_err(option);
        assert!(error.message.contains(&format!("the option {option}={value}")), "{error}");
    }
    let attach = |options: Value| {
        let attach = attach_of(json!({ "options": options }), json!({}), Value::Null);
        let routes = attach.expect("an attach").routes;
        routes.map(|routes| routes.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    assert_eq!(
        attach(json!({"metric": "50"})),
        Some(vec!["0.0.0.0/0 metric 50".into(), "::/0 metric 50".into()])
    );
    assert_eq!(attach(json!({"no_default_route": "true", "metric": "50"})), Some(vec![]));
}

#[test]
fn podman_may_be_told_to_give_the_upper_half() {
    let create = create_of(json!({
        "ipam_options": {"driver": "host-local"},
        "subnets": [
            {"subnet": "10.9.0.0/24", "lease_range": {"start_ip": "10.9.0.200"}},
            {"subnet": "10.9.1.0/24", "lease_range": {"end_ip": "10.9.1.99"}},
        ],
    }));
    let halves: Vec<_> =
        create.subnets.iter().map(|s| (s.range.expect("half").to_string(), s.set)).collect();
    assert_eq!(halves, [("10.9.0.0/25".into(), 0), ("10.9.1.128/25".into(), 1)]);
    assert_eq!(create.labels["netavark/addresses"], "10.9.0.128/25,10.9.1.0/25");
}

fn endpoint() -> Endpoint {
    serde_json::from_value(json!({
        "id": "e".repeat(64), "network": "1".repeat(64), "network_name": "app",
        "container": {"id": "4c01db0b339c"}, "ifname": "eth0", "state": "attached",
        "mac": "02:42:0a:09:00:02", "addresses": ["10.9.0.2/24", "fd00:9::2/64"],
        "dns": ["10.9.0.1"], "created": "",
    }))
    .expect("an endpoint")
}

fn netds(internal: bool) -> crate::network::Network {
    serde_json::from_value(json!({
        "id": "1".repeat(64), "name": "app", "driver": "bridge", "created": "",
        "internal": internal,
        "subnets": [{"subnet": "10.9.0.0/24", "gateway": "10.9.0.1"}, {"subnet": "fd00:9::/64"}],
    }))
    .expect("a network")
}

#[test]
fn what_was_made_is_one_status_block() {
    assert_eq!(
        status::text(&endpoint(), &netds(false), true).expect("JSON"),
        "{\"dns_search_domains\":[],\"dns_server_ips\":[\"10.9.0.1\"],\"interfaces\":{\"eth0\":\
         {\"mac_address\":\"02:42:0a:09:00:02\",\"subnets\":[{\"ipnet\":\"10.9.0.2/24\",\
         \"gateway\":\"10.9.0.1\"},{\"ipnet\":\"fd00:9::2/64\"}]}}}"
    );
    let text = status::text(&endpoint(), &netds(true), false).expect("JSON");
    assert!(text.contains("\"dns_server_ips\":[]") && !text.contains("gateway"), "{text}");
    let mut searching = endpoint();
    searching.options.insert("dns-search".into(), "corp.example, lab.example".into());
    let text = status::text(&searching, &netds(false), true).expect("JSON");
    assert!(text.contains("\"dns_search_domains\":[\"corp.example\",\"lab.example\"]"), "{text}");
    let bare = Endpoint { mac: None, ..endpoint() };
    let text = status::text(&bare, &netds(false), true).expect("JSON");
    assert!(text.ends_with("\"interfaces\":{}}"), "{text}");
}

#[test]
fn a_teardown_needs_no_more_than_what_is_to_go() {
    let document = json!({
        "container_id": "4c01db0b339c", "port_mappings": [{"protocol": 7}],
        "network": {"name": "app", "subnets": "none"},
        "network_options": {"interface_name": "eth0", "static_ips": "lost"},
    });
    decode::<Teardown>("teardown", document.to_string().as_bytes()).expect("enough");
    for text in ["", "null", "{}", r#"{"container_id":"","network":{"name":"a"}}"#] {
        decode::<Teardown>("teardown", text.as_bytes()).expect_err(text);
    }
}

proptest! {
    #[test]
    fn the_halves_of_a_subnet_are_apart_and_together_all_of_it(bits: u32, prefix in 1u8..=28) {
        let whole = ipnetwork::Ipv4Network::new(bits.into(), prefix).expect("a prefix");
        let whole = ipnetwork::Ipv4Network::new(whole.network(), prefix).expect("a prefix");
        let upper = crate::split::upper_half(whole.into()).expect("large enough");
        prop_assert!(!upper.contains(whole.network().into()));
        prop_assert!(upper.contains(whole.broadcast().into()));
        let last = translate::before(upper.network());
        prop_assert!(whole.contains(last.to_string().parse().expect("an address")));
        prop_assert!(!upper.contains(last));
    }

    #[test]
    fn no_document_is_too_strange(text: String) {
        drop(decode::<Setup>("setup", text.as_bytes()));
        drop(decode::<Network>("create", text.as_bytes()).and_then(|n| create::create(&bridge(), n)));
    }
}
