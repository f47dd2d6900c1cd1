//! Drivers of a netd that was killed: they end by themselves, since their input ends, but may be
//! in the middle of a call. A new driver waits for its former self, or both would work at once.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::processes;

/// How long a former driver gets to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes down which process is the driver now.
pub(super) fn remember(directory: &Path, name: &str, pid: u32) -> std::io::Result<()> {
    fs::create_dir_all(directory)?;
    let start = processes::started(pid).unwrap_or_default();
    fs::write(file(directory, name), format!("{pid} {start}\n"))
}

/// Waits until the process that was the driver is gone.
pub(super) async fn wait_for(directory: &Path, name: &str) {
    let Ok(text) = fs::read_to_string(file(directory, name)) else { return };
    let mut numbers = text.split_whitespace();
    let (Some(pid), Some(start)) = (numbers.next(), numbers.next()) else { return };
    let (Ok(pid), Ok(start)) = (pid.parse(), start.parse()) else { return };
    match tokio::time::timeout(PATIENCE, processes::ended(pid, Some(start))).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(driver = name, pid, %error, "former driver not watched"),
        Err(_) => tracing::error!(driver = name, pid, "a former driver does not end"),
    }
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(format!("{name}.pid"))
}
