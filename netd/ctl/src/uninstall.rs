//! `netctl uninstall`: the drivers take out of the kernel what is their own, or show it. They are
//! executed for it, since netd is not to run meanwhile. The relay goes with it.

use std::{
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use cnm::{
    Error, Kind, Reply, Request, Result,
    client::Client,
    driver::{Uninstall, Uninstalled},
};

use crate::{
    args,
    out::{self, Outcome, Tally},
};

mod relay;

/// Where drivers are installed.
const USUAL: &str = "/usr/libexec/netd";

/// What is installed beside them and is no driver.
const RELAY: &str = "netd-relay";

/// Does it.
pub(crate) fn uninstall(socket: &Path, args: &args::Uninstall) -> Outcome {
    if !args.check && Client::connect(socket).is_ok() {
        let running = Error::new(
            Kind::Busy,
            format_args!(
                "netd is running at {}: end it first (systemctl stop netd)",
                socket.display()
            ),
        );
        return Err(running.into());
    }
    let mut tally = Tally::default();
    let mut uninstalled = Uninstalled::default();
    for driver in drivers(args.plugin_dir.as_deref())? {
        match ask(&driver, Uninstall { check: args.check }) {
            Ok(answer) => uninstalled.found.extend(answer.found),
            Err(error) => tally.fault(&error),
        }
    }
    // Where something could not be taken out, a netd may be at work that needs it.
    if args.check || tally.is_well() {
        match relay::end(socket, args.check) {
            Ok(found) => uninstalled.found.extend(found),
            Err(error) => tally.fault(&error),
        }
    }
    if args.output.json {
        out::json(&uninstalled)?;
    } else if uninstalled.found.is_empty() && tally.is_well() {
        out::print("nothing of netd's is in the kernel\n")?;
    } else {
        let lines: String = uninstalled.found.iter().map(|line| format!("{line}\n")).collect();
        out::print(&lines)?;
    }
    Ok(tally.code())
}

/// Every driver there is, each once. The one whose bridges all others' stand on comes last.
fn drivers(directory: Option<&Path>) -> Result<Vec<PathBuf>> {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.parent()?.to_owned()));
    let directories = match directory {
        Some(directory) => vec![directory.to_owned()],
        None => beside.into_iter().chain([PathBuf::from(USUAL)]).collect(),
    };
    let mut found: Vec<PathBuf> = Vec::new();
    for directory in &directories {
        let Ok(entries) = fs::read_dir(directory) else { continue };
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let driver =
                name != RELAY && name.strip_prefix("netd-").is_some_and(|name| !name.contains('.'));
            if driver && path.is_file() && !found.iter().any(|p| p.file_name() == path.file_name())
            {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        let places: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::not_found(format_args!(
            "no driver found: there is no executable netd-NAME in {}",
            places.join(", ")
        )));
    }
    found.sort_by_key(|path| (path.ends_with("netd-bridge"), path.clone()));
    Ok(found)
}

/// What a driver answers. One that does not have the method has nothing to take out.
fn ask(driver: &Path, uninstall: Uninstall) -> Result<Uninstalled> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::unavailable(format_args!("cannot ask {}: {error}", driver.display()))
            .with("driver", driver.display().to_string())
    };
    let mut child = Command::new(driver)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| failed(&error))?;
    let mut input = child.stdin.take().expect("it is piped");
    let written = input.write_all(Request::new(1, &uninstall).to_line().as_bytes());
    drop(input);
    let output = child.wait_with_output().map_err(|error| failed(&error))?;
    written.map_err(|error| failed(&error))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let reply: Reply<Uninstalled> =
        serde_json::from_str(text.trim()).map_err(|error| failed(&error))?;
    match reply.outcome() {
        Err(error) if error.kind == Kind::Unsupported => Ok(Uninstalled::default()),
        outcome => outcome,
    }
}
