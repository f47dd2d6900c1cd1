//! `podman run` until the container runs: on netavark, on netd in its place and, with a newer Podman,
//! on netd as its plugin. Each has a Podman of its own, on one host; turns are taken.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use netd_tests::{Machine, Podman, World};

use crate::{
    Options,
    report::{Report, Row, Samples},
};

/// Where `make deps-runtimes` lays out newer runtimes.
const NEWER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/runtimes/trixie");

/// What each Podman has for itself, though all see one `/run`.
const OWN: &str = r#"for place in containers libpod lock; do
    mkdir -p /run/$place && mount -t tmpfs tmpfs /run/$place || exit; done"#;

/// How many ports a container publishes, and how many rounds of that are made.
const PORTS: [(u16, usize); 3] = [(1, 10), (100, 2), (1000, 2)];

/// With how many the netavark of Podman 4 is still asked: with a thousand it was seen to take 104 s.
const BEARABLE: u16 = 100;

/// All of it.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    if !Path::new("/usr/lib/podman/netavark").exists() {
        report.note("there is no netavark: podman run is not compared".to_owned());
        return Ok(());
    }
    let rounds = (options.rounds / 15).max(1);
    let world = World::new();
    let host = world.host("a");
    symlink(host.run_dir(), "/run/netd")?;
    let here = |name: &str| world.machine(name, &host.netns);
    compare(4, rounds, &[here("drop-in-4"), here("netavark-4")], report)?;
    let Ok(newer) = fs::canonicalize(NEWER) else {
        report.note("no newer runtimes (make deps-runtimes): Podman 5 is not measured".to_owned());
        return Ok(());
    };
    let there = |name: &str| world.machine_of(name, &host.netns, &newer);
    let machines = [there("drop-in-5"), there("netavark-5"), there("plugin-5")];
    compare(5, rounds, &machines, report)
}

/// The place of netavark among the contenders.
const NETAVARK: usize = 1;

/// One Podman, and its network.
struct Contender<'a> {
    podman: Podman<'a>,
    network: String,
    count: usize,
}

/// Takes turns between netd in netavark's place, netavark, and perhaps netd's plugin.
fn compare(version: u8, rounds: usize, machines: &[Machine], report: &mut Report) -> Result<()> {
    let mut contenders = Vec::new();
    for (place, machine) in machines.iter().enumerate() {
        let own = machine.run(&["sh", "-c", OWN]);
        ensure!(own.code == 0, "{own:?}");
        let (network, subnet) =
            (format!("n{version}{place}"), format!("10.{version}{place}.0.0/16"));
        let (podman, driver) = match place {
            0 => (Podman::with_netd(machine, &["--drop-in"]), "bridge"),
            NETAVARK => (Podman::unchanged(machine), "bridge"),
            _ => (Podman::with_netd(machine, &[]), "netd-bridge"),
        };
        let create = ["network", "create", "-d", driver, "--subnet", &subnet, &network];
        let created = podman.execute(&create);
        ensure!(created.code == 0, "{created:?}");
        let mut contender = Contender { podman, network, count: 0 };
        // One that stays, so that the network is there.
        contender.start(0)?;
        contenders.push(contender);
    }
    let mut cases = vec![("podman run".to_owned(), 0, rounds)];
    for (ports, rounds) in PORTS {
        let plural = if ports == 1 { "" } else { "s" };
        cases.push((format!("podman run, {ports} port{plural}"), ports, rounds));
    }
    for (what, ports, rounds) in cases {
        let mut samples = vec![Samples::default(); contenders.len()];
        for round in 0..rounds {
            for turn in 0..contenders.len() {
                let turn = (turn + round) % contenders.len();
                if turn == NETAVARK && version == 4 && ports > BEARABLE {
                    continue;
                }
                samples[turn].add(contenders[turn].run(ports)?);
            }
        }
        let mut samples = samples.into_iter();
        let (drop_in, netavark) = (samples.next(), samples.next());
        let netavark = netavark.context("there are two at least")?;
        for (way, ours) in [("drop-in", drop_in), ("plugin", samples.next())] {
            let Some(ours) = ours else { continue };
            let row = Row::new(format!("{what}, Podman {version}, {way}"), "ms", ours);
            report.row(match netavark.len() {
                0 => row,
                _ => row.beside("netavark", netavark.clone()),
            });
        }
    }
    Ok(())
}

impl Contender<'_> {
    /// How long it takes until a container runs that publishes so many ports.
    fn run(&mut self, ports: u16) -> Result<Duration> {
        let took = self.start(ports)?;
        let name = self.name();
        let removed = self.podman.execute(&["rm", "--force", "--time", "0", &name]);
        ensure!(removed.code == 0, "{removed:?}");
        Ok(took)
    }

    fn start(&mut self, ports: u16) -> Result<Duration> {
        self.count += 1;
        let name = self.name();
        let mut options: Vec<String> =
            ["--detach", "--network", &self.network, "--name", &name].map(str::to_owned).to_vec();
        // Every other one: Podman makes one of those that follow each other.
        for port in 0..ports {
            options.extend(["--publish".to_owned(), format!("{}:80", 20_000 + 2 * port)]);
        }
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let begun = Instant::now();
        let run = self.podman.run(&options, &["sleep", "infinity"]);
        let took = begun.elapsed();
        ensure!(run.code == 0, "{run:?}");
        Ok(took)
    }

    fn name(&self) -> String {
        format!("c{}", self.count)
    }
}
