//! Whether netd and dockerd have the same networks of netd's driver: for who asks how netd is.

use std::{collections::BTreeSet, path::Path, time::Duration};

use cnm::docker::is_of_dockerd;

use super::{
    daemon,
    plugin::{dockers_ids, ids_here},
};
use crate::netd::Netd;

/// How long dockerd may take to say which networks it has, while somebody waits to hear how netd is.
const PATIENCE: Duration = Duration::from_secs(2);

impl Netd {
    /// What one of the two has and the other may not have, one sentence each.
    pub(crate) async fn not_agreed_with_docker(&self) -> Vec<String> {
        let Some(plugin) = &self.config.docker_plugin else { return Vec::new() };
        if self.has_running_dockerd() {
            self.unknown_to_netd(plugin).await
        } else {
            self.waits_for_docker().into_iter().collect()
        }
    }

    /// Networks of netd's driver that dockerd has and netd has not: it never tells of them again.
    async fn unknown_to_netd(&self, plugin: &Path) -> Vec<String> {
        // dockerd calls a driver by its socket's name.
        let driver = plugin.file_stem().map(|name| name.to_string_lossy()).unwrap_or_default();
        let known = || -> BTreeSet<String> {
            let registry = self.registry.borrow();
            let networks = registry.networks().map(|entry| &entry.network);
            networks.flat_map(dockers_ids).map(str::to_owned).collect()
        };
        // netd has one that is being removed no more, and one that is being made already.
        let before = known();
        let theirs = daemon::of_driver(&self.config.docker_socket, &driver);
        let theirs = tokio::time::timeout(PATIENCE, theirs).await;
        let theirs = theirs.ok().and_then(Result::ok).unwrap_or_default();
        let after = known();
        let is_unknown = |id: &String| !before.contains(id) && !after.contains(id);
        let unknown = theirs.iter().filter(|(id, _)| is_unknown(id));
        let sentence = |(_, name): (&String, &String)| {
            format!(
                "dockerd has a network {name} that netd knows nothing of, and no container starts on it: \
                 take it away (docker network rm {name}), and make it again"
            )
        };
        unknown.map(sentence).collect()
    }

    /// A sentence where nobody can say whether dockerd still has what netd has for it.
    fn waits_for_docker(&self) -> Option<String> {
        let registry = self.registry.borrow();
        let networks = registry.networks().map(|entry| &entry.network);
        let own: Vec<_> =
            networks.filter(|network| ids_here(self, network).next().is_some()).collect();
        let names: BTreeSet<_> = own.iter().map(|network| network.name.as_str()).collect();
        let members = own.iter().flat_map(|network| registry.endpoints_on(&network.id));
        let first = if members.into_iter().any(is_of_dockerd) {
            "netctl network disconnect --force for each of those containers, and then "
        } else {
            ""
        };
        let (names, path) = (Vec::from_iter(names).join(", "), self.config.docker_socket.display());
        (!names.is_empty()).then(|| format!(
            "no dockerd runs here, which has networks {names}: they and its containers on them stay until one \
             at {path} says what it has no more, or {first}netctl network rm --force takes them away"
        ))
    }
}
