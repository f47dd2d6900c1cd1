//! A network changes while it is in use: it gets subnets besides, labels, and other options. Its
//! endpoints stay, and follow.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use ::cluster::decide::Changes;
use cnm::{
    Error, IfName, Kind, Result,
    driver::{Capabilities, NetworkUp},
    endpoint::Endpoint,
    network::{Network, Subnet, UpdateNetwork},
    split::Ranges,
};
use ipnetwork::IpNetwork;

use super::{live, plan, pools, reserve};
use crate::{
    attach::{check_network_wishes, check_outbound},
    names::given::check_network,
    netd::Netd,
    registry::{Stage, from_outside},
};

impl Netd {
    /// `network.update`.
    pub(crate) async fn update_network(self: &Rc<Self>, params: UpdateNetwork) -> Result<Network> {
        let given = params.network.clone();
        self.update_network_as(&given, |_| Ok(params)).await
    }

    /// Changes a network by what is decided when its turn has come. Ranges and labels change in the same
    /// step, so that nobody gets an address in between.
    pub(crate) async fn update_network_as(
        self: &Rc<Self>,
        given: &str,
        decide: impl FnOnce(&Network) -> Result<UpdateNetwork>,
    ) -> Result<Network> {
        let _turn = self.network_turn.lock().await;
        let network = {
            let registry = self.registry.borrow();
            let entry = registry.resolve_network(given)?;
            if entry.stage != Stage::Open {
                let name = &entry.network.name;
                let why = format!("network {name} is being made or removed: try again");
                return Err(Error::new(Kind::Busy, why).with("network", entry.network.id.as_str()));
            }
            entry.network.clone()
        };
        let params = decide(&network)?;
        let options = self.changed_options(&network, &params).await?;
        check_ranges(&network, &params.ranges)?;
        let UpdateNetwork { add_subnets: mut subnets, ranges, labels, remove_labels, .. } = params;
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
        self.change_local(network, changes, ranges, options).await
    }

