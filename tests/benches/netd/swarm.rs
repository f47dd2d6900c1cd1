//! Traffic between containers on two hosts beside Docker Swarm's overlay: two dockerds, Debian's, in a
//! swarm of their own, on hosts like ours.

use std::net::IpAddr;

use anyhow::{Context, Result};
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
    join(&dockerds);
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

/// Makes a swarm of two, and its network.
fn join([first, second]: &[Dockerd<'_>; 2]) {
    first.docker(&["swarm", "init", "--advertise-addr", "192.0.2.1"]).success();
    let token = first.docker(&["swarm", "join-token", "--quiet", "worker"]);
    let join = ["swarm", "join", "--advertise-addr", "192.0.2.2", "--token"];
    let whither = [token.success().trim(), "192.0.2.1:2377"];
    second.docker(&[&join[..], &whither].concat()).success();
    first.docker(&["network", "create", "-d", "overlay", "--attachable", NETWORK]).success();
}

/// Two containers on it, in place of those before.
fn theirs([first, second]: &[Dockerd<'_>; 2]) -> Result<Side> {
    let (from, _) = container(first, "s1")?;
    let (there, to) = container(second, "s2")?;
    Side::between([from, there], to)
}

/// A container, in place of one before: a path to its namespace, and its address.
fn container(dockerd: &Dockerd<'_>, name: &str) -> Result<(String, IpAddr)> {
    dockerd.docker(&["rm", "--force", name]);
    dockerd.run(name, NETWORK, &[], &["sleep", "100000"]);
    let settings = dockerd.inspect(&["inspect", name])["NetworkSettings"].take();
    let key = settings["SandboxKey"].as_str().context("it has a namespace")?;
    let address = settings["Networks"][NETWORK]["IPAddress"].as_str().context("an address")?;
    Ok((format!("/proc/{}/root{key}", dockerd.pid()), address.parse()?))
}
