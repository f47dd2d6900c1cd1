//! Following the store: each row that changes is written down for the next start, taken into the
//! view, and seen to.

use std::rc::Rc;

use ::cluster::{Key, NodeId, liveness};
use ::store::{Change, Event, Row};
use cnm::{EndpointId, NetworkId};
use serde::{Deserialize, Serialize};

use super::{
    Away, Cluster, Instant,
    view::{Changed, Remote},
};
use crate::{clock, netd::Netd};

/// What the problem of nodes that have one name is filed under.
pub(super) const NAMESAKES: &str = "node name";

/// A row of the cluster's store as this host keeps it until the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CachedRow {
    key: String,
    value: String,
    modified: u64,
}

impl CachedRow {
    fn of(row: &Row) -> Option<Self> {
        let value = String::from_utf8(row.value.clone()).ok()?;
        Some(Self { key: row.key.clone(), value, modified: row.modified })
    }

    fn row(self) -> Row {
        let Self { key, value, modified } = self;
        let (created, version) = (modified, 1);
        Row { key, value: value.into_bytes(), created, modified, version, lease: None }
    }
}

impl Cluster {
    /// Whether a row is kept for the next start: what the networks of this host are made of.
    fn is_cached(&self, key: &str) -> bool {
        let kept = self.layout.parse(key);
        matches!(
            kept,
            Some(Key::Config | Key::Node(_) | Key::Network(_) | Key::Block(..) | Key::Endpoint(..))
        )
    }
}

impl Netd {
    /// Takes in what was known when netd ended.
    pub(super) fn recall(self: &Rc<Self>, cluster: &Rc<Cluster>) -> cnm::Result<Vec<Row>> {
        let rows: Vec<Row> = self.stores.cached_rows()?.into_iter().map(CachedRow::row).collect();
        let known: Vec<Row> =
            rows.into_iter().filter(|row| cluster.layout.all().contains(&row.key)).collect();
        let events = known.iter().cloned().map(Event::Put).collect();
        self.learn(cluster, events, false);
        Ok(known)
    }

    /// Follows the store for as long as this host is in the cluster.
    pub(super) async fn follow_cluster(self: Rc<Self>, cluster: Rc<Cluster>, known: Vec<Row>) {
        let mut follow = cluster.store.follow(cluster.layout.all(), known);
        while let Some(change) = follow.next().await {
            match change {
                Change::Synced { revision, events } => {
                    self.learn(&cluster, events, true);
                    {
                        let mut view = cluster.view.borrow_mut();
                        view.complete = true;
                        view.revision = revision;
                    }
                    self.is_back(&cluster);
                    cluster.untold.borrow_mut().everything();
                    cluster.tell.notify_one();
                    self.compare_own(&cluster);
                    tracing::info!(revision, "in sync with the cluster");
                }
                Change::Changed { revision, events } => {
                    self.learn(&cluster, events, true);
                    cluster.view.borrow_mut().revision = revision;
                    self.is_back(&cluster);
                }
                Change::Away(error) => {
                    let away = Away { since: clock::timestamp(), why: error.to_string() };
                    cluster.away.borrow_mut().get_or_insert(away);
                }
                Change::Back => {
                    self.is_back(&cluster);
                    self.compare_own(&cluster);
                }
            }
            let revision = cluster.view.borrow().revision;
            cluster.seen.send_replace(revision);
        }
    }

    fn is_back(&self, cluster: &Cluster) {
        if cluster.away.take().is_some() {
            tracing::info!("the cluster's store is back");
            cluster.write.notify_one();
        }
    }

    /// Makes the outbox the difference between this host's endpoints and their rows.
    pub(super) fn compare_own(&self, cluster: &Cluster) {
        let wanted = {
            let registry = self.registry.borrow();
            let shared = registry.networks().filter(|entry| entry.shared.is_some());
            let endpoints = shared.flat_map(|entry| registry.endpoints_on(&entry.network.id));
            endpoints.filter(|e| registry.is_wanted(e)).filter_map(|e| cluster.row(e)).collect()
        };
        let view = cluster.view.borrow();
        cluster.outbox.borrow_mut().compare(&view.written, wanted);
        cluster.write.notify_one();
    }

    /// Takes events in, and sees to what they change.
    fn learn(self: &Rc<Self>, cluster: &Rc<Cluster>, mut events: Vec<Event>, keep: bool) {
        // Nodes first: everything else is of one.
        events.sort_by_key(|event| {
            !matches!(cluster.layout.parse(event.key()), Some(Key::Config | Key::Node(_)))
        });
        for event in &events {
            if keep && cluster.is_cached(event.key()) {
                let kept = match event {
                    Event::Put(row) => CachedRow::of(row)
                        .map_or(Ok(()), |cached| self.stores.put_cached(&row.key, &cached)),
                    Event::Delete { key, .. } => self.stores.remove_cached(key),
                };
                if let Err(error) = kept {
                    tracing::error!(%error, "a row of the cluster is not kept");
                }
            }
            let gone = match (event, cluster.layout.parse(event.key())) {
                (Event::Delete { .. }, Some(Key::Node(node))) => {
                    cluster.view.borrow().node(&node).map(|node| node.number)
                }
                _ => None,
            };
            let changed = cluster.view.borrow_mut().apply(event);
            if let Some(changed) = changed {
                self.see_to(cluster, changed, gone);
            }
        }
    }

