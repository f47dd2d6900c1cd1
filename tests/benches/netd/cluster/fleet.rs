//! The hosts: namespaces on one bridge, a netd in each, all in one cluster.

use std::{
    fs,
    net::IpAddr,
    sync::atomic::{AtomicU32, Ordering},
    time::Instant,
};

use anyhow::{Context, Result};
use cnm::{
    cluster::{CLUSTER_PORT, ClusterStatus, GetCluster, InitCluster, JoinCluster},
    network::{CreateNetwork, ListNetworks, Subnet},
};
use kernel::netns::Netns;

use super::probe::Observer;
use crate::{
    daemon::{self, Daemon},
    overlay,
    place::wait_until,
    report::Samples,
    sandbox::Sandbox,
};

/// The network that is measured.
pub(crate) const NETWORK: &str = "shop";

/// The number of the first observer, as a container.
const OBSERVERS: usize = 100_000;

/// How many fleets there have been.
static FLEETS: AtomicU32 = AtomicU32::new(0);

/// Hosts in one cluster with one network, which is up on all of them.
pub(crate) struct Fleet {
    pub(crate) hosts: Vec<Daemon>,
    /// A container on each.
    pub(crate) observers: Vec<Observer>,
    /// How long each took to join.
    pub(crate) joins: Samples,
    places: Vec<Netns>,
    home: Netns,
    /// The hosts' namespaces, and after them that of the wire.
    kept: Vec<Sandbox>,
}

/// Where a host is on the underlay.
fn address(host: usize) -> Result<IpAddr> {
    Ok(IpAddr::from([192, 0, 2, u8::try_from(host + 1)?]))
}

impl Fleet {
    pub(crate) fn new(count: usize) -> Result<Self> {
        let wire = overlay::underlay()?;
        let home = Netns::own()?;
        // What one of them stored must not be found by the next.
        let fleets = FLEETS.fetch_add(1, Ordering::Relaxed);
        let mut fleet = Self {
            hosts: Vec::new(),
            observers: Vec::new(),
            joins: Samples::default(),
            places: Vec::new(),
            home,
            kept: Vec::new(),
        };
        let mut token = String::new();
        for host in 0..count {
            let sandbox = overlay::plug(&wire, u32::try_from(host + 1)?)?;
            let place = Netns::open(&sandbox.path())?;
            let name = format!("h{}-{fleets}", host + 1);
            let mut daemon = place.inside(&fleet.home, || Daemon::start(&name))??;
            let start = Instant::now();
            if host == 0 {
                let advertise = Some(address(0)?);
                let init = InitCluster { advertise, ..InitCluster::default() };
                token = daemon.client.call(&init)?.token.context("it lets others in")?;
            } else {
                let manager = (address(0)?, CLUSTER_PORT).into();
                let join = JoinCluster { token: token.clone(), manager, advertise: None };
                daemon.client.call(&join)?;
                fleet.joins.add(start.elapsed());
            }
            fleet.hosts.push(daemon);
            fleet.places.push(place);
            fleet.kept.push(sandbox);
        }
        fleet.kept.push(wire);
        let mut create = CreateNetwork::named(NETWORK);
        create.driver = Some("overlay".to_owned());
        // The rest of it is for those that are no hosts.
        let mut subnet = Subnet::new("10.208.0.0/12".parse()?);
        subnet.range = Some("10.208.0.0/13".parse()?);
        create.subnets = vec![subnet];
        fleet.hosts[0].client.call(&create)?;
        for host in 0..count {
            wait_until("every host sees the network", || {
                let listed = fleet.hosts[host].client.call(&ListNetworks::default())?;
                Ok(listed.networks.iter().any(|network| network.name.as_str() == NETWORK))
            })?;
            let sandbox = Sandbox::make(1)?.pop().context("one was asked for")?;
            let address = fleet.attach(host, OBSERVERS + host, &sandbox)?;
            fleet.observers.push(Observer::inside(sandbox, address, [10, 208, 0, 1].into())?);
        }
        super::known::until_all(&mut fleet, count - 1, &[])?;
        Ok(fleet)
    }

    /// Attaches container number `n` to a host.
    pub(crate) fn attach(&mut self, host: usize, n: usize, sandbox: &Sandbox) -> Result<IpAddr> {
        let client = &mut self.hosts[host].client;
        let endpoint = daemon::attach(client, NETWORK, n, sandbox, Vec::new())?.1;
        Ok(endpoint.addresses.first().context("it has an address")?.ip())
    }

    /// How the cluster looks from a host.
    pub(crate) fn status(&self, host: usize) -> Result<ClusterStatus> {
        Ok(self.hosts[host].connect()?.call(&GetCluster {})?)
    }

    /// Whether a host knows everything.
    pub(crate) fn is_complete(&self, host: usize) -> Result<bool> {
        Ok(self.status(host)?.complete)
    }

    /// Waits until others can know what a host has.
    pub(crate) fn until_written(&self, host: usize) -> Result<()> {
        wait_until("what a host has is in the store", || Ok(self.status(host)?.unwritten == 0))
    }

    /// Starts a host's netd again.
    pub(crate) fn revive(&mut self, host: usize) -> Result<()> {
        let Self { hosts, places, home, .. } = self;
        places[host].inside(home, || hosts[host].revive())?
    }

    /// A host's namespace.
    pub(crate) fn place(&self, host: usize) -> Result<Netns> {
        Ok(Netns::open(&self.kept[host].path())?)
    }

    /// Does something in a host's namespace.
    pub(crate) fn inside<T>(&self, host: usize, work: impl FnOnce() -> T) -> Result<T> {
        Ok(self.places[host].inside(&self.home, work)?)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // It outlives its netd, and would be in the way of what is measured next.
        let Some(first) = self.hosts.first() else { return };
        let Ok(kept) = fs::read_to_string(first.dir().join("run/etcd.pid")) else { return };
        let pid = kept.split_whitespace().next().and_then(|pid| pid.parse().ok());
        let Some(pid) = pid.map(nix::unistd::Pid::from_raw) else { return };
        if let Err(error) = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL) {
            eprintln!("etcd does not end: {error}");
        }
    }
}
