//! Our own plugin: no rule is broken, and none is about something that it does not offer.

use netd_tests::World;

use crate::suite::Suite;

/// The rules that it breaks, and why.
const KNOWN: [&str; 0] = [];

/// Tries it, with netd on each rule's machine, on the rules whose ids begin so.
#[track_caller]
fn conforms(beginnings: &[&str]) {
    let world = World::new();
    let programs = world.programs().display().to_string();
    let setup = format!("{programs}/netd & until {programs}/netctl status; do :; done");
    let every = r#"{"capabilities": {"bandwidth": true, "dns": true, "ipRanges": true, "ips": true,
        "mac": true, "portMappings": true}}"#;
    // Those of the reference are for the rules that want a foreign IPAM plugin.
    let mut words = vec!["--plugin-dir", &programs, "--plugin-dir", "/usr/lib/cni"];
    words.extend(["--type", "netd-bridge", "--setup", &setup, "--config", every]);
    words.extend(beginnings.iter().flat_map(|begins| ["--filter", *begins]));
    let suite = Suite::run(&world, &words);
    let known = KNOWN.iter().filter(|id| beginnings.iter().any(|begins| id.starts_with(begins)));
    let failed = suite.those("fail");
    assert!(failed.keys().eq(known), "{failed:#?}");
    assert!(suite.those("not_offered").is_empty(), "{suite:#?}");
    assert_eq!(suite.code, 0);
}

#[test]
fn versions_and_results() {
    conforms(&["version-", "result-", "input-", "error-"]);
}

#[test]
fn the_environment() {
    conforms(&["environment-"]);
}

#[test]
fn adding() {
    conforms(&["add-", "several-"]);
}

#[test]
fn failing() {
    conforms(&["fail-", "chain-"]);
}

#[test]
fn deleting() {
    conforms(&["del-"]);
}

#[test]
fn checking() {
    conforms(&["check-"]);
}

#[test]
fn collecting() {
    conforms(&["gc-", "status-"]);
}

#[test]
fn delegating() {
    conforms(&["ipam-"]);
}

#[test]
fn capabilities() {
    conforms(&["capability-", "ports-"]);
}

#[test]
fn being_killed() {
    conforms(&["kill-"]);
}
