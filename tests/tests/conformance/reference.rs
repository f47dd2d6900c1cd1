//! Debian's reference plugin `bridge` (containernetworking-plugins 1.1.1): what is known to be
//! wrong with it, and nothing else.

use netd_tests::World;

use crate::suite::Suite;

/// The rules that it breaks, each time.
const KNOWN: [&str; 16] = [
    // It works on its own namespace as on any other.
    "environment-own-namespace",
    // Its errors have no cniVersion.
    "error-version",
    // Its bridge has the gateway's address of one subnet of a family, and refuses the next one's.
    "add-range-sets",
    "add-ranges-of-a-set",
    // Its masquerading is kept by network and container, not by interface.
    "several-interfaces-del",
    // It makes its bridge before it looks for the namespace.
    "fail-no-namespace-leaves-nothing",
    // What it made before the address was refused stays, so that a retry finds the name taken.
    "fail-full-leaves-nothing",
    "fail-no-ipam-leaves-nothing",
    "ipam-add-fails-leaves-nothing",
    // It passes over prevResult in ADD.
    "chain-keeps-result",
    // Each address of the result has to be on its own interface.
    "chain-check-result",
    // Its masquerading goes only with the addresses that it finds in the namespace.
    "del-without-namespace-cleans",
    "del-vanished-cleans",
    "del-garbage-result",
    // host-local refuses to free anything with ranges that are wrong.
    "del-changed-configuration",
    // It compares a route without gw with the gateway that it has put in.
    "ipam-route-without-gateway",
];

/// The rules that it breaks or not, by the moment at which it is killed: a rule of the firewall that
/// is not there yet, or not any more, cannot be taken away, and what comes after it stays.
const SOMETIMES: [&str; 4] = ["kill-add-del", "kill-add-cleans", "kill-add-add", "kill-del-del"];

/// Tries it on the rules whose ids begin so.
#[track_caller]
fn as_known(beginnings: &[&str]) {
    let world = World::new();
    let mut words = vec!["--plugin-dir", "/usr/lib/cni", "--type", "bridge"];
    words.extend(beginnings.iter().flat_map(|begins| ["--filter", *begins]));
    let suite = Suite::run(&world, &words);
    let mut failed = suite.those("fail");
    failed.retain(|id, _| !SOMETIMES.contains(id));
    let known =
        KNOWN.iter().copied().filter(|id| beginnings.iter().any(|begins| id.starts_with(begins)));
    let known: std::collections::BTreeSet<_> = known.collect();
    let found: std::collections::BTreeSet<_> = failed.keys().copied().collect();
    assert_eq!(found, known, "{failed:#?}");
    // It has neither GC nor STATUS, and no routes of 1.1.0.
    for id in suite.those("not_offered").keys() {
        let new = ["-gc", "gc-", "-status", "status-", "-1.1.0", "-route-details"];
        assert!(new.iter().any(|part| id.contains(part)), "{id} is not offered");
    }
}

#[test]
fn versions_and_results() {
    as_known(&["version-", "result-", "input-", "error-"]);
}

#[test]
fn the_environment() {
    as_known(&["environment-"]);
}

#[test]
fn adding() {
    as_known(&["add-", "several-"]);
}

#[test]
fn failing() {
    as_known(&["fail-", "chain-"]);
}

#[test]
fn deleting() {
    as_known(&["del-"]);
}

#[test]
fn checking() {
    as_known(&["check-", "gc-", "status-"]);
}

#[test]
fn delegating() {
    as_known(&["ipam-"]);
}

#[test]
fn being_killed() {
    as_known(&["kill-"]);
}

#[test]
fn capabilities() {
    let world = World::new();
    let declared = r#"{"capabilities": {"dns": true, "ipRanges": true, "ips": true, "mac": true}}"#;
    let words = ["--plugin-dir", "/usr/lib/cni", "--type", "bridge", "--config", declared];
    let suite = Suite::run(&world, &[&words[..], &["--filter", "capability-"]].concat());
    // It leaves dns to others, and its interface where host-local refused the address.
    let failed: Vec<_> = suite.those("fail").into_keys().collect();
    assert_eq!(failed, ["capability-dns", "capability-ips-foreign"], "{suite:#?}");
    assert_eq!(suite.those("pass").len(), 8, "{suite:#?}");
    assert_eq!(suite.code, 0);
}
