//! `netctl podman`: what has to do with Podman.

mod install;
mod prune;
mod settings;

use std::path::Path;

use crate::{args::PodmanCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn podman(socket: &Path, command: &PodmanCommand) -> Outcome {
    match command {
        PodmanCommand::Install(args) => install::install(args),
        PodmanCommand::Uninstall(places) => install::uninstall(places),
        PodmanCommand::Prune(args) => prune::prune(socket, args),
    }
}
