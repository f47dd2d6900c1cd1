//! Networks that were made for Podman and that it has no more, and what it gave of those that netd had
//! first: it tells no plugin of a removal.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use cnm::{
    Error, Kind, Result,
    client::Client,
    network::{InspectNetwork, ListNetworks, Network, RemoveNetwork, UpdateNetwork},
    split,
};
use serde::Deserialize;

use super::settings;
use crate::{
    args::podman::Prune,
    out::{self, Outcome, Tally},
};

/// A network as Podman has it written down.
#[derive(Debug, Deserialize)]
struct Written {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    driver: String,
}

/// What Podman has: the ids of its networks of drivers of netd's, and the names of all.
#[derive(Debug, Default)]
struct Known {
    ids: BTreeSet<String>,
    names: BTreeSet<String>,
}

/// Podman's own drivers. What netd, in netavark's place, has of a network of theirs goes with its last
/// container: of one that nobody is on it is left.
const PODMANS: [&str; 3] = ["", "bridge", "macvlan"];

/// `podman prune`.
pub(crate) fn prune(socket: &Path, args: &Prune) -> Outcome {
    let mut client = Client::connect(socket)?;
    // First, since Podman writes a network down before anybody is put on it.
    let mut labelled = |filters: &[(&str, &str)]| {
        let filters =
            filters.iter().map(|(key, value)| ((*key).to_owned(), vec![(*value).to_owned()]));
        let list = ListNetworks { filters: filters.collect() };
        client.call(&list).map(|listed| listed.networks)
    };
    let unused = labelled(&[("label", split::PODMAN), ("dangling", "true")])?;
    let divided = labelled(&[("label", split::NETAVARK)])?;
    let known = known(&directory(args)?)?;
    let (mut tally, mut gone) = (Tally::default(), Vec::new());
    for network in unused {
        if network
            .labels
            .get(split::PODMAN)
            .is_none_or(|id| id.is_empty() || known.ids.contains(id))
        {
            continue;
        }
        if !args.dry_run {
            match client.call(&RemoveNetwork { network: format!("={}", network.id) }) {
                Err(error) if error.kind == Kind::NotFound => continue,
                Err(error) => {
                    tally.fault(&error);
                    continue;
                }
                Ok(_) => {}
            }
        }
        out::print(&format!("{}\n", network.name))?;
        gone.push(network.id);
    }
    let is_left =
        |one: &&Network| !gone.contains(&one.id) && !known.names.contains(one.name.as_str());
    for network in divided.iter().filter(is_left) {
        match give_back(&mut client, network, args.dry_run) {
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => tally.fault(&error),
            Ok(None) => {}
            Ok(Some(parts)) => {
                let name = &network.name;
                out::print(&format!("{name}: addresses of {parts} are netd's again\n"))?;
            }
        }
    }
    Ok(tally.code())
}

/// Has netd give out again what Podman gave of a network that it has no more; what that is, unless
/// containers of Podman's are on it still.
fn give_back(client: &mut Client, network: &Network, dry_run: bool) -> Result<Option<String>> {
    let id = format!("={}", network.id);
    let detail = client.call(&InspectNetwork { network: id.clone() })?;
    let is_podmans = detail.endpoints.iter().any(|one| one.labels.contains_key(split::PODMAN));
    let parts = detail.network.labels.get(split::NETAVARK).filter(|_| !is_podmans).cloned();
    if parts.is_some() && !dry_run {
        client.call(&UpdateNetwork {
            network: id,
            ranges: split::left(&detail.network, split::NETAVARK),
            remove_labels: vec![split::NETAVARK.to_owned()],
            ..UpdateNetwork::default()
        })?;
    }
    Ok(parts)
}

/// Where Podman has its networks.
fn directory(args: &Prune) -> Result<PathBuf> {
    match &args.network_dir {
        Some(given) => Ok(given.clone()),
        None => Ok(settings::networks(&settings::read(&args.conf_dir, Path::new(""))?)),
    }
}

/// Podman's networks. Where they cannot all be read, none is known not to be there.
fn known(directory: &Path) -> Result<Known> {
    let refused = |path: &Path, error: &io::Error| {
        let what = format_args!(
            "nothing is removed, since Podman's networks are not known (--network-dir tells where they \
             are): cannot read {}",
            path.display()
        );
        out::system(what, error)
    };
    let mut known = Known::default();
    for entry in fs::read_dir(directory).map_err(|error| refused(directory, &error))? {
        let path = entry.map_err(|error| refused(directory, &error))?.path();
        if path.extension().is_none_or(|end| end != "json") {
            continue;
        }
        let text = match fs::read(&path) {
            // Removed since.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text.map_err(|error| refused(&path, &error))?,
        };
        let written: Written = serde_json::from_slice(&text).map_err(|error| {
            Error::invalid(format_args!(
                "{} is no network of Podman's, and nothing is removed: {error}",
                path.display()
            ))
        })?;
        if !PODMANS.contains(&written.driver.as_str()) {
            known.ids.insert(written.id);
        }
        known.names.insert(written.name);
    }
    Ok(known)
}
