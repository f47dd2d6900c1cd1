//! An endpoint changes while it is in use: whose it is, where that was not known when it was made,
//! and what it publishes.

use std::rc::Rc;

use cnm::{
    EndpointId, Error, Kind, Name, Result,
    driver::{FindDelivered, PublishPorts},
    endpoint::{Container, Endpoint, Port, UpdateEndpoint},
    network::Network,
    options::is_delivered_on_host,
};

use super::{
    reserve::{check_ports, name_holder},
    wishes,
};
use crate::{
    drivers::Session, host::sockets, names::called::check_container, netd::Netd, registry::Taker,
};

impl Netd {
    /// `endpoint.update`.
    pub(crate) async fn update_endpoint(
        self: &Rc<Self>,
        params: UpdateEndpoint,
    ) -> Result<Rc<Endpoint>> {
        let is_given = params.container.is_some();
        let endpoint = self.introduce(params, None).await?;
        if !is_given || !self.find_delivered(&endpoint.id).await? {
            return Ok(endpoint);
        }
        Ok(Rc::new(self.registry.borrow().resolve_endpoint(endpoint.id.as_str())?.clone()))
    }

    /// As [`Netd::update_endpoint`]; with a container, what else it answers to.
    pub(crate) async fn introduce(
        self: &Rc<Self>,
        params: UpdateEndpoint,
        aliases: Option<Vec<Name>>,
    ) -> Result<Rc<Endpoint>> {
        let found = self.registry.borrow().resolve_endpoint(&params.endpoint)?.clone();
        let _turn = self.turn(&found.container.id).await;
        let aliases = aliases.unwrap_or_else(|| found.aliases.clone());
        let is_new = |whose: &Container| *whose != found.container || aliases != found.aliases;
        let new = params.container.filter(is_new);
        let _its_turn = match &new {
            Some(container) if container.id != found.container.id => {
                Some(self.turn(&container.id).await)
            }
            _ => None,
        };
        // It may have gone, or changed, meanwhile.
        let id = found.id.as_str();
        let mut endpoint = Rc::new(self.registry.borrow().resolve_endpoint(id)?.clone());
        if let Some(container) = new {
            endpoint = self.hand_over(&endpoint, container, aliases)?;
        }
        if let Some(ports) = params.ports {
            endpoint = self.publish_instead(&endpoint, ports).await?;
        }
        self.tell_endpoint("update", &endpoint);
        Ok(endpoint)
    }

    /// Gives an endpoint to the container whose it is.
    fn hand_over(
        &self,
        known: &Endpoint,
        container: Container,
        aliases: Vec<Name>,
    ) -> Result<Rc<Endpoint>> {
        if !is_delivered_on_host(&known.options) {
            return Err(Error::invalid(format_args!(
                "endpoint {} is in the network namespace of {}, and so it is no other container's",
                known.id.short(),
                known.container.label()
            ))
            .with("endpoint", known.id.as_str()));
        }
        let network = known.network_name.as_str();
        check_container(&container, &aliases, network, &self.config.dns_domain)?;
        self.registry.borrow().not_called_so(&known.id, &known.network, &container)?;
        let mut endpoint = Endpoint { container, aliases, ..known.clone() };
        if endpoint.container.id != known.container.id {
            // Who puts it there names it; until that is seen, it is what it was made as.
            endpoint.ifname = endpoint.made_as();
        }
        let record = self.sandbox_for(&endpoint, None);
        self.stores.put_endpoint(&endpoint, &record)?;
        self.resolver.retract(known);
        let endpoint = Rc::new(endpoint);
        self.registry.borrow_mut().hand_over(endpoint.clone(), record);
        self.resolver.publish(&endpoint);
        // Other hosts know it by the names that it had.
        self.spread(&endpoint);
        Ok(endpoint)
    }

