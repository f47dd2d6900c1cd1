//! ADD and DEL as a runtime of the Container Network Interface executes them: `netd-bridge` beside
//! the reference's plugins, one after the other, forty at a time, and with many addresses taken.

use std::{
    io::Write,
    os::fd::AsFd,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cnm::{
    client::With,
    endpoint::{Assigned, Netns},
};
use kernel::netlink::Socket;
use serde_json::{Value, json};

use crate::{
    Options,
    daemon::{self, Daemon},
    place::{binary, settle},
    report::{Report, Row, Samples},
    sandbox::Sandbox,
};

/// Where Debian keeps the reference's plugins.
const REFERENCE: &str = "/usr/lib/cni";
/// How many runtimes start at once.
const CROWD: usize = 40;
/// How many addresses are taken, and how many of them one container has.
const TAKEN: (u16, u16) = (1000, 100);

/// All of it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if !Path::new(REFERENCE).join("bridge").exists() {
        report.note(format!("{REFERENCE} has no plugins: CNI is not compared"));
        return Ok(());
    }
    let mut daemon = Daemon::start("cni")?;
    let rounds = options.rounds / 10;
    let ours = |more: Value| List::new(&daemon, "ours", 72, &["netd-bridge"], more);
    let theirs = |kinds| List::new(&daemon, "theirs", 73, kinds, json!({}));
    let (alone, bridge) = (ours(json!({}))?, theirs(&["bridge"])?);
    let (all, chain) = (ours(ports())?, theirs(&["bridge", "portmap", "firewall", "tuning"])?);
    for (name, ours, theirs, peer, limit) in [
        ("CNI", &alone, &bridge, "bridge, host-local", 10.0),
        ("CNI, with a port", &all, &chain, "the same, portmap, firewall, tuning", 20.0),
    ] {
        let ([ours_add, ours_del], [theirs_add, theirs_del]) = turns(rounds, ours, theirs)?;
        for (verb, ours, theirs) in [("ADD", ours_add, theirs_add), ("DEL", ours_del, theirs_del)] {
            report.row(
                Row::new(format!("{verb} by {name}"), "ms", ours)
                    .beside(peer, theirs)
                    .times_faster(limit),
            );
        }
    }
    let (ours, theirs) = (crowd(5, &alone)?, crowd(2, &bridge)?);
    report.row(
        Row::new(format!("{CROWD} ADDs by CNI at once, to the last"), "ms", ours)
            .beside("bridge, host-local", theirs)
            .at_most(500.0),
    );
    let free = List::new(&daemon, "free", 74, &["netd-bridge"], json!({}))?;
    let kept = take_many(&mut daemon)?;
    let ([taken, _], [free, _]) = turns(rounds, &alone, &free)?;
    drop(kept);
    report.row(
        Row::new(format!("ADD by CNI, {} addresses taken", TAKEN.0), "ms", taken)
            .beside("none taken", free)
            .at_most_times(1.1),
    );
    Ok(())
}

/// One published port, a different one for each container.
fn ports() -> Value {
    json!({"runtimeConfig": {"portMappings": [
        {"hostPort": 0, "containerPort": 80, "protocol": "tcp"},
    ]}})
}

/// Plugins that are executed one after the other, and the configuration of each.
struct List {
    plugins: Vec<(PathBuf, Value)>,
    socket: PathBuf,
}

impl List {
    fn new(daemon: &Daemon, name: &str, subnet: u8, kinds: &[&str], more: Value) -> Result<Self> {
        let mut plugins = Vec::new();
        for kind in kinds {
            let program = match kind.strip_prefix("netd-") {
                Some(_) => binary(kind)?,
                None => Path::new(REFERENCE).join(kind),
            };
            let mut config = match *kind {
                "portmap" => ports(),
                "firewall" | "tuning" => json!({}),
                _ => bridge(subnet),
            };
            for (key, value) in more.as_object().into_iter().flatten() {
                config[key] = value.clone();
            }
            config["cniVersion"] = json!("1.0.0");
            config["name"] = json!(name);
            config["type"] = json!(kind);
            plugins.push((program, config));
        }
        Ok(Self { plugins, socket: daemon.socket() })
    }

    /// ADD, as libcni does it. Gives the result, and how long it took.
    fn add(&self, n: usize, sandbox: &Sandbox) -> Result<(Value, Duration)> {
        let mut result = Value::Null;
        let mut took = Duration::ZERO;
        for (program, config) in &self.plugins {
            let config = configured(config, n, &result);
            let start = Instant::now();
            let output = self.start(program, "ADD", n, sandbox, &config)?.wait_with_output()?;
            took += start.elapsed();
            result = serde_json::from_slice(&checked(output)?.stdout)?;
        }
        Ok((result, took))
    }

