//! Networks of the cluster on this host: known to all hosts, up on those that have an endpoint.

use std::rc::Rc;

use ::cluster::{
    decide::{Changes, usual_gateway},
    messages::{Decided, Decision},
};
use cnm::{
    Error, Kind, Name, NetworkId, Result,
    driver::{ANOTHER_PROGRAM, NetworkDown, NetworkUp, UDP_PORT},
    endpoint::Protocol,
    network::{CreateNetwork, Network},
    options::DNS_PORT,
};

use super::{Cluster, DECISION, DRIVER, view::View};
use crate::{clock, host::sockets, netd::Netd, networks::plan, registry::Blocks};

impl Netd {
    /// Whether networks of a driver are the cluster's.
    pub(crate) fn is_shared(driver: &str) -> bool {
        driver == DRIVER
    }

    /// Whether a network of the cluster is up here.
    pub(crate) fn is_up(&self, network: &NetworkId) -> bool {
        let registry = self.registry.borrow();
        let shared = registry.network(network).and_then(|entry| entry.shared.as_ref());
        shared.is_some_and(|shared| shared.up)
    }

    /// `network.create` of a network that all hosts have.
    pub(crate) async fn create_shared(
        self: &Rc<Self>,
        name: Name,
        mut params: CreateNetwork,
        key: Option<String>,
    ) -> Result<Network> {
        let (cluster, mtu) = self.check_shared(&params).await?;
        for subnet in &mut params.subnets {
            subnet.gateway = subnet.gateway.or_else(|| usual_gateway(subnet.subnet));
        }
        let (id, named) = (clock::network_id()?, name.clone());
        let network = Network {
            link: Some(id.link_name()),
            id: id.clone(),
            name,
            driver: DRIVER.to_owned(),
            created: clock::timestamp(),
            subnets: params.subnets,
            internal: params.internal,
            predefined: false,
            mtu,
            overlay: None,
            options: params.options,
            labels: params.labels,
            idempotency_key: key,
        };
        self.check_outside(&network)?;
        let decision = Decision::CreateNetwork {
            network: Box::new(network),
            ipv4: params.ipv4.unwrap_or(true),
            ipv6: params.ipv6.unwrap_or(false),
        };
        let decided = cluster.decide(decision).await;
        if decided.as_ref().is_err_and(|error| error.operands.contains_key("name")) {
            // It has just been made on another host: who looks for it next finds it here.
            let is = |view: &View| view.networks.values().any(|row| row.network.name == named);
            drop(cluster.until("the network", is).await);
        }
        let Decided::Network { network } = decided? else {
            return Err(Error::internal("a manager answered something else"));
        };
        cluster.until("the network", |view| view.networks.contains_key(&id)).await?;
        let network = cluster.local(&network).unwrap_or(network.network);
        tracing::info!(network = %network.name, driver = network.driver, "network created");
        Ok(network)
    }

    /// Refuses a network that all hosts would have where it can be known here that it cannot be; gives its
    /// MTU.
    pub(crate) async fn check_shared(
        self: &Rc<Self>,
        params: &CreateNetwork,
    ) -> Result<(Rc<Cluster>, Option<u32>)> {
        let cluster = self.member()?;
        // Whoever has no such driver would only find out later.
        let driver = self.driver(DRIVER)?;
        driver.capabilities().await?;
        driver.check_network_options(&params.options)?;
        cluster.check_routed(params)?;
        let mtu = plan::mtu(&params.options)?;
        let agreed = cluster.view.borrow().agreed_mtu();
        if let (Some(mtu), Some(agreed)) = (mtu, agreed)
            && mtu > agreed
        {
            return Err(Error::invalid(format_args!(
                "an MTU of {mtu} does not fit between all nodes: at most {agreed}"
            ))
            .with("mtu", mtu));
        }
        let six = params.ipv6 == Some(true) || params.subnets.iter().any(|s| s.subnet.is_ipv6());
        plan::check_ipv6(mtu.or(agreed).filter(|_| six), "IPv6")?;
        for subnet in &params.subnets {
            plan::check_unicast(subnet.subnet)?;
            if subnet.set != 0 {
                return Err(Error::unsupported(format_args!(
                    "a network that spans hosts has one set of subnets of each family, and {} is in \
                     set {}",
                    subnet.subnet, subnet.set
                ))
                .with("subnet", subnet.subnet.to_string()));
            }
            self.check_overlap(subnet.subnet, DRIVER, false)?;
        }
        let given: Vec<_> = params.subnets.iter().map(|subnet| subnet.subnet).collect();
        // Of the other nodes' addresses whoever decides knows.
        self.check_cut(&given, None).await?;
        Ok((cluster, mtu.or(agreed)))
    }

