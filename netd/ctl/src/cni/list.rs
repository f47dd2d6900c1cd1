//! A network's configuration list, in the directory that runtimes read.

use std::{fs, path::Path};

use cnm::network::Network;

use super::replace::replace;
use crate::out::{self, Stop};

/// Writes it as `NAME.conflist`.
pub(crate) fn write(directory: &Path, network: &Network) -> Result<(), Stop> {
    let path = directory.join(format!("{}.conflist", network.name));
    fs::create_dir_all(directory)
        .and_then(|()| replace(&path, cnm::cni::conflist(network).as_bytes(), 0o644))
        .map_err(|error| {
            let what = format_args!(
                "network {} is made, but its list cannot be written to {}",
                network.name,
                path.display()
            );
            out::system(what, &error)
        })?;
    Ok(())
}
