//! Networks of one name. A host refuses a second one as long as it knows of the first; but the cluster's
//! are made on other hosts, which do not know the networks of this one. Then the name means neither.

use cnm::{ContainerId, Error, Name, Result};

use super::{NetworkEntry, Registry};

impl Registry {
    /// The networks of a name.
    pub(crate) fn namesakes(&self, name: &str) -> impl Iterator<Item = &NetworkEntry> {
        let ids = name.parse::<Name>().ok().and_then(|name| self.network_names.get(&name));
        ids.into_iter().flatten().filter_map(|id| self.networks.get(id))
    }

    /// Why a name means no network.
    pub(super) fn ambiguous(&self, name: &str) -> Error {
        let all: Vec<_> = self.namesakes(name).collect();
        let of_each: Vec<_> = all.iter().map(|entry| whose(entry)).collect();
        Error::invalid(format_args!(
            "network {name} is ambiguous ({} matches found on name): {}; name one by its id",
            all.len(),
            of_each.join(", ")
        ))
        .with("network", name)
    }

    /// The network that is meant by who speaks of a container on it: of several that have the name,
    /// the one that the container is on. None where it is on none of them.
    ///
    /// # Errors
    /// As [`Registry::resolve_network`].
    pub(crate) fn resolve_network_of(
        &self,
        container: &ContainerId,
        given: &str,
    ) -> Result<Option<&NetworkEntry>> {
        let name = given.strip_prefix('=').unwrap_or(given);
        if self.namesakes(name).count() < 2 {
            return self.resolve_network(given).map(Some);
        }
        let is_on = |entry: &&NetworkEntry| {
            self.endpoints_of(container).any(|endpoint| endpoint.network == entry.network.id)
        };
        let mut on = self.namesakes(name).filter(is_on);
        match (on.next(), on.next()) {
            (Some(_), Some(_)) => Err(self.ambiguous(name)),
            (one, _) => Ok(one),
        }
    }

    /// One sentence for each name that several networks have.
    pub(crate) fn name_clashes(&self) -> Vec<String> {
        let several = self.network_names.iter().filter(|(_, ids)| ids.len() > 1);
        let mut names: Vec<_> = several.map(|(name, _)| name).collect();
        names.sort();
        let clash = |name: &Name| {
            let of_each: Vec<_> = self.namesakes(name.as_str()).map(whose).collect();
            format!(
                "network {name} is there {} times ({}), so that nothing is attached by that name: \
                 name one by its id, or remove one with netctl network rm and its id",
                of_each.len(),
                of_each.join(", ")
            )
        };
        names.into_iter().map(clash).collect()
    }
}

/// Which network it is, and whose.
pub(crate) fn whose(entry: &NetworkEntry) -> String {
    let whose = if entry.shared.is_some() { "the cluster's" } else { "this host's own" };
    format!("{} is {whose}", entry.network.id.short())
}
