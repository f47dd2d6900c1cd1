//! The commands on the daemon itself: `status`, `version`, `reconcile`, `gc`.

use std::{path::Path, process::ExitCode};

use cnm::{
    Call,
    client::Client,
    system::{CollectGarbage, GetStatus, GetVersion, Reconcile, Reconciled, Status},
};
use serde_json::json;

use crate::{
    args::Format,
    attach,
    out::{self, Outcome},
    table::{Table, cell},
};

/// Shows how netd is.
pub(crate) fn status(socket: &Path, format: Format) -> Outcome {
    ask(socket, format, &GetStatus {}, page)
}

/// Has everything compared and put right.
pub(crate) fn reconcile(socket: &Path, format: Format) -> Outcome {
    ask(socket, format, &Reconcile {}, |Reconciled { repaired, lost, problems }| {
        if repaired.is_empty() && lost.is_empty() && problems.is_empty() {
            return "nothing differed\n".to_owned();
        }
        let lost = lost.iter().chain(problems).map(|what| format!("not put right: {what}\n"));
        repaired.iter().map(|what| format!("{what}\n")).chain(lost).collect()
    })
}

/// Has what belongs to nobody released.
pub(crate) fn gc(socket: &Path, format: Format) -> Outcome {
    ask(socket, format, &CollectGarbage {}, |detached| attach::ids(&detached.endpoints))
}

/// Shows the versions of both ends: netctl's even where netd is not there.
pub(crate) fn version(socket: &Path, Format { json }: Format) -> Outcome {
    let own = env!("CARGO_PKG_VERSION");
    let protocol = cnm::PROTOCOL;
    if !json {
        out::print(&format!("netctl {own} (protocol {protocol})\n"))?;
    }
    let netd = Client::connect(socket)?.call(&GetVersion {})?;
    if json {
        let client = json!({"version": own, "protocols": [protocol]});
        out::json(&json!({"netctl": client, "netd": netd}))?;
    } else {
        out::print(&format!("netd   {} (protocol {})\n", netd.version, cell(netd.protocols)))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn ask<C: Call>(
    socket: &Path,
    Format { json }: Format,
    call: &C,
    text: impl Fn(&C::Reply) -> String,
) -> Outcome {
    let reply = Client::connect(socket)?.call(call)?;
    if json {
        out::json(&reply)?;
    } else {
        out::print(&text(&reply))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn page(status: &Status) -> String {
    let Status { version, pid, state_dir, run_dir, networks, sandboxes, endpoints, .. } = status;
    let mut page = format!(
        "netd {version}, process {pid}, up {}\n\n\
         Networks:   {networks}\n\
         Sandboxes:  {sandboxes}\n\
         Endpoints:  {endpoints}\n\
         State in:   {state_dir}\n\
         Running in: {run_dir}\n\n",
        duration(status.uptime)
    );
    let mut drivers = Table::new(&["DRIVER", "VERSION", "PROCESS", "RESTARTS", "EXECUTABLE"]);
    for driver in &status.drivers {
        drivers.row([
            driver.name.clone(),
            cell(driver.version.as_deref()),
            cell(driver.pid),
            driver.restarts.to_string(),
            driver.path.clone(),
        ]);
    }
    page.push_str(&drivers.text());
    if status.problems.is_empty() {
        page.push_str("\nNo problems\n");
    } else {
        page.push_str("\nProblems:\n");
        page.extend(status.problems.iter().map(|problem| format!("  {problem}\n")));
    }
    page
}

/// Seconds as people say them, in the two largest units.
fn duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m {}s", seconds % 60),
        (0, ..) => format!("{hours}h {}m", minutes % 60),
        _ => format!("{days}d {}h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use cnm::system::DriverStatus;

    use super::*;

    #[test]
    fn a_duration_has_its_two_largest_units() {
        let said = [0, 59, 60, 3599, 3600, 86399, 86400, 1_000_000].map(duration);
        assert_eq!(said, ["0s", "59s", "1m 0s", "59m 59s", "1h 0m", "23h 59m", "1d 0h", "11d 13h"]);
    }

    #[test]
    fn the_page_says_what_is_wrong() {
        let mut status = Status {
            version: "0.1.0".into(),
            pid: 42,
            uptime: 61,
            state_dir: "/var/lib/netd".into(),
            run_dir: "/run/netd".into(),
            networks: 3,
            sandboxes: 2,
            endpoints: 1,
            drivers: vec![DriverStatus {
                name: "bridge".into(),
                path: "/usr/libexec/netd/netd-bridge".into(),
                pid: None,
                version: None,
                restarts: 4,
            }],
            problems: Vec::new(),
        };
        let expected = "\
netd 0.1.0, process 42, up 1m 1s

Networks:   3
Sandboxes:  2
Endpoints:  1
State in:   /var/lib/netd
Running in: /run/netd

DRIVER    VERSION   PROCESS   RESTARTS   EXECUTABLE
bridge    -         -         4          /usr/libexec/netd/netd-bridge

";
        assert_eq!(page(&status), format!("{expected}No problems\n"));
        status.problems.push("driver bridge does not start".into());
        assert_eq!(page(&status), format!("{expected}Problems:\n  driver bridge does not start\n"));
    }
}
