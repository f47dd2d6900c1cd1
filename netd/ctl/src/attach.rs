//! `netctl attach` and `detach`: any network namespace on and off a network.

use std::{fs::File, os::fd::AsFd as _, path::Path, process::ExitCode};

use cnm::{
    ContainerId, EndpointId,
    client::{Client, With},
    endpoint::{self, Container, Endpoint, Netns, of_netns, open_netns},
    network::InspectNetwork,
    options::DNS,
};

use crate::{
    args::{Attach, Detach},
    endpoint::table,
    out::{self, Outcome},
};

/// Puts a namespace on a network.
pub(crate) fn attach(socket: &Path, args: Attach) -> Outcome {
    let netns = open_netns(&args.netns)?;
    // Known by its name, the container is the same one at its second network.
    let id = match args.id {
        Some(id) => id,
        None => ContainerId::try_from(args.name.to_string()).map_err(cnm::Error::invalid)?,
    };
    let container = Container { name: Some(args.name), pid: args.pid, ..Container::new(id) };
    let request = args.wanted.on(&args.network, container, Some(Netns::Fd)).opened_at(&args.netns);
    let endpoint = send(&mut Client::connect(socket)?, &request, &netns)
        .map_err(|error| of_netns(error, &args.netns.to_string_lossy()))?;
    if args.output.json {
        out::json(&endpoint)?;
    } else {
        out::print(&table(&[endpoint]))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Asks for an attach and hands the namespace over as a descriptor: a path may mean nothing where
/// netd is.
pub(crate) fn send(
    client: &mut Client,
    request: &endpoint::Attach,
    netns: &File,
) -> cnm::Result<Endpoint> {
    let with = With { fds: &[netns.as_fd()], ..With::default() };
    let endpoint = client.call_with(request, with)?;
    if let Some((_, servers)) = DNS.given(&request.options)
        && let Ok(found) = client.call(&InspectNetwork { network: endpoint.network.to_string() })
        && found.network.internal
    {
        out::complain(&format_args!(
            "network {} is internal, and asks nobody for names of others: {servers} will be asked \
             only while the container is on another network, too, that leads outside",
            found.network.name
        ));
    }
    Ok(endpoint)
}

/// Takes a container off its networks.
pub(crate) fn detach(socket: &Path, args: Detach) -> Outcome {
    let request =
        endpoint::Detach { network: args.network, container: args.container, ifname: args.ifname };
    let detached = Client::connect(socket)?.call(&request)?;
    if args.output.json {
        out::json(&detached)?;
    } else {
        out::print(&ids(&detached.endpoints))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Ids, one a line.
pub(crate) fn ids(endpoints: &[EndpointId]) -> String {
    endpoints.iter().map(|id| format!("{id}\n")).collect()
}
