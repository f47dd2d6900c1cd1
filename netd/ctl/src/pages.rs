//! What is made of the command line's definition alone: completions and manual pages.

use std::{fs, path::Path, process::ExitCode};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::{
    args::Cli,
    out::{self, Outcome},
};

/// Prints a shell's completions.
pub(crate) fn completions(shell: Shell) -> Outcome {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netctl", &mut script);
    out::print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a manual page for every command into `directory`.
pub(crate) fn man(directory: &Path) -> Outcome {
    fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .map_err(|error| {
            out::system(format_args!("cannot write pages to {}", directory.display()), &error)
        })?;
    Ok(ExitCode::SUCCESS)
}
