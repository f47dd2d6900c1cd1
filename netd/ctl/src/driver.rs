//! `netctl driver test`: whether an executable is a driver as `docs/protocol.md` has it. Each rule is
//! tried on a host of its own with a driver started for it, so that none depends on another.

mod endpoints;
mod framing;
mod networks;
mod ports;
mod rtnl;
mod sandbox;
mod session;
mod stage;
mod survival;

use std::process::ExitCode;

use cnm::{Error, Result};
use serde::Serialize;

use crate::{
    args::{DriverCommand, TestDriver},
    out::{self, Outcome},
    table::Table,
};
use stage::{Machine, Stage};

/// Why a rule is not kept.
#[derive(Debug)]
pub(crate) enum Why {
    /// The driver does otherwise.
    Broken(String),
    /// The rule is not for a driver of its kind.
    NotMeant(&'static str),
}

impl From<String> for Why {
    fn from(reason: String) -> Self {
        Self::Broken(reason)
    }
}

impl From<&str> for Why {
    fn from(reason: &str) -> Self {
        Self::Broken(reason.to_owned())
    }
}

/// What became of trying a rule.
pub(crate) type Verdict<T = ()> = std::result::Result<T, Why>;

/// Something that every driver has to keep to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// What it is called.
    pub(crate) name: &'static str,
    /// What it says.
    pub(crate) says: &'static str,
    /// Tries it.
    pub(crate) holds: fn(&mut Stage) -> Verdict,
}

/// Every rule, in the order in which a driver meets what they are about.
fn rules() -> impl Iterator<Item = &'static Rule> {
    let all = [framing::RULES, networks::RULES, endpoints::RULES, ports::RULES, survival::RULES];
    all.into_iter().flatten()
}

/// A rule and whether it is kept.
#[derive(Debug, Serialize)]
struct Tried {
    rule: &'static str,
    says: &'static str,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// All of them.
#[derive(Debug, Serialize)]
struct Report {
    driver: String,
    passed: usize,
    failed: usize,
    skipped: usize,
    rules: Vec<Tried>,
}

/// Does what is asked of drivers.
pub(crate) fn driver(command: &DriverCommand) -> Outcome {
    let DriverCommand::Test(args) = command;
    let report = test(args)?;
    if args.output.json {
        out::json(&report)?;
    } else {
        out::print(&page(&report))?;
    }
    Ok(if report.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn test(args: &TestDriver) -> Result<Report> {
    let unknown = args.rules.iter().find(|name| rules().all(|rule| rule.name != name.as_str()));
    if let Some(name) = unknown {
        let all: Vec<_> = rules().map(|rule| rule.name).collect();
        return Err(Error::not_found(format_args!(
            "there is no rule {name}: these are all: {}",
            all.join(", ")
        ))
        .with("rule", name.as_str()));
    }
    let machine = Machine::new(&args.executable, &args.options)?;
    let mut tried = Vec::new();
    for rule in rules() {
        if !args.rules.is_empty() && args.rules.iter().all(|name| name != rule.name) {
            continue;
        }
        let verdict = match machine.stage()? {
            Ok(mut stage) => (rule.holds)(&mut stage),
            Err(reason) => Err(Why::Broken(reason)),
        };
        let (outcome, reason) = match verdict {
            Ok(()) => ("passed", None),
            Err(Why::Broken(reason)) => ("failed", Some(reason)),
            Err(Why::NotMeant(reason)) => ("skipped", Some(reason.to_owned())),
        };
        tried.push(Tried { rule: rule.name, says: rule.says, outcome, reason });
    }
    let count = |outcome| tried.iter().filter(|tried| tried.outcome == outcome).count();
    Ok(Report {
        driver: args.executable.display().to_string(),
        passed: count("passed"),
        failed: count("failed"),
        skipped: count("skipped"),
        rules: tried,
    })
}

fn page(report: &Report) -> String {
    let mut table = Table::new(&["RULE", "OUTCOME", "WHAT IT SAYS"]);
    for tried in &report.rules {
        let says = match &tried.reason {
            Some(reason) if tried.outcome == "failed" => format!("{}: {reason}", tried.says),
            Some(reason) => format!("{} ({reason})", tried.says),
            None => tried.says.to_owned(),
        };
        table.row([tried.rule.to_owned(), tried.outcome.to_owned(), says]);
    }
    let Report { driver, passed, failed, skipped, .. } = report;
    format!("{}\n{driver}: {passed} passed, {failed} failed, {skipped} not for it\n", table.text())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_rules_have_one_name() {
        let names: BTreeSet<_> = rules().map(|rule| rule.name).collect();
        assert_eq!(names.len(), rules().count());
        assert!(names.len() > 30, "{names:?}");
    }
}
