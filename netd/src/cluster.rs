//! This host as a node of a cluster: who it is there, what it knows of the others, and what it has
//! yet to tell them. Local networks need none of it, and nothing here is in the way of an attach to
//! one of them.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use ::cluster::{
    ClusterId, Decider, Key, Layout, NodeId, Role,
    client::Client,
    etcd::Machine,
    liveness::Liveness,
    messages::{Decided, Decision},
    rows::{self, Schema},
    server::{Manager, Server},
};
use ::store::{Etcd, Event, Store};
use cnm::{
    EndpointId, Error, MacAddr, NetworkId, Result,
    endpoint::Endpoint,
    network::Network,
    peers::{Ingress, Overlay},
};
use tokio::{
    sync::{Mutex, Notify, watch},
    task::AbortHandle,
};

use crate::{config::Config, netd::Netd};

mod advertised;
mod calls;
mod claims;
mod follow;
mod full;
mod join;
mod kept;
mod leave;
mod live;
mod networks;
mod outbox;
mod own_etcd;
mod peers;
mod prune;
mod removed;
mod renewal;
mod room;
mod tasks;
mod telling;
mod underlay;
mod view;
mod wording;

pub(crate) use kept::{Kept, Place};
use outbox::Outbox;
use peers::Untold;
pub(crate) use view::Remote;
use view::View;
use wording::named;

/// The driver whose networks span hosts.
const DRIVER: &str = "overlay";

/// The number on the wire of the network between the nodes: below all those of networks.
const INGRESS_VNI: u32 = 4095;

/// How long a decision may take.
const DECISION: Duration = Duration::from_millis(950);

/// A membership.
pub(crate) struct Cluster {
    id: ClusterId,
    node: NodeId,
    kept: RefCell<Kept>,
    place: Place,
    layout: Layout,
    store: Store,
    decisions: Decisions,
    /// The epoch in which this host is, once it has been told.
    epoch: Cell<Option<u64>>,
    /// Whether the addresses that endpoints here have are known to be this host's in that epoch.
    settled: Cell<bool>,
    /// This host was given up by the others, or the store went back: it begins anew.
    anew: Notify,
    /// There are addresses to be claimed.
    claim: Notify,
    /// Endpoints with an address that is another host's by now.
    disputed: RefCell<BTreeSet<EndpointId>>,
    view: RefCell<View>,
    /// Rows of other hosts that a store which went back does not have any more.
    rewound: RefCell<BTreeMap<String, Event>>,
    /// The revision up to which the view has come, for those who wait for it.
    seen: watch::Sender<u64>,
    untold: RefCell<Untold>,
    tell: Notify,
    telling: Mutex<()>,
    outbox: RefCell<Outbox>,
    write: Notify,
    away: RefCell<Option<Away>>,
    /// Since when the store is full, if it is.
    full: RefCell<Option<String>>,
    liveness: RefCell<Liveness>,
    /// This host is leaving, so that nobody has to be told that it is gone.
    leaving: Cell<bool>,
    /// Whether it is over with the host's own etcd.
    etcd_is_over: own_etcd::Over,
    /// The nodes that are down: what they have does not resolve.
    down: RefCell<BTreeSet<NodeId>>,
    /// Blocks are claimed ahead by one at a time.
    claiming: Cell<bool>,
    tasks: RefCell<Vec<AbortHandle>>,
}

/// Since when the store is away, and why.
#[derive(Clone, Debug)]
struct Away {
    since: String,
    why: String,
}

/// Who decides.
enum Decisions {
    /// This host itself, which also hears others.
    Here { manager: Rc<Manager>, server: Server },
    /// Other hosts.
    There(RefCell<Client>),
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.tasks.borrow().iter().for_each(AbortHandle::abort);
    }
}

