use std::ffi::OsString;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    super::{decode, document::Setup, document::Teardown, translate},
    *,
};
use crate::Kind;

const ID: &str = "2f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9";

fn words(text: &str) -> Vec<OsString> {
    text.split_whitespace().map(OsString::from).collect()
}

fn parsed(text: &str) -> Result<Line> {
    Line::parse(words(text))
}

#[test]
fn the_words_of_podman_are_understood() {
    let line = parsed(
        "--config /run/containers/networks --rootless=false \
         --aardvark-binary=/usr/lib/podman/aardvark-dns --plugin-directory /a --plugin-directory /b \
         setup /run/netns/netns-1",
    )
    .expect("as Podman 5 has it");
    assert_eq!(line.verb, Verb::Setup("/run/netns/netns-1".into()));
    assert_eq!(line.plugin_dirs, [PathBuf::from("/a"), PathBuf::from("/b")]);
    let line = parsed("--config /run/n --rootless=false --aardvark-binary= teardown /run/netns/n");
    assert_eq!(line.expect("no resolver").verb, Verb::Teardown("/run/netns/n".into()));
    let line = parsed("--config=/run/n -f /tmp/file update app --network-dns-servers 192.0.2.53");
    let line = line.expect("an update");
    let update = |servers: &str| Verb::Update { network: "app".into(), servers: servers.into() };
    assert_eq!(line.verb, update("192.0.2.53"));
    assert_eq!(line.file, Some("/tmp/file".into()));
    let mut none = words("--config /run/n update app --network-dns-servers");
    none.push(OsString::new());
    assert_eq!(Line::parse(none).expect("no servers").verb, update(""));
    assert_eq!(parsed("--config /run/n create").expect("of Podman 6").verb, Verb::Create);
}

#[test]
fn a_command_line_that_is_none_is_told_what_is_missing() {
    for (line, sentence) in [
        ("", "a subcommand is missing"),
        ("setup", "the path of the network namespace is missing"),
        ("update --network-dns-servers 1.1.1.1", "the name of the network is missing"),
        ("destroy", "unknown subcommand \"destroy\""),
        ("--config", "the option --config wants a value"),
        ("--rootless=perhaps setup /n", "unexpected argument --rootless=perhaps"),
        ("--shout loud setup /n", "unexpected argument --shout=loud"),
    ] {
        let error = parsed(line).expect_err(line);
        assert!(error.message.contains(sentence), "{line}: {error}");
    }
}

#[test]
fn who_is_not_root_is_another_ones_whatever_else_is_said() {
    for line in
        ["--config c --rootless=true setup n", "-r true x", "--news 7 --rootless true create"]
    {
        assert!(line::is_rootless(&words(line)), "{line}");
    }
    for line in ["--rootless=false setup n", "--rootless false x", "setup true", ""] {
        assert!(!line::is_rootless(&words(line)), "{line}");
    }
}

/// What Podman hands over for a container on two networks, with more keys or others.
fn document(more: Value) -> Value {
    let network = |name: &str, subnet: &str| {
        json!({
            "name": name, "id": ID, "driver": "bridge", "network_interface": format!("br-{name}"),
            "created": "2023-01-01T00:00:00Z", "ipv6_enabled": false, "internal": false,
            "dns_enabled": true, "ipam_options": {"driver": "host-local"},
            "subnets": [{"subnet": subnet, "gateway": null}],
        })
    };
    let mut document = json!({
        "container_id": "4c01db0b339c", "container_name": "web",
        "port_mappings": [{"host_ip": "", "container_port": 80, "host_port": 8080, "range": 1,
            "protocol": "tcp"}],
        "networks": {
            "app": {"static_ips": ["10.89.0.7"], "aliases": ["4c01db0b339c"],
                "interface_name": "eth10"},
            "back": {"static_ips": ["10.89.1.7"], "interface_name": "eth2"},
        },
        "network_info": {
            "app": network("app", "10.89.0.0/24"), "back": network("back", "10.89.1.0/24"),
        },
        "tomorrow": [1],
    });
    for (key, value) in more.as_object().expect("an object") {
        document[key] = value.clone();
    }
    document
}

fn container(more: Value) -> Container {
    decode("setup", document(more).to_string().as_bytes()).expect("a document")
}

