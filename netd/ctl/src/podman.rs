//! `netctl podman`: what has to do with Podman.

mod install;
mod settings;

use crate::{args::PodmanCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn podman(command: &PodmanCommand) -> Outcome {
    match command {
        PodmanCommand::Install(args) => install::install(args),
        PodmanCommand::Uninstall(places) => install::uninstall(places),
    }
}
