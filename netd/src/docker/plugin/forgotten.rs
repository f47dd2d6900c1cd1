//! What dockerd forgot without a word: after a crash of its own it drops endpoints and networks from
//! its records, and tells nobody. What is ours and not its any more goes, and only then: while it does
//! not answer, everything stays.

use std::{rc::Rc, time::Duration};

use cnm::docker::ENDPOINT;

use super::{Plugin, endpoints::is_unnamed};
use crate::docker::daemon;

/// How often a dockerd that is just coming up is asked, a second after each other.
const QUESTIONS: u32 = 120;

/// How long after the first look the second one is: what is being made meanwhile is there then.
const BETWEEN: Duration = Duration::from_secs(3);

/// A network or an endpoint that dockerd had when it, or netd, came up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    network: String,
    /// The endpoints on it, under dockerd's ids.
    endpoints: Vec<String>,
}

impl Plugin {
    /// Compares what there is with what dockerd has, once it answers.
    pub(in crate::docker) fn look_for_forgotten(self: &Rc<Self>) {
        let known = self.known();
        if known.is_empty() {
            return;
        }
        self.follow();
        for Known { network, endpoints } in &known {
            let ids = endpoints.iter().filter_map(|id| self.endpoint(network, id).ok());
            for endpoint in ids.filter(is_unnamed) {
                self.learn(network.clone(), endpoint.container.id.to_string());
            }
        }
        let plugin = self.clone();
        tokio::task::spawn_local(async move {
            for _ in 0..QUESTIONS {
                tokio::time::sleep(Duration::from_secs(1)).await;
                let Some(first) = plugin.forgotten(&known).await else { continue };
                if first.is_empty() {
                    return;
                }
                tokio::time::sleep(BETWEEN).await;
                let Some(second) = plugin.forgotten(&first).await else { continue };
                return plugin.let_go(second).await;
            }
        });
    }

    /// What dockerd should have.
    fn known(&self) -> Vec<Known> {
        let registry = self.netd.registry.borrow();
        let mut known = Vec::new();
        for entry in registry.networks() {
            let endpoints = || {
                let own = registry.endpoints_on(&entry.network.id);
                own.filter_map(|endpoint| endpoint.labels.get(ENDPOINT).cloned()).collect()
            };
            // On a network of the cluster others' are there as well, of which this dockerd knows nothing.
            let labels =
                entry.network.labels.iter().filter(|(_, value)| Self::is_here(&self.netd, value));
            known.extend(
                labels
                    .filter_map(|(label, _)| label.strip_prefix("docker/"))
                    .map(|id| Known { network: id.to_owned(), endpoints: endpoints() }),
            );
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
            if network.is_none() || !endpoints.is_empty() {
                forgotten.push(Known { network: one.network.clone(), endpoints });
            }
        }
        Some(forgotten)
    }

    async fn let_go(&self, forgotten: Vec<Known>) {
        let socket = &self.netd.config.docker_socket;
        for Known { network, endpoints } in forgotten {
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
