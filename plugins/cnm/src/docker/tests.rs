use serde_json::json;

use super::*;
use crate::{EndpointId, NetworkId};

fn detail(value: serde_json::Value) -> NetworkDetail {
    serde_json::from_value(value).expect("a network")
}

fn endpoint(byte: u8, container: &serde_json::Value, ifname: &str) -> serde_json::Value {
    json!({
        "id": EndpointId::from_bytes([byte; 32]),
        "network": NetworkId::from_bytes([0xab; 32]),
        "network_name": "app",
        "container": container,
        "ifname": ifname,
        "state": "attached",
        "mac": "02:42:0a:05:01:02",
        "addresses": ["10.5.1.2/16", "fd00:5::2/64"],
        "created": "2026-01-02T03:04:06.000000001Z",
    })
}

#[test]
fn a_network_looks_as_docker_shows_it() {
    let named = json!({"id": "c0ffee".repeat(8), "name": "web"});
    let nameless = json!({"id": "task-7"});
    let app = detail(json!({
        "id": NetworkId::from_bytes([0xab; 32]),
        "name": "app",
        "driver": "bridge",
        "created": "2026-01-02T03:04:05.678901234Z",
        "subnets": [
            {
                "subnet": "10.5.0.0/16", "range": "10.5.1.0/24", "gateway": "10.5.0.1",
                "aux": {"router": "10.5.0.7"}, "exclude": ["10.5.1.64/26"],
            },
            {"subnet": "fd00:5::/64"},
        ],
        "internal": true,
        "link": "br-abababababab",
        "options": {"attachable": "true", "com.docker.network.driver.mtu": "1400"},
        "labels": {"team": "blue"},
        "endpoints": [
            endpoint(1, &named, "eth0"),
            endpoint(2, &named, "eth1"),
            endpoint(3, &nameless, "eth0"),
        ],
    }));
    let none = detail(json!({
        "id": NetworkId::from_bytes([0xcd; 32]),
        "name": "none",
        "driver": "none",
        "created": "2026-01-02T03:04:05.678901234Z",
        "predefined": true,
        "endpoints": [],
    }));
    let shown = text(&[Network::of(&app), Network::of(&none)], false);
    assert_eq!(shown, include_str!("golden.json"));
    let one_line = text(&[Network::of(&app), Network::of(&none)], true);
    let read = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(read(&one_line), read(&shown));
    assert_eq!(one_line.lines().count(), 1);
}

#[test]
fn nothing_found_is_an_empty_array() {
    assert_eq!(text(&[], false), "[]\n");
}
