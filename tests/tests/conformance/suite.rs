//! Running the suite and reading what came of it.

use std::{collections::BTreeMap, path::PathBuf, process::Command};

use netd_tests::{Executed, World};
use serde_json::Value;

/// What came of a run: for each rule its result and reason.
#[derive(Debug)]
pub(crate) struct Suite {
    pub(crate) code: i32,
    rules: BTreeMap<String, (String, String)>,
}

impl Suite {
    /// Runs the suite with these words after the command.
    pub(crate) fn run(world: &World, words: &[&str]) -> Self {
        let executed = netctl(world, &[words, &["--json"]].concat());
        let report: Value = serde_json::from_str(&executed.stdout)
            .unwrap_or_else(|error| panic!("{error}: {executed:?}"));
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let rules = report["rules"].as_array().unwrap().iter();
        let rules = rules
            .map(|rule| (text(&rule["id"]), (text(&rule["result"]), text(&rule["reason"]))))
            .collect();
        Self { code: executed.code, rules }
    }

    /// The rules that came out so, with the reasons.
    pub(crate) fn those(&self, result: &str) -> BTreeMap<&str, &str> {
        let same = self.rules.iter().filter(|(_, (found, _))| found == result);
        same.map(|(id, (_, reason))| (id.as_str(), reason.as_str())).collect()
    }
}

/// Runs `netctl cni conformance`.
pub(crate) fn netctl(world: &World, words: &[&str]) -> Executed {
    let mut command = Command::new(world.programs().join("netctl"));
    command.args(["cni", "conformance"]).args(words);
    command.output().expect("netctl is built").into()
}

/// A directory that plugins are found in by the rules, for one test.
pub(crate) fn directory(test: &str) -> PathBuf {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(test);
    std::fs::create_dir_all(&directory).unwrap();
    directory
}
