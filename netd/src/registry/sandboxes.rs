//! Sandboxes: what is known of each, and the ways to find one: its name, a part of its id, its
//! namespace.

use std::time::Instant;

use cnm::{
    ContainerId, EndpointId, Error, Name, Result,
    endpoint::{Endpoint, NetnsId},
    sandbox::Sandbox,
};
use serde::{Deserialize, Serialize};

use super::{Registry, called::folded, whole};

/// A sandbox as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SandboxRecord {
    /// The sandbox.
    pub(crate) sandbox: Sandbox,
    /// When its process started, in clock ticks since the boot, where its process is watched.
    #[serde(default)]
    pub(crate) process_start: Option<u64>,
}

impl SandboxRecord {
    /// The sandbox that comes and goes with its endpoints, of which `endpoint` is the first.
    pub(crate) fn of(
        endpoint: &Endpoint,
        path: Option<String>,
        process_start: Option<u64>,
    ) -> Self {
        let sandbox = Sandbox {
            container: endpoint.container.clone(),
            path,
            netns: endpoint.netns,
            kept: false,
            created: endpoint.created.clone(),
        };
        Self { sandbox, process_start }
    }
}

/// A sandbox and its endpoints.
#[derive(Debug)]
pub(crate) struct SandboxEntry {
    /// As stored.
    pub(crate) record: SandboxRecord,
    /// Its endpoints, in the order in which they came.
    pub(crate) endpoints: Vec<EndpointId>,
    /// When its namespace became known.
    pub(crate) since: Instant,
}

impl Registry {
    /// Every sandbox, by container.
    pub(crate) fn sandboxes(&self) -> impl Iterator<Item = &SandboxEntry> {
        self.sandboxes.values()
    }

    /// The sandbox of this container.
    pub(crate) fn sandbox(&self, id: &ContainerId) -> Option<&SandboxEntry> {
        self.sandboxes.get(id)
    }

    /// The sandbox that a user means: by its whole id, its name, or the beginning of its id. With a
    /// leading `=` by its id alone.
    pub(crate) fn resolve_sandbox(&self, given: &str) -> Result<&SandboxEntry> {
        let (whole, given) = whole(given);
        let ambiguous = |n: usize| {
            Error::invalid(format_args!(
                "container {given} is ambiguous ({n} sandboxes match): name it by its id"
            ))
            .with("container", given)
        };
        let id = given.parse::<ContainerId>().ok();
        if let Some(entry) = id.and_then(|id| self.sandboxes.get(&id)) {
            return Ok(entry);
        }
        let name = given.parse::<Name>().ok().filter(|_| !whole);
        if let Some(name) = name {
            let is_spelled_so =
                |entry: &&SandboxEntry| entry.record.sandbox.container.name == Some(name.clone());
            let mut called = self.containers_called(&name).filter(is_spelled_so);
            match (called.next(), called.count()) {
                (Some(entry), 0) => return Ok(entry),
                (Some(_), more) => return Err(ambiguous(more + 1)),
                (None, _) => {}
            };
        }
        let mut matches = self.sandboxes.values().filter(|entry| {
            !whole
                && given.len() >= 4
                && entry.record.sandbox.container.id.as_str().starts_with(given)
        });
        match (matches.next(), matches.count()) {
            (Some(entry), 0) => Ok(entry),
            (Some(_), more) => Err(ambiguous(more + 1)),
            (None, _) => {
                Err(Error::not_found(format_args!("container {given} is not known to netd"))
                    .with("container", given))
            }
        }
    }

    /// Adds a sandbox, or brings it up to date.
    pub(crate) fn put_sandbox(&mut self, record: SandboxRecord) {
        let container = record.sandbox.container.clone();
        let mut since = Instant::now();
        let endpoints = match self.sandboxes.remove(&container.id) {
            Some(old) => {
                self.unindex(&old.record.sandbox);
                if old.record.sandbox.netns == record.sandbox.netns {
                    since = old.since;
                }
                old.endpoints
            }
            None => Vec::new(),
        };
        if let Some(name) = &container.name {
            self.sandbox_names.entry(folded(name)).or_default().insert(container.id.clone());
        }
        if let Some(nsid) = record.sandbox.netns.and_then(|netns| netns.nsid) {
            self.by_nsid.entry(nsid).or_default().insert(container.id.clone());
        }
        self.sandboxes.insert(container.id, SandboxEntry { record, endpoints, since });
    }

    /// It is known now which namespace a sandbox is.
    pub(crate) fn place_sandbox(
        &mut self,
        id: &ContainerId,
        netns: NetnsId,
    ) -> Option<&SandboxRecord> {
        let entry = self.sandboxes.get_mut(id)?;
        let former = entry.record.sandbox.netns.replace(netns).and_then(|netns| netns.nsid);
        entry.since = Instant::now();
        if former != netns.nsid {
            if let Some(nsid) = former {
                self.forget_nsid(nsid, id);
            }
            if let Some(nsid) = netns.nsid {
                self.by_nsid.entry(nsid).or_default().insert(id.clone());
            }
        }
        self.sandboxes.get(id).map(|entry| &entry.record)
    }

    /// Forgets a sandbox.
    pub(crate) fn drop_sandbox(&mut self, id: &ContainerId) {
        if let Some(entry) = self.sandboxes.remove(id) {
            self.unindex(&entry.record.sandbox);
        }
    }

    fn unindex(&mut self, sandbox: &Sandbox) {
        let id = &sandbox.container.id;
        if let Some(name) = &sandbox.container.name
            && let Some(ids) = self.sandbox_names.get_mut(&folded(name))
        {
            ids.remove(id);
            if ids.is_empty() {
                self.sandbox_names.remove(&folded(name));
            }
        }
        if let Some(nsid) = sandbox.netns.and_then(|netns| netns.nsid) {
            self.forget_nsid(nsid, id);
        }
    }

    fn forget_nsid(&mut self, nsid: i32, id: &ContainerId) {
        if let Some(ids) = self.by_nsid.get_mut(&nsid) {
            ids.remove(id);
            if ids.is_empty() {
                self.by_nsid.remove(&nsid);
            }
        }
    }

    /// The ids of all namespaces that a container is in.
    pub(crate) fn nsids(&self) -> impl Iterator<Item = i32> {
        self.by_nsid.keys().copied()
    }

    /// Whether the id of a container's namespace has become another's, which came later: its own
    /// is gone then.
    pub(crate) fn is_outlived(&self, container: &ContainerId) -> bool {
        let Some(entry) = self.sandboxes.get(container) else { return false };
        let Some(netns) = entry.record.sandbox.netns else { return false };
        let Some(nsid) = netns.nsid else { return false };
        self.by_nsid.get(&nsid).into_iter().flatten().filter_map(|id| self.sandboxes.get(id)).any(
            |other| {
                let cookie = other.record.sandbox.netns.map(|netns| netns.cookie);
                cookie.is_some_and(|cookie| cookie != netns.cookie) && other.since > entry.since
            },
        )
    }

    /// The containers in the namespace that netd's own knows by this id.
    pub(crate) fn containers_in(&self, nsid: i32) -> Vec<ContainerId> {
        self.by_nsid.get(&nsid).into_iter().flatten().cloned().collect()
    }
}
