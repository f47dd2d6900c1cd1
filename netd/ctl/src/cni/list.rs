//! A network's configuration list, in the directory that runtimes read: written with it, and taken
//! away with it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use cnm::{Error, Name, network::Network};
use serde_json::Value;

use super::install::PREFIX;
use crate::out::{self, Stop};
use crate::replace::replace;

fn place(directory: &Path, network: &Network) -> PathBuf {
    directory.join(format!("{}.conflist", network.name))
}

/// What the files end in that runtimes read.
const ENDINGS: [&str; 3] = ["conf", "conflist", "json"];

/// The lists and configurations of a directory, in the order of runtimes; none where it is not there.
fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries.map(|entry| entry.path()).collect();
    let is_read =
        |path: &PathBuf| ENDINGS.iter().any(|end| path.extension().is_some_and(|e| e == *end));
    files.retain(is_read);
    files.sort();
    files
}

/// Those of a directory that name one of netd's plugins.
pub(crate) fn that_name_plugins(directory: &Path) -> Vec<PathBuf> {
    let names = |path: &PathBuf| {
        let said: Value =
            serde_json::from_slice(&fs::read(path).unwrap_or_default()).unwrap_or_default();
        let mut plugins = said["plugins"].as_array().into_iter().flatten().chain([&said]);
        plugins.any(is_ours)
    };
    let mut files = files(directory);
    files.retain(names);
    files
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"].as_str().is_some_and(|kind| kind.starts_with(PREFIX))
}

/// What is said of a list before which another comes: some runtimes take the first one and no other.
pub(crate) fn not_first(directory: &Path, network: &Network) -> Option<String> {
    let own = place(directory, network);
    let first = files(directory).into_iter().next().filter(|first| *first != own)?;
    let name = &network.name;
    let earlier = ["10", "00"].map(|number| format!("{number}-{name}"));
    let is_first = |name: &&String| directory.join(format!("{name}.conflist")) < first;
    let instead = match earlier.iter().find(is_first).filter(|name| name.parse::<Name>().is_ok()) {
        Some(other) => format!("call the network {other} instead"),
        None => "rename one of the two files".to_owned(),
    };
    Some(format!(
        "{} comes before {} by name, and runtimes that take the first list alone, such as containerd and \
         `ctr run --cni`, do not use network {name}: {instead}, or move that file away",
        first.display(),
        own.file_name().unwrap_or_default().display()
    ))
}

/// Refuses to write where somebody else's list is: one that names another plugin than netd's.
pub(crate) fn check_free(directory: &Path, network: &str) -> Result<(), Error> {
    let path = directory.join(format!("{network}.conflist"));
    let Ok(text) = fs::read(&path) else { return Ok(()) };
    let list: Value = serde_json::from_slice(&text).unwrap_or_default();
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
