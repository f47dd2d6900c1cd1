//! The daemon's parts in one place, and the small things that all of its calls use.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap, HashSet},
    path::PathBuf,
    rc::{Rc, Weak},
    sync::Arc,
    time::Instant,
};

use cnm::{
    ContainerId, EndpointId, Error, Result,
    driver::{Sync, Synced},
    endpoint::{Endpoint, State},
    events::Event,
};
use ipam::Moment;
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast};

use crate::{
    awake::Awake,
    clock,
    cluster::Cluster,
    config::Config,
    docker::leaving::Leaving,
    drivers::{Desired, Drivers, Session},
    host::Host,
    metrics::Metrics,
    names::Resolver,
    precedence::Precedence,
    reconcile::driver_problem,
    registry::{Registry, Stage},
    relay::Relay,
    server::Turns,
    store::Stores,
};

/// How many events a slow subscriber may be behind before it is let go.
const EVENTS: usize = 4096;

/// Everything. One thread runs all of it, so that a borrow that no `.await` crosses is enough to
/// keep it consistent.
pub(crate) struct Netd {
    pub(crate) config: Config,
    pub(crate) stores: Stores,
    pub(crate) registry: RefCell<Registry>,
    pub(crate) drivers: Drivers,
    pub(crate) resolver: Resolver,
    pub(crate) relay: Relay,
    pub(crate) host: Host,
    pub(crate) metrics: Metrics,
    pub(crate) awake: Rc<Awake>,
    pub(crate) precedence: Rc<Precedence>,
    pub(crate) events: broadcast::Sender<Arc<str>>,
    /// Found while running and not yet gone, by what it is about.
    pub(crate) problems: RefCell<BTreeMap<String, String>>,
    /// What dockerd has forgotten, until that goes.
    pub(crate) leaving: RefCell<Leaving>,
    /// What a driver noticed and a sync did not put right, by the driver.
    pub(crate) unsettled: RefCell<BTreeMap<String, String>>,
    /// Networks are made and removed one at a time: each choice depends on all the others.
    pub(crate) network_turn: Mutex<()>,
    /// The cluster that this host is in.
    pub(crate) cluster: RefCell<Option<Rc<Cluster>>>,
    /// Rows of the cluster's store that were known when netd ended, until they are followed.
    pub(crate) known: RefCell<::store::Known>,
    /// Containers whose process is watched.
    pub(crate) watched: RefCell<HashSet<ContainerId>>,
    /// A look at containers that may or may not have died is due.
    pub(crate) doubts: Cell<bool>,
    turns: RefCell<HashMap<ContainerId, Arc<Mutex<()>>>>,
    /// What connections take turns at.
    pub(crate) named_turns: Turns,
    started: Instant,
}

impl Netd {
    /// The parts, before anything is read or started.
    pub(crate) fn new(config: Config, stores: Stores, resolver: Resolver, host: Host) -> Rc<Self> {
        let directories: Vec<PathBuf> = config.plugin_dirs.clone();
        let relay = Relay::new(&config.run_dir, directories.clone());
        Rc::new(Self {
            drivers: Drivers::new(
                directories,
                config.run_dir.join("drivers"),
                config.driver_deadline,
            ),
            config,
            stores,
            registry: RefCell::default(),
            resolver,
            relay,
            host,
            metrics: Metrics::new(),
            awake: Awake::open(),
            precedence: Rc::default(),
            events: broadcast::Sender::new(EVENTS),
            problems: RefCell::default(),
            leaving: RefCell::default(),
            unsettled: RefCell::default(),
            network_turn: Mutex::new(()),
            cluster: RefCell::default(),
            known: RefCell::default(),
            watched: RefCell::default(),
            doubts: Cell::new(false),
            turns: RefCell::default(),
            named_turns: Turns::default(),
            started: Instant::now(),
        })
    }

    /// The session with a network's driver.
    pub(crate) fn driver(self: &Rc<Self>, name: &str) -> Result<Rc<Session>> {
        self.drivers.open(name, Told(Rc::downgrade(self)))
    }

