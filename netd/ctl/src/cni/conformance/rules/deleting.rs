//! DEL: it takes everything away, whatever is missing, and always succeeds.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, merge, with},
    container::Container,
    machine::NEIGHBOUR,
    plugin::Call,
    rule::{Checked, Level::*, Rule},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "del-removes",
        level: Must,
        source: "DEL",
        says: "DEL takes the interface, and everything on the host that came with it",
        check: |bench| cleans(bench, |call| call),
    },
    Rule {
        id: "del-prints-nothing",
        level: Must,
        source: "Success",
        says: "A DEL that succeeds prints nothing on standard output",
        check: |bench| {
            let (container, result) = bench.attached(&bench.network())?;
            bench.del(&container, "eth0", &with(&bench.network(), "prevResult", result))
        },
    },
    Rule {
        id: "del-repeated",
        level: Must,
        source: "DEL",
        says: "A second DEL of the same attachment succeeds",
        check: repeated,
    },
    Rule {
        id: "del-unknown",
        level: Must,
        source: "DEL",
        says: "DEL of a container that was never added succeeds",
        check: |bench| bench.del(&bench.container()?, "eth0", &bench.network()),
    },
    Rule {
        id: "del-unknown-network",
        level: Should,
        source: "DEL",
        says: "DEL from a network that nobody was ever on succeeds and makes nothing",
        check: unknown_network,
    },
    Rule {
        id: "del-others",
        level: Must,
        source: "DEL",
        says: "DEL of one container leaves the others working",
        check: others,
    },
    Rule {
        id: "del-frees-address",
        level: Must,
        source: "DEL",
        says: "The address of a container is free after DEL",
        check: frees_address,
    },
    Rule {
        id: "del-again-add",
        level: Must,
        source: "DEL",
        says: "A container can be added again after DEL",
        check: again_add,
    },
    Rule {
        id: "del-without-namespace",
        level: Must,
        source: "Parameters; nerdctl, Podman",
        says: "DEL with CNI_NETNS empty or not set succeeds",
        check: without_namespace,
    },
    Rule {
        id: "del-without-namespace-cleans",
        level: Should,
        source: "nerdctl, Podman",
        says: "DEL with CNI_NETNS empty takes everything on the host away",
        check: |bench| cleans(bench, |call| call.set("CNI_NETNS", "")),
    },
    Rule {
        id: "del-vanished",
        level: Must,
        source: "DEL",
        says: "DEL succeeds when the namespace is gone",
        check: |bench| vanished(bench).map(drop),
    },
    Rule {
        id: "del-vanished-cleans",
        level: Should,
        source: "DEL",
        says: "DEL takes everything on the host away when the namespace is gone",
        check: vanished_cleans,
    },
    Rule {
        id: "del-vanished-frees-address",
        level: Must,
        source: "DEL",
        says: "The address of a container whose namespace is gone is free after DEL",
        check: vanished_frees_address,
    },
    Rule {
        id: "del-without-result",
        level: Must,
        source: "DEL; libcni after a failed ADD",
        says: "DEL without prevResult succeeds",
        check: |bench| {
            let (container, _) = bench.attached(&bench.network())?;
            bench.del(&container, "eth0", &bench.network())
        },
    },
    Rule {
        id: "del-without-result-cleans",
        level: Should,
        source: "DEL; libcni after a failed ADD",
        says: "DEL without prevResult takes everything away",
        check: |bench| {
            let config = bench.network();
            cleans(bench, |call| call.config(&config))
        },
    },
    Rule {
        id: "del-garbage-result",
        level: Should,
        source: "libcni with a broken cache",
        says: "DEL with a prevResult that is none succeeds",
        check: garbage_result,
    },
    Rule {
        id: "del-changed-configuration",
        level: Should,
        source: "containerd",
        says: "DEL succeeds when the configuration has changed since ADD, and is wrong now",
        check: changed_configuration,
    },
    Rule {
        id: "del-taken-interface",
        level: Should,
        source: "DEL",
        says: "DEL succeeds when somebody else has deleted the interface",
        check: taken_interface,
    },
];

