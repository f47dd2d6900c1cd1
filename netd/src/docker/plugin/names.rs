//! What Docker's containers are called. The protocol of its drivers names nobody, so dockerd is asked
//! over its own socket: whose an endpoint is when it has been joined, what else it answers to there
//! (`--network-alias`), and, as long as it has anything of netd's, what happens there: which containers are
//! renamed, and what may have gone without a word.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use cnm::{
    EndpointId, Error, Kind, Name,
    docker::ENDPOINT,
    endpoint::{Container, Endpoint, UpdateEndpoint},
};

use super::Plugin;
use crate::{
    docker::daemon::{self, Event},
    names::called::check_called,
};

/// How often dockerd is asked whose an endpoint is, and how long after each other: it tells when the
/// container has started.
const QUESTIONS: u32 = 40;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// How often dockerd is asked what else a container is called, if it takes too long to start.
const STARTING: u32 = 6;

/// How long after a dockerd that tells no more the next one is looked for, at first and at last.
const AGAIN: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(5);

impl Plugin {
    /// Asks dockerd whose an endpoint is until it tells, and gives it to that container.
    pub(super) fn learn(self: &Rc<Self>, network: String, id: String) {
        let plugin = self.clone();
        tokio::task::spawn_local(async move {
            let mut pause = FIRST_PAUSE;
            for _ in 0..QUESTIONS {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let Ok(endpoint) = plugin.endpoint(&network, &id) else { return };
                if endpoint.container.id.as_str() != id {
                    return;
                }
                let socket = &plugin.netd.config.docker_socket;
                let Ok(Some(told)) = daemon::network(socket, &network).await else { continue };
                let mut members = told.containers.iter();
                let own = members.find(|(key, m)| m.endpoint == id && !key.starts_with("ep-"));
                let Some((container, member)) = own else { continue };
                plugin.hand_over(&endpoint, container, &member.name, &[]).await;
                plugin.follow();
                // While the container starts dockerd tells nothing else of it: first things first.
                for _ in 0..STARTING {
                    if plugin.call_as_told(container).await {
                        break;
                    }
                }
                plugin.find(&endpoint.id).await;
                return;
            }
        });
    }

    /// Looks what dockerd has called an endpoint's interface, once it has put that into its container.
    async fn find(&self, endpoint: &EndpointId) {
        let mut pause = FIRST_PAUSE;
        for _ in 0..STARTING {
            match self.netd.find_delivered(endpoint).await {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) if error.kind == Kind::NotFound => return,
                Err(error) => {
                    tracing::warn!(endpoint = endpoint.short(), %error, "not found in its container");
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Follows what happens at dockerd, as long as it has networks of netd's. One that tells anew may have
    /// forgotten what the one before it had.
    pub(super) fn follow(self: &Rc<Self>) {
        if self.follows.replace(true) {
            return;
        }
        let plugin = self.clone();
        tokio::task::spawn_local(async move {
            let mut pause = AGAIN;
            while plugin.has_any() {
                let socket = &plugin.netd.config.docker_socket;
                // Asking would start one that was ended and waits to be asked.
                if socket.exists()
                    && plugin.netd.has_running_dockerd()
                    && let Ok(events) = daemon::events(socket).await
                {
                    plugin.look_for_forgotten();
                    plugin.heed(events).await;
                    pause = AGAIN;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LATER);
            }
            plugin.follows.set(false);
        });
    }

    async fn heed(self: &Rc<Self>, mut events: daemon::Events) {
        // Those before this one was told of.
        for container in self.containers() {
            self.call_as_told(&container).await;
        }
        while let Some(event) = events.next().await {
            match event {
                Event::Renamed(container) => drop(self.call_as_told(&container).await),
                Event::Left(network) => self.look_at(&network),
            }
        }
    }

    /// The containers that dockerd has told of.
    fn containers(&self) -> BTreeSet<String> {
        let registry = self.netd.registry.borrow();
        let own = registry.endpoints().filter(|endpoint| {
            endpoint.labels.get(ENDPOINT).is_some_and(|id| id != endpoint.container.id.as_str())
        });
        own.map(|endpoint| endpoint.container.id.to_string()).collect()
    }

    /// Has a container's endpoints be called what dockerd calls them; whether it told.
    async fn call_as_told(&self, container: &str) -> bool {
        let socket = &self.netd.config.docker_socket;
        let Ok(told) = daemon::container(socket, container).await else { return false };
        let (Some(told), Ok(id)) = (told, container.parse()) else { return true };
        let endpoints: Vec<Endpoint> =
            self.netd.registry.borrow().endpoints_of(&id).cloned().collect();
        for endpoint in endpoints {
            let id = endpoint.labels.get(ENDPOINT);
            let Some(names) = id.and_then(|id| told.names_at(id)) else { continue };
            self.hand_over(&endpoint, container, &told.name, &names).await;
        }
        true
    }

    /// Gives an endpoint to its container: under its name, unless somebody else on the network has
    /// it, and under others, which several may have.
    async fn hand_over(&self, endpoint: &Endpoint, container: &str, name: &str, others: &[String]) {
        let Ok(id) = container.parse() else { return };
        let mut whose = Container::new(id);
        whose.name = name.trim_start_matches('/').parse::<Name>().ok();
        let (aliases, left) = self.aliases(endpoint, &whose, others);
        if endpoint.container == whose && endpoint.aliases == aliases {
            return;
        }
        for error in left {
            tracing::warn!(container, %error, "Docker's container goes without an alias");
        }
        loop {
            let update = UpdateEndpoint {
                endpoint: endpoint.id.to_string(),
                container: Some(whose.clone()),
                ports: None,
            };
            match self.netd.introduce(update, Some(aliases.clone())).await {
                Err(error)
                    if matches!(error.kind, Kind::Exists | Kind::Invalid)
                        && whose.name.is_some() =>
                {
                    tracing::warn!(container, name, %error, "Docker's container goes without name");
                    whose.name = None;
                }
                Err(error) => {
                    tracing::warn!(container, name, %error, "Docker's container stays unnamed");
                    return;
                }
                Ok(_) => return,
            }
        }
    }

    /// Those of the names that it does not have anyway, and why others cannot be asked for.
    fn aliases(
        &self,
        endpoint: &Endpoint,
        whose: &Container,
        names: &[String],
    ) -> (Vec<Name>, Vec<Error>) {
        let (network, domain) = (endpoint.network_name.as_str(), &self.netd.config.dns_domain);
        let (mut aliases, mut left) = (Vec::new(), Vec::new());
        for name in names.iter().filter(|name| *name != whose.id.short()) {
            let name = name.parse::<Name>().map_err(Error::invalid).and_then(|name| {
                check_called(name.as_str(), network, domain)?;
                Ok(name)
            });
            match name {
                Ok(name) if whose.name.as_ref() == Some(&name) || aliases.contains(&name) => {}
                Ok(name) => aliases.push(name),
                Err(error) => left.push(error),
            }
        }
        (aliases, left)
    }
}
