//! Taking the plugins away from where runtimes look for them.

use std::{collections::BTreeSet, fs, path::Path};

use cnm::{
    Error, Kind,
    client::Client,
    cni,
    endpoint::{Endpoint, ListEndpoints},
};

use super::{
    install::{PREFIX, THEIRS, is_ours, listed},
    list,
};
use crate::{
    args::cni::Uninstall,
    out::{self, Outcome, Tally},
};

/// `cni uninstall`. What is not there is no fault.
pub(crate) fn uninstall(socket: &Path, args: &Uninstall) -> Outcome {
    let directory = &args.places.bin_dir;
    let theirs_is_ours = is_ours(directory);
    let mut names = listed(directory)?;
    names.retain(|name| name.starts_with(PREFIX) || (name == THEIRS && theirs_is_ours));
    if names.is_empty() {
        return Ok(Tally::default().code());
    }
    if args.places.dry_run {
        for name in names {
            out::print(&format!("{}\n", directory.join(&name).display()))?;
        }
        return Ok(Tally::default().code());
    }
    let running = on_netd(socket).into_iter().collect::<Vec<_>>().join(", ");
    if !running.is_empty() && !args.force {
        let message = format!(
            "containers {running} came to netd's networks through plugins, and their runtimes need those to \
             end them: end them first, or say --force, and netd lets go of each when its network namespace \
             is gone"
        );
        return Err(Error::new(Kind::Busy, message).into());
    }
    let mut tally = Tally::default();
    for name in names {
        let path = directory.join(&name);
        if let Err(error) = fs::remove_file(&path) {
            tally.fault(&out::system(format_args!("cannot remove {}", path.display()), &error));
            continue;
        }
        out::print(&format!("{}\n", path.display()))?;
    }
    if !running.is_empty() {
        out::complain(&format_args!(
            "{running} stay on netd's networks until their network namespaces are gone; their runtimes find \
             no plugin, and may say so"
        ));
    }
    for list in list::that_name_plugins(&args.cni_dir) {
        out::complain(&format_args!(
            "{} names plugins of netd's, which are no more in {}: remove it, or with its network \
             (netctl network rm), unless runtimes have them elsewhere",
            list.display(),
            directory.display()
        ));
    }
    Ok(tally.code())
}

/// The containers that CNI has put on netd's networks; none where netd is away.
fn on_netd(socket: &Path) -> BTreeSet<String> {
    let listed = Client::connect(socket).and_then(|mut netd| netd.call(&ListEndpoints::default()));
    let endpoints = listed.map(|list| list.endpoints).unwrap_or_default();
    let through = |endpoint: &&Endpoint| endpoint.labels.contains_key(cni::LABEL);
    let own = endpoints.iter().filter(through);
    own.map(|endpoint| endpoint.container.label().to_owned()).collect()
}
