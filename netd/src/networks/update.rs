//! A network changes while it is in use: it gets subnets besides, and labels. Its endpoints stay as
//! they are.

use std::rc::Rc;

use ::cluster::decide::Changes;
use cnm::{
    Error, IfName, Kind, Result,
    driver::{Capabilities, NetworkUp},
    network::{Network, Subnet, UpdateNetwork},
};

use super::{plan, pools, reserve};
use crate::{
    netd::Netd,
    registry::{Stage, from_outside},
};

impl Netd {
    /// `network.update`.
    pub(crate) async fn update_network(self: &Rc<Self>, params: UpdateNetwork) -> Result<Network> {
        let _turn = self.network_turn.lock().await;
        let network = {
            let registry = self.registry.borrow();
            let entry = registry.resolve_network(&params.network)?;
            if entry.stage != Stage::Open {
                let name = &entry.network.name;
                let why = format!("network {name} is being made or removed: try again");
                return Err(Error::new(Kind::Busy, why).with("network", entry.network.id.as_str()));
            }
            entry.network.clone()
        };
        let UpdateNetwork { add_subnets: mut subnets, labels, remove_labels, .. } = params;
        reserve::check_subnets(&network.driver, &subnets)?;
        if !subnets.is_empty() {
            let capabilities = self.driver(&network.driver)?.capabilities().await?;
            self.check_growth(&network, capabilities, &subnets)?;
            let added: Vec<_> = subnets.iter().map(|subnet| subnet.subnet).collect();
            self.check_cut(&added, network.link.as_ref().map(IfName::as_str)).await?;
        }
        if Self::is_shared(&network.driver) {
            let changes = Changes { subnets, labels, remove_labels };
            return self.change_shared(&network, changes).await;
        }
        let has_gateway =
            |subnet: &Subnet| plan::has_gateway(network.internal, &network.options, subnet);
        for subnet in subnets.iter_mut().filter(|subnet| has_gateway(subnet)) {
            plan::choose_gateway(subnet)?;
        }
        let changes = Changes { subnets, labels, remove_labels };
        self.change_local(network, changes).await
    }

    /// Refuses subnets that a network cannot have besides.
    fn check_growth(
        &self,
        network: &Network,
        capabilities: Capabilities,
        subnets: &[Subnet],
    ) -> Result<()> {
        if !capabilities.gateway || from_outside(network) {
            let why = "has no gateway on the host, or its addresses from elsewhere, and";
            return Err(Error::unsupported(format_args!(
                "network {} {why} gets no subnets besides: make another network",
                network.name
            ))
            .with("network", network.id.as_str()));
        }
        for (n, Subnet { subnet, .. }) in subnets.iter().enumerate() {
            plan::check_ipv6(network.mtu.filter(|_| subnet.is_ipv6()), subnet)?;
            plan::check_unicast(*subnet)?;
            self.check_overlap(*subnet, &network.driver, capabilities.shared_subnets)?;
            let mut others = subnets.iter().take(n);
            if let Some(other) = others.find(|other| ipam::overlaps(other.subnet, *subnet)) {
                return Err(Error::invalid(format_args!(
                    "invalid subnet {subnet}: it overlaps with {}, which is given with it",
                    other.subnet
                ))
                .with("subnet", subnet.to_string()));
            }
        }
        Ok(())
    }

    /// Changes a network of this host: its driver first, so that a gateway is there before somebody
    /// has it.
    async fn change_local(self: &Rc<Self>, network: Network, changes: Changes) -> Result<Network> {
        let mut changed = network.clone();
        changed.subnets.extend(changes.subnets.iter().cloned());
        changes.label(&mut changed.labels);
        let added = Network { subnets: changes.subnets, ..changed.clone() };
        let pools = pools(&added, self.config.reuse_delay)?;
        // A driver that starts meanwhile is told of it as it is to be.
        self.registry.borrow_mut().change_network(changed.clone(), Vec::new());
        let up: Result<()> = async {
            if !added.subnets.is_empty() {
                let driver = self.driver(&changed.driver)?;
                driver.call(&NetworkUp { network: changed.clone() }).await?;
            }
            self.stores.put_network(&changed)?;
            Ok(())
        }
        .await;
        if let Err(error) = up {
            self.registry.borrow_mut().change_network(network.clone(), Vec::new());
            if !added.subnets.is_empty()
                && let Ok(driver) = self.driver(&network.driver)
                && let Err(error) = driver.call(&NetworkUp { network: network.clone() }).await
            {
                tracing::warn!(network = %network.name, %error, "network not as it was");
            }
            return Err(error);
        }
        self.registry.borrow_mut().change_network(changed.clone(), pools);
        if !added.subnets.is_empty() {
            changed = self.resolve_on(&changed).await.unwrap_or(changed);
        }
        self.network_updated(&changed);
        Ok(changed)
    }

    /// Says that a network has changed.
    pub(crate) fn network_updated(&self, network: &Network) {
        tracing::info!(network = %network.name, subnets = network.subnets.len(), "network changed");
        let attributes = [("name", network.name.as_str()), ("type", network.driver.as_str())];
        self.tell("network", "update", network.id.as_str(), &attributes);
    }
}