/// That DEL, as `change` has it, leaves of a container what was there before it came.
fn cleans(bench: &Bench, change: impl Fn(Call) -> Call) -> Checked {
    let config = bench.network();
    // Somebody who is there before and after, as what comes with the first of a network may stay.
    bench.attached(&config)?;
    let before = bench.machine.account()?;
    let (container, result) = bench.attached(&config)?;
    let config = with(&config, "prevResult", result);
    let call = change(bench.call_for("DEL", &container, "eth0", &config));
    call.run()?.silence("DEL")?;
    container.lacks("eth0")?;
    bench.machine.becomes(&before)
}

fn repeated(bench: &Bench) -> Checked {
    let (container, result) = bench.attached(&bench.network())?;
    let config = with(&bench.network(), "prevResult", result);
    bench.del(&container, "eth0", &config)?;
    bench.del(&container, "eth0", &config).map_err(|flaw| flaw.of("the second time"))?;
    bench.del(&container, "eth0", &bench.network()).map_err(|flaw| flaw.of("the third time"))
}

fn unknown_network(bench: &Bench) -> Checked {
    let before = bench.machine.account()?;
    bench.del(&bench.container()?, "eth0", &bench.network())?;
    bench.machine.becomes(&before)
}

fn others(bench: &Bench) -> Checked {
    let config = bench.network();
    let (one, other) = (bench.attached(&config)?.0, bench.attached(&config)?.0);
    let (container, result) = bench.attached(&config)?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    one.pings(other.address("eth0")?)?;
    if config["ipMasq"] == true {
        one.pings(NEIGHBOUR)?;
    }
    Ok(())
}

fn frees_address(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    for _ in 0..3 {
        let (container, result) = bench.attached(&config)?;
        bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    }
    Ok(())
}

fn again_add(bench: &Bench) -> Checked {
    let config = bench.network();
    let (neighbour, _) = bench.attached(&config)?;
    let (container, result) = bench.attached(&config)?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    bench.add(&container, "eth0", &config).map_err(|flaw| flaw.of("after DEL"))?;
    container.pings(neighbour.address("eth0")?)
}

fn without_namespace(bench: &Bench) -> Checked {
    let config = bench.network();
    let set: fn(Call) -> Call = |call| call.set("CNI_NETNS", "");
    let unset: fn(Call) -> Call = |call| call.without("CNI_NETNS");
    for (what, change) in [("empty", set), ("not set", unset)] {
        let (container, result) = bench.attached(&config)?;
        let call = bench.call_for("DEL", &container, "eth0", &with(&config, "prevResult", result));
        change(call).run()?.silence(&format!("DEL with CNI_NETNS {what}"))?;
    }
    Ok(())
}

/// A container that was added and whose namespace is gone at its DEL; what was there before it.
fn vanished(bench: &Bench) -> Checked<std::collections::BTreeSet<String>> {
    let config = bench.network();
    bench.attached(&config)?;
    let before = bench.machine.account()?;
    let (container, result) = bench.attached(&config)?;
    container.vanish()?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    Ok(before)
}

fn vanished_cleans(bench: &Bench) -> Checked {
    let before = vanished(bench)?;
    bench.machine.becomes(&before)
}

fn vanished_frees_address(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    let (container, result): (Container, Value) = bench.attached(&config)?;
    container.vanish()?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    bench.attached(&config).map(drop).map_err(|flaw| flaw.of("the next one"))
}

fn garbage_result(bench: &Bench) -> Checked {
    for garbage in
        [json!({}), json!({ "ips": "none", "interfaces": 7 }), json!("junk"), Value::Null]
    {
        let (container, _) = bench.attached(&bench.network())?;
        let config = with(&bench.network(), "prevResult", &garbage);
        bench.del(&container, "eth0", &config).map_err(|flaw| flaw.of(&garbage.to_string()))?;
    }
    Ok(())
}

fn changed_configuration(bench: &Bench) -> Checked {
    let (container, _) = bench.attached(&bench.network())?;
    let mut config = bench.network();
    merge(&mut config, &json!({ "ipam": { "subnet": "10.84.0.0/24", "rangeStart": "10.85.0.1" } }));
    bench.del(&container, "eth0", &config)?;
    container.lacks("eth0")
}

fn taken_interface(bench: &Bench) -> Checked {
    let config = bench.network();
    let (container, result) = bench.attached(&config)?;
    container.ip("link delete eth0")?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))
}
