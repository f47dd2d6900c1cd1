//! `netctl cni`: what has to do with the Container Network Interface.

pub(crate) mod conformance;
pub(crate) mod install;
pub(crate) mod list;

use crate::{args::CniCommand, out::Outcome};

/// Does one of the commands.
pub(crate) fn cni(command: CniCommand) -> Outcome {
    match command {
        CniCommand::Conformance(args) => conformance::conformance(args),
        CniCommand::Install(args) => install::install(&args),
        CniCommand::Uninstall(args) => install::uninstall(&args),
    }
}
