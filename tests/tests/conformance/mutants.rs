//! Each rule can fail: plugins with one thing broken, and the rules that find it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use netd_tests::World;

use crate::suite::{Suite, directory, netctl};

const MUTANT: &str = include_str!("mutant.py");

/// Tries the reference plugin with one thing broken on some rules, all of which have to find it.
#[track_caller]
fn found(mode: &str, rules: &[&str]) {
    let world = World::new();
    let directory = directory(mode);
    let program = directory.join(mode);
    fs::write(&program, MUTANT).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let directory = directory.display().to_string();
    let mut words =
        vec!["--plugin-dir", &directory, "--plugin-dir", "/usr/lib/cni", "--type", mode];
    words.extend(rules.iter().flat_map(|rule| ["--filter", *rule]));
    let suite = Suite::run(&world, &words);
    let failed = suite.those("fail");
    let missed: Vec<_> = rules.iter().filter(|rule| !failed.contains_key(**rule)).collect();
    assert!(missed.is_empty(), "{missed:?} find nothing in {mode}: {suite:#?}");
    assert_eq!(suite.code, 1, "{suite:#?}");
}

#[test]
fn a_check_that_looks_at_nothing() {
    found("blind-check", &["check-interface-gone", "check-address-gone", "check-unknown"]);
}

#[test]
fn a_del_that_wants_everything_as_it_was() {
    found("strict-del", &["del-without-namespace", "del-without-result", "fail-full-del"]);
}

#[test]
fn a_del_that_does_nothing() {
    found("lazy-del", &["del-removes", "del-frees-address", "del-vanished-frees-address"]);
}

#[test]
fn a_plugin_that_knows_one_version() {
    found("one-version", &["result-0.2.0", "result-0.3.1", "result-0.4.0", "version-unknown"]);
}

#[test]
fn a_plugin_that_mends_what_it_is_given() {
    found("careless", &["environment-missing", "environment-container-id", "environment-empty"]);
}

#[test]
fn a_plugin_that_talks() {
    found("chatty", &["add-one-document", "add-reach"]);
}

#[test]
fn a_plugin_that_complains_to_nobody() {
    found("mute-error", &["error-shape", "version-unknown", "environment-unknown-command"]);
}

#[test]
fn a_plugin_that_tells_another_address() {
    found("liar", &["result-0.3.0", "result-1.0.0"]);
}

#[test]
fn a_plugin_that_leaves_its_link_down() {
    found("down", &["add-interface", "add-reach", "several-networks"]);
}

#[test]
fn a_suite_that_cannot_run_says_why() {
    let world = World::new();
    let missing = netctl(&world, &["--plugin-dir", "/usr/lib/cni", "--type", "no-such-plugin"]);
    assert_eq!(missing.code, 3, "{missing:?}");
    assert!(missing.stderr.contains("there is no plugin no-such-plugin"), "{missing:?}");
    let bridge = ["--plugin-dir", "/usr/lib/cni", "--type", "bridge"];
    let setup = [&bridge[..], &["--filter", "add-reach", "--setup", "echo no daemon; false"]];
    let setup = netctl(&world, &setup.concat());
    assert_eq!(setup.code, 9, "{setup:?}");
    assert!(setup.stderr.contains("no daemon"), "{setup:?}");
    let none = netctl(&world, &[&bridge[..], &["--filter", "no-such-rule"]].concat());
    assert_eq!(none.code, 3, "{none:?}");
}

#[test]
fn the_rules_are_listed_and_the_table_is_for_people() {
    let world = World::new();
    let list = netctl(&world, &["--list"]);
    assert!(list.success().lines().any(|line| line.starts_with("del-repeated ")), "{list:?}");
    let bridge = ["--plugin-dir", "/usr/lib/cni", "--type", "bridge", "--filter", "version-"];
    let table = netctl(&world, &bridge);
    let lines: Vec<_> = table.success().lines().collect();
    assert!(lines[0].starts_with("RULE ") && lines[0].ends_with("REASON"), "{table:?}");
    let summary = lines.last().unwrap();
    assert!(summary.starts_with("/usr/lib/cni/bridge: 8 rules, 6 passed, 0 MUST "), "{table:?}");
}
