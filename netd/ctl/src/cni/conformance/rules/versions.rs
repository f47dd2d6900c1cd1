//! VERSION, and what a plugin does with versions that it does not know.

use serde_json::json;

use crate::cni::conformance::{
    bench::{Bench, with},
    rule::{Checked, Flaw, Level::*, Rule, ensure},
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "version-lists",
        level: Must,
        source: "VERSION",
        says: "VERSION prints cniVersion and supportedVersions, with libcni's placeholders in the \
               environment",
        check: lists,
    },
    Rule {
        id: "version-echoes",
        level: Must,
        source: "VERSION",
        says: "VERSION answers in the version that it is asked in",
        check: echoes,
    },
    Rule {
        id: "version-without-input",
        level: Should,
        source: "libcni, nerdctl",
        says: "VERSION needs neither a standard input nor any variable but CNI_COMMAND",
        check: without_input,
    },
    Rule {
        id: "version-unknown",
        level: Must,
        source: "Error, code 1",
        says: "A version that the plugin does not list is refused with code 1",
        check: unknown,
    },
    Rule {
        id: "version-unknown-lists",
        level: Should,
        source: "libcni",
        says: "The refusal of a version names those that are supported",
        check: unknown_lists,
    },
    Rule {
        id: "version-check",
        level: Must,
        source: "CHECK",
        says: "CHECK is refused with code 1 below 0.4.0",
        check: |bench| too_old(bench, "CHECK", "0.4.0", "0.3.1"),
    },
    Rule {
        id: "version-gc",
        level: Must,
        source: "GC",
        says: "GC is refused with code 1 below 1.1.0",
        check: |bench| too_old(bench, "GC", "1.1.0", "1.0.0"),
    },
    Rule {
        id: "version-status",
        level: Must,
        source: "STATUS",
        says: "STATUS is refused with code 1 below 1.1.0",
        check: |bench| too_old(bench, "STATUS", "1.1.0", "1.0.0"),
    },
];

fn lists(bench: &Bench) -> Checked {
    let answer = bench.ask_version()?.document("VERSION")?;
    ensure!(answer["cniVersion"].is_string(), "VERSION prints no cniVersion: {answer}");
    let versions = answer["supportedVersions"].as_array();
    let versions = versions.ok_or_else(|| {
        Flaw::Broken(format!("VERSION prints no list of supportedVersions: {answer}"))
    })?;
    ensure!(!versions.is_empty(), "VERSION lists no version");
    ensure!(versions.iter().all(|version| version.is_string()), "VERSION lists {versions:?}");
    Ok(())
}

fn echoes(bench: &Bench) -> Checked {
    let reply = bench.call("VERSION", &json!({ "cniVersion": bench.newest() })).run()?;
    let answer = reply.document("VERSION")?;
    let (wanted, found) = (bench.newest(), &answer["cniVersion"]);
    ensure!(found == wanted, "asked in {wanted}, it answers in {found}");
    Ok(())
}

fn without_input(bench: &Bench) -> Checked {
    let call = bench.call("VERSION", &json!({})).stdin("").without("CNI_PATH");
    let answer = call.run()?.document("VERSION with nothing on standard input")?;
    ensure!(answer["supportedVersions"].is_array(), "VERSION prints {answer}");
    Ok(())
}

fn unknown(bench: &Bench) -> Checked {
    let config = with(&bench.network(), "cniVersion", "9.9.9");
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    reply.refusal("ADD in version 9.9.9", 1).map(drop)
}

fn unknown_lists(bench: &Bench) -> Checked {
    let config = with(&bench.network(), "cniVersion", "9.9.9");
    let reply = bench.try_add(&bench.container()?, "eth0", &config)?;
    let failure = reply.failure("ADD in version 9.9.9")?;
    ensure!(
        failure.text.contains(bench.newest()),
        "{} is not named: {}",
        bench.newest(),
        failure.text
    );
    Ok(())
}

fn too_old(bench: &Bench, verb: &str, since: &str, old: &str) -> Checked {
    let config = bench.since(since)?;
    bench.offers(old)?;
    let (container, result) = bench.attached(&with(&config, "cniVersion", old))?;
    let config = with(&with(&config, "cniVersion", old), "prevResult", result);
    let call = match verb {
        "CHECK" => bench.call_for(verb, &container, "eth0", &config),
        _ => bench.call_for_all(verb, &config),
    };
    call.run()?.refusal(&format!("{verb} in version {old}"), 1).map(drop)
}
