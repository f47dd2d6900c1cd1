//! Following the store: each row that changes is written down for the next start, taken into the
//! view, and seen to.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use ::cluster::{Key, NodeId, liveness};
use ::store::{Change, Event, Known, Row};
use cnm::{EndpointId, NetworkId, peers::Node};
use serde::{Deserialize, Serialize};
use tokio::time::sleep;

use super::{
    Away, Cluster, Instant,
    peers::About,
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

/// Under what is written down how far the store was seen: what changed last may be a row that is gone.
const SEEN: &str = "seen";

/// How many rows are recalled at a time.
const RECALLED: usize = 500;

impl CachedRow {
    fn of(row: &Row) -> Option<Self> {
        let value = String::from_utf8(row.value.clone()).ok()?;
        Some(Self { key: row.key.clone(), value, modified: row.modified })
    }

    /// That the store was seen at this revision.
    fn seen(revision: u64) -> Self {
        Self { key: SEEN.to_owned(), value: String::new(), modified: revision }
    }

    fn row(self) -> Row {
        let Self { key, value, modified } = self;
        let (created, version) = (modified, 1);
        Row { key, value: value.into_bytes(), created, modified, version, lease: None }
    }
}

/// How long the other hosts have to write their endpoints again after the store went back.
const REWRITTEN: Duration = Duration::from_secs(10);

impl Cluster {
    /// Whether it is the one that this host is in.
    pub(super) fn is_current(self: &Rc<Self>, netd: &Netd) -> bool {
        netd.cluster().is_some_and(|cluster| Rc::ptr_eq(&cluster, self))
    }
}

/// Whether a row is kept for the next start: what the networks of this host are made of.
fn is_cached(key: &Key) -> bool {
    matches!(key, Key::Config | Key::Node(_) | Key::Network(_) | Key::Block(..) | Key::Endpoint(..))
}

impl Netd {
    /// Takes in what was known when netd ended.
    pub(super) fn recall(self: &Rc<Self>, cluster: &Rc<Cluster>) -> cnm::Result<Known> {
        let (mut known, all) = (Known::default(), cluster.layout.all());
        let mut newest = 0;
        // A few at a time: all of them together would take several times what is kept of them.
        let mut rows = self.stores.cached_rows::<CachedRow>()?;
        loop {
            let some = rows.by_ref().take(RECALLED).map(|row| row.map(CachedRow::row));
            let some: Vec<Row> = some.collect::<Result<_, _>>()?;
            if some.is_empty() {
                cluster.view.borrow_mut().revision = newest;
                return Ok(known);
            }
            let some = some.into_iter().inspect(|row| newest = newest.max(row.modified));
            let events = some.filter(|row| all.contains(&row.key)).inspect(|row| known.add(row));
            let events = events.map(Event::Put).collect();
            self.learn(cluster, events, None);
        }
    }

    /// Follows the store for as long as this host is in the cluster.
    pub(super) async fn follow_cluster(self: Rc<Self>, cluster: Rc<Cluster>, known: Known) {
        let mut follow = cluster.store.follow(cluster.layout.all(), known);
        while let Some(change) = follow.next().await {
            match change {
                Change::Synced { revision, mut events } => {
                    if revision < cluster.view.borrow().revision {
                        events = self.rewound(&cluster, revision, events);
                    }
                    self.learn(&cluster, events, Some(revision));
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
                    self.learn(&cluster, events, Some(revision));
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

    /// The store is older than it was: somebody put an old copy in its place. What others have
    /// written since they are about to write again; until they had the time to, their endpoints are
    /// there, or what runs would stop. Gives the events that are taken in at once.
    fn rewound(
        self: &Rc<Self>,
        cluster: &Rc<Cluster>,
        revision: u64,
        events: Vec<Event>,
    ) -> Vec<Event> {
        let before = cluster.view.borrow().revision;
        let why = format!(
            "the cluster's store went back from revision {before} to {revision}: an older copy was \
             put in its place, and what was decided since is lost; the endpoints are written again"
        );
        tracing::error!("{why}");
        self.problems.borrow_mut().insert("store".to_owned(), why);
        let is_endpoint = |event: &Event| {
            let key = cluster.layout.parse(event.key());
            matches!(key, Some(Key::Endpoint(node, ..)) if node != cluster.node)
        };
        let later = |event: &Event| matches!(event, Event::Delete { .. }) && is_endpoint(event);
        let (gone, now): (Vec<_>, Vec<_>) = events.into_iter().partition(later);
        cluster.rewound.borrow_mut().extend(gone.into_iter().map(|e| (e.key().to_owned(), e)));
        cluster.begin_anew();
        let (netd, cluster) = (self.clone(), cluster.clone());
        tokio::task::spawn_local(async move {
            sleep(REWRITTEN).await;
            let gone = cluster.rewound.take();
            if cluster.is_current(&netd) {
                let seen = cluster.view.borrow().revision;
                netd.learn(&cluster, gone.into_values().collect(), Some(seen));
            }
        });
        now
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
            let disputed = cluster.disputed.borrow();
            let wanted = endpoints.filter(|e| registry.is_wanted(e) && !disputed.contains(&e.id));
            wanted.filter_map(|e| cluster.row(e)).collect()
        };
        let view = cluster.view.borrow();
        cluster.outbox.borrow_mut().compare(&view.written, wanted);
        cluster.write.notify_one();
    }

    /// Takes events in, and sees to what they change. With what the store was `seen` at they are kept for the
    /// next start.
    fn learn(self: &Rc<Self>, cluster: &Rc<Cluster>, events: Vec<Event>, seen: Option<u64>) {
        let known = |event: Event| Some((cluster.layout.parse(event.key())?, event));
        let mut events: Vec<_> = events.into_iter().filter_map(known).collect();
        // Nodes first: everything else is of one.
        events.sort_by_key(|(key, _)| !matches!(key, Key::Config | Key::Node(_)));
        for (_, event) in &events {
            cluster.rewound.borrow_mut().remove(event.key());
        }
        if let Some(seen) = seen {
            let cached = events.iter().filter(|(key, event)| {
                let gone = matches!(event, Event::Delete { .. });
                is_cached(key) && !(gone && self.is_needed(cluster, key))
            });
            let cached = cached.filter_map(|(_, event)| match event {
                Event::Put(row) => Some((row.key.as_str(), Some(CachedRow::of(row)?))),
                Event::Delete { key, .. } => Some((key.as_str(), None)),
            });
            let seen = (SEEN, Some(CachedRow::seen(seen)));
            if let Err(error) = self.stores.cache(cached.chain([seen])) {
                tracing::error!(%error, "rows of the cluster are not kept");
            }
        }
        for (key, event) in events {
            let was = match &key {
                Key::Node(node) => cluster.view.borrow().node(node),
                _ => None,
            };
            let changed = cluster.view.borrow_mut().apply(key, &event);
            if let Some(changed) = changed {
                self.see_to(cluster, changed, was);
            }
        }
    }

    /// Whether a row is kept for the next start though it is gone: without it endpoints that are
    /// here would be on a network that nobody knows.
    fn is_needed(&self, cluster: &Cluster, key: &Key) -> bool {
        match key {
            Key::Node(node) => *node == cluster.node,
            Key::Network(network) => {
                let registry = self.registry.borrow();
                registry.network(network).is_some_and(|entry| !entry.endpoints.is_empty())
            }
            _ => false,
        }
    }

    fn see_to(self: &Rc<Self>, cluster: &Rc<Cluster>, changed: Changed, was: Option<Node>) {
        match changed {
            Changed::Config => {
                let timing = (&cluster.view.borrow().config).into();
                cluster.liveness.borrow_mut().set_timing(timing);
                self.refresh_networks(cluster);
                cluster.untold.borrow_mut().everything();
                cluster.tell.notify_one();
            }
            Changed::Node(node) => self.node_changed(cluster, &node, was),
            Changed::Live(node) => {
                let alive = cluster.view.borrow().live.contains(&node);
                let changes = {
                    let mut liveness = cluster.liveness.borrow_mut();
                    if alive { liveness.seen(&node) } else { liveness.lost(&node, Instant::now()) }
                };
                self.liveness_changed(cluster, changes);
            }
            Changed::Away(node, long) => {
                cluster.liveness.borrow_mut().gone_for(&node, long, Instant::now());
            }
            Changed::Network(network) => self.network_changed(cluster, &network),
            Changed::Blocks(network) => self.blocks_changed(cluster, &network),
            Changed::Remote(network, endpoint, before) => {
                self.remote_changed(cluster, network, endpoint, before);
            }
            Changed::Written(network, id) => {
                // What was written in vain, as it seemed, may come when its endpoint is gone.
                if self.registry.borrow().endpoint(&id).is_none() {
                    cluster.withdraw(&network, &id);
                }
            }
            Changed::Unwritten => {}
        }
    }

    /// What is gone does not resolve from now on; what is new does when the driver knows the way.
    fn remote_changed(
        &self,
        cluster: &Cluster,
        network: NetworkId,
        endpoint: EndpointId,
        before: Option<Remote>,
    ) {
        if !self.is_up(&network) {
            return;
        }
        if cluster.view.borrow().remote_of(&network, &endpoint).is_none() {
            self.resolver.retract_remote(&network, &endpoint);
        }
        cluster.untold.borrow_mut().remote(network, endpoint, before);
        cluster.tell.notify_one();
    }

    fn node_changed(self: &Rc<Self>, cluster: &Rc<Cluster>, node: &NodeId, was: Option<Node>) {
        let (there, now) = {
            let view = cluster.view.borrow();
            (view.nodes.contains_key(node), view.node(node))
        };
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
            let at = was.as_ref().map(|was| was.vtep);
            let anothers = at.is_some_and(|vtep| cluster.view.borrow().is_anothers(vtep, node));
            let mut untold = cluster.untold.borrow_mut();
            match (was, now) {
                // What leads to an address does not say to which of two nodes.
                (was, now) if anothers && was != now => untold.everything(),
                (Some(was), None) => untold.node_gone(was.number),
                (None, Some(now)) => {
                    let remotes = cluster.view.borrow().on_node(node);
                    untold.node_came(node, now.number, remotes);
                }
                // It started anew, where it was: what leads to it is as it was.
                (was, now) if was == now => {}
                (Some(was), Some(now)) if was.number == now.number => untold.node(node),
                _ => untold.everything(),
            }
            drop(untold);
            self.flag_mtus(cluster);
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
            if cluster.view.borrow().complete {
                self.removed_by_others(cluster);
            }
            return;
        }
        self.refresh_networks(cluster);
        let now = cluster.view.borrow().here().map(|node| node.epoch);
        if let (Some(mine), Some(now)) = (cluster.epoch.get(), now)
            && now > mine
        {
            tracing::warn!(mine, now, "this host was given up by the others, and is back");
            cluster.begin_anew();
        }
        cluster.write.notify_one();
    }

    /// Endpoints elsewhere resolve as long as their nodes are not down.
    pub(super) fn publish(&self, cluster: &Cluster, about: &About) {
        let view = cluster.view.borrow();
        let up: BTreeSet<NetworkId> = {
            let registry = self.registry.borrow();
            let up = registry.networks().filter(|e| e.shared.as_ref().is_some_and(|s| s.up));
            up.map(|entry| entry.network.id.clone()).collect()
        };
        let liveness = cluster.liveness.borrow();
        let resolves = |remote: &Remote| {
            let state = liveness.state(&remote.node);
            state.is_none_or(|state| state < liveness::State::Down)
        };
        let on =
            |network| view.remotes(network).map(move |known| (network, known.id(), Some(known)));
        match about {
            About::All => self.resolver.publish_remotes(up.iter().flat_map(on), resolves),
            About::Some(networks, endpoints) => {
                let networks = networks.iter().filter(|network| up.contains(*network));
                let endpoints = endpoints.iter().filter(|(network, _)| up.contains(network));
                let single = endpoints
                    .map(|(network, id)| (network, id.as_str(), view.remote_of(network, id)));
                self.resolver.publish_remotes(networks.flat_map(on).chain(single), resolves);
            }
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
                    // Only who is down does not resolve.
                    let down = state >= liveness::State::Down;
                    let was = match down {
                        true => !cluster.down.borrow_mut().insert(node.clone()),
                        false => cluster.down.borrow_mut().remove(&node),
                    };
                    if down != was {
                        let mut endpoints = cluster.view.borrow().on_node(&node);
                        if !down {
                            // What the driver is yet to be told of resolves once it has been.
                            let untold = cluster.untold.borrow();
                            endpoints.retain(|(network, id)| !untold.is_about(network, id));
                        }
                        self.publish(cluster, &About::Some(BTreeSet::new(), endpoints));
                    }
                    if down {
                        cluster.note_away();
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
