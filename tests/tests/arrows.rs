//! The directions in which the crates may depend on each other, and what none of them may bring
//! along.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    process::Command,
};

use serde_json::Value;

fn cargo(arguments: &[&str]) -> String {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {arguments:?}: {errors}");
    String::from_utf8(output.stdout).expect("text")
}

fn metadata() -> Value {
    serde_json::from_str(&cargo(&["metadata", "--format-version", "1"])).expect("metadata")
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("{key} in {value}"))
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().unwrap_or_else(|| panic!("{key} in {value}"))
}

/// One crate of the workspace.
struct Ours {
    /// Where it lies: `plugins/cnm`.
    folder: String,
    /// The crates of the workspace that it is built from, directly; not those its tests use.
    uses: BTreeSet<String>,
}

fn ours(metadata: &Value) -> BTreeMap<String, Ours> {
    let root = text(metadata, "workspace_root");
    let members: BTreeSet<_> =
        list(metadata, "workspace_members").iter().map(Value::to_string).collect();
    let packages = list(metadata, "packages");
    packages
        .iter()
        .filter(|package| members.contains(&package["id"].to_string()))
        .map(|package| {
            let folder = text(package, "manifest_path")
                .strip_prefix(root)
                .and_then(|path| path.strip_prefix('/')?.strip_suffix("/Cargo.toml"))
                .expect("a member lies in the workspace");
            let uses = list(package, "dependencies")
                .iter()
                .filter(|dependency| dependency["path"].is_string() && dependency["kind"] != "dev")
                .map(|dependency| text(dependency, "name").to_owned())
                .collect();
            (text(package, "name").to_owned(), Ours { folder: folder.to_owned(), uses })
        })
        .collect()
}

/// Everything of ours that `name` is built from.
fn below<'a>(ours: &'a BTreeMap<String, Ours>, name: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![name];
    while let Some(name) = open.pop() {
        for used in &ours[name].uses {
            if found.insert(used.as_str()) {
                open.push(used);
            }
        }
    }
    found
}

/// The executables that netd starts as drivers: all of `plugins` but the libraries.
fn plugins(ours: &BTreeMap<String, Ours>) -> Vec<&str> {
    let plugins: Vec<_> = ours
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "cnm" | "kernel" | "words"))
        .filter(|(_, crate_)| crate_.folder.starts_with("plugins/"))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(plugins.len() >= 3, "only these plugins found: {plugins:?}");
    plugins
}

#[test]
fn arrows_never_turn_back() {
    let metadata = metadata();
    let ours = ours(&metadata);
    let plugins = plugins(&ours);
    for name in ours.keys().map(String::as_str) {
        let may: &[&str] = match name {
            "cnm" | "kernel" | "ipam" | "dns" | "store" => &[],
            "cluster" => &["cnm", "store"],
            "netd" => &["cnm", "ipam", "dns", "store", "cluster"],
            "netctl" | "netd-relay" => &["cnm"],
            // What the protocol says in the kernel's words, and the other way round.
            "words" => &["cnm", "kernel"],
            // An overlay network is a bridge network on each host, with one port more.
            "netd-overlay" => &["cnm", "kernel", "words", "netd-bridge"],
            name if plugins.contains(&name) => &["cnm", "kernel", "words"],
            // Tests use everything.
            "netd-tests" => continue,
            other => panic!("{other} has no place in the picture yet: give it one here"),
        };
        for used in below(&ours, name) {
            assert!(may.contains(&used), "{name} depends on {used}, but may only on {may:?}");
        }
    }
}

#[test]
fn no_plugin_has_an_async_runtime_below_it() {
    let metadata = metadata();
    for plugin in plugins(&ours(&metadata)) {
        // By itself: the workspace's graph has the features that others ask for.
        let tree = cargo(&["tree", "-p", plugin, "-e", "normal", "--prefix", "none"]);
        let below: BTreeSet<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(below.contains("cnm"), "the tree of {plugin} was not understood: {tree}");
        for runtime in ["tokio", "async-std", "smol", "async-executor", "futures-executor"] {
            assert!(!below.contains(runtime), "{plugin} brings {runtime} along:\n{tree}");
        }
    }
}

/// Whether a licence expression (SPDX) leaves a choice without the GPL and its relatives.
fn free_of_gpl(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let words: Vec<_> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let free = any_of(&mut words);
    assert!(words.is_empty(), "{expression:?} is no licence expression");
    free
}

fn next<'a>(words: &mut &[&'a str]) -> &'a str {
    let (word, rest) = words.split_first().expect("a licence expression goes on");
    *words = rest;
    word
}

fn any_of(words: &mut &[&str]) -> bool {
    let mut free = all_of(words);
    while words.first() == Some(&"OR") {
        next(words);
        free |= all_of(words);
    }
    free
}

fn all_of(words: &mut &[&str]) -> bool {
    let mut free = one(words);
    while words.first() == Some(&"AND") {
        next(words);
        free &= one(words);
    }
    free
}

fn one(words: &mut &[&str]) -> bool {
    let word = next(words);
    if word == "(" {
        let free = any_of(words);
        assert_eq!(next(words), ")");
        return free;
    }
    if words.first() == Some(&"WITH") {
        next(words);
        next(words);
    }
    !word.to_ascii_uppercase().contains("GPL")
}

#[test]
fn licence_expressions_are_understood() {
    for free in [
        "MIT",
        "MIT OR GPL-2.0",
        "MIT/Apache-2.0",
        "Apache-2.0 WITH LLVM-exception",
        "MIT OR Apache-2.0 OR LGPL-2.1-or-later",
        "(MIT OR AGPL-3.0) AND Unicode-3.0",
    ] {
        assert!(free_of_gpl(free), "{free}");
    }
    for bound in [
        "GPL-3.0-or-later",
        "LGPL-2.1",
        "MIT AND GPL-2.0",
        "MIT AND (GPL-2.0 OR LGPL-3.0)",
        "GPL-2.0 WITH Classpath-exception-2.0",
    ] {
        assert!(!free_of_gpl(bound), "{bound}");
    }
}

#[test]
fn nothing_below_us_is_under_the_gpl() {
    let metadata = metadata();
    let packages = list(&metadata, "packages");
    assert!(packages.len() > 20, "only {} packages found", packages.len());
    for package in packages {
        let name = text(package, "name");
        let licence = package["license"].as_str();
        let licence = licence.unwrap_or_else(|| panic!("{name} names no licence"));
        assert!(free_of_gpl(licence), "{name} is under {licence}");
    }
}
