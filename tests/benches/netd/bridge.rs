//! Traffic between two containers of one network on one host, beside the same over a bridge made by
//! hand: on a host that has no firewall, and, where bridged frames pass the rules for IP, on the same host.

use anyhow::{Context, Result};

use crate::{
    Options,
    daemon::{self, Daemon},
    report::{Report, Row},
    sandbox::Sandbox,
    traffic::{BRIDGED, Measured, Side, filter_bridged, filter_bridged_on, measure, run, run_here},
    world::NETWORK,
};

const BY_HAND: &str = "bare bridge";
const BESIDE: &str = "bare bridge on the same host";
const BARE: &str = "bare bridge, host without a firewall";

/// Two containers on a network of netd's.
fn ours() -> Result<(Side, Daemon)> {
    let mut daemon = Daemon::start("bridge-traffic")?;
    daemon.create(NETWORK, 79)?;
    let containers = Sandbox::make(2)?;
    let mut to = None;
    for (n, container) in containers.iter().enumerate() {
        let (_, endpoint) = daemon::attach(&mut daemon.client, NETWORK, n, container, Vec::new())?;
        to = endpoint.addresses.first().map(|address| address.ip());
    }
    Ok((Side::new(containers, [0, 1], to.context("it has an address")?)?, daemon))
}

/// As one would with `ip`, on a host of its own or, without one, on that of the calling thread.
fn by_hand(host: Option<Sandbox>) -> Result<Side> {
    let on_host = |script: &str| match &host {
        Some(host) => run(host, script),
        None => run_here(script),
    };
    let mut sandboxes = Sandbox::make(2)?;
    on_host("ip link add br0 type bridge mcast_snooping 0; ip link set br0 up")?;
    for (container, last) in sandboxes.iter().zip(1..) {
        let there = container.path();
        on_host(&format!(
            "ip link add c{last} numtxqueues 1 numrxqueues 1 type veth \
               peer name eth0 numtxqueues 1 numrxqueues 1 netns {there}; \
             ip link set c{last} master br0 up"
        ))?;
        let own = format!("ip link set eth0 up; ip address add 10.9.0.{last}/16 dev eth0");
        run(container, &own)?;
    }
    sandboxes.extend(host);
    Side::new(sandboxes, [0, 1], [10, 9, 0, 2].into())
}

/// One stream, round trips and datagrams.
pub(crate) fn traffic(options: &Options, report: &mut Report) -> Result<()> {
    let (ours, _daemon) = ours()?;
    let beside = by_hand(None)?;
    let bare = by_hand(Sandbox::make(1)?.pop())?;
    for (on, how) in BRIDGED {
        filter_bridged(on)?;
        filter_bridged_on(&bare.sandboxes[2], on)?;
        for Measured { what, unit, samples } in measure(options, [&ours, &beside, &bare])? {
            let what = format!("on one host{how}: {what}");
            let [our, beside, bare] = samples;
            if on {
                // What passes the rules for IP is as fast as those of its host let it be.
                let row = Row::new(&what, unit, our.clone()).beside(BESIDE, beside);
                report.row(row.at_least_times(0.97));
                report.row(Row::new(what, unit, our).beside(BARE, bare));
            } else {
                let row = Row::new(what, unit, our).beside(BY_HAND, bare);
                report.row(row.at_least_times(0.97));
            }
        }
    }
    Ok(())
}
