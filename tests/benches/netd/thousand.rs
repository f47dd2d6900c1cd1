//! netd with 1,000 endpoints: what it holds in memory, and how it comes back.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use cnm::{Request, endpoint::Netns};

use crate::{
    Options, daemon,
    place::binary,
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    world::NETWORK,
};

const ENDPOINTS: usize = 1000;

/// How often netd is ended.
const CRASHES: usize = 10;

/// A netd with so many endpoints.
fn filled(name: &str) -> Result<(daemon::Daemon, Vec<Sandbox>)> {
    let mut daemon = daemon::Daemon::start(name)?;
    daemon.create(NETWORK, 79)?;
    let sandboxes = Sandbox::make(ENDPOINTS)?;
    for (n, sandbox) in sandboxes.iter().enumerate() {
        daemon::attach(&mut daemon.client, NETWORK, n, sandbox, Vec::new())?;
    }
    Ok((daemon, sandboxes))
}

/// Resident memory of netd, of its driver, and of a plugin that a runtime executes.
pub(crate) fn memory(_: &Options, report: &mut Report) -> Result<()> {
    let (mut daemon, _sandboxes) = filled("memory")?;
    let status = daemon.status()?;
    let driver = status.drivers.iter().find(|driver| driver.name == "bridge");
    let driver = driver.and_then(|driver| driver.pid).context("no driver")?;
    for (what, pid, limit) in [
        ("memory of netd, 1000 endpoints", daemon.pid(), 20.0),
        ("memory of the bridge driver's session", driver, 12.0),
    ] {
        report.row(Row::new(what, "MB", resident(pid, "VmRSS")?.into()).at_most(limit));
        let proportional = smaps(pid)?;
        let peak = resident(pid, "VmHWM")?;
        report.note(format!("{what}: {proportional:.1} MB of its own share, {peak:.1} MB at most"));
    }
    let plugin = executed(&daemon)?;
    report.row(Row::new("memory of an executed plugin", "MB", plugin.into()).at_most(3.0));
    Ok(())
}

/// The most memory that a plugin has had by the time of its answer.
fn executed(daemon: &daemon::Daemon) -> Result<f64> {
    let sandbox = Sandbox::make(1)?;
    let attach = daemon::request(NETWORK, ENDPOINTS, Netns::Path(sandbox[0].path()), Vec::new())?;
    let mut child = Command::new(binary("netd-bridge")?)
        .env("NETD_SOCKET", daemon.socket())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut input = child.stdin.take().context("it was asked for")?;
    input.write_all(Request::new(1, &attach).to_line().as_bytes())?;
    let mut answer = String::new();
    BufReader::new(child.stdout.take().context("it was asked for")?).read_line(&mut answer)?;
    anyhow::ensure!(answer.contains("\"result\""), "the plugin says {answer}");
    let peak = resident(child.id(), "VmHWM")?;
    drop(input);
    child.wait()?;
    Ok(peak)
}

/// A line of `/proc/PID/status`, in MB.
pub(crate) fn resident(pid: u32, field: &str) -> Result<f64> {
    kilobytes(&fs::read_to_string(format!("/proc/{pid}/status"))?, field)
}

/// Its pages, those that it shares counted by half, a third, and so on.
fn smaps(pid: u32) -> Result<f64> {
    kilobytes(&fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?, "Pss")
}

fn kilobytes(text: &str, field: &str) -> Result<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let value = value.and_then(|value| value.split_whitespace().next()).context("no such line")?;
    Ok(value.parse::<f64>()? / 1024.0)
}

/// From `kill -9` to an answer, with everything in sync.
pub(crate) fn restart(_: &Options, report: &mut Report) -> Result<()> {
    let (mut daemon, _sandboxes) = filled("restart")?;
    let mut times = Samples::default();
    for _ in 0..CRASHES {
        times.add(daemon.crash()?);
    }
    let endpoints = daemon.status()?.endpoints;
    anyhow::ensure!(endpoints == 1000, "{endpoints} endpoints after the restarts");
    report.row(Row::new("restart with 1000 endpoints, in sync", "ms", times).at_most(1000.0));
    Ok(())
}
