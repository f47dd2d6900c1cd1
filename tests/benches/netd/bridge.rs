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

/// Two containers on a network of netd's, of these numbers.
fn ours(daemon: &mut Daemon, numbers: [usize; 2]) -> Result<Side> {
    let containers = Sandbox::make(2)?;
    let mut to = None;
    for (n, container) in numbers.into_iter().zip(&containers) {
        let (_, endpoint) = daemon::attach(&mut daemon.client, NETWORK, n, container, Vec::new())?;
        to = endpoint.addresses.first().map(|address| address.ip());
    }
    Side::new(containers, [0, 1], to.context("it has an address")?)
}

/// As one would with `ip`, on a host of its own or, without one, on that of the calling thread.
fn by_hand(host: Option<Sandbox>) -> Result<Side> {
    let on_host = |script: &str| match &host {
        Some(host) => run(host, script),
        None => run_here(script),
    };
    let mut sandboxes = Sandbox::make(2)?;
    on_host(
        "for link in br0 c1 c2; do ip link delete $link 2>/dev/null || true; done; \
         ip link add br0 type bridge mcast_snooping 0; ip link set br0 up",
    )?;
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
    let mut daemon = Daemon::start("bridge-traffic")?;
    daemon.create(NETWORK, 79)?;
    let mut number = 0..;
    for (on, how) in BRIDGED {
        let make = || {
            let mut next = || number.next().context("there are more numbers");
            let ours = ours(&mut daemon, [next()?, next()?])?;
            let beside = by_hand(None)?;
            let bare = by_hand(Sandbox::make(1)?.pop())?;
            filter_bridged(on)?;
            filter_bridged_on(&bare.sandboxes[2], on)?;
            Ok(([ours, beside, bare], ()))
        };
        for Measured { what, unit, samples } in measure(options, make)? {
            let what = format!("on one host{how}: {what}");
            let [our, beside, bare] = samples;
            if on {
                // What passes the rules for IP is as fast as those of its host let it be.
                let row = Row::new(&what, unit, our.clone()).beside_by_turns(BESIDE, beside);
                report.row(row.at_least_times(0.97));
                report.row(Row::new(what, unit, our).beside_by_turns(BARE, bare));
            } else {
                let row = Row::new(what, unit, our).beside_by_turns(BY_HAND, bare);
                report.row(row.at_least_times(0.97));
            }
        }
    }
    Ok(())
}
