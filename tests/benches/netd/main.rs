//! What netd costs beside the bare kernel, and beside others who do the same. A table on the
//! terminal and `bench.json` in cargo's target directory; a budget that is missed is said and is no
//! failure.
//!
//! `cargo bench -p netd-tests -- [--rounds N] [SECTION]...`, as root. `NETD_BIN` is the directory of
//! the binaries. Everything happens in namespaces of its own.

mod attach;
mod bridge;
mod churn;
mod cluster;
mod cni;
mod daemon;
mod docker;
mod docker_names;
mod floor;
mod growth;
mod names;
mod overlay;
mod place;
mod plugin;
mod podman;
mod publish;
mod report;
mod resolver;
mod sandbox;
mod swarm;
mod thousand;
mod traffic;
mod world;

use std::{env, process::ExitCode};

use anyhow::{Context, Result};

use report::Report;

/// What is measured, by the name that asks for it alone.
type Section = (&'static str, fn(&Options, &mut Report) -> Result<()>);

const SECTIONS: [Section; 28] = [
    ("attach", attach::measure),
    ("churn", churn::measure),
    ("plugin", plugin::measure),
    ("cni", cni::measure),
    ("podman", podman::measure),
    ("docker-connect", docker::connect),
    ("docker-start", docker::start),
    ("docker-ports", docker::ports),
    ("docker-names", docker_names::measure),
    ("endpoints", growth::endpoints),
    ("ports", growth::ports),
    ("published", publish::connections),
    ("rows", publish::rows),
    ("memory", thousand::memory),
    ("restart", thousand::restart),
    ("names", names::measure),
    ("dns-restart", names::restart),
    ("resolver", resolver::measure),
    ("bridge-traffic", bridge::traffic),
    ("overlay-traffic", overlay::traffic),
    ("docker-swarm", swarm::traffic),
    ("overlay-peers", overlay::peers),
    ("cluster-reach", cluster::reach),
    ("cluster-burst", cluster::burst),
    ("cluster-hosts", cluster::hosts),
    ("cluster-restart", cluster::restart),
    ("cluster-memory", cluster::memory),
    ("cluster-store", cluster::store),
];

/// What the caller wants.
struct Options {
    /// How often the quick things are done; others are done a part of that.
    rounds: usize,
    /// The sections to run; all when empty.
    only: Vec<String>,
}

impl Options {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Self> {
        let mut options = Self { rounds: 300, only: Vec::new() };
        while let Some(word) = words.next() {
            match word.as_str() {
                // Cargo's own.
                "--bench" => {}
                "--rounds" => {
                    let number = words.next().context("--rounds wants a number")?;
                    options.rounds = number.parse().context("--rounds wants a number")?;
                }
                _ => options.only.push(word),
            }
        }
        Ok(options)
    }

    fn wants(&self, section: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|word| section.contains(word.as_str()))
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("the benchmarks cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<ExitCode> {
    let options = Options::parse(env::args().skip(1))?;
    if let Some(outcome) = place::leave_home()? {
        return Ok(outcome);
    }
    place::prepare()?;
    let mut report = Report::default();
    for (name, measure) in SECTIONS.iter().filter(|(name, _)| options.wants(name)) {
        eprintln!("==> {name}");
        let measured = place::on_own_host(|| measure(&options, &mut report));
        if let Err(error) = measured {
            report.note(format!("{name}: not measured: {error:#}"));
        }
    }
    report.print();
    report.write()?;
    Ok(ExitCode::SUCCESS)
}
