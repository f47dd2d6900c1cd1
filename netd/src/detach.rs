//! The life of a detach: names and record first, then the driver, then addresses and ports for
//! others. It always succeeds: what is not there is already gone, and what the driver cannot do
//! now it is told at its next start.

use std::{collections::BTreeSet, rc::Rc, time::Instant};

use cnm::{
    ContainerId, EndpointId, Result,
    driver::DetachEndpoint,
    endpoint::{Detach, Detached, Endpoint},
    fault,
};

use crate::netd::Netd;

impl Netd {
    /// `endpoint.detach`.
    pub(crate) async fn detach(self: &Rc<Self>, params: &Detach) -> Result<Detached> {
        let Some(container) = self.container_of(&params.container)? else {
            return Ok(Detached::default());
        };
        let network = match &params.network {
            None => None,
            Some(given) => match self.registry.borrow().resolve_network_of(&container, given) {
                Ok(Some(entry)) => Some(entry.network.id.clone()),
                Ok(None) => return Ok(Detached::default()),
                Err(error) if error.kind == cnm::Kind::NotFound => return Ok(Detached::default()),
                Err(error) => return Err(error),
            },
        };
        self.detach_where(&container, "detach", |endpoint| {
            network.as_ref().is_none_or(|id| endpoint.network == *id)
                && params.ifname.as_ref().is_none_or(|ifname| endpoint.ifname == *ifname)
        })
        .await
    }

    /// Takes those endpoints of a container away that are meant.
    pub(crate) async fn detach_where(
        self: &Rc<Self>,
        container: &ContainerId,
        action: &str,
        meant: impl Fn(&Endpoint) -> bool,
    ) -> Result<Detached> {
        let _turn = self.turn(container).await;
        self.precedence.give().await;
        let endpoints: Vec<Endpoint> =
            self.registry.borrow().endpoints_of(container).filter(|e| meant(e)).cloned().collect();
        let stays = {
            let registry = self.registry.borrow();
            let goes = |other: &Endpoint| endpoints.iter().any(|endpoint| endpoint.id == other.id);
            registry.endpoints_of(container).any(|other| registry.is_wanted(other) && !goes(other))
        };
        let mut detached = Detached::default();
        for endpoint in endpoints {
            self.take_away(&endpoint, action, stays).await?;
            self.left_behind(&endpoint.network);
            detached.endpoints.push(endpoint.id);
        }
        Ok(detached)
    }

    /// Takes an endpoint away, of a container that stays on other networks or not.
    async fn take_away(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        action: &str,
        stays: bool,
    ) -> Result<()> {
        let began = Instant::now();
        fault::point("netd.detach.before-record");
        self.resolver.retract(endpoint);
        let netns = self.resolve_inside_no_more(endpoint);
        self.registry.borrow_mut().leave(&endpoint.id);
        self.unrecord(endpoint);
        fault::point("netd.detach.after-record");
        let network =
            self.registry.borrow().network(&endpoint.network).map(|entry| entry.network.clone());
        if let Some(network) = network {
            let driver = self.driver(&network.driver);
            let published = self.registry.borrow().published(endpoint);
            let call = DetachEndpoint { network, endpoint: published, netns, stays };
            let outcome = match driver {
                Ok(driver) => {
                    let outcome = driver.call(&call).await;
                    if outcome.is_err() {
                        driver.settled().await;
                    }
                    outcome.map(drop)
                }
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                tracing::warn!(
                    network = %endpoint.network_name,
                    endpoint = endpoint.id.short(),
                    %error,
                    "the driver could not detach; its next sync does"
                );
            }
            self.metrics.detached(&call.network.driver, began.elapsed());
        }
        fault::point("netd.detach.after-driver");
        self.relay.remove(endpoint);
        self.release(&endpoint.id);
        self.pass_on(endpoint).await;
        self.withdraw(endpoint);
        tracing::info!(
            network = %endpoint.network_name,
            endpoint = endpoint.id.short(),
            container = endpoint.container.label(),
            ifname = %endpoint.ifname,
            micros = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            "detached"
        );
        self.tell_endpoint(action, endpoint);
        Ok(())
    }

    /// Has ports that led to a container through an endpoint lead through another one of it.
    pub(crate) async fn pass_on(self: &Rc<Self>, gone: &Endpoint) {
        let heirs: BTreeSet<String> = {
            let registry = self.registry.borrow();
            let inherits = |heir: &&Endpoint| {
                registry.is_wanted(heir)
                    && heir.id != gone.id
                    && gone.ports.iter().any(|port| registry.ports.leads_through(&heir.id, port))
            };
            let networks = registry.endpoints_of(&gone.container.id).filter(inherits);
            let networks = networks.filter_map(|heir| registry.network(&heir.network));
            networks.map(|entry| entry.network.driver.clone()).collect()
        };
        if !heirs.is_empty() {
            self.relay_all();
        }
        for name in heirs {
            match self.sync(&name).await {
                Ok(synced) => self.after_sync(&name, synced),
                Err(error) => {
                    tracing::warn!(driver = name, %error, "ports are passed on at its next sync");
                }
            }
        }
    }

    /// Takes an endpoint off every record, without its driver.
    pub(crate) fn forget(self: &Rc<Self>, endpoint: &Endpoint) {
        self.resolver.retract(endpoint);
        self.resolve_inside_no_more(endpoint);
        self.unrecord(endpoint);
        self.release(&endpoint.id);
        self.withdraw(endpoint);
    }

    /// Takes an endpoint's record away. One that cannot be taken away is a problem of the next
    /// start, which finds its namespace gone, and none of the caller's.
    fn unrecord(&self, endpoint: &Endpoint) {
        let about = format!("endpoint {}", endpoint.id);
        match self.stores.remove_endpoint(&endpoint.id) {
            Ok(()) => drop(self.problems.borrow_mut().remove(&about)),
            Err(error) => {
                tracing::error!(endpoint = endpoint.id.short(), %error, "endpoint left on record");
                self.problems.borrow_mut().insert(
                    about,
                    format!(
                        "endpoint {} of {} on {} stays on record: {error}",
                        endpoint.id.short(),
                        endpoint.container.label(),
                        endpoint.network_name
                    ),
                );
            }
        }
    }

    /// Gives addresses and ports to others, and lets the sandbox go with its last endpoint.
    fn release(&self, id: &EndpointId) {
        let now = self.now();
        let mut registry = self.registry.borrow_mut();
        let container = registry.endpoint(id).map(|endpoint| endpoint.container.id.clone());
        registry.drop_endpoint(id, now);
        let Some(container) = container else { return };
        let empty = registry
            .sandbox(&container)
            .is_some_and(|entry| entry.endpoints.is_empty() && !entry.record.sandbox.kept);
        if empty {
            registry.drop_sandbox(&container);
        }
    }

    /// The container that a user means; none when it is not known.
    pub(crate) fn container_of(&self, given: &str) -> Result<Option<ContainerId>> {
        match self.registry.borrow().resolve_sandbox(given) {
            Ok(entry) => Ok(Some(entry.record.sandbox.container.id.clone())),
            Err(error) if error.kind == cnm::Kind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn tell_endpoint(&self, action: &str, endpoint: &Endpoint) {
        self.tell(
            "endpoint",
            action,
            endpoint.id.as_str(),
            &[
                ("network", endpoint.network_name.as_str()),
                ("container", endpoint.container.id.as_str()),
                ("name", endpoint.container.label()),
                ("ifname", endpoint.ifname.as_str()),
            ],
        );
    }
}
