//! `netctl apply`: what of it is undone, and what is said of what stays.

use std::fs;

use cnm::{Error, Kind};
use serde_json::json;

use crate::fake::{Fake, network};

#[test]
fn what_was_made_and_does_not_go_again_is_named() {
    let netctl = Fake::new(|method, params| match method {
        "system.turn" => Ok(json!({})),
        "network.inspect" => Err(Error::not_found("network not found")),
        "network.check" => Ok(json!({})),
        "network.create" if params["name"] == "shop_c" => Err(Error::invalid("not today")),
        "network.create" => {
            let name = params["name"].as_str().unwrap_or_default();
            Ok(network(if name == "shop_a" { 0xaa } else { 0xbb }, name, "bridge"))
        }
        "network.remove" if params["network"] == format!("={}", "a".repeat(64)) => {
            Err(Error::new(Kind::Busy, "network shop_a has active endpoints"))
        }
        "network.remove" => Ok(json!({})),
        other => panic!("{other}"),
    });
    let file = netctl.directory.join("compose.yaml");
    fs::write(&file, "networks: {a: {}, b: {}, c: {}}").expect("a file");
    let ended = netctl.netctl(&format!("apply -p shop -f {}", file.display()));
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(2), "shop_a created\n"), "{ended:?}");
    let file = file.display();
    assert_eq!(
        ended.stderr,
        format!(
            "netctl: {file}: networks.c: not today\n\
             netctl: {file}: networks.a: network shop_a was made and stays: network shop_a has active \
             endpoints; netctl down takes it away\n\
             netctl: removed again: shop_b\n"
        )
    );
}