impl Cluster {
    /// The membership that is kept. Nothing is sent.
    pub(crate) async fn open(place: Place, kept: Kept, config: &Config) -> Result<Self> {
        let identity = place.identity().identity()?.ok_or_else(|| {
            Error::internal(format_args!(
                "the certificate in {} is missing: put it back, or leave the cluster with --force",
                place.identity().path().display()
            ))
        })?;
        let etcd = Etcd::connect(kept.way(&identity)).await.map_err(store_error)?;
        let store = Store::Etcd(etcd.clone());
        let layout = Layout::new(&kept.cluster);
        let decisions = match kept.role {
            Role::Manager => {
                let manager = || -> Result<Manager> {
                    let authority = place.identity().authority()?.ok_or_else(|| {
                        Error::internal("the cluster's CA is missing on this manager")
                    })?;
                    let authority = authority.signing_for(config.certificate_life);
                    let decider = Decider::new(store.clone(), layout.clone());
                    // The rights and the members of another's etcd are not the cluster's.
                    let etcd = kept.own_etcd.then(|| etcd.clone());
                    let (cluster, etcd_tls) = (kept.cluster.clone(), kept.etcd_tls.clone());
                    Ok(Manager { cluster, decider, authority, etcd, etcd_tls })
                };
                let server = Server::new(manager()?, &identity)?;
                Decisions::Here { manager: Rc::new(manager()?), server }
            }
            Role::Worker => {
                let client = Client::new(&identity, kept.managers.clone())?;
                Decisions::There(RefCell::new(client))
            }
        };
        let view = View::new(kept.node.clone());
        let timing = (&view.config).into();
        Ok(Self {
            id: kept.cluster.clone(),
            node: kept.node.clone(),
            kept: RefCell::new(kept),
            place,
            layout,
            store,
            decisions,
            epoch: Cell::new(None),
            settled: Cell::new(false),
            anew: Notify::new(),
            claim: Notify::new(),
            disputed: RefCell::default(),
            rewound: RefCell::default(),
            view: RefCell::new(view),
            seen: watch::Sender::new(0),
            untold: RefCell::default(),
            tell: Notify::new(),
            telling: Mutex::new(()),
            outbox: RefCell::default(),
            write: Notify::new(),
            away: RefCell::default(),
            full: RefCell::default(),
            liveness: RefCell::new(Liveness::new(timing)),
            leaving: Cell::new(false),
            etcd_is_over: own_etcd::Over::default(),
            down: RefCell::default(),
            claiming: Cell::new(false),
            tasks: RefCell::default(),
        })
    }

    /// Reaches the store as it is to be reached by now: other members, or another certificate.
    async fn reconnect(&self) {
        let Store::Etcd(etcd) = &self.store else { return };
        let Ok(Some(identity)) = self.place.identity().identity() else { return };
        let way = self.kept.borrow().way(&identity);
        tracing::info!(members = ?way.endpoints, "the store is reached anew");
        if let Err(error) = etcd.reconnect(way).await {
            tracing::error!(%error, "the store is reached as before");
        }
    }

    /// The host's own etcd, where it runs one.
    fn machine(place: &Place, kept: &Kept, config: &Config) -> Machine {
        Machine {
            program: "etcd".into(),
            data: place.etcd(),
            run: config.run_dir.clone(),
            node: kept.node.clone(),
            address: kept.address,
            client_port: 2379,
            peer_port: 2380,
            identity: place.identity(),
            initial_cluster: kept.initial_cluster.clone(),
            quota: config.etcd_quota.map(|mebibytes| mebibytes << 20),
            systemd: std::path::Path::new("/run/systemd/system").exists(),
        }
    }

    /// Has something decided, within a second.
    async fn decide(&self, decision: Decision) -> Result<Decided> {
        self.decide_within(decision, DECISION).await
    }

