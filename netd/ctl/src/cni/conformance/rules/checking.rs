//! CHECK: it passes what is well and finds what is not.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    rule::{Checked, Flaw, Level::*, Rule},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "check-passes",
        level: Must,
        source: "CHECK; CRI-O",
        says: "CHECK of an attachment that is as ADD made it succeeds and prints nothing",
        check: passes,
    },
    Rule {
        id: "check-changes-nothing",
        level: Must,
        source: "CHECK",
        says: "CHECK changes nothing",
        check: changes_nothing,
    },
    Rule {
        id: "check-interface-gone",
        level: Must,
        source: "CHECK",
        says: "CHECK fails when the interface is gone",
        check: |bench| finds(bench, |container| container.ip("link delete eth0")),
    },
    Rule {
        id: "check-address-gone",
        level: Must,
        source: "CHECK",
        says: "CHECK fails when the address is gone",
        check: |bench| {
            finds(bench, |container| container.ip("address flush dev eth0 scope global"))
        },
    },
    Rule {
        id: "check-route-gone",
        level: Must,
        source: "CHECK",
        says: "CHECK fails when a route of the result is gone",
        check: |bench| finds(bench, |container| container.ip("route delete default")),
    },
    Rule {
        id: "check-link-down",
        level: Should,
        source: "CHECK",
        says: "CHECK fails when the interface is down",
        check: |bench| {
            finds(bench, |container| {
                container.ip("link set eth0 down")?;
                // What went with the link comes back, but the link does not.
                let address = container.addresses("eth0")?;
                address.iter().try_for_each(|address| {
                    container.ip(&format!("address replace {address} dev eth0"))
                })
            })
        },
    },
    Rule {
        id: "check-other-address",
        level: Should,
        source: "CHECK",
        says: "CHECK fails when the result tells another address than the container has",
        check: other_address,
    },
    Rule {
        id: "check-unknown",
        level: Must,
        source: "CHECK",
        says: "CHECK of a container that was never added fails",
        check: unknown,
    },
    Rule {
        id: "check-after-del",
        level: Must,
        source: "CHECK",
        says: "CHECK after DEL fails",
        check: after_del,
    },
    Rule {
        id: "check-without-result",
        level: Should,
        source: "CHECK, prevResult is required",
        says: "CHECK without prevResult fails",
        check: without_result,
    },
    Rule {
        id: "check-again",
        level: Must,
        source: "CRI-O",
        says: "CHECK of one container passes whatever has come and gone around it",
        check: again,
    },
];

fn passes(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    bench.try_check(&container, &config, &result)?.silence("CHECK")?;
    bench.try_check(&container, &config, &result)?.silence("CHECK once more")
}

fn changes_nothing(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    let before = bench.machine.account()?;
    let inside = (container.addresses("eth0")?, container.routes()?);
    bench.try_check(&container, &config, &result)?.silence("CHECK")?;
    if inside != (container.addresses("eth0")?, container.routes()?) {
        return Err(Flaw::Broken("CHECK has changed the container".to_owned()));
    }
    bench.machine.becomes(&before)
}

/// That CHECK finds a damage.
fn finds(bench: &Bench, damage: impl Fn(&Container) -> Checked) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    bench.try_check(&container, &config, &result)?.silence("CHECK before the damage")?;
    damage(&container)?;
    bench.try_check(&container, &config, &result)?.failure("CHECK after the damage").map(drop)
}

fn other_address(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, mut result) = bench.attached(&config)?;
    let address = &mut result["ips"][0]["address"];
    *address = json!("10.83.0.250/24");
    bench.try_check(&container, &config, &result)?.failure("CHECK of another address").map(drop)
}

fn unknown(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (known, result) = bench.attached(&config)?;
    let stranger = bench.container()?;
    let reply = bench.try_check(&stranger, &config, &moved(&result, &known, &stranger))?;
    reply.failure("CHECK of a container that was never added").map(drop)
}

/// The result of one container, as if it were another's.
fn moved(result: &Value, from: &Container, to: &Container) -> Value {
    let mut result = result.clone();
    let own = |interface: &Value| interface["sandbox"] == json!(from.netns);
    for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
        if own(interface) {
            interface["sandbox"] = json!(to.netns);
        }
    }
    result
}

fn after_del(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    bench.del(&container, "eth0", &with(&config, "prevResult", &result))?;
    bench.try_check(&container, &config, &result)?.failure("CHECK after DEL").map(drop)
}

fn without_result(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, _) = bench.attached(&config)?;
    let call = bench.call_for("CHECK", &container, "eth0", &config);
    call.run()?.failure("CHECK without prevResult").map(drop)
}

fn again(bench: &Bench) -> Checked {
    let config = bench.since("0.4.0")?;
    let (container, result) = bench.attached(&config)?;
    let (other, others) = bench.attached(&config)?;
    bench.try_check(&container, &config, &result)?.silence("CHECK beside another")?;
    bench.del(&other, "eth0", &with(&config, "prevResult", &others))?;
    bench.try_check(&container, &config, &result)?.silence("CHECK after the DEL of another")
}
