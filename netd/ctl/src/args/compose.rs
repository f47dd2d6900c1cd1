//! `netctl apply` and `netctl down`.

use std::path::PathBuf;

use clap::Args;

/// A Compose file, and what it is called by.
#[derive(Args, Debug)]
pub(crate) struct Compose {
    /// The file, or `-` for standard input; compose.yaml or docker-compose.yml if not given
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// What its networks' names begin with; its own name, or its directory's if not given
    #[arg(short, long, value_name = "NAME", env = "COMPOSE_PROJECT_NAME", hide_env_values = true)]
    pub(crate) project_name: Option<String>,
}
