//! Who is called how, as DNS has it: names that differ by case alone are one name (RFC 4343), so no
//! two networks have them, nor two containers on a network. Each is shown as it was spelled, and
//! commands find it by that; what was stored with two spellings of one name stays as it is.

use cnm::{ContainerId, EndpointId, Error, Name, NetworkId, Result, endpoint::Container};

use super::{NetworkEntry, Registry, SandboxEntry};

/// What follows a refusal where the names are not spelled alike.
const ONE_NAME: &str = "names that differ by case alone are one name";

/// A name as DNS compares it.
pub(super) fn folded(name: &Name) -> String {
    name.as_str().to_ascii_lowercase()
}

fn is_same(one: &Name, other: &Name) -> bool {
    one.as_str().eq_ignore_ascii_case(other.as_str())
}

/// That a name is taken, by one that may be spelled in another way.
pub(crate) fn taken(message: &str, name: &Name, by: &Name) -> Error {
    if name == by {
        return Error::exists(message);
    }
    Error::exists(format_args!("{message}, spelled {by}: {ONE_NAME}"))
}

impl Registry {
    /// The networks that have this name, or one that DNS takes for it.
    pub(crate) fn networks_called(&self, name: &Name) -> impl Iterator<Item = &NetworkEntry> {
        self.networks().filter(move |entry| is_same(&entry.network.name, name))
    }

    /// The containers of this name, however it is spelled.
    pub(crate) fn containers_called(&self, name: &Name) -> impl Iterator<Item = &SandboxEntry> {
        let ids = self.sandbox_names.get(&folded(name));
        ids.into_iter().flatten().filter_map(|id: &ContainerId| self.sandboxes.get(id))
    }

    /// Refuses a sandbox for a container that is known, or by whose name another is.
    ///
    /// # Errors
    /// `exists`, naming the other where it is one.
    pub(crate) fn no_such_sandbox(&self, container: &Container) -> Result<()> {
        let message = format!("sandbox {} already exists", container.label());
        if self.sandbox(&container.id).is_some() {
            return Err(Error::exists(message).with("container", container.id.as_str()));
        }
        let Some(name) = &container.name else { return Ok(()) };
        let called = self.containers_called(name).next();
        let Some(other) = called.or_else(|| self.resolve_sandbox(name.as_str()).ok()) else {
            return Ok(());
        };
        let other = &other.record.sandbox.container;
        let by = other.name.as_ref().filter(|by| is_same(by, name)).unwrap_or(name);
        Err(taken(&message, name, by).with("container", other.id.as_str()))
    }

    /// Refuses a container for an endpoint on a network where another of its name is.
    ///
    /// # Errors
    /// `exists`, naming the other's endpoint.
    pub(crate) fn not_called_so(
        &self,
        endpoint: &EndpointId,
        network: &NetworkId,
        container: &Container,
    ) -> Result<()> {
        let Some(name) = &container.name else { return Ok(()) };
        let ids = self.containers_called(name).map(|entry| &entry.record.sandbox.container.id);
        let others = ids.filter(|id| **id != container.id).flat_map(|id| self.endpoints_of(id));
        let mut there = others.filter(|other| other.network == *network && other.id != *endpoint);
        let Some(other) = there.next() else { return Ok(()) };
        let message =
            format!("endpoint with name {name} already exists in network {}", other.network_name);
        let by = other.container.name.as_ref().unwrap_or(name);
        Err(taken(&message, name, by).with("endpoint", other.id.as_str()))
    }
}
