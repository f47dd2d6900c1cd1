//! The life of an attach: names, addresses and ports first, then the intent on record, then the
//! driver, then the record and the names. What fails undoes what came before it, in reverse.

use std::{
    fs::File,
    os::fd::AsRawFd,
    path::Path,
    process,
    rc::Rc,
    time::{Duration, Instant},
};

use cnm::{
    Error, Kind, Result,
    docker::is_of_dockerd,
    driver::{AttachEndpoint, Attached, DetachEndpoint},
    endpoint::{Attach, Container, Endpoint, Netns, State, open_netns},
    fault,
    network::Network,
    options::is_delivered_on_host,
};
use futures_util::future;
use ipnetwork::IpNetwork;
use tokio::sync::OwnedMutexGuard;

use crate::{
    drivers::Session, host::sockets, netd::Netd, networks::lan::is_lan, processes,
    registry::SandboxRecord, server::Line,
};

mod mac;
mod place;
mod reserve;
mod update;
mod wishes;

pub(crate) use place::{Descriptors, check_kind, open};
pub(crate) use wishes::{check_network_wishes, check_outbound};

/// An attach that succeeded.
#[derive(Debug)]
pub(crate) struct Done {
    /// What was made.
    pub(crate) endpoint: Rc<Endpoint>,
    driver: String,
    took: Duration,
}

impl Netd {
    /// `endpoint.attach`.
    pub(crate) async fn attach(
        self: &Rc<Self>,
        mut params: Attach,
        line: &Line,
        key: Option<String>,
    ) -> Result<Rc<Endpoint>> {
        let began = Instant::now();
        fault::point("netd.attach.before-intent");
        let given = match &params.netns {
            Some(netns) => Some(open(netns, &line.descriptors)?),
            None => None,
        };
        let turn = self.turn(&params.container.id).await;
        let _under_way = self.precedence.attach();
        let network = self.registry.borrow().resolve_network(&params.network)?.network.clone();
        let driver = self.driver(&network.driver)?;
        let capabilities = driver.capabilities().await?;
        driver.check_endpoint_options(&params.options)?;
        let netns = Rc::new(if is_delivered_on_host(&params.options) {
            place::on_host(given.as_ref())?
        } else {
            let netns = match given {
                Some(netns) => netns,
                None => self.known_netns(&params).await?,
            };
            place::check(self.host.is_own(&netns), &network, capabilities)?;
            netns
        });
        wishes::fill(&mut params, &network)?;
        let ifname = self.choose_ifname(&network, &params, capabilities)?;
        if let Some(existing) = self.existing(&network, &params, &ifname, key.as_deref())? {
            self.registry.borrow_mut().claim(&existing.id);
            return Ok(existing.into());
        }
        let path = match &params.netns {
            Some(Netns::Path(path)) => Some(path.clone()),
            Some(Netns::Fd) => params.netns_path.take_if(|path| place::leads_to(&netns, path)),
            None => self.known_path(&params.container),
        };
        let sticky = params.sticky;
        if sticky && Self::is_shared(&network.driver) {
            return Err(Error::unsupported(format_args!(
                "network {} spans hosts and keeps no address for a name: ask for the address itself",
                network.name
            ))
            .with("network", network.id.as_str()));
        }
        if is_lan(capabilities) {
            let assigned = params.assigned.iter().flat_map(|assigned| &assigned.addresses);
            let wanted = params.addresses.iter().copied().chain(assigned.map(IpNetwork::ip));
            self.keep_off(&network, &wanted.collect::<Vec<_>>()).await?;
        }
        // Until the endpoint is there, or is not.
        let (_coming, network) = if Self::is_shared(&network.driver) {
            let coming = self.make_room(&network, &params.addresses).await?;
            params.addresses.extend(coming.borrowed());
            // It may have got the subnet in which there was room.
            let registry = self.registry.borrow();
            let now = registry.network(&network.id).map(|entry| entry.network.clone());
            (Some(coming), now.unwrap_or(network))
        } else {
            (None, network)
        };
        let unseen = !params.ports_bound && sockets::are_many(&params.ports);
        let mut endpoint = self.reserve(&network, params, ifname, capabilities, key)?;
        let inside = self.plan_inside(&driver, &network, &mut endpoint, &netns);
        let undo = Undo::new(self.clone(), endpoint, turn);
        inside?;
        if sticky {
            self.remember_sticky(&undo.endpoint)?;
        }
        let (driver_name, spread) = (network.driver.clone(), network.overlay.is_some());
        let made = self.record_and_make(network, undo, &driver, &netns, path.clone(), unseen).await;
        let endpoint = made.map_err(|error| place::explain(error, &netns, path.as_deref()))?;
        self.tell_endpoint("attach", &endpoint);
        if spread {
            self.spread(&endpoint);
            self.keep_spare(&endpoint.network);
        }
        let done = Done { endpoint: endpoint.clone(), driver: driver_name, took: began.elapsed() };
        line.attached.borrow_mut().push(done);
        Ok(endpoint)
    }

