//! Looking whether the containers in which the resolver listens are there still, and whether those
//! are where it is to listen.

use std::{collections::HashMap, fs::File, rc::Rc, time::Duration};

use cnm::{ContainerId, endpoint::Endpoint, options::DNS_PORT};

use super::{
    Resolver,
    door::{Door, ways},
};
use crate::netd::Netd;

/// How often.
const LOOK: Duration = Duration::from_millis(500);

/// Every how many of these it is looked for processes in containers to which nothing leads: all
/// namespaces of the host are looked at for it.
const SELDOM: u64 = 4;

impl Resolver {
    fn looks_at_nothing(&self) -> bool {
        self.doors.borrow().is_empty() && self.awaited.borrow().is_empty()
    }
}

impl Netd {
    /// The listener is closed when nothing leads there any more.
    pub(super) fn look_after(self: &Rc<Self>, container: &ContainerId, door: Door) {
        self.resolver.awaited.borrow_mut().remove(container);
        self.resolver.doors.borrow_mut().insert(container.clone(), door);
        self.look();
    }

    /// It listens in a container as soon as something leads there.
    pub(super) fn await_door(self: &Rc<Self>, container: &ContainerId) {
        self.resolver.awaited.borrow_mut().insert(container.clone());
        self.look();
    }

    fn look(self: &Rc<Self>) {
        if self.resolver.looking.replace(true) {
            return;
        }
        let netd = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            let mut looks = tokio::time::interval(LOOK);
            for look in 1_u64.. {
                looks.tick().await;
                let Some(netd) = netd.upgrade() else { return };
                netd.look_at_doors();
                if look % SELDOM == 0 {
                    netd.look_for_processes().await;
                }
                if netd.resolver.looks_at_nothing() {
                    netd.resolver.looking.set(false);
                    return;
                }
            }
        });
    }

    /// Closes the listeners to which nothing leads any more.
    fn look_at_doors(&self) {
        let gone = {
            let doors = self.resolver.doors.borrow();
            let gone = doors.iter().filter(|(_, door)| !door.leads_there());
            gone.map(|(container, door)| (container.clone(), door.place)).collect::<Vec<_>>()
        };
        if gone.is_empty() {
            return;
        }
        let ways = ways();
        for (container, place) in gone {
            // What was named may go while the container stays.
            if let Some(path) = ways.get(&place) {
                let door = Door { path: path.clone(), place };
                self.resolver.doors.borrow_mut().insert(container, door);
                continue;
            }
            tracing::debug!(container = container.short(), "nothing leads there any more");
            self.close_inside(&container);
            // A namespace that somebody else keeps may have processes again.
            self.resolver.awaited.borrow_mut().insert(container);
        }
    }

    /// Listens in those containers to which nothing led, if a process does now.
    async fn look_for_processes(self: &Rc<Self>) {
        let awaited: Vec<_> = self.resolver.awaited.borrow().iter().cloned().collect();
        if awaited.is_empty() {
            return;
        }
        let ways = self.ways_by_id().await;
        for container in awaited {
            let endpoint = {
                let registry = self.registry.borrow();
                let mut endpoints = registry.endpoints_of(&container);
                endpoints.find(|endpoint| DNS_PORT.port(&endpoint.options).is_some()).cloned()
            };
            let Some(endpoint) = endpoint else {
                self.resolver.awaited.borrow_mut().remove(&container);
                continue;
            };
            if let Some((netns, door)) = self.find_process(&endpoint, &ways).await
                && let Some(port) = DNS_PORT.port(&endpoint.options)
                // It may have been detached meanwhile.
                && self.resolver.awaited.borrow_mut().remove(&container)
                && let Err(why) = self.listen_inside(&container, &netns, port, door)
            {
                self.no_names_inside(&endpoint, &why);
            }
        }
    }

    /// A process's path to each namespace that has processes, by the id that the host knows it by.
    pub(super) async fn ways_by_id(&self) -> HashMap<i32, String> {
        let mut known = HashMap::new();
        for path in ways().into_values() {
            let Ok(netns) = File::open(&path) else { continue };
            if let Ok(Some(nsid)) = self.host.nsid_if_any(&netns).await {
                known.insert(nsid, path);
            }
        }
        known
    }

    /// The namespace of an endpoint and a process in it, where there is one.
    pub(super) async fn find_process(
        &self,
        endpoint: &Endpoint,
        ways: &HashMap<i32, String>,
    ) -> Option<(File, Door)> {
        let nsid = endpoint.netns.and_then(|netns| netns.nsid)?;
        let path = ways.get(&nsid)?;
        let netns = File::open(path).ok()?;
        // The process may be another one by now.
        let same = self.host.nsid_if_any(&netns).await.ok().flatten() == Some(nsid);
        let door = Door::to(&netns, [path.clone()]).filter(|_| same)?;
        Some((netns, door))
    }
}