    fn see_to(self: &Rc<Self>, cluster: &Rc<Cluster>, changed: Changed, gone: Option<u32>) {
        match changed {
            Changed::Config => {
                self.refresh_networks(cluster);
                cluster.untold.borrow_mut().everything();
                cluster.tell.notify_one();
            }
            Changed::Node(node) => self.node_changed(cluster, &node, gone),
            Changed::Live(node) => {
                let alive = cluster.view.borrow().live.contains(&node);
                let changes = {
                    let mut liveness = cluster.liveness.borrow_mut();
                    if alive { liveness.seen(&node) } else { liveness.lost(&node, Instant::now()) }
                };
                self.liveness_changed(cluster, changes);
            }
            Changed::Network(network) => self.network_changed(cluster, &network),
            Changed::Blocks(network) => self.blocks_changed(cluster, &network),
            Changed::Remote(network, endpoint, before) => {
                self.remote_changed(cluster, &network, &endpoint);
                self.untold_remote(cluster, network, endpoint, before);
            }
            Changed::Own => {}
        }
    }

    fn untold_remote(
        &self,
        cluster: &Cluster,
        network: NetworkId,
        endpoint: EndpointId,
        before: Option<Remote>,
    ) {
        if self.is_up(&network) {
            cluster.untold.borrow_mut().remote(network, endpoint, before);
            cluster.tell.notify_one();
        }
    }

    fn node_changed(self: &Rc<Self>, cluster: &Rc<Cluster>, node: &NodeId, gone: Option<u32>) {
        let there = cluster.view.borrow().nodes.contains_key(node);
        {
            let mut liveness = cluster.liveness.borrow_mut();
            if there {
                liveness.added(node.clone(), Instant::now());
                if cluster.view.borrow().live.contains(node) {
                    liveness.seen(node);
                }
            } else {
                liveness.removed(node);
            }
        }
        if *node == cluster.node {
            self.here_changed(cluster, there);
        } else {
            let mut untold = cluster.untold.borrow_mut();
            match gone {
                Some(number) => untold.node_gone(number),
                // What is known of it already is told along with it.
                None if !cluster.view.borrow().on_node(node).is_empty() => untold.everything(),
                None => untold.node(node),
            }
        }
        self.namesakes_changed(cluster);
        cluster.managers_changed();
        cluster.tell.notify_one();
    }

    /// Whether other nodes are called as this one: who names one of them would have to name it by
    /// its id.
    fn namesakes_changed(&self, cluster: &Cluster) {
        let view = cluster.view.borrow();
        let own = view.here().map(|here| here.facts.name.as_str()).unwrap_or_default();
        let mut others = view
            .nodes
            .values()
            .filter(|node| node.id != cluster.node && !own.is_empty() && node.facts.name == own);
        let mut problems = self.problems.borrow_mut();
        match others.next() {
            None => drop(problems.remove(NAMESAKES)),
            Some(other) if !problems.contains_key(NAMESAKES) => {
                let why = format!(
                    "node {} of the cluster is called {own}, as this host is: give one of them \
                     another node_name",
                    other.id
                );
                tracing::warn!("{why}");
                problems.insert(NAMESAKES.to_owned(), why);
            }
            Some(_) => {}
        }
    }

    /// This host is another than it was, in the others' eyes.
    fn here_changed(self: &Rc<Self>, cluster: &Rc<Cluster>, there: bool) {
        if !there {
            if cluster.view.borrow().complete && !cluster.leaving.get() {
                let why = "this host was removed from the cluster: leave it with netctl cluster \
                           leave --force";
                tracing::error!("{why}");
                self.problems.borrow_mut().insert("cluster".to_owned(), why.to_owned());
            }
            return;
        }
        self.refresh_networks(cluster);
        let now = cluster.view.borrow().here().map(|node| node.epoch);
        if let (Some(mine), Some(now)) = (cluster.epoch.get(), now)
            && now > mine
        {
            tracing::warn!(mine, now, "this host was given up by the others, and is back");
            cluster.epoch.set(None);
            let (netd, cluster) = (self.clone(), cluster.clone());
            tokio::task::spawn_local(async move { netd.return_to(&cluster).await });
        }
    }

    /// An endpoint elsewhere resolves as long as its node is not down.
    pub(super) fn remote_changed(
        &self,
        cluster: &Cluster,
        network: &NetworkId,
        endpoint: &EndpointId,
    ) {
        if !self.is_up(network) {
            return;
        }
        let view = cluster.view.borrow();
        let remote = view.remote_of(network, endpoint).filter(|remote| {
            let state = cluster.liveness.borrow().state(&remote.node);
            state.is_none_or(|state| state < liveness::State::Down)
        });
        match remote {
            Some(remote) => self.resolver.publish_remote(
                network,
                endpoint,
                remote.names.clone(),
                remote.addresses.clone(),
            ),
            None => self.resolver.retract_remote(network, endpoint),
        }
    }

    /// Sees to nodes that came, went, or are given up.
    pub(super) fn liveness_changed(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        changes: Vec<liveness::Change>,
    ) {
        for change in changes {
            match change {
                liveness::Change::State(node, state) => {
                    tracing::info!(%node, ?state, "a node's state changed");
                    let endpoints = cluster.view.borrow().on_node(&node);
                    for (network, endpoint) in endpoints {
                        self.remote_changed(cluster, &network, &endpoint);
                    }
                    if state == liveness::State::Fenced {
                        cluster.fence(&node);
                    }
                }
                liveness::Change::Braked { lost, of } => {
                    let why = format!(
                        "{lost} of {of} nodes went silent at once: nothing is concluded until they \
                         are back"
                    );
                    tracing::error!("{why}");
                    self.problems.borrow_mut().insert("liveness".to_owned(), why);
                }
                liveness::Change::Released => {
                    self.problems.borrow_mut().remove("liveness");
                }
            }
        }
    }
}
