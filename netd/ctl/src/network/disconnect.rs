//! `netctl network disconnect`: off a network, unless dockerd has put the container there.

use std::{path::Path, process::ExitCode};

use cnm::{
    Error, Kind,
    client::Client,
    docker,
    endpoint::{Detach, Endpoint, ListEndpoints},
};

use crate::{args::Disconnect, out::Outcome};

/// `network disconnect`.
pub(super) fn disconnect(socket: &Path, args: Disconnect) -> Outcome {
    let Disconnect { force, network, container } = args;
    let mut client = Client::connect(socket)?;
    if !force {
        check_dockers(&mut client, &network, &container)?;
    }
    let request =
        Detach { network: Some(network.clone()), container: container.clone(), ifname: None };
    let detached = client.call(&request)?;
    if detached.endpoints.is_empty() && !force {
        let error = Error::not_found(format_args!(
            "container {container} is not connected to network {network}"
        ));
        return Err(error.with("container", container).with("network", network).into());
    }
    Ok(ExitCode::SUCCESS)
}

/// Refuses what dockerd has put there, which would go on as if it were there still.
fn check_dockers(client: &mut Client, network: &str, container: &str) -> cnm::Result<()> {
    let list = ListEndpoints { network: None, container: Some(container.to_owned()) };
    let there = match client.call(&list) {
        Ok(there) => there.endpoints,
        // What is not there is said next, where that is a fault.
        Err(error) if error.kind == Kind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    // The one that it is on, of several of a name.
    let given = network.strip_prefix('=').unwrap_or(network);
    let is_meant = |endpoint: &&Endpoint| {
        endpoint.network_name.as_str() == given || endpoint.network.as_str().starts_with(given)
    };
    let mut dockers = there.iter().filter(|endpoint| docker::is_of_dockerd(endpoint));
    let Some(endpoint) = dockers.find(is_meant) else { return Ok(()) };
    let (name, container) = (&endpoint.network_name, endpoint.container.label());
    let message = format!(
        "dockerd has container {container} on network {name}: say docker network disconnect, or, where \
         there is no Docker any more, netctl network disconnect --force {name} {container}"
    );
    Err(Error::new(Kind::Busy, message)
        .with("network", endpoint.network.as_str())
        .with("endpoint", endpoint.id.as_str()))
}
