//! Networks: made, shown, removed.

use std::{collections::BTreeMap, net::IpAddr, rc::Rc, time::Duration};

use cnm::{
    Empty, Error, InvalidName, Kind, Name, Result,
    driver::{NetworkDown, NetworkUp},
    network::{
        CheckNetwork, CreateNetwork, InspectNetwork, ListNetworks, Network, NetworkChecked,
        NetworkDetail, Networks, RemoveNetwork, Subnet,
    },
};
use ipam::{Moment, Pool, PoolConfig};

use self::divided::unknown_to_docker;
use crate::{
    attach::{check_network_wishes, check_outbound},
    clock,
    names::{
        called::check_network_name,
        given::{check_network, check_reach},
    },
    netd::{Netd, address_error},
    registry::{NetworkEntry, Stage, called::taken, from_outside, whose},
};

mod cut;
pub(crate) mod divided;
mod filter;
pub(crate) mod lan;
mod live;
pub(crate) mod plan;
mod prune;
mod reserve;
mod update;
mod while_used;

impl Netd {
    /// `network.create`.
    pub(crate) async fn create_network(
        self: &Rc<Self>,
        params: CreateNetwork,
        key: Option<String>,
    ) -> Result<Network> {
        let name = self.check_asked(&params)?;
        let _turn = self.network_turn.lock().await;
        let driver = driver_of(&params);
        if let Some(existing) = self.made_before(&name, &driver, key.as_deref())? {
            return Ok(existing);
        }
        Self::check_wanted(&driver, &params)?;
        if Self::is_shared(&driver) {
            return self.create_shared(name, params, key).await;
        }
        let network = self.planned(name, &driver, params, key).await?;
        // The cluster may have got one of this name meanwhile.
        self.made_before(&network.name, &driver, None)?;
        for problem in self.in_the_way_of(&network).await {
            tracing::warn!("{problem}");
        }
        self.make_network(network).await
    }

    /// `network.check`.
    pub(crate) async fn check_network(
        self: &Rc<Self>,
        params: CheckNetwork,
    ) -> Result<NetworkChecked> {
        let params = params.network;
        let name = self.check_asked(&params)?;
        let _turn = self.network_turn.lock().await;
        let driver = driver_of(&params);
        self.made_before(&name, &driver, None)?;
        Self::check_wanted(&driver, &params)?;
        if Self::is_shared(&driver) {
            self.check_shared(&params).await?;
            return Ok(NetworkChecked::default());
        }
        let network = self.planned(name, &driver, params, None).await?;
        Ok(NetworkChecked { warnings: self.in_the_way_of(&network).await })
    }

    /// Refuses what no network can be asked for; gives the name.
    fn check_asked(&self, params: &CreateNetwork) -> Result<Name> {
        let name = parse_name(&params.name)?;
        check_network_name(name.as_str(), &self.config.dns_domain)?;
        check_network(name.as_str(), &params.options, &self.config.dns_domain)?;
        check_network_wishes(&params.options)?;
        Ok(name)
    }

    /// Refuses what a new network cannot be.
    fn check_wanted(driver: &str, params: &CreateNetwork) -> Result<()> {
        check_outbound(&params.options)?;
        reserve::check_subnets(driver, &params.subnets)?;
        if matches!(driver, "host" | "none") {
            return Err(Error::new(
                Kind::Denied,
                format_args!(
                    "only one instance of \"{driver}\" network is allowed: use it as it is"
                ),
            )
            .with("driver", driver));
        }
        Ok(())
    }

    /// A network of this host's as it is to be.
    async fn planned(
        self: &Rc<Self>,
        name: Name,
        driver: &str,
        params: CreateNetwork,
        key: Option<String>,
    ) -> Result<Network> {
        let id = clock::network_id()?;
        let network = self.plan_network(id, name, driver, params, false, key).await?;
        check_reach(&network, &BTreeMap::new())?;
        self.check_outside(&network)?;
        Ok(network)
    }

    /// The network of a name, where it was made by the same request.
    ///
    /// # Errors
    /// `exists` where it was made by another, `denied` where it is always there.
    fn made_before(&self, name: &Name, driver: &str, key: Option<&str>) -> Result<Option<Network>> {
        let registry = self.registry.borrow();
        let same = |entry: &&NetworkEntry| {
            key.is_some() && entry.network.idempotency_key.as_deref() == key
        };
        if let Some(entry) = registry.networks_called(name).find(same) {
            return Ok(Some(entry.network.clone()));
        }
        let Some(entry) = registry.networks_called(name).next() else { return Ok(None) };
        let message = format!("network with name {name} already exists");
        let error = if entry.network.predefined {
            Error::new(
                Kind::Denied,
                format_args!("operation is not permitted on predefined {name} network"),
            )
        } else if entry.shared.is_some() == Self::is_shared(driver) {
            taken(&message, name, &entry.network.name)
        } else {
            Error::exists(format_args!(
                "{message}: {}; remove that one, or choose another name",
                whose(entry)
            ))
        };
        Err(error.with("network", entry.network.id.as_str()))
    }

