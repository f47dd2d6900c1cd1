//! Endpoints: what is known of each, and who comes and goes.

use std::{collections::BTreeSet, rc::Rc};

use cnm::{
    ContainerId, EndpointId, Error, IfName, NetworkId, Result,
    endpoint::{Endpoint, State},
};
use ipam::Moment;

use super::{Registry, SandboxRecord};

impl Registry {
    /// Every endpoint, by id.
    pub(crate) fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.values().map(Rc::as_ref)
    }

    /// The endpoint of this id.
    pub(crate) fn endpoint(&self, id: &EndpointId) -> Option<&Endpoint> {
        self.endpoints.get(id).map(Rc::as_ref)
    }

    /// The endpoint that a user means: by its whole id, or the beginning of it.
    pub(crate) fn resolve_endpoint(&self, given: &str) -> Result<&Endpoint> {
        if let Some(whole) = given.parse().ok().and_then(|id| self.endpoint(&id)) {
            return Ok(whole);
        }
        let mut matches = self
            .endpoints
            .values()
            .filter(|e| !given.is_empty() && e.id.as_str().starts_with(given));
        match (matches.next(), matches.count()) {
            (Some(endpoint), 0) => Ok(endpoint),
            (Some(_), more) => Err(Error::invalid(format_args!(
                "endpoint {given} is ambiguous ({} matches)",
                more + 1
            ))
            .with("endpoint", given)),
            (None, _) => {
                let hint = self.endpoint_hint(given);
                Err(Error::not_found(format_args!("endpoint {given} not found{hint}"))
                    .with("endpoint", given))
            }
        }
    }

    /// Which endpoints somebody may have meant who named a container.
    fn endpoint_hint(&self, given: &str) -> String {
        let Ok(sandbox) = self.resolve_sandbox(given) else { return String::new() };
        let container = &sandbox.record.sandbox.container;
        let own: Vec<_> = self
            .endpoints_of(&container.id)
            .map(|e| format!("{} on network {}", e.id.short(), e.network_name))
            .collect();
        match own.as_slice() {
            [] => format!(": container {} has none", container.label()),
            own => format!(": container {} has {}", container.label(), own.join(", ")),
        }
    }

    /// The endpoints of a container, in the order in which they came.
    pub(crate) fn endpoints_of(&self, container: &ContainerId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.sandboxes.get(container).map(|entry| entry.endpoints.as_slice());
        ids.unwrap_or_default().iter().filter_map(|id| self.endpoint(id))
    }

    /// The endpoints on a network.
    pub(crate) fn endpoints_on(&self, network: &NetworkId) -> impl Iterator<Item = &Endpoint> {
        let ids = self.networks.get(network).map(|entry| &entry.endpoints);
        ids.into_iter().flatten().filter_map(|id| self.endpoint(id))
    }

    /// Adds an endpoint, or brings it up to date. Its sandbox and network are known.
    pub(crate) fn put_endpoint(&mut self, endpoint: Rc<Endpoint>) {
        if let Some(entry) = self.networks.get_mut(&endpoint.network) {
            entry.endpoints.insert(endpoint.id.clone());
        }
        if let Some(entry) = self.sandboxes.get_mut(&endpoint.container.id)
            && !entry.endpoints.contains(&endpoint.id)
        {
            entry.endpoints.push(endpoint.id.clone());
        }
        self.note_mac(&endpoint);
        self.endpoints.insert(endpoint.id.clone(), endpoint);
    }

    /// An endpoint that is there has changed in what nothing looks it up by but its link-layer address.
    pub(crate) fn renew_endpoint(&mut self, endpoint: Rc<Endpoint>) {
        self.note_mac(&endpoint);
        match self.endpoints.get_mut(&endpoint.id) {
            Some(known) => *known = endpoint,
            None => self.put_endpoint(endpoint),
        }
    }

    /// An endpoint is another container's than was known when it came.
    pub(crate) fn hand_over(&mut self, endpoint: Rc<Endpoint>, record: SandboxRecord) {
        let earlier = self.endpoint(&endpoint.id).map(|known| known.container.id.clone());
        if let Some(earlier) = earlier.filter(|id| *id != endpoint.container.id) {
            let mut empty = false;
            if let Some(entry) = self.sandboxes.get_mut(&earlier) {
                entry.endpoints.retain(|id| *id != endpoint.id);
                empty = entry.endpoints.is_empty() && !entry.record.sandbox.kept;
            }
            if empty {
                self.drop_sandbox(&earlier);
            }
        }
        let container = &endpoint.container;
        match self.sandbox(&container.id).map(|entry| &entry.record) {
            None => self.put_sandbox(record),
            // It has another name by now.
            Some(known) if known.sandbox.container.name != container.name => {
                let mut known = known.clone();
                known.sandbox.container.name = container.name.clone();
                self.put_sandbox(known);
            }
            Some(_) => {}
        }
        self.put_endpoint(endpoint);
    }

    /// An endpoint is being taken away: it still holds what it holds, and is wanted no more.
    pub(crate) fn leave(&mut self, id: &EndpointId) {
        self.leaving.insert(id.clone());
    }

    /// An endpoint is given to somebody who asked for it again.
    pub(crate) fn claim(&mut self, id: &EndpointId) {
        self.claimed.insert(id.clone());
    }

    /// Whether somebody has an endpoint who asked for it again.
    pub(crate) fn is_claimed(&self, id: &EndpointId) -> bool {
        self.claimed.contains(id)
    }

    /// Whether a driver should have this endpoint.
    pub(crate) fn is_wanted(&self, endpoint: &Endpoint) -> bool {
        endpoint.state == State::Attached && !self.leaving.contains(&endpoint.id)
    }

    /// Whether a driver was or will be asked for this endpoint, and has not answered.
    pub(crate) fn is_coming(&self, endpoint: &Endpoint) -> bool {
        endpoint.state == State::Attaching && !self.leaving.contains(&endpoint.id)
    }

    /// An endpoint as its driver is to make it: without the ports that lead to its container through
    /// another one.
    pub(crate) fn published(&self, endpoint: &Endpoint) -> Endpoint {
        let mut endpoint = endpoint.clone();
        endpoint.ports.retain(|port| self.ports.leads_through(&endpoint.id, port));
        endpoint
    }

    /// Forgets an endpoint and gives its addresses and ports back.
    pub(crate) fn drop_endpoint(&mut self, id: &EndpointId, now: Moment) {
        let Some(endpoint) = self.endpoints.remove(id) else { return };
        self.leaving.remove(id);
        self.claimed.remove(id);
        self.ports.release(id, &endpoint.ports);
        if let Some(entry) = self.networks.get_mut(&endpoint.network) {
            entry.endpoints.remove(id);
            entry.forget_mac(&endpoint);
        }
        self.release(&endpoint.network, &endpoint.addresses, now);
        if let Some(entry) = self.sandboxes.get_mut(&endpoint.container.id) {
            entry.endpoints.retain(|other| other != id);
        }
    }

    /// A name for the container's next interface.
    pub(crate) fn free_ifname(&self, container: &ContainerId, prefix: &str) -> IfName {
        let taken: BTreeSet<&str> =
            self.endpoints_of(container).map(|endpoint| endpoint.ifname.as_str()).collect();
        (0..)
            .map(|n| format!("{prefix}{n}"))
            .find(|name| !taken.contains(name.as_str()))
            .and_then(|name| name.parse().ok())
            .unwrap_or_else(IfName::eth0)
    }
}
