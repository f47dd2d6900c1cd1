//! Networks that dockerd has as well: they go by `docker network rm`, since whoever else takes one away
//! leaves dockerd with a network on which nothing starts any more.

use std::{rc::Rc, time::Duration};

use cnm::{
    Empty, Error, Kind, Result,
    network::{Network, RemoveNetwork},
};

use super::{
    daemon,
    plugin::{dockers_ids, label},
};
use crate::netd::Netd;

/// How long dockerd may take to say whether it has a network, while somebody waits to be rid of it.
const PATIENCE: Duration = Duration::from_secs(2);

impl Netd {
    /// `network.remove` of whoever is not dockerd.
    pub(crate) async fn remove_unless_dockers(
        self: &Rc<Self>,
        params: &RemoveNetwork,
    ) -> Result<Empty> {
        let found = {
            let registry = self.registry.borrow();
            registry.resolve_network(&params.network).ok().map(|entry| entry.network.clone())
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
            // Asking would start one that was ended and waits to be asked.
            if !self.has_running_dockerd() {
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

    /// Networks without those that dockerd has; of these it is said that they stay.
    pub(crate) fn without_dockers(&self, networks: Vec<Network>) -> (Vec<Network>, Option<String>) {
        let (dockers, others): (Vec<_>, Vec<_>) =
            networks.into_iter().partition(super::plugin::is_dockers);
        let names: Vec<_> = dockers.iter().map(|network| network.name.as_str()).collect();
        let note = (!names.is_empty()).then(|| {
            format!("dockerd has {}, which docker network rm takes away", names.join(", "))
        });
        (others, note)
    }
}