    /// Writes a planned network down, has its driver make it, and makes its names resolve.
    pub(crate) async fn make_network(self: &Rc<Self>, mut network: Network) -> Result<Network> {
        let pools = pools(&network, self.config.reuse_delay)?;
        self.stores.put_network(&network)?;
        self.registry.borrow_mut().add_network(network.clone(), pools, Stage::Making);
        let mut unfinished = Unfinished { netd: self.clone(), network: Some(network.clone()) };
        let up = match self.driver(&network.driver) {
            Ok(driver) => driver.call(&NetworkUp { network: network.clone() }).await,
            Err(error) => Err(error),
        };
        let up = up.and_then(|state| {
            if state.options.is_empty() {
                return Ok(());
            }
            // What was chosen once holds, whatever there is to choose from later.
            network.options.extend(state.options);
            Ok(self.stores.put_network(&network)?)
        });
        if let Err(error) = up {
            unfinished.network = None;
            self.take_network_down(&network).await;
            self.stores.remove_network(&network.id, &[])?;
            self.registry.borrow_mut().drop_network(&network.id);
            return Err(error);
        }
        self.keep_off_from_now(&network).await;
        if let Some(changed) = self.resolve_on(&network).await {
            network = changed;
        }
        unfinished.network = None;
        if let Some(entry) = self.registry.borrow_mut().network_mut(&network.id) {
            entry.network = network.clone();
            entry.stage = Stage::Open;
        }
        tracing::info!(network = %network.name, driver = network.driver, "network created");
        self.tell(
            "network",
            "create",
            network.id.as_str(),
            &[("name", network.name.as_str()), ("type", &network.driver)],
        );
        Ok(network)
    }

    /// `network.list`.
    pub(crate) fn list_networks(&self, params: &ListNetworks) -> Result<Networks> {
        let registry = self.registry.borrow();
        let mut networks = Vec::new();
        for entry in registry.networks() {
            if filter::matches(&params.filters, &entry.network, !entry.endpoints.is_empty())? {
                networks.push(entry.network.clone());
            }
        }
        networks.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Networks { networks })
    }

    /// `network.inspect`.
    pub(crate) fn inspect_network(&self, params: &InspectNetwork) -> Result<NetworkDetail> {
        let registry = self.registry.borrow();
        let network = registry.resolve_network(&params.network)?.network.clone();
        let mut endpoints: Vec<_> = registry.endpoints_on(&network.id).cloned().collect();
        endpoints.sort_by(|a, b| a.container.id.cmp(&b.container.id).then(a.ifname.cmp(&b.ifname)));
        let pools = self.list_pools().pools.into_iter();
        let pools = pools.filter(|pool| pool.network == network.id).collect();
        let mut notes: Vec<_> = self.names_one_way(&network).into_iter().collect();
        notes.extend(unknown_to_docker(&network, &endpoints));
        Ok(NetworkDetail { network, endpoints, pools, notes })
    }

    /// `network.remove`.
    pub(crate) async fn remove_network(self: &Rc<Self>, params: &RemoveNetwork) -> Result<Empty> {
        let _turn = self.network_turn.lock().await;
        let network = {
            let registry = self.registry.borrow();
            let entry = registry.resolve_network(&params.network)?;
            let name = &entry.network.name;
            if entry.network.predefined {
                return Err(Error::new(
                    Kind::Denied,
                    format_args!("{name} is a pre-defined network and cannot be removed"),
                )
                .with("network", entry.network.id.as_str()));
            }
            let users = registry.endpoints_on(&entry.network.id);
            let users: Vec<_> = users
                .map(|e| format!("name:{:?} id:{:?}", e.container.label(), e.id.short()))
                .collect();
            if !users.is_empty() {
                return Err(Error::new(
                    Kind::Busy,
                    format_args!(
                        "network {name} has active endpoints ({}): detach them first",
                        first_few(&users)
                    ),
                )
                .with("network", entry.network.id.as_str()));
            }
            entry.network.clone()
        };
        if Self::is_shared(&network.driver) {
            self.remove_shared(&network).await?;
        } else {
            self.unmake_network(&network).await?;
        }
        Ok(Empty {})
    }

    async fn unmake_network(self: &Rc<Self>, network: &Network) -> Result<()> {
        let (before, sticky) = {
            let mut registry = self.registry.borrow_mut();
            let Some(entry) = registry.network_mut(&network.id) else { return Ok(()) };
            let before = std::mem::replace(&mut entry.stage, Stage::Leaving);
            let sticky: Vec<(String, IpAddr)> = entry
                .pools
                .iter()
                .flat_map(Pool::sticky)
                .map(|(owner, address)| (owner.to_owned(), address))
                .collect();
            (before, sticky)
        };
        // First, since it may fail, and then the network is what it was.
        if let Err(error) = self.stores.remove_network(&network.id, &sticky) {
            if let Some(entry) = self.registry.borrow_mut().network_mut(&network.id) {
                entry.stage = before;
            }
            return Err(error.into());
        }
        self.resolve_no_more(&network.id);
        // What the driver cannot take down now it is told to at its next start.
        self.take_network_down(network).await;
        self.registry.borrow_mut().drop_network(&network.id);
        tracing::info!(network = %network.name, driver = network.driver, "network removed");
        self.tell(
            "network",
            "remove",
            network.id.as_str(),
            &[("name", network.name.as_str()), ("type", &network.driver)],
        );
        Ok(())
    }

    async fn take_network_down(self: &Rc<Self>, network: &Network) {
        let down = match self.driver(&network.driver) {
            Ok(driver) => driver.call(&NetworkDown { network: network.clone() }).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = down {
            tracing::warn!(network = %network.name, %error, "network not taken down");
        }
    }
}

