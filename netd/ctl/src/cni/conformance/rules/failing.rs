//! An ADD that fails: it says so, disturbs nobody, and leaves nothing.

use serde_json::json;

use crate::cni::conformance::{
    bench::{Bench, merge, with},
    rule::{Checked, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "fail-repeated",
        level: Must,
        source: "ADD",
        says: "A second ADD of the same attachment fails, and the first one goes on working",
        check: repeated,
    },
    Rule {
        id: "fail-repeated-del",
        level: Must,
        source: "ADD, DEL",
        says: "After a second ADD of the same attachment one DEL takes everything away",
        check: repeated_del,
    },
    Rule {
        id: "fail-taken-name",
        level: Must,
        source: "ADD",
        says: "ADD fails where the container has an interface of that name, and leaves it alone",
        check: taken_name,
    },
    Rule {
        id: "fail-no-namespace",
        level: Must,
        source: "ADD",
        says: "ADD to a namespace that is not there fails",
        check: |bench| no_namespace(bench).map(drop),
    },
    Rule {
        id: "fail-no-namespace-leaves-nothing",
        level: Should,
        source: "Section 3, runtimes retry",
        says: "ADD to a namespace that is not there leaves nothing on the host",
        check: |bench| {
            let before = bench.machine.account()?;
            no_namespace(bench)?;
            bench.machine.becomes(&before)
        },
    },
    Rule {
        id: "fail-full",
        level: Must,
        source: "ADD",
        says: "ADD to a network whose addresses are all taken fails, and disturbs nobody",
        check: full,
    },
    Rule {
        id: "fail-full-leaves-nothing",
        level: Should,
        source: "Section 3, runtimes retry",
        says: "ADD to a full network leaves nothing, so that it can be tried again without a DEL",
        check: full_leaves_nothing,
    },
    Rule {
        id: "fail-full-del",
        level: Must,
        source: "DEL",
        says: "After an ADD to a full network DEL leaves nothing of it",
        check: full_del,
    },
    Rule {
        id: "fail-no-ipam",
        level: Must,
        source: "Section 4",
        says: "ADD with an IPAM plugin that is not in CNI_PATH fails",
        check: |bench| no_ipam(bench, "no-such-ipam"),
    },
    Rule {
        id: "fail-no-ipam-leaves-nothing",
        level: Should,
        source: "Section 3, runtimes retry",
        says: "ADD with an IPAM plugin that is not in CNI_PATH leaves no interface",
        check: no_ipam_leaves_nothing,
    },
    Rule {
        id: "fail-ipam-path",
        level: Should,
        source: "libcni",
        says: "An IPAM plugin is a name, not a path",
        check: |bench| no_ipam(bench, "../../bin/true"),
    },
];

fn repeated(bench: &Bench) -> Checked {
    let config = bench.network();
    let (neighbour, _) = bench.attached(&config)?;
    let (container, _) = bench.attached(&config)?;
    let before = (container.addresses("eth0")?, container.has("eth0")?["address"].clone());
    bench.try_add(&container, "eth0", &config)?.failure("the second ADD")?;
    let after = (container.addresses("eth0")?, container.has("eth0")?["address"].clone());
    ensure!(before == after, "eth0 had {before:?} and has {after:?}");
    container.pings(neighbour.address("eth0")?)
}

fn repeated_del(bench: &Bench) -> Checked {
    let config = bench.network();
    bench.attached(&config)?;
    let before = bench.machine.account()?;
    let (container, result) = bench.attached(&config)?;
    bench.try_add(&container, "eth0", &config)?.failure("the second ADD")?;
    bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    container.lacks("eth0")?;
    bench.machine.becomes(&before)
}

fn taken_name(bench: &Bench) -> Checked {
    let container = bench.container()?;
    container.ip("link add eth0 type bridge")?;
    container.ip("address add 198.51.100.1/24 dev eth0")?;
    let reply = bench.try_add(&container, "eth0", &bench.network())?;
    reply.failure("ADD of an interface that is there")?;
    let found = container.addresses("eth0")?;
    ensure!(found == ["198.51.100.1/24"], "the interface that was there has {found:?} now");
    Ok(())
}

fn no_namespace(bench: &Bench) -> Checked {
    let call = bench.call_for("ADD", &bench.container()?, "eth0", &bench.network());
    let reply = call.set("CNI_NETNS", "/run/netns/nowhere").run()?;
    reply.failure("ADD to a namespace that is not there").map(drop)
}

fn full(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    let (first, result) = bench.attached(&config)?;
    bench.try_add(&bench.container()?, "eth0", &config)?.failure("ADD to a full network")?;
    if let Some(gateway) = result["ips"][0]["gateway"].as_str() {
        first.pings(gateway)?;
    }
    first.address("eth0").map(drop)
}

fn full_leaves_nothing(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    let (first, result) = bench.attached(&config)?;
    let before = bench.machine.account()?;
    let second = bench.container()?;
    bench.try_add(&second, "eth0", &config)?.failure("ADD to a full network")?;
    second.lacks("eth0")?;
    bench.machine.becomes(&before)?;
    bench.del(&first, "eth0", &with(&config, "prevResult", result))?;
    bench.add(&second, "eth0", &config).map(drop).map_err(|flaw| flaw.of("tried again"))
}

fn full_del(bench: &Bench) -> Checked {
    let config = bench.network_of_one();
    bench.attached(&config)?;
    let before = bench.machine.account()?;
    let second = bench.container()?;
    bench.try_add(&second, "eth0", &config)?.failure("ADD to a full network")?;
    // A runtime has no result of it.
    bench.del(&second, "eth0", &config)?;
    second.lacks("eth0")?;
    bench.machine.becomes(&before)
}

fn no_ipam(bench: &Bench, ipam: &str) -> Checked {
    let mut config = bench.network();
    merge(&mut config, &json!({ "ipam": { "type": ipam } }));
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.failure(&format!("ADD with the IPAM plugin {ipam:?}")).map(drop)
}

fn no_ipam_leaves_nothing(bench: &Bench) -> Checked {
    let mut config = bench.network();
    merge(&mut config, &json!({ "ipam": { "type": "no-such-ipam" } }));
    let container = bench.container()?;
    bench.try_add(&container, "eth0", &config)?.failure("ADD without its IPAM plugin")?;
    container.lacks("eth0")
}
