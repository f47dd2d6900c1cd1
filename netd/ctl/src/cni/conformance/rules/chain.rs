//! A plugin among others: what was done before it, and what is done after it.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    machine::list,
    rule::{Checked, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "chain-keeps-result",
        level: Must,
        source: "ADD; Section 3, prevResult",
        says: "ADD that is given a prevResult has its interfaces and addresses in the result",
        check: keeps_result,
    },
    Rule {
        id: "chain-empty-result",
        level: Should,
        source: "Section 3, prevResult",
        says: "A prevResult with nothing in it is taken",
        check: empty_result,
    },
    Rule {
        id: "chain-del",
        level: Must,
        source: "DEL",
        says: "DEL takes a prevResult with what later plugins have put into it",
        check: del,
    },
    Rule {
        id: "chain-check",
        level: Must,
        source: "CHECK",
        says: "CHECK lets pass what later plugins have changed in the container",
        check: |bench| check(bench, |_, result| result.clone()),
    },
    Rule {
        id: "chain-check-result",
        level: Should,
        source: "CHECK",
        says: "CHECK lets pass an interface and its address that a later plugin has put into the \
               result",
        check: |bench| check(bench, amended),
    },
];

/// What another plugin has done before or after: an interface with an address.
fn foreign(container: &Container) -> Value {
    json!({ "name": "other0", "mac": "02:00:00:00:00:01", "sandbox": container.netns })
}

/// A result with what another plugin has done.
fn amended(container: &Container, result: &Value) -> Value {
    let mut result = result.clone();
    let number = list(&result["interfaces"]).count();
    if let Some(interfaces) = result["interfaces"].as_array_mut() {
        interfaces.push(foreign(container));
    }
    if let Some(ips) = result["ips"].as_array_mut() {
        let mut ip = json!({ "interface": number, "address": "198.51.100.7/24" });
        if ips.iter().any(|ip| ip.get("version").is_some()) {
            ip["version"] = json!("4");
        }
        ips.push(ip);
    }
    result
}

fn keeps_result(bench: &Bench) -> Checked {
    bench.since("0.4.0")?;
    let container = bench.container()?;
    container.ip("link add other0 type bridge")?;
    let before = json!({ "cniVersion": bench.newest(), "interfaces": [], "ips": [] });
    let config = with(&bench.network(), "prevResult", amended(&container, &before));
    let result = bench.add(&container, "eth0", &config)?;
    let interfaces: Vec<_> = list(&result["interfaces"]).collect();
    let place = interfaces.iter().position(|interface| interface["name"] == "other0");
    ensure!(place.is_some(), "the interface of prevResult is not in the result: {result}");
    let kept = list(&result["ips"]).find(|ip| ip["address"] == "198.51.100.7/24");
    ensure!(kept.is_some(), "the address of prevResult is not in the result: {result}");
    let index = kept.and_then(|ip| ip["interface"].as_u64());
    let index = index.and_then(|index| usize::try_from(index).ok());
    ensure!(index == place, "the address of prevResult is another interface's: {result}");
    Ok(())
}

fn empty_result(bench: &Bench) -> Checked {
    bench.since("0.4.0")?;
    for empty in [json!({}), json!({ "cniVersion": bench.newest() }), Value::Null] {
        let config = with(&bench.network(), "prevResult", &empty);
        bench.attached(&config).map_err(|flaw| flaw.of(&format!("prevResult {empty}")))?;
    }
    Ok(())
}

fn del(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    let result = amended(&container, &result);
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    container.lacks("eth0")
}

fn check(bench: &Bench, amend: impl Fn(&Container, &Value) -> Value) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    container.ip("link add other0 type bridge")?;
    container.ip("address add 198.51.100.7/24 dev other0")?;
    container.ip("link set other0 up")?;
    container.ip("link set eth0 mtu 1280")?;
    container.ip("route add 203.0.113.0/24 dev eth0")?;
    let reply = bench.try_check(&container, &config, &amend(&container, &result))?;
    reply.silence("CHECK after another plugin")
}
