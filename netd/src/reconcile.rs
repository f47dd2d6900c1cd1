//! From what is stored to what is: at the start, when a driver comes back, and on request.

use std::{fs, path::Path, rc::Rc};

use cnm::{
    EndpointId, Error, Result,
    driver::Synced,
    endpoint::{Detach, Detached, State},
    network::CreateNetwork,
    system::{DriverStatus, Reconciled, Status, Version},
};

use crate::{
    clock,
    netd::Netd,
    networks::pools,
    registry::{SandboxEntry, SandboxRecord, Stage},
    store::{BOOT, Stored},
};

/// The networks that always exist, and their drivers.
const PREDEFINED: [(&str, &str); 3] = [("bridge", "bridge"), ("host", "host"), ("none", "none")];

/// What became of an endpoint whose link is gone, in a sentence.
enum Lost {
    /// It is on record: its container is still there.
    Kept(String),
    /// It is away, as its container is.
    Released(String),
}

impl Netd {
    /// Reads the stores into memory. What was being attached when netd ended was never answered
    /// for, so it is not taken over: the first sync takes away what there is of it.
    pub(crate) fn remember(&self, mut stored: Stored) -> Result<()> {
        self.settle(&mut stored.networks);
        let mut registry = self.registry.borrow_mut();
        for network in stored.networks {
            let pools = pools(&network, self.config.reuse_delay)?;
            registry.add_network(network, pools, Stage::Open);
        }
        for (network, owner, address) in stored.sticky {
            let Some(entry) = registry.network_mut(&network) else { continue };
            for pool in &mut entry.pools {
                if pool.config().subnet.contains(address)
                    && let Err(error) = pool.restore_sticky(&owner, address)
                {
                    tracing::warn!(%network, owner, %address, %error, "sticky address dropped");
                }
            }
        }
        for record in stored.sandboxes {
            registry.put_sandbox(record);
        }
        let mut gone = stored.gone;
        for row in stored.endpoints {
            let endpoint = row.endpoint;
            if endpoint.state == State::Attaching {
                tracing::info!(endpoint = endpoint.id.short(), "unfinished attach undone");
                self.stores.remove_endpoint(&endpoint.id)?;
                gone.push(endpoint);
                continue;
            }
            // Absence is not a delete: a first sync without it would take its container off.
            let entry = registry.network_mut(&endpoint.network).ok_or_else(|| {
                Error::not_found(format_args!(
                    "network {} is missing in {}, and container {} is on it: put the store back, \
                     or remove {} to let go of all containers",
                    endpoint.network_name,
                    self.config.state_dir.join("netd.redb").display(),
                    endpoint.container.label(),
                    self.config.run_dir.join(BOOT).display()
                ))
            })?;
            entry.restore(&endpoint);
            registry.share(&endpoint.network, &endpoint.addresses);
            registry.ports.restore(&endpoint.id, &endpoint.ports);
            if registry.sandbox(&endpoint.container.id).is_none() {
                let start = row.process_start;
                registry.put_sandbox(SandboxRecord::of(&endpoint, row.path, start));
            }
            registry.put_endpoint(endpoint.into());
        }
        // When they went nobody wrote down: their addresses wait as if it had been just now.
        let now = self.now();
        for endpoint in gone {
            registry.let_wait(&endpoint.network, &endpoint.addresses, now);
        }
        Ok(())
    }

    /// Brings everything up: drivers, predefined networks, names, and what was spooled meanwhile.
    pub(crate) async fn bring_up(self: &Rc<Self>) {
        if let Err(error) = self.collect_garbage().await {
            self.problem("namespaces", &error);
        }
        self.resume_inside().await;
        for (name, driver) in PREDEFINED {
            if let Err(error) = self.predefine(name, driver).await {
                self.problem(&format!("network {name}"), &error);
            }
        }
        let networks: Vec<_> =
            self.registry.borrow().networks().map(|entry| entry.network.clone()).collect();
        for network in &networks {
            if Self::is_shared(&network.driver) && !self.is_up(&network.id) {
                continue;
            }
            // Its first sync brings all networks of a driver up.
            let ready = match self.driver(&network.driver) {
                Ok(driver) => driver.capabilities().await.map(drop),
                Err(error) => Err(error),
            };
            if let Err(error) = ready {
                self.problem(&driver_problem(&network.driver), &error);
            }
            self.resolve_on(network).await;
        }
        let id = |entry: &SandboxEntry| entry.record.sandbox.container.id.clone();
        let containers: Vec<_> = self.registry.borrow().sandboxes().map(id).collect();
        for container in &containers {
            self.watch_process(container);
        }
        self.relay_all();
        self.replay_spool(&self.config.run_dir.join("spool")).await;
        self.remove_all_unneeded().await;
    }

