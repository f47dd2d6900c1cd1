//! An attach as a runtime makes it, by executing a plugin: ours beside the others'. Each takes its
//! turn in the same host, in a fresh namespace; what it takes to detach again is not counted.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cnm::{
    Request,
    endpoint::{Detach, Netns},
};
use serde_json::json;

use crate::{
    Options,
    daemon::{self, Daemon},
    place::{binary, settle},
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    world::NETWORK,
};

/// Somebody who attaches.
pub(crate) trait Contender {
    /// Attaches container number `n`, and says how long it took.
    fn attach(&mut self, n: usize, sandbox: &Sandbox) -> Result<Duration>;

    /// Takes it off again.
    fn detach(&mut self, n: usize, sandbox: &Sandbox) -> Result<()>;
}

/// Ours, Debian's CNI plugins and netavark.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let mut contenders: Vec<(&'static str, Box<dyn Contender>)> =
        vec![("netd", Box::new(Ours::new()?))];
    for program in [Cni::PROGRAM, Netavark::PROGRAM] {
        if !Path::new(program).exists() {
            report.note(format!("{program} is not installed: not compared"));
        } else if program == Cni::PROGRAM {
            contenders.push((Cni::NAME, Box::new(Cni)));
        } else {
            contenders.push((Netavark::NAME, Box::new(Netavark)));
        }
    }
    let mut times = vec![Samples::default(); contenders.len()];
    let mut socket = kernel::netlink::Socket::route()?;
    // The first makes bridges and rules, and does not count.
    for round in 0..=options.rounds / 10 {
        let sandboxes = Sandbox::make(contenders.len())?;
        for turn in 0..contenders.len() {
            let who = (turn + round) % contenders.len();
            let (name, contender) = &mut contenders[who];
            settle(&mut socket)?;
            // While it was quiet the processors fell asleep, and somebody has to wake them up.
            execute(&mut Command::new("true"), "")?;
            let took = contender.attach(round, &sandboxes[who]).context(*name)?;
            if round > 0 {
                times[who].add(took);
            }
        }
        for ((name, contender), sandbox) in contenders.iter_mut().zip(&sandboxes) {
            contender.detach(round, sandbox).context(*name)?;
        }
    }
    let mut times = contenders.iter().map(|(name, _)| *name).zip(times);
    let (_, ours) = times.next().context("we are there")?;
    report.row(Row::new("attach by an executed plugin", "ms", ours.clone()).at_most(3.0));
    for (name, peer) in times {
        report.row(
            Row::new("attach by an executed plugin", "ms", ours.clone())
                .beside(name, peer)
                .times_faster(10.0),
        );
    }
    Ok(())
}

/// Executes a program as a runtime does, and says how long it took.
fn execute(command: &mut Command, input: &str) -> Result<Duration> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    child.stdin.take().context("it was asked for")?.write_all(input.as_bytes())?;
    let output = child.wait_with_output()?;
    let took = start.elapsed();
    let said = String::from_utf8_lossy(&output.stdout);
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{}: {said}{complained}", output.status);
    Ok(took)
}

/// `netd-bridge`, with netd at its side.
struct Ours(Daemon);

impl Ours {
    fn new() -> Result<Self> {
        let mut daemon = Daemon::start("plugin")?;
        daemon.create(NETWORK, 79)?;
        Ok(Self(daemon))
    }

    fn execute(&self, line: &str) -> Result<Duration> {
        let mut plugin = Command::new(binary("netd-bridge")?);
        execute(plugin.env("NETD_SOCKET", self.0.socket()), line)
    }
}

impl Contender for Ours {
    fn attach(&mut self, n: usize, sandbox: &Sandbox) -> Result<Duration> {
        let netns = Netns::Path(sandbox.path());
        let attach = daemon::request(NETWORK, n, netns, Vec::new())?;
        self.execute(&Request::new(1, &attach).to_line())
    }

    fn detach(&mut self, n: usize, _: &Sandbox) -> Result<()> {
        let container = format!("container-{n}");
        let detach = Detach { network: Some(NETWORK.to_owned()), container, ifname: None };
        self.execute(&Request::new(1, &detach).to_line()).map(drop)
    }
}

/// The reference plugins of the Container Network Interface.
struct Cni;

impl Cni {
    const NAME: &'static str = "CNI bridge, host-local";
    const PROGRAM: &'static str = "/usr/lib/cni/bridge";

    fn execute(command: &str, n: usize, sandbox: &Sandbox) -> Result<Duration> {
        let config = json!({
            "cniVersion": "1.0.0",
            "name": "cnibench",
            "type": "bridge",
            "bridge": "cni0",
            "isGateway": true,
            "ipMasq": true,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.75.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        });
        let mut plugin = Command::new(Self::PROGRAM);
        plugin
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", format!("container-{n}"))
            .env("CNI_NETNS", sandbox.path())
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", "/usr/lib/cni");
        execute(&mut plugin, &config.to_string())
    }
}

impl Contender for Cni {
    fn attach(&mut self, n: usize, sandbox: &Sandbox) -> Result<Duration> {
        Self::execute("ADD", n, sandbox)
    }

    fn detach(&mut self, n: usize, sandbox: &Sandbox) -> Result<()> {
        Self::execute("DEL", n, sandbox).map(drop)
    }
}

/// Podman's.
struct Netavark;

impl Netavark {
    const NAME: &'static str = "netavark setup";
    const PROGRAM: &'static str = "/usr/lib/podman/netavark";

    fn execute(command: &str, n: usize, sandbox: &Sandbox) -> Result<Duration> {
        let [high, low] = u16::try_from(n + 2)?.to_be_bytes();
        let config = json!({
            "container_id": format!("{n:064x}"),
            "container_name": format!("web-{n}"),
            "networks": {"nvbench": {
                "interface_name": "eth0",
                "static_ips": [format!("10.74.{high}.{low}")],
            }},
            "network_info": {"nvbench": {
                "name": "nvbench",
                "id": "a".repeat(64),
                "driver": "bridge",
                "network_interface": "nv0",
                "subnets": [{"subnet": "10.74.0.0/16", "gateway": "10.74.0.1"}],
                "ipv6_enabled": false,
                "internal": false,
                "dns_enabled": false,
            }},
        });
        fs::create_dir_all("/run/bench/netavark")?;
        let mut netavark = Command::new(Self::PROGRAM);
        netavark.args(["--config", "/run/bench/netavark", command]).arg(sandbox.path());
        execute(&mut netavark, &config.to_string())
    }
}

impl Contender for Netavark {
    fn attach(&mut self, n: usize, sandbox: &Sandbox) -> Result<Duration> {
        Self::execute("setup", n, sandbox)
    }

    fn detach(&mut self, n: usize, sandbox: &Sandbox) -> Result<()> {
        Self::execute("teardown", n, sandbox).map(drop)
    }
}