    /// `network.update` of a network that all hosts have.
    pub(crate) async fn change_shared(
        self: &Rc<Self>,
        network: &Network,
        mut changes: Changes,
    ) -> Result<Network> {
        let cluster = self.member()?;
        for subnet in &mut changes.subnets {
            subnet.gateway = subnet.gateway.or_else(|| usual_gateway(subnet.subnet));
        }
        if !changes.subnets.is_empty() {
            self.check_outside(&Network { subnets: changes.subnets.clone(), ..network.clone() })?;
        }
        let id = &network.id;
        let (network, changes) = (id.clone(), Box::new(changes));
        let decided = cluster.decide(Decision::ChangeNetwork { network, changes }).await?;
        let Decided::Network { network } = decided else {
            return Err(Error::internal("a manager answered something else"));
        };
        let is = |view: &View| view.networks.get(id).is_some_and(|row| row == &*network);
        cluster.until("the change", is).await?;
        self.grow(&cluster, id).await?;
        Ok(cluster.local(&network).unwrap_or(network.network))
    }

    /// `network.remove` of a network that all hosts have.
    pub(crate) async fn remove_shared(self: &Rc<Self>, network: &Network) -> Result<()> {
        let cluster = self.member()?;
        let id = network.id.clone();
        cluster.decide(Decision::RemoveNetwork { network: id.clone() }).await?;
        // It may have just lost its last endpoint.
        self.rest(&id).await;
        cluster.until("the removal", |view| !view.networks.contains_key(&id)).await
    }

    /// A network of the cluster came, changed or went.
    pub(super) fn network_changed(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) {
        let row = cluster.view.borrow().networks.get(id).cloned();
        let Some(row) = row else { return self.network_gone(id) };
        let Some(network) = cluster.local(&row) else { return };
        let now = network.clone();
        let mut recalled = false;
        let before = {
            let mut registry = self.registry.borrow_mut();
            match registry.network_mut(id) {
                Some(entry) => {
                    if let Some(shared) = &mut entry.shared {
                        shared.blocks.set_subnets(&network.subnets);
                        recalled =
                            std::mem::replace(&mut shared.recalled, row.recalled) != row.recalled;
                    }
                    let mut before = std::mem::replace(&mut entry.network, network);
                    // Where this host's resolver listens the cluster does not know.
                    if let Some((name, port)) = before.options.remove_entry(DNS_PORT.names[0]) {
                        entry.network.options.entry(name).or_insert(port);
                    }
                    Some(before)
                }
                None => {
                    let blocks = Blocks::new(&network, self.config.reuse_delay);
                    registry.add_shared_network(network, blocks);
                    None
                }
            }
        };
        self.blocks_changed(cluster, id);
        if recalled {
            self.give_back_now(cluster, id);
        }
        self.flag_mtu(cluster, &now);
        self.flag_cut(cluster, &now);
        let Some(before) = before else {
            let attributes = [("name", now.name.as_str()), ("type", now.driver.as_str())];
            return self.tell("network", "create", id.as_str(), &attributes);
        };
        if (&before.subnets, &before.labels) != (&now.subnets, &now.labels) {
            self.network_updated(&now);
        }
        if self.is_up(id) && !self.is_up_as_it_is(id) {
            let (netd, cluster, id) = (self.clone(), cluster.clone(), id.clone());
            tokio::task::spawn_local(async move {
                let about = format!("network {id}");
                match netd.grow(&cluster, &id).await {
                    Ok(()) => drop(netd.problems.borrow_mut().remove(&about)),
                    Err(error) => {
                        tracing::error!(network = id.short(), %error, "network not changed here");
                        netd.problems.borrow_mut().insert(about, error.message);
                    }
                }
            });
        }
    }

