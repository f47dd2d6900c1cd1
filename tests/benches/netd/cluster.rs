//! Many hosts in one cluster: how soon what one of them has is known to all, how netd comes back
//! when others have much, and what all that takes. Hosts are namespaces on one bridge with a netd
//! each; the first runs the cluster's etcd, as `netctl cluster init` starts it, with TLS.

mod fleet;
mod known;
mod probe;
mod rows;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cnm::client::Client;

use crate::{
    Options, daemon,
    place::wait_until,
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    thousand::resident,
};
use fleet::{Fleet, NETWORK};
use probe::Stream;
use rows::Others;

/// How many endpoints there are elsewhere, for what grows with them.
const MANY: u32 = 10_000;

/// The line of `/proc/PID/status` that has the memory which is a process's own (proc(5)).
const OWN: &str = "RssAnon";

/// From the answer to an attach on one of 10 hosts until a container on each of them has resolved
/// the new one's name and had an echo of it. Each asks every 2 ms, which is in the figure, as is the
/// load of that.
pub(crate) fn reach(options: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(10)?;
    let mut times = Samples::default();
    // The first ones have hosts claim addresses.
    for n in 0..options.rounds.div_ceil(3) + 10 {
        let sandbox = Sandbox::make(1)?.pop().context("one was asked for")?;
        let echo = probe::Echo::inside(&sandbox)?;
        let name = format!("{}.{NETWORK}.netd", daemon::name_of(n));
        let host = n % fleet.hosts.len();
        let address = fleet.attach(host, n, &sandbox)?;
        let took = probe::until_reached(&fleet.observers, &echo, &name)?;
        if n >= 10 {
            times.add(took);
        }
        daemon::detach(&mut fleet.hosts[host].client, NETWORK, n)?;
        for observer in &mut fleet.observers {
            observer.forget(address)?;
        }
    }
    let row = Row::new("an endpoint, resolved and reached from each of 10 hosts", "ms", times);
    report.row(row.at_most(25.0).at_most_of(99, 150.0));
    Ok(())
}

/// 1,000 endpoints on 10 hosts.
pub(crate) fn burst(_: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(10)?;
    let (attached, known) = many_at_once(&mut fleet, 100)?;
    let row = Row::new("1000 endpoints at once on 10 hosts, known to all", "ms", known);
    report.row(row.at_most(3000.0));
    report.row(Row::new("of which attaching them", "ms", attached));
    Ok(())
}

/// 50 hosts with 10 endpoints each.
pub(crate) fn hosts(_: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(50)?;
    let joins = Row::new("a host joins, the 2nd to the 50th", "ms", fleet.joins.clone());
    report.row(joins.at_most(2000.0));
    let (attached, known) = many_at_once(&mut fleet, 10)?;
    report.row(Row::new("500 endpoints at once on 50 hosts, known to all", "ms", known));
    report.row(Row::new("of which attaching them", "ms", attached));
    Ok(())
}