    /// DEL, as libcni does it.
    fn del(&self, n: usize, sandbox: &Sandbox, result: &Value) -> Result<Duration> {
        let mut took = Duration::ZERO;
        for (program, config) in self.plugins.iter().rev() {
            let config = configured(config, n, result);
            let start = Instant::now();
            let output = self.start(program, "DEL", n, sandbox, &config)?.wait_with_output()?;
            took += start.elapsed();
            checked(output)?;
        }
        Ok(took)
    }

    /// A plugin that has been told what to do.
    fn start(
        &self,
        program: &Path,
        verb: &str,
        n: usize,
        sandbox: &Sandbox,
        config: &str,
    ) -> Result<Child> {
        let mut child = Command::new(program)
            .env("NETD_SOCKET", &self.socket)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", format!("container-{n}"))
            .env("CNI_NETNS", sandbox.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", REFERENCE)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        child.stdin.take().context("it was asked for")?.write_all(config.as_bytes())?;
        Ok(child)
    }
}

/// The reference's configuration of a bridge, which is ours too.
fn bridge(subnet: u8) -> Value {
    json!({
        "bridge": format!("cni{subnet}"),
        "isGateway": true,
        "ipMasq": true,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": format!("10.{subnet}.0.0/16")}]],
            "routes": [{"dst": "0.0.0.0/0"}],
        },
    })
}

fn configured(config: &Value, n: usize, result: &Value) -> String {
    let mut config = config.clone();
    if let Some(port) = config.pointer_mut("/runtimeConfig/portMappings/0/hostPort") {
        *port = json!(20_000 + n);
    }
    if !result.is_null() {
        config["prevResult"] = result.clone();
    }
    config.to_string()
}

fn checked(output: Output) -> Result<Output> {
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}{complained}", output.status);
    Ok(output)
}

/// ADD and DEL of both, in turns; the first round makes bridges and rules, and does not count.
fn turns(rounds: usize, ours: &List, theirs: &List) -> Result<([Samples; 2], [Samples; 2])> {
    let mut times = [[Samples::default(), Samples::default()], Default::default()];
    let mut socket = Socket::route()?;
    for round in 0..=rounds {
        let sandboxes = Sandbox::make(2)?;
        for turn in 0..2 {
            let who = (turn + round) % 2;
            let (list, sandbox) = ([ours, theirs][who], &sandboxes[who]);
            wake(&mut socket)?;
            let (result, added) = list.add(round, sandbox)?;
            wake(&mut socket)?;
            let deleted = list.del(round, sandbox, &result)?;
            if round > 0 {
                times[who][0].add(added);
                times[who][1].add(deleted);
            }
        }
    }
    let [ours, theirs] = times;
    Ok((ours, theirs))
}

/// While it was quiet the processors fell asleep, and somebody has to wake them up.
fn wake(socket: &mut Socket) -> Result<()> {
    settle(socket)?;
    checked(Command::new("true").output()?).map(drop)
}

/// All at once: from the first that starts to the last that ends.
fn crowd(rounds: usize, list: &List) -> Result<Samples> {
    let mut times = Samples::default();
    let mut socket = Socket::route()?;
    for _ in 0..rounds {
        let sandboxes = Sandbox::make(CROWD)?;
        let (program, config) = list.plugins.first().context("one plugin")?;
        wake(&mut socket)?;
        let start = Instant::now();
        let children: Result<Vec<_>> = sandboxes
            .iter()
            .enumerate()
            .map(|(n, sandbox)| {
                list.start(program, "ADD", n, sandbox, &configured(config, n, &Value::Null))
            })
            .collect();
        let outputs: Result<Vec<_>> =
            children?.into_iter().map(|child| Ok(child.wait_with_output()?)).collect();
        times.add(start.elapsed());
        for ((n, sandbox), output) in sandboxes.iter().enumerate().zip(outputs?) {
            let result: Value = serde_json::from_slice(&checked(output)?.stdout)?;
            list.del(n, sandbox, &result)?;
        }
    }
    Ok(times)
}

/// Takes addresses of our network: some containers have many of them, so that it is the addresses
/// that are many and not the links.
fn take_many(daemon: &mut Daemon) -> Result<Vec<Sandbox>> {
    let (all, each) = TAKEN;
    let sandboxes = Sandbox::make(usize::from(all / each))?;
    for (n, sandbox) in (0u16..).zip(&sandboxes) {
        let mut attach = daemon::request("ours", 50_000 + usize::from(n), Netns::Fd, Vec::new())?;
        let addresses = (0..each).map(|i| {
            let [high, low] = (10_000 + n * each + i).to_be_bytes();
            Ok(format!("10.72.{high}.{low}/16").parse()?)
        });
        let addresses = addresses.collect::<Result<_>>()?;
        attach.assigned = Some(Assigned { addresses, gateways: Vec::new() });
        let with = With { fds: &[sandbox.as_fd()], ..With::default() };
        daemon.client.call_with(&attach, with)?;
    }
    Ok(sandboxes)
}