    /// Says that a network cannot come up here, since others reach this host at its addresses.
    fn flag_cut(&self, cluster: &Cluster, network: &Network) {
        let (about, mut problems) = (format!("cut {}", network.id), self.problems.borrow_mut());
        match cluster.cut_by(network) {
            Some(why) => drop(problems.insert(about, why)),
            None => drop(problems.remove(&about)),
        }
    }

    fn network_gone(self: &Rc<Self>, id: &NetworkId) {
        let in_use = {
            let registry = self.registry.borrow();
            let Some(entry) = registry.network(id) else { return };
            (!entry.endpoints.is_empty()).then(|| entry.network.name.clone())
        };
        if let Some(name) = in_use {
            let why = format!("network {name} is gone from the cluster, and is in use here");
            tracing::error!("{why}");
            self.problems.borrow_mut().insert(format!("network {id}"), why);
        } else if self.is_up(id) {
            let (netd, id) = (self.clone(), id.clone());
            tokio::task::spawn_local(async move { netd.rest(&id).await });
        } else {
            self.drop_if_gone(id);
        }
    }

    /// Forgets a network that the cluster has no more, or this host is no part of, once it is down and
    /// nobody comes: who brings it up meanwhile would leave what that makes behind.
    pub(super) fn drop_if_gone(&self, id: &NetworkId) {
        let Some(cluster) = self.cluster() else { return };
        if !cluster.is_removed() && cluster.view.borrow().networks.contains_key(id) {
            return;
        }
        let network = {
            let registry = self.registry.borrow();
            let is_over = |shared: &crate::registry::Shared| {
                !shared.up && shared.coming == 0 && shared.turn.try_lock().is_ok()
            };
            let over = registry.network(id).filter(|entry| {
                entry.endpoints.is_empty() && entry.shared.as_ref().is_some_and(is_over)
            });
            over.map(|entry| entry.network.clone())
        };
        if let Some(network) = network {
            self.drop_shared(&network);
        }
    }

    fn drop_shared(&self, network: &Network) {
        for about in ["mtu", "cut", "network"] {
            self.problems.borrow_mut().remove(&format!("{about} {}", network.id));
        }
        self.registry.borrow_mut().drop_network(&network.id);
        let attributes = [("name", network.name.as_str()), ("type", network.driver.as_str())];
        self.tell("network", "remove", network.id.as_str(), &attributes);
    }

    /// All networks of the cluster, after this host or what holds for all changed.
    pub(super) fn refresh_networks(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        let ids: Vec<NetworkId> = cluster.view.borrow().networks.keys().cloned().collect();
        for id in &ids {
            self.network_changed(cluster, id);
        }
    }

    /// Whether a network of the cluster is up here with all that it has by now.
    fn is_up_as_it_is(&self, id: &NetworkId) -> bool {
        let registry = self.registry.borrow();
        let entry = registry.network(id);
        let shared = entry.and_then(|entry| Some((&entry.network, entry.shared.as_ref()?)));
        shared.is_some_and(|(network, shared)| {
            shared.up && shared.up_with.iter().eq(network.subnets.iter().map(|s| &s.subnet))
        })
    }

