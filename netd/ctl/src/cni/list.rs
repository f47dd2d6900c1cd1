//! A network's configuration list, in the directory that runtimes read: written with it, and taken
//! away with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cnm::{Error, network::Network};
use serde_json::Value;

use crate::out::{self, Stop};
use crate::replace::replace;

fn place(directory: &Path, network: &Network) -> PathBuf {
    directory.join(format!("{}.conflist", network.name))
}

/// Refuses to write where somebody else's list is: one that names another plugin than netd's.
pub(crate) fn check_free(directory: &Path, network: &str) -> Result<(), Error> {
    let path = directory.join(format!("{network}.conflist"));
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
    let is_ours = |plugin: &Value| plugin["type"].as_str().is_some_and(|t| t.starts_with("netd-"));
    if list["plugins"].as_array().is_some_and(|plugins| plugins.iter().all(is_ours)) {
        return Ok(());
    }
    Err(Error::exists(format_args!(
        "{} is there already, and not netd's: remove it, or choose another name or --cni-dir",
        path.display()
    ))
    .with("path", path.display().to_string()))
}

/// Writes it as `NAME.conflist`.
pub(crate) fn write(directory: &Path, network: &Network) -> Result<(), Stop> {
    let path = place(directory, network);
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

/// Takes the list of a network that is gone away: with it the next ADD would make the network again.
/// One that is not as it was written here is somebody's own, and stays.
pub(crate) fn withdraw(directory: &Path, network: &Network) {
    let path = place(directory, network);
    let removed = match fs::read(&path) {
        Ok(text) if text == cnm::cni::conflist(network).as_bytes() => fs::remove_file(&path),
        Ok(_) => Err(io::Error::other("it is not as netctl wrote it")),
        // Who may not look cannot have written one.
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied => Ok(()),
            _ => Err(error),
        },
    };
    if let Err(error) = removed {
        let (network, path) = (&network.name, path.display());
        out::complain(&format_args!("network {network} is removed, and {path} stays: {error}"));
    }
}
