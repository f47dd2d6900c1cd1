//! `netctl cni conformance`: tries any CNI plugin on the rules of the specification and on what
//! real runtimes expect beyond it.
//!
//! Each rule is tried on a machine of its own: a process in network, mount and PID namespaces that
//! end with it. So a rule cannot spoil the next one, and whatever a plugin leaves behind is gone.

mod bench;
mod container;
mod machine;
mod options;
mod plugin;
mod report;
mod rule;
mod rules;
mod run;

use std::process::ExitCode;

use cnm::Error;

use crate::out::{self, Outcome};
pub(crate) use options::Conformance;
use report::Report;
use rule::Rule;

/// Tries the rules and prints what came of it.
pub(crate) fn conformance(options: Conformance) -> Outcome {
    if let Some(id) = &options.inside {
        return run::inside(&options, id);
    }
    let rules: Vec<&Rule> = rules::all().filter(|rule| options.wants(rule.id)).collect();
    if rules.is_empty() {
        return Err(Error::not_found(
            "no rule's id begins so: `netctl cni conformance --list` shows them",
        )
        .into());
    }
    if options.list {
        out::print(&report::listing(&rules))?;
        return Ok(ExitCode::SUCCESS);
    }
    let plugin = options.plugin()?;
    let report = Report::new(&plugin, run::all(&rules, options.jobs())?);
    if options.json {
        out::json(&report)?;
    } else {
        out::print(&report.text())?;
    }
    Ok(if report.conforms() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