    /// Looks what an interface is called that was left on the host and that somebody has put into its
    /// container by now; whether it is there, or nobody can see it.
    pub(crate) async fn find_delivered(self: &Rc<Self>, id: &EndpointId) -> Result<bool> {
        let found = self.registry.borrow().resolve_endpoint(id.as_str())?.clone();
        if !is_delivered_on_host(&found.options) {
            return Ok(true);
        }
        let _turn = self.turn(&found.container.id).await;
        // It may have gone, or changed, meanwhile.
        let known = self.registry.borrow().resolve_endpoint(id.as_str())?.clone();
        let network =
            self.registry.borrow().resolve_network(known.network.as_str())?.network.clone();
        let driver = self.driver(&network.driver)?;
        let call = FindDelivered { network, endpoint: known.clone() };
        let ifname = match driver.call(&call).await {
            Err(error) if error.kind == Kind::Unsupported => return Ok(true),
            found => found?.ifname,
        };
        let Some(ifname) = ifname else { return Ok(false) };
        if ifname != known.ifname {
            let endpoint = Rc::new(Endpoint { ifname, ..known });
            let record = self.sandbox_for(&endpoint, None);
            self.stores.put_endpoint(&endpoint, &record)?;
            self.registry.borrow_mut().renew_endpoint(endpoint.clone());
            self.tell_endpoint("update", &endpoint);
        }
        Ok(true)
    }

    /// Publishes other ports than before, if they are others.
    async fn publish_instead(
        self: &Rc<Self>,
        known: &Rc<Endpoint>,
        mut ports: Vec<Port>,
    ) -> Result<Rc<Endpoint>> {
        let network =
            self.registry.borrow().resolve_network(known.network.as_str())?.network.clone();
        wishes::fill_ports(&mut ports, &network)?;
        if ports == known.ports {
            return Ok(known.clone());
        }
        let driver = self.driver(&network.driver)?;
        check_ports(&network, &ports, driver.capabilities().await?)?;
        sockets::check_addresses(&mut ports)?;
        let bound = self.bound_by_host(&ports)?;
        let before = self.registry.borrow().published(known);
        {
            let mut registry = self.registry.borrow_mut();
            let container = &known.container.id;
            let others: Vec<_> = registry.endpoints_of(container).map(|e| e.id.clone()).collect();
            registry.ports.release(&known.id, &known.ports);
            let taker = Taker { endpoint: &known.id, container, others: &others, bound: &bound };
            if let Err(error) = registry.ports.take(taker, &mut ports) {
                registry.ports.restore(&known.id, &known.ports);
                return Err(name_holder(&registry, error));
            }
        }
        let endpoint = Rc::new(Endpoint { ports, ..(**known).clone() });
        let changed = match self.write_down(&endpoint) {
            Ok(()) => self.change_ports(&driver, network, &before, &endpoint).await,
            Err(error) => Err(error),
        };
        if let Err(error) = changed {
            {
                let mut registry = self.registry.borrow_mut();
                registry.ports.release(&endpoint.id, &endpoint.ports);
                registry.ports.restore(&known.id, &known.ports);
            }
            if let Err(error) = self.write_down(known) {
                tracing::error!(endpoint = known.id.short(), %error, "not as it was");
            }
            return Err(error);
        }
        // Other hosts know of the services that it had.
        self.spread(&endpoint);
        // What it publishes no more another endpoint of its container may.
        let mut gone = (**known).clone();
        gone.ports.retain(|port| !endpoint.ports.contains(port));
        if !gone.ports.is_empty() {
            self.pass_on(&gone).await;
        }
        Ok(endpoint)
    }

    /// Has the driver publish what leads through an endpoint now instead of what did before.
    async fn change_ports(
        self: &Rc<Self>,
        driver: &Session,
        network: Network,
        before: &Endpoint,
        endpoint: &Endpoint,
    ) -> Result<()> {
        let endpoint = self.registry.borrow().published(endpoint);
        let name = network.driver.clone();
        let call = PublishPorts { network, endpoint, instead_of: before.ports.clone() };
        match driver.call(&call).await {
            // What a sync makes of everything, it makes of this one.
            Err(error) if error.kind == Kind::Unsupported => {
                let synced = driver.sync(&self.desired(&name)).await?;
                self.after_sync(&name, synced);
            }
            outcome => drop(outcome?),
        }
        self.relay.remove(before);
        self.relay.add(&call.endpoint);
        Ok(())
    }

    fn write_down(&self, endpoint: &Rc<Endpoint>) -> Result<()> {
        let record = self.sandbox_for(endpoint, None);
        self.stores.put_endpoint(endpoint, &record)?;
        self.resolver.retract(endpoint);
        self.registry.borrow_mut().put_endpoint(endpoint.clone());
        self.resolver.publish(endpoint);
        Ok(())
    }
}
