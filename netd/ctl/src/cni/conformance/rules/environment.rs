//! What a plugin wants in its environment, and what it says of anything else there.

use crate::cni::conformance::{
    bench::Bench,
    plugin::Call,
    rule::{Checked, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "environment-no-command",
        level: Should,
        source: "nerdctl",
        says: "Without CNI_COMMAND the plugin says what it is on standard error and succeeds",
        check: no_command,
    },
    Rule {
        id: "environment-unknown-command",
        level: Must,
        source: "Error, code 4",
        says: "An unknown CNI_COMMAND is refused with code 4",
        check: |bench| refused(bench, &[("CNI_COMMAND", "FROB")]),
    },
    Rule {
        id: "environment-missing",
        level: Must,
        source: "Parameters; Error, code 4",
        says: "ADD without a variable that it needs is refused with code 4, which names it",
        check: missing,
    },
    Rule {
        id: "environment-all-missing",
        level: Should,
        source: "Error, code 4",
        says: "All variables that are missing are named in one error",
        check: all_missing,
    },
    Rule {
        id: "environment-empty",
        level: Must,
        source: "libcni",
        says: "An empty variable is as one that is missing",
        check: empty,
    },
    Rule {
        id: "environment-container-id",
        level: Must,
        source: "Parameters; Error, code 4",
        says: "A CNI_CONTAINERID that does not begin with a letter or digit, or has more than \
               those, dots, dashes and underscores, is refused with code 4",
        check: |bench| {
            let wrong = ["-c1", ".c1", "c/1", "c 1", "c:1"];
            wrong.iter().try_for_each(|id| refused(bench, &[("CNI_CONTAINERID", id)]))
        },
    },
    Rule {
        id: "environment-ifname",
        level: Must,
        source: "Parameters; Error, code 4",
        says: "A CNI_IFNAME that Linux does not take is refused with code 4",
        check: |bench| {
            let wrong = ["sixteen-letters-", ".", "..", "eth/0", "eth:0", "eth 0"];
            wrong.iter().try_for_each(|name| refused(bench, &[("CNI_IFNAME", name)]))
        },
    },
    Rule {
        id: "environment-args",
        level: Must,
        source: "containerd, CRI-O, Podman",
        says: "CNI_ARGS of a Kubernetes runtime are taken",
        check: args,
    },
    Rule {
        id: "environment-args-malformed",
        level: Should,
        source: "Parameters",
        says: "CNI_ARGS that are no pairs of key and value are refused",
        check: args_malformed,
    },
    Rule {
        id: "environment-own-namespace",
        level: Should,
        source: "libcni; Error, code 8",
        says: "A CNI_NETNS that is the plugin's own namespace is refused before anything is done",
        check: own_namespace,
    },
];

fn add(bench: &Bench) -> Checked<Call> {
    Ok(bench.call_for("ADD", &bench.container()?, "eth0", &bench.network()))
}

fn refused(bench: &Bench, variables: &[(&str, &str)]) -> Checked {
    let call = variables.iter().fold(add(bench)?, |call, (name, value)| call.set(name, value));
    let what = variables.iter().map(|(name, value)| format!("{name}={value:?}"));
    let what = what.collect::<Vec<_>>().join(" ");
    call.run()?.refusal(&what, 4).map(drop)
}

fn no_command(bench: &Bench) -> Checked {
    let reply = add(bench)?.without("CNI_COMMAND").stdin("").run()?;
    reply.silence("the plugin without CNI_COMMAND")?;
    ensure!(!reply.stderr.trim().is_empty(), "nothing is said on standard error");
    Ok(())
}

fn missing(bench: &Bench) -> Checked {
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        let reply = add(bench)?.without(name).run()?;
        let failure = reply.refusal(&format!("ADD without {name}"), 4)?;
        ensure!(failure.text.contains(name), "the error does not name {name}: {}", failure.text);
    }
    Ok(())
}

fn all_missing(bench: &Bench) -> Checked {
    let names = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"];
    let call = names.iter().fold(add(bench)?, |call, name| call.without(name));
    let failure = call.run()?.failure("ADD without variables")?;
    for name in names {
        ensure!(failure.text.contains(name), "the error does not name {name}: {}", failure.text);
    }
    Ok(())
}

fn empty(bench: &Bench) -> Checked {
    for name in ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"] {
        refused(bench, &[(name, "")])?;
    }
    Ok(())
}

fn args(bench: &Bench) -> Checked {
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;\
                K8S_POD_INFRA_CONTAINER_ID=0123;K8S_POD_UID=";
    add(bench)?.set("CNI_ARGS", args).run()?.document("ADD").map(drop)
}

fn args_malformed(bench: &Bench) -> Checked {
    let reply = add(bench)?.set("CNI_ARGS", "IgnoreUnknown=1;word").run()?;
    reply.failure("ADD with CNI_ARGS=\"IgnoreUnknown=1;word\"").map(drop)
}

fn own_namespace(bench: &Bench) -> Checked {
    let before = bench.machine.account()?;
    let reply = add(bench)?.set("CNI_NETNS", "/proc/self/ns/net").run()?;
    reply.failure("ADD to the plugin's own namespace")?;
    bench.machine.becomes(&before)
}
