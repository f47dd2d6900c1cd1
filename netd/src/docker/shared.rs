//! Networks that dockerd has as well: they go by `docker network rm`, since whoever else takes one away
//! leaves dockerd with a network on which nothing starts any more.

use std::{rc::Rc, time::Duration};

use cnm::{
    Empty, Error, Kind, Result,
    network::{Network, RemoveNetwork},
};

use super::{
    daemon,
    plugin::{Plugin, dockers_ids, is_dockers, label},
};
use crate::netd::Netd;

/// How long dockerd may take to say whether it has a network, while somebody waits to be rid of it.
const PATIENCE: Duration = Duration::from_secs(2);

impl Netd {
    /// `network.remove` of whoever is not dockerd. That somebody is on the network is said first: who
    /// insists would have it taken from dockerd, and it would stay.
    pub(crate) async fn remove_unless_dockers(
        self: &Rc<Self>,
        params: &RemoveNetwork,
    ) -> Result<Empty> {
        let found = {
            let registry = self.registry.borrow();
            let found = registry.resolve_network(&params.network).ok();
            found.filter(|entry| entry.endpoints.is_empty()).map(|entry| entry.network.clone())
        };
        if let Some(network) = found
            && let Some((id, known)) = self.dockers(&network).await
        {
            let name = &network.name;
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "dockerd has network {name}: say docker network rm {known} first, or, where there is \
                     no Docker any more, netctl network rm --force {name}"
                ),
            )
            .with("network", network.id.as_str())
            .with("label", label(&id)));
        }
        self.remove_network(params).await
    }

    /// Dockerd's id of a network, and its name or that id in short, unless it says that it has none such.
    async fn dockers(&self, network: &Network) -> Option<(String, String)> {
        let socket = &self.config.docker_socket;
        for id in dockers_ids(network) {
            let short = id.get(..12).unwrap_or(id).to_owned();
            let value = network.labels.get(&label(id)).map(String::as_str).unwrap_or_default();
            // Asking would start one that was ended and waits to be asked; one elsewhere hears nobody here.
            if !Plugin::is_here(self, value) || !self.has_running_dockerd() {
                return Some((id.to_owned(), short));
            }
            match tokio::time::timeout(PATIENCE, daemon::network(socket, id)).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(told))) if !told.name.is_empty() => {
                    return Some((id.to_owned(), told.name));
                }
                _ => return Some((id.to_owned(), short)),
            }
        }
        None
    }

    /// Networks without those that dockerd has, and a sentence for each of these.
    pub(crate) fn without_dockers(networks: Vec<Network>) -> (Vec<Network>, Vec<String>) {
        let (dockers, others): (Vec<_>, Vec<_>) = networks.into_iter().partition(is_dockers);
        let stays = |Network { name, .. }: &Network| {
            format!("network {name} stays: dockerd has it, and docker network rm takes it away")
        };
        (others, dockers.iter().map(stays).collect())
    }
}