/// Attaches `each` containers to every host at the same time. How long until the last attach was
/// answered, and until every host had all of them, in the kernel and by name.
fn many_at_once(fleet: &mut Fleet, each: usize) -> Result<(Samples, Samples)> {
    let sandboxes: Vec<_> =
        fleet.hosts.iter().map(|_| Sandbox::make(each)).collect::<Result<_>>()?;
    let clients: Vec<_> = fleet.hosts.iter().map(daemon::Daemon::connect).collect::<Result<_>>()?;
    let start = Instant::now();
    let attach = &|host: usize, mut client: Client| -> Result<()> {
        for (n, sandbox) in sandboxes[host].iter().enumerate() {
            daemon::attach(&mut client, NETWORK, host * each + n, sandbox, Vec::new())?;
        }
        Ok(())
    };
    thread::scope(|scope| -> Result<()> {
        let clients = clients.into_iter().enumerate();
        let threads: Vec<_> =
            clients.map(|(host, client)| scope.spawn(move || attach(host, client))).collect();
        for thread in threads {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        Ok(())
    })?;
    let attached = start.elapsed();
    let hosts = fleet.hosts.len();
    let last: Vec<_> = (1..=hosts).map(|host| daemon::name_of(host * each - 1)).collect();
    known::until_all(fleet, (hosts - 1) * (each + 1), &last)?;
    let (mut attach, mut known) = (Samples::default(), Samples::default());
    attach.add(attached);
    known.add(start.elapsed());
    Ok((attach, known))
}

/// A worker whose netd is killed and started again, with 10,000 endpoints elsewhere: until it knows
/// what it missed, in the kernel and by name. Datagrams cross between two containers meanwhile, one
/// each millisecond. The 10,000 are on 50 nodes that the benchmark writes into etcd, and are no
/// hosts.
pub(crate) fn restart(options: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(2)?;
    let others = Others::of(&mut fleet)?;
    others.write_nodes()?;
    others.write(0..MANY)?;
    known::until_kernel(&fleet, 1, MANY as usize + 1)?;
    let (mut times, mut lost) = (Samples::default(), 0);
    for round in 0..u32::try_from(options.rounds.div_ceil(60))? {
        let stream = Stream::start(&fleet.observers[0], &fleet.observers[1])?;
        fleet.hosts[1].kill()?;
        // What happens while it is away: one comes, one goes.
        others.write(MANY + round..MANY + round + 1)?;
        others.delete(round)?;
        let start = Instant::now();
        fleet.revive(1)?;
        let new = format!("{}.{NETWORK}.netd", rows::name_of(MANY + round));
        let gone = format!("{}.{NETWORK}.netd", rows::name_of(round));
        fleet.observers[1].until_resolved(&new, true)?;
        fleet.observers[1].until_resolved(&gone, false)?;
        times.add(start.elapsed());
        let (sent, arrived) = stream.end()?;
        ensure!(sent > 20, "{sent} datagrams were sent");
        lost += sent - arrived;
    }
    let what = "netd again, in sync with 10,000 endpoints elsewhere";
    report.row(Row::new(what, "ms", times).at_most(2000.0));
    let row = Row::new("of which datagrams lost", "", Samples::from(f64::from(lost)));
    report.row(row.at_most(0.0));
    Ok(())
}

/// Resident memory of a worker's netd for each of 10,000 endpoints elsewhere, which the benchmark
/// writes into etcd, and of the overlay driver. Only what is their own counts, since code that is
/// read in for the first time would be in the figure.
pub(crate) fn memory(_: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(2)?;
    let others = Others::of(&mut fleet)?;
    others.write_nodes()?;
    let pids = |fleet: &mut Fleet| -> Result<(u32, u32)> {
        let drivers = fleet.hosts[1].status()?.drivers;
        let overlay = drivers.iter().find(|driver| driver.name == "overlay");
        let overlay = overlay.and_then(|driver| driver.pid).context("no driver")?;
        Ok((fleet.hosts[1].pid(), overlay))
    };
    let (netd, driver) = pids(&mut fleet)?;
    let before = (resident(netd, OWN)?, resident(driver, OWN)?);
    others.write(0..MANY)?;
    known::until_kernel(&fleet, 1, MANY as usize + 1)?;
    let name = format!("{}.{NETWORK}.netd", rows::name_of(MANY - 1));
    fleet.observers[1].until_resolved(&name, true)?;
    let after = (resident(netd, OWN)?, resident(driver, OWN)?);
    let each = |before: f64, after: f64| (after - before) * 1024.0 / f64::from(MANY);
    let (of_netd, of_driver) = (each(before.0, after.0), each(before.1, after.1));
    let what = "memory of netd for each of 10,000 endpoints elsewhere";
    report.row(Row::new(what, "KiB", of_netd.into()).at_most(1.0));
    fleet.hosts[1].kill()?;
    fleet.revive(1)?;
    fleet.observers[1].until_resolved(&name, true)?;
    wait_until("netd is in sync", || fleet.is_complete(1))?;
    let (netd, driver) = pids(&mut fleet)?;
    let again = (resident(netd, OWN)?, resident(driver, OWN)?);
    report.note(format!(
        "memory with 10,000 endpoints elsewhere: netd {:.1} MB, before them {:.1} MB, {:.1} MB when \
         it was started again ({:.2} KiB each); the driver {:.1} MB, {:.1} MB and {:.1} MB ({:.2} \
         KiB each)",
        after.0,
        before.0,
        again.0,
        each(before.0, again.0),
        after.1,
        before.1,
        again.1,
        of_driver
    ));
    Ok(())
}

/// What an attach to a network of the cluster takes in etcd: revisions, and bytes of its row.
pub(crate) fn store(options: &Options, report: &mut Report) -> Result<()> {
    let mut fleet = Fleet::new(2)?;
    let others = Others::of(&mut fleet)?;
    let count = options.rounds.div_ceil(3).max(10);
    let sandboxes = Sandbox::make(count)?;
    let attached = f64::from(u32::try_from(count)?);
    let mut steps = Vec::new();
    let mut revision = others.revision()?;
    let mut step = |steps: &mut Vec<f64>| -> Result<()> {
        let now = others.revision()?;
        steps.push(f64::from(u32::try_from(now - revision)?) / attached);
        revision = now;
        Ok(())
    };
    for (n, sandbox) in sandboxes.iter().enumerate() {
        fleet.attach(1, n, sandbox)?;
        fleet.until_written(1)?;
    }
    step(&mut steps)?;
    let (bytes, rows) = others.bytes_of_endpoints()?;
    for n in 0..count {
        daemon::detach(&mut fleet.hosts[1].client, NETWORK, n)?;
        fleet.until_written(1)?;
    }
    step(&mut steps)?;
    for (n, sandbox) in sandboxes.iter().enumerate() {
        fleet.attach(1, n, sandbox)?;
    }
    fleet.until_written(1)?;
    step(&mut steps)?;
    let row = |what, value: f64| Row::new(what, "", value.into());
    report.row(row("revisions of etcd for an attach", steps[0]).at_most(1.5));
    report.row(row("revisions of etcd for a detach", steps[1]).at_most(1.5));
    report.row(row("revisions for an attach, many in a row", steps[2]).at_most(1.0));
    report.row(Row::new("bytes of an endpoint in etcd", "", (bytes / rows).into()).at_most(500.0));
    Ok(())
}

/// How long anything may take here.
const PATIENCE: Duration = Duration::from_secs(60);
