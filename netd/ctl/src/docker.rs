//! `netctl docker`: netd and dockerd are told of each other, and no more.

mod daemon_json;
mod install;
mod netd_toml;
mod place;

use crate::{args::DockerCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn docker(command: &DockerCommand) -> Outcome {
    match command {
        DockerCommand::Install(args) => install::install(args),
        DockerCommand::Uninstall(args) => install::uninstall(args),
    }
}
