//! `netctl cni`: what has to do with the Container Network Interface.

pub(crate) mod conformance;
pub(crate) mod install;
pub(crate) mod list;
mod uninstall;

use std::path::Path;

use crate::{args::CniCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn cni(socket: &Path, command: CniCommand) -> Outcome {
    match command {
        CniCommand::Conformance(args) => conformance::conformance(args),
        CniCommand::Install(args) => install::install(&args),
        CniCommand::Uninstall(args) => uninstall::uninstall(socket, &args),
    }
}
