//! Waiting until hosts know what there is on others: in the kernel, and by name.

use anyhow::{Context, Result};
use kernel::{
    fdb::{self, Row},
    links,
    netlink::Socket,
};

use super::fleet::{Fleet, NETWORK};
use crate::place::wait_until;

/// Until every host has so many endpoints of others in the kernel, and each of these names resolves
/// on each. Looking takes some milliseconds for each host, all of them after the last attach.
pub(crate) fn until_all(fleet: &mut Fleet, count: usize, names: &[String]) -> Result<()> {
    for host in 0..fleet.hosts.len() {
        until_kernel(fleet, host, count)?;
    }
    for observer in &fleet.observers {
        for name in names {
            observer.until_resolved(&format!("{name}.{NETWORK}.netd"), true)?;
        }
    }
    Ok(())
}

/// Until a host's kernel leads to so many endpoints of others.
pub(crate) fn until_kernel(fleet: &Fleet, host: usize, count: usize) -> Result<()> {
    let mut socket = fleet.inside(host, Socket::route)??;
    let all = links::all(&mut socket)?;
    let is_tunnel =
        |link: &&links::Link| link.kind.as_deref() == Some("vxlan") && link.master.is_some();
    let tunnel = all.iter().find(is_tunnel).context("the network has no VXLAN device")?.index;
    let elsewhere = u64::try_from(count)?;
    wait_until("a host knows of the others", || Ok(fleet.status(host)?.elsewhere == elsewhere))?;
    wait_until("the kernel knows the way to the others", || {
        let rows = fdb::rows(&mut socket, tunnel)?;
        Ok(rows.iter().filter(|row| matches!(row, Row::Forward { .. })).count() == count)
    })
}
