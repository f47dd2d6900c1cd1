use serde_json::json;

use super::*;
use crate::{Error, Kind, network::Network};

#[test]
fn a_program_is_known_by_its_name() {
    let role = |program: &str| Role::of(&OsString::from(program), "none");
    assert_eq!(role("/opt/cni/bin/loopback"), Role::Loopback);
    assert_eq!(role("netd-loopback"), Role::Loopback);
    assert_eq!(role("/opt/cni/bin/netd-none"), Role::Network);
    assert_eq!(role(""), Role::Network);
}

#[test]
fn every_kind_has_its_number() {
    let code = |kind: Kind| Refusal::from(Error::new(kind, "x")).code;
    let table = [7, 103, 104, 105, 11, 107, 108, 11, 110, 101];
    assert_eq!(Kind::ALL.map(code), table, "as docs/protocol.md has it");
    let netns = Error::invalid("x is no network namespace").with("netns", "x");
    assert_eq!(Refusal::from(netns).code, 8);
}

#[test]
fn an_error_is_a_document() {
    let refusal = Refusal::new(7, "invalid name").with("name=\"x\"");
    let document: serde_json::Value =
        serde_json::from_str(&refusal.to_text(Version::V0_4_0)).expect("JSON");
    assert_eq!(
        document,
        json!({"cniVersion": "0.4.0", "code": 7, "msg": "invalid name", "details": "name=\"x\""})
    );
}

#[test]
fn a_list_names_the_network_and_what_may_be_asked_for() {
    let mut network: Network = serde_json::from_value(json!({
        "id": "0".repeat(64), "name": "pods", "driver": "bridge", "created": "",
        "subnets": [{"subnet": "10.1.0.0/24"}],
    }))
    .expect("a network");
    let list: serde_json::Value = serde_json::from_str(&conflist(&network)).expect("JSON");
    assert_eq!(list["name"], "pods");
    assert_eq!(list["cniVersion"], "0.4.0");
    assert_eq!(list["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]));
    assert_eq!(list["plugins"][0]["type"], "netd-bridge");
    assert_eq!(list["plugins"][0]["capabilities"]["portMappings"], true);
    network.internal = true;
    let list: serde_json::Value = serde_json::from_str(&conflist(&network)).expect("JSON");
    assert!(list["plugins"][0]["capabilities"].get("portMappings").is_none());
    network.subnets.clear();
    let list: serde_json::Value = serde_json::from_str(&conflist(&network)).expect("JSON");
    assert!(list["plugins"][0].get("capabilities").is_none());
}