#[test]
fn what_is_said_of_some_networks_is_to_the_byte_where_these_are_all() {
    let text = document(json!({})).to_string() + "\n ";
    let both = ["back".to_owned(), "app".to_owned()];
    assert_eq!(container::on(&both, text.as_bytes()).expect("a document"), text);
    let one = container::on(&both[..1], text.as_bytes()).expect("a document");
    let one: Value = serde_json::from_str(&one).expect("JSON");
    let mut expected = document(json!({}));
    for key in ["networks", "network_info"] {
        expected[key].as_object_mut().expect("an object").remove("app");
    }
    assert_eq!(one, expected);
    let list =
        json!({"networks": [{"name": "app"}, {"name": "back", "x": 1}], "network_info": null});
    let one = container::on(&both[..1], list.to_string().as_bytes()).expect("a document");
    let expected = json!({"networks": [{"name": "back", "x": 1}], "network_info": null});
    assert_eq!(serde_json::from_str::<Value>(&one).expect("JSON"), expected);
}

fn names(container: &Container) -> Vec<String> {
    container.parts().expect("parts").into_iter().map(|part| part.name).collect()
}

#[test]
fn a_container_is_a_document_for_each_of_its_networks_in_order() {
    assert_eq!(names(&container(json!({}))), ["back", "app"], "by their interfaces");
    let listed = json!([
        {"name": "app", "interface_name": "eth1"}, {"name": "back", "interface_name": "eth0"},
    ]);
    let listed = container(json!({"networks": listed}));
    assert_eq!(names(&listed), ["app", "back"], "as they stand");
    assert_eq!(names(&container(json!({"networks": {}}))), [""; 0]);
    let part = container(json!({})).parts().expect("parts").remove(1);
    assert_eq!((part.driver.as_str(), part.id.as_str()), ("bridge", ID));
    let setup: Setup = serde_json::from_value(part.document.clone()).expect("a plugin's document");
    assert_eq!(setup.network.name, "app");
    assert_eq!(setup.port_mappings.expect("ports").len(), 1);
    let _: Teardown = serde_json::from_value(part.document).expect("enough");
}

#[test]
fn a_network_that_is_lost_can_be_left_but_not_joined() {
    let lost = container(json!({"network_info": {}}));
    let error = lost.parts().expect_err("nothing is known of it");
    assert!(error.message.contains("network_info has no network back"), "{error}");
    let parts = lost.parts_left().expect("enough");
    assert_eq!(parts.len(), 2);
    assert!(part::own(&parts[0].driver).is_some());
    let _: Teardown = serde_json::from_value(parts[0].document.clone()).expect("enough");
    for networks in [json!(7), json!([{"interface_name": "eth0"}])] {
        container(json!({ "networks": networks })).parts().expect_err("no networks");
    }
}

#[test]
fn hostname_and_servers_come_with_the_container() {
    let more = json!({"container_hostname": "www", "dns_servers": ["192.0.2.53", "fd00::53"]});
    let part = container(more).parts().expect("parts").remove(0);
    let setup: Setup = serde_json::from_value(part.document).expect("a document");
    let info = part::own("bridge").expect("netd's");
    let attach = translate::attach(&info, &setup).expect("an attach");
    assert_eq!(attach.container.hostname, "www".parse().ok());
    assert_eq!(attach.options["dns"], "192.0.2.53,fd00::53");
    assert!(attach.ports_bound);
    let part = container(json!({"container_hostname": ""})).parts().expect("parts").remove(0);
    let mut setup: Setup = serde_json::from_value(part.document).expect("a document");
    setup.network.network_dns_servers = Some(vec!["192.0.2.54".parse().expect("an address")]);
    let attach = translate::attach(&info, &setup).expect("an attach");
    assert_eq!((attach.container.hostname, attach.options["dns"].as_str()), (None, "192.0.2.54"));
}

#[test]
fn what_hangs_on_what_is_said_in_each_drivers_words() {
    let part = container(json!({})).parts().expect("parts").remove(0);
    let setup: Setup = serde_json::from_value(part.document).expect("a document");
    for (driver, option) in [("bridge", "link"), ("macvlan", "parent")] {
        let info = part::own(driver).expect(driver);
        let create = translate::create(&info, &setup.network).expect("a network");
        assert_eq!(create.driver.as_deref(), Some(driver));
        assert_eq!(create.options[option], "br-back");
        assert_eq!(create.labels["netavark/addresses"], "10.89.1.0/25");
        assert_eq!(create.subnets[0].range, "10.89.1.128/25".parse().ok());
    }
    assert!(part::own("ipvlan").is_none() && part::own("netd-bridge").is_none());
}

#[test]
fn a_driver_that_nobody_has_is_told_so() {
    let error = another::plugin(&["/nowhere".into()], "ipvlan", &["create"], "{}");
    let error = error.expect_err("nowhere");
    assert_eq!(error.kind, Kind::Unsupported);
    assert!(error.message.contains("unknown network driver \"ipvlan\""), "{error}");
    another::plugin(&["/".into()], "bin/true", &[], "").expect_err("no path");
}