    /// Whether a network of the cluster that is up here has addresses of a family by now of which it
    /// had none.
    fn gets_a_family(&self, network: &Network) -> bool {
        let registry = self.registry.borrow();
        let shared = registry.network(&network.id).and_then(|entry| entry.shared.as_ref());
        let Some(shared) = shared else { return false };
        let is_new = |six| {
            network.subnets.iter().any(|own| own.subnet.is_ipv6() == six)
                && !shared.up_with.iter().any(|subnet| subnet.is_ipv6() == six)
        };
        is_new(false) || is_new(true)
    }

    /// Brings a network up before its first endpoint comes, and to what it has become since.
    pub(super) async fn rise(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) -> Result<()> {
        if self.is_up_as_it_is(id) {
            return Ok(());
        }
        let turn = self.turn_of(id)?;
        let _turn = turn.lock().await;
        self.bring_up_shared(cluster, id).await
    }

    /// Brings a network to what it has become, where it is up.
    async fn grow(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) -> Result<()> {
        let turn = self.turn_of(id)?;
        let _turn = turn.lock().await;
        if self.is_up(id) { self.bring_up_shared(cluster, id).await } else { Ok(()) }
    }

    /// As [`Netd::rise`], for who has the network's turn.
    async fn bring_up_shared(self: &Rc<Self>, cluster: &Rc<Cluster>, id: &NetworkId) -> Result<()> {
        if self.is_up_as_it_is(id) {
            return Ok(());
        }
        let network = {
            let registry = self.registry.borrow();
            let entry = registry.network(id);
            entry.map(|entry| entry.network.clone()).ok_or_else(|| gone(id))?
        };
        self.check_local_overlap(&network)?;
        if let Some(why) = cluster.cut_by(&network) {
            return Err(Error::exists(why).with("network", network.id.as_str()));
        }
        let up = self.driver(&network.driver)?.call(&NetworkUp { network: network.clone() }).await;
        up.map_err(name_program)?;
        let grown = self.is_up(id);
        if grown && self.gets_a_family(&network) {
            // What is let through to those that are there follows from which families there are, too.
            let synced = self.sync(&network.driver).await?;
            self.after_sync(&network.driver, synced);
        }
        if let Some(entry) = self.registry.borrow_mut().network_mut(id)
            && let Some(shared) = &mut entry.shared
        {
            shared.up = true;
            shared.up_with = network.subnets.iter().map(|subnet| subnet.subnet).collect();
        }
        self.resolve_on(&network).await;
        if grown {
            return Ok(());
        }
        cluster.untold.borrow_mut().network(id);
        // What is taken to be told is told, whether anybody waits for it or not.
        let telling = tokio::task::spawn_local(self.clone().tell_driver_now(cluster.clone()));
        tokio::time::timeout(DECISION, telling).await.ok();
        tracing::info!(network = %network.name, "network up on this host");
        Ok(())
    }

    /// Takes a network down after its last endpoint went, and forgets it where it is gone.
    pub(super) async fn rest(self: &Rc<Self>, id: &NetworkId) {
        self.take_down_shared(id).await;
        self.drop_if_gone(id);
    }

    async fn take_down_shared(self: &Rc<Self>, id: &NetworkId) {
        let Ok(turn) = self.turn_of(id) else { return };
        let _turn = turn.lock().await;
        let network = {
            let mut registry = self.registry.borrow_mut();
            let Some(entry) = registry.network_mut(id) else { return };
            let idle = entry.endpoints.is_empty();
            let Some(shared) = entry.shared.as_mut().filter(|s| s.up && s.coming == 0 && idle)
            else {
                return;
            };
            shared.up = false;
            entry.network.clone()
        };
        self.resolve_no_more(id);
        let down = match self.driver(&network.driver) {
            Ok(driver) => driver.call(&NetworkDown { network: network.clone() }).await.map(drop),
            Err(error) => Err(error),
        };
        match down {
            Ok(()) => tracing::info!(network = %network.name, "network down on this host"),
            Err(error) => {
                tracing::warn!(network = %network.name, %error, "network not taken down");
                // What is left of it is told apart from what there is when all is told.
                if let Some(cluster) = self.cluster() {
                    cluster.untold.borrow_mut().everything();
                }
            }
        }
    }