    /// Has status say it; the log says it once.
    pub(crate) fn problem(&self, about: &str, error: &Error) {
        if self.is_new_problem(about, &error.message) {
            tracing::error!(about, %error, "not as it should be");
        }
    }

    /// Has status say it; whether it did not before.
    fn is_new_problem(&self, about: &str, problem: &str) -> bool {
        let before = self.problems.borrow_mut().insert(about.to_owned(), problem.to_owned());
        before.as_deref() != Some(problem)
    }

    async fn predefine(self: &Rc<Self>, name: &str, driver: &str) -> Result<()> {
        if self.registry.borrow().namesakes(name).next().is_some() {
            return Ok(());
        }
        let _turn = self.network_turn.lock().await;
        let params = CreateNetwork::named(name);
        let parsed = crate::networks::parse_name(name)?;
        let id = clock::network_id()?;
        let mut network = self.plan_network(id, parsed, driver, params, true, None).await?;
        if network.link.is_some() {
            network.link = Some(self.default_link()?);
        }
        self.make_network(network).await.map(drop)
    }

    /// After a driver was told everything.
    pub(crate) fn after_sync(self: &Rc<Self>, driver: &str, synced: Synced) {
        for repaired in &synced.repaired {
            tracing::info!(driver, repaired, "put right");
        }
        let about = format!("host {driver}");
        match &synced.problems[..] {
            [] => drop(self.problems.borrow_mut().remove(&about)),
            problems => {
                let problems = problems.join("; ");
                if self.is_new_problem(&about, &problems) {
                    tracing::warn!(driver, problems, "not put right");
                }
            }
        }
        for endpoint in synced.missing {
            let netd = self.clone();
            tokio::task::spawn_local(async move { drop(netd.lost(&endpoint).await) });
        }
    }

    /// Has a driver put right what it noticed.
    pub(crate) async fn repair(self: Rc<Self>, driver: String, what: Vec<String>) {
        let noticed = what.join("; ");
        // It is told again as long as it is not right.
        if self.unsettled.borrow().get(&driver) != Some(&noticed) {
            tracing::warn!(driver, noticed, "disturbed by somebody else");
        }
        match self.sync(&driver).await {
            Ok(synced) => {
                let well = synced.missing.is_empty() && synced.problems.is_empty();
                if well || !synced.repaired.is_empty() {
                    self.unsettled.borrow_mut().remove(&driver);
                } else {
                    self.unsettled.borrow_mut().insert(driver.clone(), noticed.clone());
                }
                self.tell("driver", "repair", &driver, &[("what", &noticed)]);
                self.after_sync(&driver, synced);
                self.driver_started(&driver);
            }
            Err(error) => {
                self.unsettled.borrow_mut().insert(driver.clone(), noticed);
                self.problem(&driver_problem(&driver), &error);
            }
        }
    }

    /// Releases an endpoint whose link is gone together with its namespace. One whose namespace
    /// lives is kept and reported: absence is not a delete. Says what became of it, unless somebody
    /// else is taking it away, or has.
    async fn lost(self: &Rc<Self>, id: &EndpointId) -> Option<Lost> {
        let wanted = || {
            let registry = self.registry.borrow();
            registry.endpoint(id).filter(|endpoint| registry.is_wanted(endpoint)).cloned()
        };
        let endpoint = wanted()?;
        let nsid = endpoint.netns.and_then(|netns| netns.nsid);
        let outlived = self.registry.borrow().is_outlived(&endpoint.container.id);
        let alive = match nsid {
            Some(nsid) => !outlived && self.host.has(nsid).await.unwrap_or(true),
            None => true,
        };
        if alive {
            // A problem of one that went meanwhile would stay for good.
            wanted()?;
            let error = Error::not_found(format_args!(
                "endpoint {} of {} on {} has lost its link: detach it and attach it again",
                endpoint.id.short(),
                endpoint.container.label(),
                endpoint.network_name
            ));
            self.problem(&format!("endpoint {}", endpoint.id), &error);
            return Some(Lost::Kept(error.message));
        }
        let outcome =
            self.detach_where(&endpoint.container.id, "vanish", |other| other.id == *id).await;
        if let Err(error) = outcome {
            tracing::error!(endpoint = id.short(), %error, "not released");
            return Some(Lost::Kept(error.message));
        }
        Some(Lost::Released(format!(
            "release endpoint {} of {} on {}, whose network namespace is gone",
            endpoint.id.short(),
            endpoint.container.label(),
            endpoint.network_name
        )))
    }