    /// Now, for the pools.
    pub(crate) fn now(&self) -> Moment {
        Moment(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
    }

    /// Seconds since the start.
    pub(crate) fn uptime(&self) -> u64 {
        self.started.elapsed().as_secs()
    }

    /// Waits until nobody else attaches or detaches this container.
    pub(crate) async fn turn(&self, container: &ContainerId) -> OwnedMutexGuard<()> {
        let turn = {
            let mut turns = self.turns.borrow_mut();
            // What nobody holds or waits for any more is of no use.
            if turns.len() > 64 {
                turns.retain(|_, turn| Arc::strong_count(turn) > 1);
            }
            turns.entry(container.clone()).or_default().clone()
        };
        turn.lock_owned().await
    }

    /// Tells those who subscribed.
    pub(crate) fn tell(&self, object: &str, action: &str, id: &str, attributes: &[(&str, &str)]) {
        if self.events.receiver_count() == 0 {
            return;
        }
        let event = Event {
            time: clock::timestamp(),
            object: object.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            attributes: attributes.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
        };
        // Nobody to hear it is no fault.
        drop(self.events.send(cnm::events::Notification::line(&event).into()));
    }

    /// Everything that a driver's part of the kernel should hold when it starts: nothing that it
    /// was in the middle of.
    pub(crate) fn desired(&self, driver: &str) -> Sync {
        self.desired_with(driver, Registry::is_wanted)
    }

    /// Tells a running driver everything. It may be attaching meanwhile: what it is asked for
    /// before it hears this it would take away otherwise.
    pub(crate) async fn sync(self: &Rc<Self>, driver: &str) -> Result<Synced> {
        let session = self.driver(driver)?;
        // What is said is to be true when it is said.
        session.settled().await;
        let desired = self.desired_with(driver, |registry, one| {
            registry.is_wanted(one) || registry.is_coming(one)
        });
        let mut synced = session.sync(&desired).await?;
        let coming = |id: &EndpointId| {
            let mut all = desired.endpoints.iter();
            all.any(|one| one.id == *id && one.state != State::Attached)
        };
        synced.missing.retain(|id| !coming(id));
        // Whose link was lost and is there again is well.
        let missing = &synced.missing;
        let there = |id: &str| {
            let mut all = desired.endpoints.iter();
            all.any(|one| one.id.as_str() == id && !missing.contains(&one.id))
        };
        let mut problems = self.problems.borrow_mut();
        problems.retain(|about, _| !about.strip_prefix("endpoint ").is_some_and(there));
        problems.remove(&driver_problem(driver));
        drop(problems);
        Ok(synced)
    }

    fn desired_with(&self, driver: &str, wanted: impl Fn(&Registry, &Endpoint) -> bool) -> Sync {
        let registry = self.registry.borrow();
        let networks: Vec<_> = registry
            .networks()
            .filter(|entry| entry.network.driver == driver && entry.stage != Stage::Leaving)
            .filter(|entry| entry.shared.as_ref().is_none_or(|shared| shared.up))
            .map(|entry| entry.network.clone())
            .collect();
        let endpoints: Vec<Endpoint> = networks
            .iter()
            .flat_map(|network| registry.endpoints_on(&network.id))
            .filter(|endpoint| wanted(&registry, endpoint))
            .map(|endpoint| registry.published(endpoint))
            .collect();
        let mut netns = self.resolver.ways_inside(&endpoints);
        for endpoint in &endpoints {
            let sandbox = registry.sandbox(&endpoint.container.id);
            if let Some(path) = sandbox.and_then(|entry| entry.record.sandbox.path.as_ref()) {
                netns.entry(endpoint.id.clone()).or_insert_with(|| path.clone());
            }
        }
        let mut settings = self.config.firewall.settings();
        settings.extend(self.resolver_setting(driver));
        Sync { networks, endpoints, settings, netns }
    }
}

/// What a session asks and tells, without keeping netd alive.
struct Told(Weak<Netd>);

impl Desired for Told {
    fn desired(&self, driver: &str) -> Sync {
        self.0.upgrade().map(|netd| netd.desired(driver)).unwrap_or_default()
    }

    fn synced(&self, driver: &str, synced: Synced) {
        if let Some(netd) = self.0.upgrade() {
            netd.after_sync(driver, synced);
        }
    }

    fn disturbed(&self, driver: &str, what: Vec<String>) {
        if let Some(netd) = self.0.upgrade() {
            tokio::task::spawn_local(netd.repair(driver.to_owned(), what));
        }
    }

    fn changed(&self, driver: &str, action: &str, why: &str) {
        let Some(netd) = self.0.upgrade() else { return };
        if action == "stop" {
            tracing::warn!(driver, why, "driver ended");
            netd.metrics.driver_restarts(driver);
        } else {
            tracing::info!(driver, "driver ready");
            netd.problems.borrow_mut().remove(&driver_problem(driver));
            netd.driver_started(driver);
        }
        netd.tell("driver", action, driver, &[("why", why)]);
    }
}

/// The error of the address service in the protocol's words.
pub(crate) fn address_error(error: &ipam::Error) -> Error {
    let kind = match error.kind() {
        ipam::Kind::Exists => cnm::Kind::Exists,
        ipam::Kind::Exhausted => cnm::Kind::Exhausted,
        ipam::Kind::NotFound => cnm::Kind::NotFound,
        _ => cnm::Kind::Invalid,
    };
    let refusal = Error::new(kind, error);
    match error {
        // Of a lease, the pool does not know whose it is.
        ipam::Error::AddressInUse { address, by: ipam::AddressRole::Lease, .. } => {
            refusal.with("address", address.to_string())
        }
        _ => refusal,
    }
}
