//! GC and STATUS, which came with 1.1.0.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    machine::eventually,
    rule::{Checked, Level::*, Rule},
};

/// The key under which GC is told what is still there.
const VALID: &str = "cni.dev/valid-attachments";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "gc-frees",
        level: Must,
        source: "GC",
        says: "GC frees the address of a container that is gone and not among the valid ones",
        check: |bench| frees(bench, &json!([])),
    },
    Rule {
        id: "gc-cleans",
        level: Must,
        source: "GC",
        says: "GC takes everything on the host away that came with a container that is gone",
        check: cleans,
    },
    Rule {
        id: "gc-null",
        level: Should,
        source: "libcni",
        says: "A null for the valid attachments means that there are none",
        check: |bench| frees(bench, &Value::Null),
    },
    Rule {
        id: "gc-spares-valid",
        level: Must,
        source: "GC",
        says: "GC leaves what is among the valid attachments working",
        check: spares_valid,
    },
    Rule {
        id: "gc-spares-others",
        level: Must,
        source: "GC",
        says: "GC of one network leaves the others alone",
        check: spares_others,
    },
    Rule {
        id: "gc-without-list",
        level: Must,
        source: "cnitool",
        says: "GC without the key of valid attachments leaves everything as it is",
        check: without_list,
    },
    Rule {
        id: "gc-by-interface",
        level: Must,
        source: "GC",
        says: "A valid attachment is a container and an interface: GC frees the other interface's",
        check: by_interface,
    },
    Rule {
        id: "gc-unknown-network",
        level: Should,
        source: "GC",
        says: "GC of a network that nobody was ever on succeeds",
        check: |bench| collect(bench, &with(&bench.since("1.1.0")?, VALID, json!([]))),
    },
    Rule {
        id: "status-well",
        level: Must,
        source: "STATUS",
        says: "STATUS of a plugin that can serve an ADD succeeds and prints nothing",
        check: |bench| {
            let config = bench.since("1.1.0")?;
            bench.call_for_all("STATUS", &config).run()?.silence("STATUS")
        },
    },
    Rule {
        id: "status-full",
        level: Should,
        source: "STATUS, code 50",
        says: "STATUS of a network whose addresses are all taken fails with code 50",
        check: status_full,
    },
];

fn valid(containers: &[(&Container, &str)]) -> Value {
    let attachment = |(container, ifname): &(&Container, &str)| json!({ "containerID": container.id, "ifname": ifname });
    containers.iter().map(attachment).collect()
}

fn collect(bench: &Bench, config: &Value) -> Checked {
    bench.call_for_all("GC", config).run()?.silence("GC")
}

fn frees(bench: &Bench, none: &Value) -> Checked {
    bench.since("1.1.0")?;
    let config = bench.network_of_one();
    let (container, _) = bench.attached(&config)?;
    container.vanish()?;
    collect(bench, &with(&config, VALID, none))?;
    // The end of a namespace takes a moment.
    eventually(|| bench.attached(&config).map(drop).map_err(|flaw| flaw.of("after GC")))
}

fn cleans(bench: &Bench) -> Checked {
    let config = bench.since("1.1.0")?;
    let (stays, _) = bench.attached(&config)?;
    let before = bench.machine.account()?;
    let (container, _) = bench.attached(&config)?;
    container.vanish()?;
    collect(bench, &with(&config, VALID, valid(&[(&stays, "eth0")])))?;
    bench.machine.becomes(&before)
}

fn spares_valid(bench: &Bench) -> Checked {
    let config = bench.since("1.1.0")?;
    let (one, other) = (bench.attached(&config)?.0, bench.attached(&config)?.0);
    collect(bench, &with(&config, VALID, valid(&[(&one, "eth0"), (&other, "eth0")])))?;
    one.pings(other.address("eth0")?)?;
    other.pings(one.address("eth0")?)
}

fn spares_others(bench: &Bench) -> Checked {
    let config = bench.since("1.1.0")?;
    let (one, other) = (bench.attached(&config)?.0, bench.attached(&config)?.0);
    bench.attached(&bench.other_network())?;
    collect(bench, &with(&bench.other_network(), VALID, json!([])))?;
    one.pings(other.address("eth0")?)
}

fn without_list(bench: &Bench) -> Checked {
    let config = bench.since("1.1.0")?;
    let ((one, result), (other, _)) = (bench.attached(&config)?, bench.attached(&config)?);
    collect(bench, &config)?;
    one.pings(other.address("eth0")?)?;
    bench.try_check(&one, &config, &result)?.silence("CHECK after GC")
}

fn by_interface(bench: &Bench) -> Checked {
    let config = bench.since("1.1.0")?;
    let (neighbour, _) = bench.attached(&config)?;
    let before = bench.machine.account()?;
    let (gone, _) = bench.attached(&config)?;
    gone.vanish()?;
    // Of the same id, as if it had been started anew, and under another name.
    let mut anew = bench.container()?;
    anew.id.clone_from(&gone.id);
    let list = valid(&[(&neighbour, "eth0"), (&anew, "eth1")]);
    collect(bench, &with(&config, VALID, list))?;
    bench.machine.becomes(&before)
}

fn status_full(bench: &Bench) -> Checked {
    bench.since("1.1.0")?;
    let config = bench.network_of_one();
    bench.attached(&config)?;
    let reply = bench.call_for_all("STATUS", &config).run()?;
    reply.refusal("STATUS of a full network", 50).map(drop)
}