    /// Counts and logs an attach: once it is answered, since nobody waits for that.
    pub(crate) fn attached(&self, done: &Done) {
        let Done { endpoint, driver, took } = done;
        self.metrics.attached(driver, *took);
        tracing::info!(
            network = %endpoint.network_name,
            endpoint = endpoint.id.short(),
            container = endpoint.container.label(),
            ifname = %endpoint.ifname,
            micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "attached"
        );
    }

    /// From the intent on record to the endpoint in place. Whether processes of the host have its ports
    /// may be `unseen` yet: where the kernel's list of sockets has to tell, it is read while the driver is
    /// at work, and what that made goes again if it turns out so.
    async fn record_and_make(
        self: &Rc<Self>,
        network: Network,
        mut undo: Undo,
        driver: &Rc<Session>,
        netns: &Rc<File>,
        path: Option<String>,
        unseen: bool,
    ) -> Result<Rc<Endpoint>> {
        let endpoint = undo.endpoint.clone();
        let record = self.sandbox_for(&endpoint, path.clone());
        {
            let mut registry = self.registry.borrow_mut();
            if registry.sandbox(&endpoint.container.id).is_none() {
                registry.put_sandbox(record.clone());
            }
            registry.put_endpoint(endpoint.clone());
        }
        self.stores.put_endpoint(&endpoint, &record)?;
        fault::point("netd.attach.after-intent");
        let call = AttachEndpoint {
            network,
            endpoint: self.registry.borrow().published(&endpoint),
            netns: format!("/proc/{}/fd/{}", process::id(), netns.as_raw_fd()),
        };
        let Made { told: call, .. } =
            undo.made.insert(Made { driver: driver.clone(), told: call, netns: netns.clone() });
        // The names are made ready while the driver is at work.
        let names = async { self.resolver.prepare(&endpoint) };
        let seen = async { if unseen { self.check_unbound(&endpoint) } else { Ok(()) } };
        let (attached, names, seen) = future::join3(driver.call(call), names, seen).await;
        let attached = match attached {
            Ok(attached) => attached,
            Err(mut error) => {
                // The path by which the driver was told means nothing to anybody else.
                error.operands.remove("netns");
                // A driver that answers has undone its part; whether one that does not has made
                // anything is not known, so it is taken away.
                if error.kind != Kind::Unavailable {
                    undo.made = None;
                }
                return Err(error);
            }
        };
        fault::point("netd.attach.after-driver");
        if let Err(error) = seen {
            undo.take_back().await;
            return Err(error);
        }
        let endpoint = self.take_in(&endpoint, &attached)?;
        fault::point("netd.attach.after-record");
        if !endpoint.ports.is_empty() {
            self.relay.add(&call.endpoint);
        }
        undo.done();
        self.resolver.publish_prepared(names);
        self.resolve_inside(&endpoint, netns, path.as_deref());
        self.watch_process(&endpoint.container.id);
        Ok(endpoint)
    }

    /// Writes down which addresses the container of this name is to have again.
    fn remember_sticky(&self, endpoint: &Endpoint) -> Result<()> {
        let Some(owner) = &endpoint.container.name else { return Ok(()) };
        for address in &endpoint.addresses {
            self.stores.put_sticky(&endpoint.network, owner.as_str(), address.ip())?;
        }
        Ok(())
    }

