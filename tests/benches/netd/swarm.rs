//! Traffic between containers on two hosts beside Docker Swarm's overlay: two dockerds, Debian's, in a
//! swarm of their own, on hosts like ours.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};
use netd_tests::{Dockerd, World};

use crate::{
    Options,
    overlay::{ours, plug_into, underlay},
    report::{Report, Row},
    traffic::{BRIDGED, Measured, Side, filter_bridged_on, measure},
};

const SWARM: &str = "Docker Swarm's overlay";

/// The network that is theirs.
const NETWORK: &str = "theirs";

/// Theirs as it comes: its bridge is in a namespace of its own, where there are no rules.
pub(crate) fn traffic(options: &Options, report: &mut Report) -> Result<()> {
    let world = World::new();
    let wire = underlay()?;
    let hosts = [world.namespace(), world.namespace()];
    let machines = [world.machine("m1", &hosts[0]), world.machine("m2", &hosts[1])];
    for (host, last) in hosts.iter().zip(1..) {
        plug_into(&wire, last, &host.path())?;
    }
    let dockerds = machines.each_ref().map(|machine| Dockerd::start_with(machine, &[]));
    join(&dockerds)?;
    for (on, how) in BRIDGED {
        let make = || {
            let wire = underlay()?;
            let (ours, sessions) = ours(&wire)?;
            for host in [&ours.sandboxes[0], &ours.sandboxes[2]] {
                filter_bridged_on(host, on)?;
            }
            Ok(([ours, theirs(&dockerds)?], (wire, sessions)))
        };
        for Measured { what, unit, samples } in measure(options, make)? {
            let [our, their] = samples;
            let what = format!("across hosts{how}: {what}");
            report.row(Row::new(what, unit, our).beside_by_turns(SWARM, their));
        }
    }
    Ok(())
}

fn said(dockerd: &Dockerd<'_>, words: &[&str]) -> Result<String> {
    let made = dockerd.docker(words);
    ensure!(made.code == 0, "docker {}: {made:?}\n{}", words.join(" "), dockerd.log());
    Ok(made.stdout.trim().to_owned())
}

/// Makes a swarm of two, and its network.
fn join([first, second]: &[Dockerd<'_>; 2]) -> Result<()> {
    said(first, &["swarm", "init", "--advertise-addr", "192.0.2.1"])?;
    let token = said(first, &["swarm", "join-token", "--quiet", "worker"])?;
    let join = ["swarm", "join", "--advertise-addr", "192.0.2.2", "--token", &token];
    said(second, &[&join[..], &["192.0.2.1:2377"]].concat())?;
    said(first, &["network", "create", "-d", "overlay", "--attachable", NETWORK]).map(drop)
}

/// Two containers on it, in place of those before.
fn theirs(dockerds: &[Dockerd<'_>; 2]) -> Result<Side> {
    let mut made = Vec::new();
    for (dockerd, name) in dockerds.iter().zip(["s1", "s2"]) {
        dockerd.docker(&["rm", "--force", name]);
        dockerd.run(name, NETWORK, &[], &["sleep", "100000"]);
        let told = dockerd.inspect(&["inspect", name]);
        let settings = &told["NetworkSettings"];
        let key = settings["SandboxKey"].as_str().context("it has a namespace")?;
        let address = settings["Networks"][NETWORK]["IPAddress"].as_str().context("an address")?;
        made.push((format!("/proc/{}/root{key}", dockerd.pid()), address.parse::<IpAddr>()?));
    }
    let [(from, _), (there, to)] = &made[..] else { unreachable!("a container for each") };
    Side::between([from.clone(), there.clone()], *to)
}