    async fn decide_within(&self, decision: Decision, patience: Duration) -> Result<Decided> {
        if let Some(removal) = self.removal() {
            return Err(removal);
        }
        let what = decision.what();
        let epoch = self.epoch();
        let decided = async {
            match &self.decisions {
                Decisions::Here { manager, .. } => {
                    manager.decide(&self.node, epoch, decision).await
                }
                Decisions::There(client) => {
                    let client = client.borrow().clone();
                    client.decide(epoch, decision).await
                }
            }
        };
        match tokio::time::timeout(patience, decided).await {
            Ok(decided) => decided.map_err(|error| self.in_names(error.into())),
            Err(_) => Err(Error::unavailable(format_args!(
                "the cluster did not decide in time (to {what}): its store or its managers cannot \
                 be reached; what runs goes on"
            ))),
        }
    }

    /// What a manager says, for people: networks by their names, and nodes by theirs where no other
    /// has the same.
    fn in_names(&self, mut error: Error) -> Error {
        let view = self.view.borrow();
        for row in view.networks.values() {
            let Network { id, name, .. } = &row.network;
            let said = named(&error.message, id.as_str(), name.as_str());
            error.message = named(&said, id.short(), name.as_str());
        }
        for node in view.nodes.values() {
            let name = &node.facts.name;
            if view.nodes.values().filter(|other| other.facts.name == *name).count() == 1 {
                error.message = named(&error.message, node.id.as_str(), name);
            }
        }
        error
    }

    /// The epoch in which this host believes to be.
    fn epoch(&self) -> u64 {
        let known = || self.view.borrow().here().map(|node| node.epoch);
        self.epoch.get().or_else(known).unwrap_or(1)
    }