    /// Writes down what the driver made.
    fn take_in(&self, intent: &Endpoint, attached: &Attached) -> Result<Rc<Endpoint>> {
        let container = &intent.container;
        let mut registry = self.registry.borrow_mut();
        let entry = registry.sandbox(&container.id);
        let entry = entry.ok_or_else(|| Error::internal("the sandbox went away"))?;
        let known = entry.record.sandbox.netns;
        if known.is_some_and(|known| known.cookie != attached.netns.cookie && known.cookie != 0) {
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "container {} is in another network namespace already: detach it there first",
                    container.label()
                ),
            )
            .with("container", container.id.as_str()));
        }
        let mut endpoint = intent.clone();
        endpoint.netns = Some(attached.netns);
        if let Some(interface) = &attached.interface {
            endpoint.mac = Some(interface.mac);
            endpoint.mtu = Some(interface.mtu);
        }
        endpoint.state = State::Attached;
        self.stores.put_endpoint(&endpoint, &entry.record)?;
        if known != Some(attached.netns) {
            let record = registry.place_sandbox(&container.id, attached.netns);
            if let Some(record) = record.filter(|record| record.sandbox.kept) {
                self.stores.put_sandbox(record)?;
            }
        }
        let endpoint = Rc::new(endpoint);
        registry.renew_endpoint(endpoint.clone());
        Ok(endpoint)
    }

    /// The sandbox's record; a new one where it has none yet.
    pub(crate) fn sandbox_for(&self, endpoint: &Endpoint, path: Option<String>) -> SandboxRecord {
        match self.registry.borrow().sandbox(&endpoint.container.id) {
            Some(entry) => entry.record.clone(),
            None => {
                let start = endpoint.container.pid.and_then(processes::started);
                SandboxRecord::of(endpoint, path, start)
            }
        }
    }

    /// The path to a sandbox that is known, for a request that names none.
    fn known_path(&self, container: &Container) -> Option<String> {
        let registry = self.registry.borrow();
        registry.sandbox(&container.id).and_then(|entry| entry.record.sandbox.path.clone())
    }

    /// The namespace of a sandbox that is known, for a request that names none. What led there may
    /// lead to another by now.
    async fn known_netns(&self, params: &Attach) -> Result<File> {
        let sandbox = {
            let registry = self.registry.borrow();
            registry.resolve_sandbox(params.container.id.as_str())?.record.sandbox.clone()
        };
        let known = sandbox.netns.and_then(|netns| netns.nsid);
        let process = sandbox.container.pid.map(|pid| format!("/proc/{pid}/ns/net"));
        for path in [sandbox.path, process].into_iter().flatten() {
            let Ok(netns) = open_netns(Path::new(&path)) else { continue };
            if known.is_none() || self.host.nsid_if_any(&netns).await.ok().flatten() == known {
                return Ok(netns);
            }
        }
        let registry = self.registry.borrow();
        let mut own = registry.endpoints_of(&sandbox.container.id);
        if let Some(endpoint) = own.find(|endpoint| is_of_dockerd(endpoint)) {
            return Err(Error::invalid(format_args!(
                "container {} is Docker's, and dockerd alone puts it on networks: say docker network connect to \
                 dockerd itself, with a network that it has (docker network create -d netd)",
                endpoint.container.label()
            ))
            .with("endpoint", endpoint.id.as_str()));
        }
        Err(Error::invalid(format_args!(
            "nothing is known that leads to the network namespace of container {}: name it again",
            sandbox.container.label()
        ))
        .with("container", sandbox.container.id.as_str()))
    }
}

/// Gives back what an attach holds, unless it comes to its end: when a step fails, and when the
/// caller's deadline passes in the middle of one.
struct Undo {
    netd: Rc<Netd>,
    endpoint: Rc<Endpoint>,
    /// What a driver may have made of it.
    made: Option<Made>,
    turn: Option<OwnedMutexGuard<()>>,
}

/// Which driver it was, and what it was told.
struct Made {
    driver: Rc<Session>,
    told: AttachEndpoint,
    /// What it was told a path to, which is good while this is open.
    netns: Rc<File>,
}

impl Made {
    /// What takes it away, also what leads to the resolver inside if that was for this endpoint.
    fn undone(&self, netd: &Netd) -> DetachEndpoint {
        let AttachEndpoint { network, endpoint, netns } = self.told.clone();
        let netns = netd.is_last_inside(&endpoint).then_some(netns);
        DetachEndpoint { network, endpoint, netns, stays: false }
    }
}

impl Undo {
    fn new(netd: Rc<Netd>, endpoint: Endpoint, turn: OwnedMutexGuard<()>) -> Self {
        Self { netd, endpoint: endpoint.into(), made: None, turn: Some(turn) }
    }

    /// Has the driver take away what it made: who is refused is told so when nothing of it is left.
    async fn take_back(&mut self) {
        let Some(made) = &self.made else { return };
        // Else it is tried once more.
        if made.driver.call(&made.undone(&self.netd)).await.is_ok() {
            self.made = None;
        }
    }

    /// There is nothing to undo any more.
    fn done(mut self) {
        self.turn = None;
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        let (netd, endpoint) = (self.netd.clone(), self.endpoint.clone());
        let Some(made) = self.made.take() else {
            netd.forget(&endpoint);
            return;
        };
        netd.registry.borrow_mut().leave(&endpoint.id);
        // Nobody else gets its addresses, or this container's turn, before it is gone.
        tokio::task::spawn_local(async move {
            let call = made.undone(&netd);
            if let Err(error) = made.driver.call(&call).await {
                tracing::warn!(endpoint = call.endpoint.id.short(), %error, "undo left to a sync");
            }
            drop(made.netns);
            netd.forget(&endpoint);
            drop(turn);
        });
    }
}