#[test]
fn servers_of_an_update_are_addresses() {
    for servers in ["", "192.0.2.53", "192.0.2.53,fd00::53"] {
        assert_eq!(update(servers), Ok(String::new()), "{servers}");
    }
    assert!(update("192.0.2.53,here").expect_err("a word").message.contains("\"here\""));
}

/// What Podman 6 asks for, with more keys of the network.
fn wanted(more: Value) -> complete::Create {
    let mut network = json!({"name": "app", "id": ID, "driver": "bridge", "dns_enabled": true});
    for (key, value) in more.as_object().expect("an object") {
        network[key] = value.clone();
    }
    let document = json!({
        "network": network,
        "used": {"interfaces": ["podman0", "podman1"], "names": {"other": "1"},
            "subnets": ["10.89.0.0/24", "10.89.1.0/25"]},
        "options": {"subnet_pools": [{"base": "10.89.0.0/16", "size": 24}],
            "default_interface_name": "podman", "check_used_subnets": true},
    });
    decode("create", document.to_string().as_bytes()).expect("a document")
}

fn completed(more: Value) -> Result<Value> {
    let driver = more["driver"].as_str().unwrap_or("bridge").to_owned();
    let info = part::own(&driver).expect("netd's");
    let network = complete::complete(&info, wanted(more), "now".into(), || Ok([1; 7]))?;
    serde_json::to_value(network).map_err(Error::internal)
}

#[test]
fn a_network_is_completed() {
    let network = completed(json!({})).expect("a network");
    assert_eq!(network["network_interface"], "podman2");
    assert_eq!(
        network["subnets"],
        json!([{"subnet": "10.89.2.0/24", "gateway": "10.89.2.1",
            "lease_range": {"end_ip": "10.89.2.127"}}])
    );
    assert_eq!(network["ipam_options"], json!({"driver": "host-local"}));
    assert_eq!((&network["id"], &network["created"]), (&json!(ID), &json!("now")));
    let both = completed(json!({"ipv6_enabled": true})).expect("a network");
    assert_eq!(both["subnets"][1]["subnet"], "fd01:101:101:101::/64");
    assert_eq!(both["subnets"][1]["gateway"], "fd01:101:101:101::1");
    let hidden = completed(json!({"internal": true, "dns_enabled": false})).expect("a network");
    assert_eq!(hidden["subnets"][0]["gateway"], Value::Null);
    let none = completed(json!({"ipam_options": {"driver": "none"}})).expect("a network");
    assert_eq!((&none["dns_enabled"], &none["subnets"]), (&json!(false), &Value::Null));
    let lan = completed(json!({"driver": "macvlan", "network_interface": "eth0",
        "subnets": [{"subnet": "192.0.2.0/24"}]}));
    let lan = lan.expect("a network");
    assert_eq!((&lan["dns_enabled"], &lan["network_interface"]), (&json!(false), &json!("eth0")));
}

#[test]
fn what_cannot_be_is_refused_when_a_network_is_created() {
    for (more, kind, sentence) in [
        (json!({"name": "other"}), Kind::Exists, "network already exists"),
        (json!({"name": "a b"}), Kind::Invalid, "invalid name"),
        (json!({"subnets": [{"subnet": "10.89.1.64/26"}]}), Kind::Exists, "is already used"),
        (
            json!({"subnets": [{"subnet": "10.9.0.0/16"}, {"subnet": "10.9.1.0/24"}]}),
            Kind::Exists,
            "is already used",
        ),
        (json!({"driver": "macvlan"}), Kind::Unsupported, "no addresses by DHCP"),
        (json!({"ipam_options": {"driver": "dhcp"}}), Kind::Unsupported, "no addresses by DHCP"),
        (json!({"options": {"vlan": "7"}}), Kind::Unsupported, "the option vlan=7"),
        (json!({"options": {"isolate": "false"}}), Kind::Unsupported, "isolate=false"),
        (json!({"options": {"metric": "much"}}), Kind::Invalid, "\"much\" of the option metric"),
        (json!({"network_interface": "much-too-long-a-name"}), Kind::Invalid, "much-too-long"),
    ] {
        let error = completed(more).expect_err(sentence);
        assert_eq!(error.kind, kind, "{error}");
        assert!(error.message.contains(sentence), "{error}");
    }
}

proptest! {
    #[test]
    fn no_words_and_no_documents_are_too_strange(line in ".{0,80}", text: String) {
        drop(parsed(&line));
        drop(decode::<Container>("setup", text.as_bytes()).and_then(|c| c.parts()));
        drop(decode::<complete::Create>("create", text.as_bytes()));
    }
}
