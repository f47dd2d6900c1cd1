//! `netctl podman`: what has to do with Podman.

mod distribution;
mod install;
mod prune;
mod running;
mod settings;
mod whose;

use std::path::Path;

use crate::{args::PodmanCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn podman(socket: &Path, command: &PodmanCommand) -> Outcome {
    match command {
        PodmanCommand::Install(args) => install::install(socket, args),
        PodmanCommand::Uninstall(args) => install::uninstall(socket, args),
        PodmanCommand::Prune(args) => prune::prune(socket, args),
    }
}
