//! Looking whether the containers in which the resolver listens are there still, and whether those
//! are where it is to listen.

use std::{
    collections::HashSet,
    fs::{self, File},
    rc::Rc,
    time::Duration,
};

use cnm::{ContainerId, endpoint::Endpoint, options::DNS_PORT};

use super::door::{Door, place, processes};
use crate::netd::Netd;

/// How often.
const LOOK: Duration = Duration::from_millis(500);

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
            loop {
                looks.tick().await;
                let Some(netd) = netd.upgrade() else { return };
                if !netd.look_at_doors().await {
                    netd.resolver.looking.set(false);
                    return;
                }
            }
        });
    }

    /// Whether there is anything to look at again.
    async fn look_at_doors(self: &Rc<Self>) -> bool {
        let gone = {
            let doors = self.resolver.doors.borrow();
            let gone = doors.iter().filter(|(_, door)| !door.leads_there());
            gone.map(|(container, door)| (container.clone(), door.place)).collect::<Vec<_>>()
        };
        for (container, place) in gone {
            // What was named may go while the container stays.
            if let Some(door) = Door::through_a_process(place) {
                self.resolver.doors.borrow_mut().insert(container, door);
                continue;
            }
            tracing::debug!(container = container.short(), "nothing leads there any more");
            self.close_inside(&container);
            // A namespace that somebody else keeps may have processes again.
            self.resolver.awaited.borrow_mut().insert(container);
        }
        let awaited: Vec<_> = self.resolver.awaited.borrow().iter().cloned().collect();
        for container in awaited {
            self.listen_when_led(&container).await;
        }
        !self.resolver.doors.borrow().is_empty() || !self.resolver.awaited.borrow().is_empty()
    }

    /// Listens in a container to which nothing led, if a process does now.
    async fn listen_when_led(self: &Rc<Self>, container: &ContainerId) {
        let endpoint = {
            let registry = self.registry.borrow();
            let mut endpoints = registry.endpoints_of(container);
            endpoints.find(|endpoint| DNS_PORT.port(&endpoint.options).is_some()).cloned()
        };
        let Some(endpoint) = endpoint else {
            self.resolver.awaited.borrow_mut().remove(container);
            return;
        };
        if let Some((netns, door)) = self.find_process(&endpoint).await
            && let Some(port) = DNS_PORT.port(&endpoint.options)
            // It may have been detached meanwhile.
            && self.resolver.awaited.borrow_mut().remove(container)
            && let Err(why) = self.listen_inside(container, &netns, port, door)
        {
            self.no_names_inside(&endpoint, &why);
        }
    }

    /// A process in the namespace of an endpoint, and that. Namespaces are told by their ids, each
    /// looked at once.
    pub(super) async fn find_process(&self, endpoint: &Endpoint) -> Option<(File, Door)> {
        let known = endpoint.netns.and_then(|netns| netns.nsid)?;
        let mut seen = HashSet::new();
        for path in processes() {
            let Ok(metadata) = fs::metadata(&path) else { continue };
            if !seen.insert(place(&metadata)) {
                continue;
            }
            let Ok(netns) = File::open(&path) else { continue };
            if self.host.nsid_if_any(&netns).await.ok().flatten() == Some(known)
                && let Some(door) = Door::to(&netns, [path])
            {
                return Some((netns, door));
            }
        }
        None
    }
}