    /// Waits until what this host knows is as it should be.
    async fn until(&self, what: &str, is: impl Fn(&View) -> bool) -> Result<()> {
        let mut seen = self.seen.subscribe();
        let wait = async {
            while !is(&self.view.borrow()) {
                if seen.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(DECISION, wait).await.map_err(|_| {
            Error::unavailable(format_args!(
                "{what} was decided, and this host has not heard of it yet: its store is away"
            ))
        })
    }

    /// A network of the cluster as this host's driver is handed it; none before the host knows
    /// where it is itself.
    fn local(&self, row: &rows::Network) -> Option<Network> {
        let view = self.view.borrow();
        let overlay = Overlay {
            vni: row.vni,
            port: view.config.vxlan_port,
            node: view.node(&self.node)?,
            ingress: Some(Ingress { vni: INGRESS_VNI, mtu: None }),
        };
        Some(Network { overlay: Some(overlay), ..row.network.clone() })
    }

    /// The row of an endpoint of this host.
    fn row(&self, endpoint: &Endpoint) -> Option<(String, Vec<u8>)> {
        let key = Key::Endpoint(self.node.clone(), endpoint.network.clone(), endpoint.id.clone());
        let row = rows::Endpoint {
            schema: Schema::default(),
            addresses: endpoint.addresses.iter().map(|address| address.ip()).collect(),
            mac: endpoint.mac?,
            names: crate::names::names_of(endpoint),
            ports: crate::names::given::port_texts(endpoint),
            sequence: 0,
        };
        Some((self.layout.key(&key), rows::write(&row)))
    }

    /// An endpoint is there: others are told when the store can be written.
    pub(crate) fn spread(&self, endpoint: &Endpoint) {
        if self.disputed.borrow().contains(&endpoint.id) || self.is_removed() {
            return;
        }
        let Some((key, value)) = self.row(endpoint) else { return };
        self.outbox.borrow_mut().put(key, value);
        self.write.notify_one();
    }

    /// An endpoint is gone.
    pub(crate) fn withdraw(&self, network: &NetworkId, endpoint: &EndpointId) {
        if self.is_removed() {
            return;
        }
        let key = Key::Endpoint(self.node.clone(), network.clone(), endpoint.clone());
        self.outbox.borrow_mut().delete(self.layout.key(&key));
        self.write.notify_one();
    }

    /// Whether the store is away.
    fn is_away(&self) -> bool {
        self.away.borrow().is_some()
    }

    /// The name of the endpoint on another host that has a link-layer address on a network, and its
    /// node's, as far as this host knows.
    pub(crate) fn holder_of_mac(
        &self,
        network: &NetworkId,
        mac: MacAddr,
    ) -> Option<(String, String)> {
        self.view.borrow().holder_of_mac(network, mac)
    }

    /// One sentence when not all is as it should be.
    pub(crate) fn problem(&self) -> Option<String> {
        let away = self.away.borrow();
        let Some(Away { since, why }) = away.as_ref() else { return self.fullness() };
        Some(format!(
            "the cluster's store is away since {since}: {why}; what runs goes on, and attaches and \
             detaches do"
        ))
    }

    /// How often others were refused here, for Prometheus.
    pub(crate) fn refused(&self) -> Vec<(&'static str, &'static str, u64)> {
        let Decisions::Here { server, .. } = &self.decisions else { return Vec::new() };
        let counts = server.counts();
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        vec![
            ("cluster_joined", "Hosts that joined here", read(&counts.joined)),
            ("cluster_strangers", "Callers without a certificate", read(&counts.strangers)),
            ("cluster_unproven", "Connections that showed nobody", read(&counts.unproven)),
            ("cluster_tokens_refused", "Tokens that let nobody in", read(&counts.tokens)),
            ("cluster_denied", "Decisions not for who asked", read(&counts.denied)),
        ]
    }

    /// Stops all that goes on in the background.
    fn stop(&self) {
        self.tasks.take().iter().for_each(AbortHandle::abort);
    }
}

impl Netd {
    /// The cluster that this host is in.
    pub(crate) fn cluster(&self) -> Option<Rc<Cluster>> {
        self.cluster.borrow().clone()
    }

    /// What this host is in its cluster.
    pub(crate) fn own_node(&self) -> Option<NodeId> {
        self.cluster().map(|cluster| cluster.node.clone())
    }

    /// The cluster that this host is in, and that has it.
    fn member(&self) -> Result<Rc<Cluster>> {
        let cluster = self.cluster().ok_or_else(Self::alone)?;
        match cluster.removal() {
            Some(removal) => Err(removal),
            None => Ok(cluster),
        }
    }

    fn alone() -> Error {
        Error::new(
            cnm::Kind::Denied,
            "this host is in no cluster: begin one with netctl cluster init, or join one with \
             netctl cluster join",
        )
    }

    /// An endpoint is gone: so it is for others, where its network is the cluster's.
    pub(crate) fn withdraw(self: &Rc<Self>, endpoint: &Endpoint) {
        let Some(cluster) = self.cluster() else { return };
        let registry = self.registry.borrow();
        if registry.network(&endpoint.network).is_some_and(|entry| entry.shared.is_some()) {
            drop(registry);
            cluster.withdraw(&endpoint.network, &endpoint.id);
            self.settle_dispute(&cluster, endpoint);
            self.return_loans(&endpoint.network);
            self.settle_down(&endpoint.network);
        }
    }

    /// What an endpoint is to others, where its network is the cluster's.
    pub(crate) fn spread(&self, endpoint: &Endpoint) {
        let Some(cluster) = self.cluster() else { return };
        let registry = self.registry.borrow();
        if registry.network(&endpoint.network).is_some_and(|entry| entry.shared.is_some()) {
            cluster.spread(endpoint);
        }
    }
}

/// An error of the store in the protocol's words.
fn store_error(error: ::store::Error) -> Error {
    ::cluster::Error::from(error).into()
}

/// Seconds since 1970 as RFC 3339.
fn rfc3339(seconds: u64) -> String {
    // What comes after the year 9999 has no such form.
    let seconds = seconds.min(253_402_300_799);
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Seconds since 1970.
fn now() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| since.as_secs())
}
