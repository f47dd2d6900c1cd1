//! What a plugin wants on its standard input, and what it says of anything else there.

use serde_json::{Value, json};

use crate::cni::conformance::{
    bench::{Bench, merge},
    rule::{Checked, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "input-empty",
        level: Must,
        source: "Error, code 6",
        says: "ADD with nothing on standard input is refused with code 6",
        check: |bench| garbage(bench, ""),
    },
    Rule {
        id: "input-garbage",
        level: Must,
        source: "Error, code 6",
        says: "ADD with something else than JSON on standard input is refused with code 6",
        check: |bench| garbage(bench, "{\"cniVersion\": \"0.4.0\", "),
    },
    Rule {
        id: "input-name",
        level: Must,
        source: "Section 1; Error, code 7",
        says: "A network without a name, or with one that is none, is refused with code 7",
        check: name,
    },
    Rule {
        id: "input-runtime-keys",
        level: Must,
        source: "libcni, Podman, containerd",
        says: "Keys that runtimes leave in the configuration, and empty ones, are taken",
        check: runtime_keys,
    },
    Rule {
        id: "input-unknown-ipam-keys",
        level: Should,
        source: "nerdctl",
        says: "Keys of the ipam block that the plugin does not know are passed over",
        check: unknown_ipam_keys,
    },
    Rule {
        id: "error-shape",
        level: Must,
        source: "Error",
        says: "A failure ends with an exit code of not 0 and one JSON object on standard output, \
               with code and msg",
        check: |bench| error(bench).map(drop),
    },
    Rule {
        id: "error-version",
        level: Should,
        source: "Error",
        says: "An error has the cniVersion of the configuration",
        check: error_version,
    },
];

fn garbage(bench: &Bench, text: &str) -> Checked {
    let call = bench.call_for("ADD", &bench.container()?, "eth0", &Value::Null).stdin(text);
    call.run()?.refusal(&format!("ADD with {text:?} on standard input"), 6).map(drop)
}

fn name(bench: &Bench) -> Checked {
    let container = bench.container()?;
    for name in [Value::Null, json!(""), json!("a/b"), json!("-a")] {
        let mut config = bench.network();
        merge(&mut config, &json!({ "name": name }));
        let reply = bench.try_add(&container, "eth0", &config)?;
        reply.refusal(&format!("ADD to a network named {name}"), 7)?;
    }
    Ok(())
}

fn runtime_keys(bench: &Bench) -> Checked {
    let mut config = bench.network();
    merge(
        &mut config,
        &json!({
            "capabilities": { "portMappings": true, "ipRanges": true, "unheardOf": true },
            "cni.dev/unheard-of": [1, 2],
            "args": { "podman_labels": {}, "podman_options": {}, "cni": {} },
            "dns": {},
            "runtimeConfig": { "bandwidth": {}, "io.kubernetes.cri.pod-annotations": { "a": "b" } },
        }),
    );
    config["runtimeConfig"]["ipRanges"] = Value::Null;
    config["runtimeConfig"]["portMappings"] = Value::Null;
    bench.attached(&config).map(drop)
}

fn unknown_ipam_keys(bench: &Bench) -> Checked {
    let mut config = bench.network();
    merge(&mut config, &json!({ "ipam": { "unheardOf": { "a": [1] } } }));
    bench.attached(&config).map(drop)
}

/// An error with a configuration that is right.
fn error(bench: &Bench) -> Checked<Value> {
    let call = bench.call_for("ADD", &bench.container()?, "eth0", &bench.network());
    let reply = call.set("CNI_NETNS", "/run/netns/nowhere").run()?;
    reply.failure("ADD to a namespace that is not there")?;
    Ok(serde_json::from_str(&reply.stdout).unwrap_or_default())
}

fn error_version(bench: &Bench) -> Checked {
    let error = error(bench)?;
    let (wanted, found) = (bench.newest(), &error["cniVersion"]);
    ensure!(found == wanted, "asked in {wanted}, it fails in {found}: {error}");
    Ok(())
}