    /// `system.gc`: releases what was in namespaces that are gone.
    pub(crate) async fn collect_garbage(self: &Rc<Self>) -> Result<Detached> {
        let nsids: Vec<i32> = self.registry.borrow().nsids().collect();
        let mut detached = Detached::default();
        for nsid in nsids {
            if self.host.has(nsid).await? {
                continue;
            }
            let containers = self.registry.borrow().containers_in(nsid);
            for container in containers {
                tracing::info!(container = container.short(), nsid, "network namespace is gone");
                let endpoints =
                    self.registry.borrow().sandbox(&container).map(|entry| entry.endpoints.clone());
                self.drop_sandbox(&container, "vanish").await?;
                detached.endpoints.extend(endpoints.into_iter().flatten());
            }
        }
        Ok(detached)
    }

    /// `system.reconcile`.
    pub(crate) async fn reconcile(self: &Rc<Self>) -> Result<Reconciled> {
        let mut reconciled = Reconciled::default();
        reconciled.repaired.extend(self.resolve_at_fixed_again());
        let mut first = Ok(());
        for driver in self.drivers.all() {
            let name = driver.status().name;
            let mut synced = match self.sync(&name).await {
                Ok(synced) => synced,
                // What one driver cannot do is no reason to leave the others.
                Err(error) => {
                    self.problem(&driver_problem(&name), &error);
                    first = first.and(Err(error));
                    continue;
                }
            };
            reconciled.problems.extend(synced.problems.iter().cloned());
            reconciled.repaired.extend(synced.repaired.iter().cloned());
            for endpoint in std::mem::take(&mut synced.missing) {
                match self.lost(&endpoint).await {
                    Some(Lost::Kept(why)) => reconciled.lost.push(why),
                    Some(Lost::Released(what)) => reconciled.repaired.push(what),
                    None => {}
                }
            }
            self.after_sync(&name, synced);
            match self.tell_of_others_again(&name).await {
                Ok(0) => {}
                Ok(rows) => {
                    let what = "rows that lead to other hosts (forwarding, neighbours, routes)";
                    reconciled.repaired.push(format!("put {rows} {what} right"));
                }
                Err(error) => reconciled.problems.push(error.message),
            }
        }
        first.map(|()| reconciled)
    }

    /// Does what plugins were asked to detach while netd was not there.
    async fn replay_spool(self: &Rc<Self>, spool: &Path) {
        let Ok(files) = fs::read_dir(spool) else { return };
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let read = fs::read_to_string(&path)
                .map_err(Error::internal)
                .and_then(|text| serde_json::from_str::<Detach>(&text).map_err(Error::invalid))
                .map_err(|error| {
                    Error::invalid(format_args!(
                        "the spooled detach {} cannot be read: {error}; remove it to forget it",
                        path.display()
                    ))
                });
            let outcome = match read {
                Ok(detach) => self.detach(&detach).await.map(drop),
                Err(error) => Err(error),
            };
            match outcome.and_then(|()| fs::remove_file(&path).map_err(Error::internal)) {
                Ok(()) => tracing::info!(path = %path.display(), "spooled detach done"),
                Err(error) => self.problem(&format!("spool {}", path.display()), &error),
            }
        }
    }

    /// `system.status`, as far as netd knows it without looking at the host.
    pub(crate) fn status(&self) -> Status {
        let registry = self.registry.borrow();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let sessions = self.drivers.all();
        let mut about = self.problems.borrow().clone();
        let failing =
            sessions.iter().filter_map(|session| Some((session.status().name, session.failing()?)));
        about.extend(failing.map(|(name, why)| (driver_problem(&name), why)));
        let mut problems: Vec<String> = about.into_values().collect();
        problems.extend(self.leaving.borrow().sentence(&registry));
        problems.extend(registry.name_clashes());
        problems.extend(self.resolver.pressed());
        problems.extend(self.resolver.nobody_to_ask(&registry));
        problems.extend(self.asks_itself(&registry));
        problems.extend(self.asked_no_more(&registry));
        problems.extend(self.unfound(&registry));
        problems.extend(self.cluster().and_then(|cluster| cluster.problem()));
        let mut drivers: Vec<DriverStatus> =
            sessions.iter().map(|session| session.status()).collect();
        drivers.sort_by(|a, b| a.name.cmp(&b.name));
        Status {
            version: env!("CARGO_PKG_VERSION").into(),
            pid: std::process::id(),
            uptime: self.uptime(),
            state_dir: self.config.state_dir.display().to_string(),
            run_dir: self.config.run_dir.display().to_string(),
            networks: count(registry.networks().count()),
            sandboxes: count(registry.sandboxes().count()),
            endpoints: count(registry.endpoints().count()),
            drivers,
            problems,
        }
    }
}

/// By what a driver's own problem is known, which goes when it is told everything.
pub(crate) fn driver_problem(driver: &str) -> String {
    format!("driver {driver}")
}

/// `system.version`.
pub(crate) fn version() -> Version {
    Version { version: env!("CARGO_PKG_VERSION").into(), protocols: vec![cnm::PROTOCOL] }
}