    /// The options of a network as they are to be; none when none is to change.
    async fn changed_options(
        self: &Rc<Self>,
        network: &Network,
        params: &UpdateNetwork,
    ) -> Result<Option<BTreeMap<String, String>>> {
        let UpdateNetwork { options, remove_options, .. } = params;
        if options.is_empty() && remove_options.is_empty() {
            return Ok(None);
        }
        if Self::is_shared(&network.driver) {
            return Err(Error::unsupported(format_args!(
                "network {} spans hosts, and its options stay as they are: make another network",
                network.name
            ))
            .with("network", network.id.as_str()));
        }
        let driver = self.driver(&network.driver)?;
        driver.capabilities().await?;
        let unset = remove_options.iter().map(|name| (name.clone(), String::new()));
        driver.check_network_options(options)?;
        driver.check_network_options(&unset.collect())?;
        let changed = live::changed(network, driver.options().as_ref(), options, remove_options)?;
        check_network(network.name.as_str(), &changed, &self.config.dns_domain)?;
        check_network_wishes(&changed)?;
        self.check_servers(options, &network.id)?;
        check_outbound(options)?;
        let mtu = plan::mtu(&changed)?;
        for six in network.subnets.iter().map(|subnet| subnet.subnet).filter(IpNetwork::is_ipv6) {
            plan::check_ipv6(mtu, six)?;
        }
        Ok(Some(changed).filter(|changed| *changed != network.options))
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
    async fn change_local(
        self: &Rc<Self>,
        network: Network,
        changes: Changes,
        ranges: Ranges,
        options: Option<BTreeMap<String, String>>,
    ) -> Result<Network> {
        let mut changed = network.clone();
        for subnet in &mut changed.subnets {
            subnet.range = ranges.get(&subnet.subnet).copied().unwrap_or(subnet.range);
        }
        changed.subnets.extend(changes.subnets.iter().cloned());
        changes.label(&mut changed.labels);
        // What is let through to those that are there follows from which families there are, too.
        let has = |of: &Network, v6| of.subnets.iter().any(|subnet| subnet.subnet.is_ipv6() == v6);
        let family = [false, true].into_iter().any(|v6| has(&changed, v6) != has(&network, v6));
        let others = options.is_some() || family;
        if let Some(options) = options {
            changed.mtu = plan::mtu(&options)?;
            changed.options = options;
        }
        let added = Network { subnets: changes.subnets, ..changed.clone() };
        if !added.subnets.is_empty() {
            self.check_outside(&added)?;
        }
        let pools = pools(&added, self.config.reuse_delay)?;
        let told = others || !added.subnets.is_empty();
        // A driver that starts meanwhile is told of it as it is to be.
        self.registry.borrow_mut().change_network(changed.clone(), Vec::new());
        let up: Result<()> = async {
            if told {
                let driver = self.driver(&changed.driver)?;
                driver.call(&NetworkUp { network: changed.clone() }).await?;
            }
            if others {
                // What is true of all endpoints is true of those that are there.
                let synced = self.sync(&changed.driver).await?;
                self.after_sync(&changed.driver, synced);
            }
            self.stores.put_network(&changed)?;
            Ok(())
        }
        .await;
        if let Err(error) = up {
            self.registry.borrow_mut().change_network(network.clone(), Vec::new());
            if told && let Err(error) = self.put_back(&network, others).await {
                tracing::warn!(network = %network.name, %error, "network not as it was");
            }
            return Err(error);
        }
        self.registry.borrow_mut().change_network(changed.clone(), pools);
        if let Some(entry) = self.registry.borrow_mut().network_mut(&changed.id) {
            entry.give_from(&ranges);
        }
        if told {
            changed = self.resolve_on(&changed).await.unwrap_or(changed);
        }
        if others {
            self.write_mtu(&changed);
            self.relay_all();
        }
        self.network_updated(&changed);
        Ok(changed)
    }

    /// Has a network's driver make of it what it was.
    async fn put_back(self: &Rc<Self>, network: &Network, endpoints: bool) -> Result<()> {
        let driver = self.driver(&network.driver)?;
        driver.call(&NetworkUp { network: network.clone() }).await?;
        if endpoints {
            let synced = self.sync(&network.driver).await?;
            self.after_sync(&network.driver, synced);
        }
        Ok(())
    }

    /// Writes down which MTU the endpoints of a network have by now.
    fn write_mtu(&self, network: &Network) {
        let Some(mtu) = network.mtu else { return };
        let others: Vec<_> = {
            let registry = self.registry.borrow();
            let endpoints = registry.endpoints_on(&network.id);
            endpoints.filter(|e| e.mtu.is_some_and(|known| known != mtu)).cloned().collect()
        };
        for endpoint in others {
            let endpoint = Endpoint { mtu: Some(mtu), ..endpoint };
            let record = self.sandbox_for(&endpoint, None);
            if let Err(error) = self.stores.put_endpoint(&endpoint, &record) {
                tracing::warn!(endpoint = endpoint.id.short(), %error, "its mtu is not on record");
            }
            self.registry.borrow_mut().put_endpoint(endpoint.into());
        }
    }

    /// Says that a network has changed.
    pub(crate) fn network_updated(&self, network: &Network) {
        tracing::info!(network = %network.name, subnets = network.subnets.len(), "network changed");
        let attributes = [("name", network.name.as_str()), ("type", network.driver.as_str())];
        self.tell("network", "update", network.id.as_str(), &attributes);
    }
}

/// Refuses parts of subnets that a network does not have, or of which nobody could be given anything.
fn check_ranges(network: &Network, ranges: &Ranges) -> Result<()> {
    let refused = |why: String| Err(Error::invalid(why).with("network", network.id.as_str()));
    if !ranges.is_empty() && Netd::is_shared(&network.driver) {
        return Err(Error::unsupported(format_args!(
            "network {} spans hosts, and each of them has blocks of its addresses already",
            network.name
        ))
        .with("network", network.id.as_str()));
    }
    for (subnet, range) in ranges {
        let Some(own) = network.subnets.iter().find(|own| own.subnet == *subnet) else {
            return refused(format!("{subnet} is no subnet of network {}", network.name));
        };
        let own =
            Network { subnets: vec![Subnet { range: *range, ..own.clone() }], ..network.clone() };
        pools(&own, Duration::ZERO)?;
    }
    Ok(())
}
