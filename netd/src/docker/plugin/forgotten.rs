//! What dockerd forgot without a word: after a crash of its own, or without its database, it has endpoints
//! and networks no more, and tells nobody. What is ours and not its any more goes, and only then: while it
//! does not answer, everything stays.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use cnm::{
    docker::ENDPOINT,
    endpoint::{Endpoint, State},
};

use super::{Plugin, endpoints::is_unnamed, networks::ids_here};
use crate::{
    docker::{
        daemon,
        leaving::{Forgotten, Leaving},
    },
    registry::Stage,
};

/// How often a dockerd that is just coming up is asked, a second after each other.
const QUESTIONS: u32 = 120;

/// How long after the first look the second one is: what is being made meanwhile is there then.
const BETWEEN: Duration = Duration::from_secs(3);

/// The networks of which it is asked whether dockerd has them, and who is on them.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Dockerd's ids of those that are to be looked at next.
    networks: RefCell<BTreeSet<String>>,
    /// Whether somebody is looking.
    looks: Cell<bool>,
}

/// A network or an endpoint that dockerd had when it was looked first.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    network: String,
    /// Whether dockerd has it still.
    is_there: bool,
    /// The endpoints on it, under dockerd's ids.
    endpoints: Vec<String>,
}

impl Plugin {
    /// Compares what there is with what dockerd has, once it answers.
    pub(in crate::docker) fn look_for_forgotten(self: &Rc<Self>) {
        let known = self.known(|_| true);
        if known.is_empty() {
            return;
        }
        self.follow();
        for Known { network, endpoints, .. } in &known {
            let ids = endpoints.iter().filter_map(|id| self.endpoint(network, id).ok());
            for endpoint in ids.filter(is_unnamed) {
                self.learn(network.clone(), endpoint.container.id.to_string());
            }
        }
        self.doubt(known.into_iter().map(|known| known.network));
    }

    /// Compares what there is of one network.
    pub(super) fn look_at(self: &Rc<Self>, network: &str) {
        self.doubt(std::iter::once(network.to_owned()));
    }

    /// Whether dockerd should have anything.
    pub(super) fn has_any(&self) -> bool {
        let registry = self.netd.registry.borrow();
        registry.networks().any(|entry| ids_here(&self.netd, &entry.network).next().is_some())
    }

    /// Has one look after the other at what is in doubt.
    fn doubt(self: &Rc<Self>, networks: impl Iterator<Item = String>) {
        self.doubts.networks.borrow_mut().extend(networks);
        if self.doubts.looks.replace(true) {
            return;
        }
        let plugin = self.clone();
        tokio::task::spawn_local(async move {
            while !plugin.doubts.networks.borrow().is_empty() {
                plugin.look().await;
            }
            plugin.doubts.looks.set(false);
        });
    }

    async fn look(self: &Rc<Self>) {
        for _ in 0..QUESTIONS {
            tokio::time::sleep(Duration::from_secs(1)).await;
            // What comes into doubt while dockerd does not answer is looked at along with it.
            let doubts = self.doubts.networks.borrow().clone();
            let known = self.known(|id| doubts.contains(id));
            let Some(first) = self.forgotten(&known).await else { continue };
            self.doubts.networks.borrow_mut().retain(|id| !doubts.contains(id));
            if first.is_empty() {
                return;
            }
            *self.netd.leaving.borrow_mut() = self.leaving(&first);
            tokio::time::sleep(BETWEEN).await;
            match self.forgotten(&known).await {
                Some(second) => self.let_go(both(&first, second)).await,
                // It has gone meanwhile, and the next one is asked.
                None => self.doubts.networks.borrow_mut().extend(doubts),
            }
            *self.netd.leaving.borrow_mut() = Leaving::default();
            return;
        }
        self.doubts.networks.borrow_mut().clear();
    }

    /// The same under netd's own ids.
    fn leaving(&self, forgotten: &[Known]) -> Leaving {
        let own = |known: &Known| {
            let endpoints = known.endpoints.iter();
            let endpoints = endpoints.filter_map(|id| self.endpoint(&known.network, id).ok());
            Some(Forgotten {
                network: self.network(&known.network).ok()?.id,
                is_whole: !known.is_there,
                endpoints: endpoints.map(|endpoint| endpoint.id).collect(),
            })
        };
        Leaving(forgotten.iter().filter_map(own).collect())
    }

    /// What dockerd should have of the netd's networks that it has under one of these ids. What is being
    /// made it does not have yet.
    fn known(&self, is_in_doubt: impl Fn(&str) -> bool) -> Vec<Known> {
        let registry = self.netd.registry.borrow();
        let mut known = Vec::new();
        for entry in registry.networks().filter(|entry| entry.stage == Stage::Open) {
            let ids: Vec<_> = ids_here(&self.netd, &entry.network).collect();
            if !ids.iter().any(|id| is_in_doubt(id)) {
                continue;
            }
            let is_made = |endpoint: &&Endpoint| endpoint.state == State::Attached;
            let own = registry.endpoints_on(&entry.network.id).filter(is_made);
            let endpoints: Vec<_> =
                own.filter_map(|endpoint| endpoint.labels.get(ENDPOINT).cloned()).collect();
            known.extend(ids.into_iter().map(|id| Known {
                network: id.to_owned(),
                is_there: true,
                endpoints: endpoints.clone(),
            }));
        }
        known
    }

    /// What of it dockerd does not have; none when it does not answer. A network that it has comes
    /// with those of the endpoints that it has not.
    async fn forgotten(&self, known: &[Known]) -> Option<Vec<Known>> {
        let socket = &self.netd.config.docker_socket;
        let mut told = Vec::new();
        for one in known {
            let network = daemon::network(socket, &one.network).await.ok()?;
            told.push((one, network));
        }
        let has = |id: &String| {
            let mut networks = told.iter().filter_map(|(_, network)| network.as_ref());
            networks.any(|network| network.containers.values().any(|m| m.endpoint == *id))
        };
        let mut forgotten = Vec::new();
        for (one, network) in &told {
            let endpoints: Vec<_> = one.endpoints.iter().filter(|id| !has(id)).cloned().collect();
            let is_there = network.is_some();
            if !is_there || !endpoints.is_empty() {
                forgotten.push(Known { network: one.network.clone(), is_there, endpoints });
            }
        }
        Some(forgotten)
    }

    async fn let_go(&self, forgotten: Vec<Known>) {
        let socket = &self.netd.config.docker_socket;
        for Known { network, endpoints, .. } in forgotten {
            for id in endpoints {
                let Ok(endpoint) = self.endpoint(&network, &id) else { continue };
                tracing::info!(endpoint = endpoint.id.short(), "dockerd forgot an endpoint");
                if let Err(error) = self.take_away(endpoint).await {
                    tracing::error!(endpoint = id, %error, "not taken away");
                }
            }
            if matches!(daemon::network(socket, &network).await, Ok(None)) {
                tracing::info!(network, "dockerd forgot a network");
                if let Err(error) = self.delete_network(&network).await {
                    tracing::error!(network, %error, "not removed");
                }
            }
        }
    }
}

/// What was forgotten at the first look and at the second.
fn both(first: &[Known], second: Vec<Known>) -> Vec<Known> {
    let again = |mut known: Known| {
        let before = first.iter().find(|before| before.network == known.network)?;
        known.endpoints.retain(|id| before.endpoints.contains(id));
        Some(known)
    };
    second.into_iter().filter_map(again).collect()
}
