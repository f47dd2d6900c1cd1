//! Networks that were made for Podman and that it has no more: it tells no plugin of a removal.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use cnm::{
    Error, Kind, Result,
    client::Client,
    network::{ListNetworks, RemoveNetwork},
};
use serde::Deserialize;

use super::settings;
use crate::{
    args::podman::Prune,
    out::{self, Outcome, Tally},
};

/// The label of a network that was made for Podman, with Podman's id of it.
const LABEL: &str = "netavark";

/// A network as Podman has it written down.
#[derive(Debug, Deserialize)]
struct Written {
    id: String,
    #[serde(default)]
    driver: String,
}

/// Podman's own drivers. What netd, in netavark's place, has of a network of theirs goes with its last
/// container: of one that nobody is on it is left.
const PODMANS: [&str; 3] = ["", "bridge", "macvlan"];

/// `podman prune`.
pub(crate) fn prune(socket: &Path, args: &Prune) -> Outcome {
    let mut client = Client::connect(socket)?;
    // First, since Podman writes a network down before anybody is put on it.
    let mut list = ListNetworks::default();
    for (key, value) in [("label", LABEL), ("dangling", "true")] {
        list.filters.insert(key.to_owned(), vec![value.to_owned()]);
    }
    let unused = client.call(&list)?.networks;
    let known = known(&directory(args)?)?;
    let mut tally = Tally::default();
    for network in unused {
        if network.labels.get(LABEL).is_none_or(|id| id.is_empty() || known.contains(id)) {
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
    }
    Ok(tally.code())
}

/// Where Podman has its networks.
fn directory(args: &Prune) -> Result<PathBuf> {
    match &args.network_dir {
        Some(given) => Ok(given.clone()),
        None => Ok(settings::networks(&settings::read(&args.conf_dir, Path::new(""))?)),
    }
}

/// The ids of Podman's networks of drivers of netd's. Where they cannot all be read, none is known not
/// to be there.
fn known(directory: &Path) -> Result<BTreeSet<String>> {
    let refused = |path: &Path, error: &io::Error| {
        let what = format_args!(
            "nothing is removed, since Podman's networks are not known (--network-dir tells where they \
             are): cannot read {}",
            path.display()
        );
        out::system(what, error)
    };
    let mut known = BTreeSet::new();
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
            known.insert(written.id);
        }
    }
    Ok(known)
}