    /// A network is no more told to its driver as one that is up; whether it was until now.
    pub(super) fn no_longer_up(&self, id: &NetworkId) -> bool {
        let mut registry = self.registry.borrow_mut();
        let shared = registry.network_mut(id).and_then(|entry| entry.shared.as_mut());
        shared.is_some_and(|shared| std::mem::replace(&mut shared.up, false))
    }

    /// Who makes a network come up or go down does so while holding this.
    pub(super) fn turn_of(&self, id: &NetworkId) -> Result<std::sync::Arc<tokio::sync::Mutex<()>>> {
        let registry = self.registry.borrow();
        let shared = registry.network(id).and_then(|entry| entry.shared.as_ref());
        shared.map(|shared| shared.turn.clone()).ok_or_else(|| gone(id))
    }

    /// A network of this host may have the same addresses: the host could not tell them apart.
    fn check_local_overlap(&self, network: &Network) -> Result<()> {
        let registry = self.registry.borrow();
        let others = registry.networks().filter(|entry| {
            entry.network.id != network.id && entry.shared.as_ref().is_none_or(|shared| shared.up)
        });
        for other in others {
            for theirs in &other.network.subnets {
                if network.subnets.iter().any(|own| ipam::overlaps(own.subnet, theirs.subnet)) {
                    return Err(Error::new(
                        Kind::Exists,
                        format_args!(
                            "network {} cannot be used on this host: its addresses overlap with {} \
                             of network {}",
                            network.name, theirs.subnet, other.network.name
                        ),
                    )
                    .with("network", network.id.as_str()));
                }
            }
        }
        Ok(())
    }
}

/// Names the program that has the port of VXLAN, where a driver says that one has.
fn name_program(mut error: Error) -> Error {
    let port = error.operands.get(UDP_PORT).and_then(serde_json::Value::as_u64);
    let Some(port) = port.and_then(|port| u16::try_from(port).ok()) else { return error };
    let there = sockets::bound_within(&[Protocol::Udp].into(), port..=port).unwrap_or_default();
    if let Some(program) = sockets::holders(&there).first() {
        error.message = error.message.replacen(ANOTHER_PROGRAM, &program.to_string(), 1);
    }
    error
}

fn gone(id: &NetworkId) -> Error {
    Error::not_found(format_args!("network {} not found", id.short())).with("network", id.as_str())
}

/// The option by which hosts on one link reach each other's containers without VXLAN.
const MODE: &str = "mode";

impl Cluster {
    /// Refuses direct routes where there could be none: they are for IPv4 over IPv4 alone.
    fn check_routed(&self, params: &CreateNetwork) -> Result<()> {
        let mode = params.options.get(MODE).map(String::as_str).unwrap_or_default();
        if !mode.eq_ignore_ascii_case("routed") {
            return Ok(());
        }
        let why = if self.kept.borrow().address.is_ipv6() {
            "the nodes of this cluster reach each other by IPv6"
        } else if params.ipv4 == Some(false) {
            "this network has none"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format_args!(
            "{MODE}={mode} has IPv4 go from host to host without VXLAN, and {why}: leave it out"
        ))
        .with("option", MODE))
    }

    /// Why a network would cut this host off from the others, if it would.
    fn cut_by(&self, network: &Network) -> Option<String> {
        let view = self.view.borrow();
        let facts = &view.here()?.facts;
        let (address, subnets) = (facts.vtep()?, &network.subnets);
        let link = facts.link.unwrap_or_else(|| address.into());
        let clash = subnets.iter().find(|subnet| ipam::overlaps(subnet.subnet, link))?;
        Some(format!(
            "network {} cannot be used on this host: it has {}, and others reach this host at \
             {address}, on {link}",
            network.name, clash.subnet
        ))
    }
}
