//! Others that are executed in turn: plugins of drivers that netd does not have, and for whoever is
//! not root what the distribution has under the program's own name.

use std::{
    env,
    ffi::OsString,
    io::Write as _,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{Error, Result};

/// What a plugin prints. What goes wrong there is told in its own words.
pub(super) fn plugin(
    directories: &[PathBuf],
    driver: &str,
    words: &[&str],
    document: &str,
) -> Result<String> {
    // A driver's name is a file's, not a path's.
    let places = directories.iter().filter(|_| !driver.contains('/'));
    let program = places.map(|directory| directory.join(driver)).find(|place| is_program(place));
    let program = program.ok_or_else(|| {
        Error::unsupported(format_args!(
            "unknown network driver {driver:?}: it should be bridge or macvlan, or a plugin in \
             netavark_plugin_dirs"
        ))
        .with("driver", driver)
    })?;
    let failed = |why: &dyn std::fmt::Display| {
        Error::unavailable(format_args!("the plugin {} failed: {why}", program.display()))
    };
    let mut child = Command::new(&program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that does not read to the end says by itself whether that was a fault.
        drop(stdin.write_all(document.as_bytes()));
    }
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| failed(&error));
    }
    let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
    Err(match said.as_ref().and_then(|said| said["error"].as_str()) {
        Some(message) => failed(&message),
        None => failed(&output.status),
    })
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Becomes the distribution's program of that name, as `netctl podman install` has left it beside
/// this one; returns only when there is none.
pub(super) fn distribution(name: &str, words: &[OsString]) -> Error {
    let own = env::args_os().next().unwrap_or_default();
    let program = Path::new(&own).with_file_name(format!("{name}.distribution"));
    let why = Command::new(&program).args(words).exec();
    Error::unavailable(format_args!(
        "netd serves root's containers, and {} cannot be executed for others: {why}; install the \
         distribution's {name}, and say netctl podman install again",
        program.display()
    ))
}