/// A network that is being made, and is unmade when its caller's deadline passes meanwhile.
struct Unfinished {
    netd: Rc<Netd>,
    network: Option<Network>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(network) = self.network.take() else { return };
        let netd = self.netd.clone();
        tokio::task::spawn_local(async move {
            let _turn = netd.network_turn.lock().await;
            if let Err(error) = netd.unmake_network(&network).await {
                tracing::error!(network = %network.name, %error, "network not unmade");
            }
        });
    }
}

/// Whoever has many of them reads the first, and how many more there are.
fn first_few(all: &[String]) -> String {
    const FEW: usize = 5;
    match all.len().checked_sub(FEW) {
        Some(more @ 1..) => format!("{} and {more} more", all[..FEW].join(", ")),
        _ => all.join(", "),
    }
}

/// The driver of a new network.
fn driver_of(params: &CreateNetwork) -> String {
    params.driver.clone().unwrap_or_else(|| "bridge".into())
}

/// A network's or container's name as it was given.
pub(crate) fn parse_name(given: &str) -> Result<Name> {
    given.parse().map_err(|error: InvalidName| match given {
        // In Docker's words, as far as those go.
        "" => Error::invalid(format_args!("invalid name: name is empty; {}", error.rule)),
        given => Error::invalid(error).with("name", given),
    })
}

/// The pools of a network, empty; none where its addresses come from outside.
pub(crate) fn pools(network: &Network, reuse_delay: Duration) -> Result<Vec<Pool>> {
    if from_outside(network) {
        return Ok(Vec::new());
    }
    let pool = |subnet: &Subnet| {
        let refused = |error| address_error(&error).with("subnet", subnet.subnet.to_string());
        let mut pool = Pool::new(PoolConfig {
            range: subnet.range,
            gateway: subnet.gateway,
            aux: subnet.aux.clone(),
            exclude: subnet.exclude.clone(),
            reuse_delay,
            ..PoolConfig::new(subnet.subnet)
        })
        .map_err(refused)?;
        for (name, address) in &subnet.reserved {
            pool.reserve(name.as_str(), *address, Moment(0)).map_err(refused)?;
        }
        Ok(pool)
    };
    network.subnets.iter().map(pool).collect()
}

#[cfg(test)]
mod tests {
    use super::first_few;

    #[test]
    fn of_many_the_first_few_are_named() {
        let all: Vec<_> = (1..=55).map(|n| n.to_string()).collect();
        assert_eq!(first_few(&all[..1]), "1");
        assert_eq!(first_few(&all[..5]), "1, 2, 3, 4, 5");
        assert_eq!(first_few(&all[..6]), "1, 2, 3, 4, 5 and 1 more");
        assert_eq!(first_few(&all), "1, 2, 3, 4, 5 and 50 more");
    }
}
