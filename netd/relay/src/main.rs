//! The relay: takes what comes to published ports at `[::1]` and hands it on to their containers.
//! The kernel does so for every other address of the host; this one nftables cannot translate. It is
//! the one path on which packets pass a process, and the one that netd starts for it, at the first
//! need.
//!
//! `netd-relay SOCKET` listens there for orders, one JSON document a line: `all`, all that is to be
//! relayed, or `add` and `remove`. Each is answered with what could not be. It outlives netd, whose
//! next connection tells it everything again, and ends when nothing is left to relay.

mod listen;
mod orders;

use std::{
    cell::RefCell,
    env, fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    rc::Rc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    stat::{Mode, umask},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    runtime::Builder,
    time::timeout,
};

use listen::Relayed;
use orders::{Done, Orders};

/// How long it waits for something to relay.
const IDLE: Duration = Duration::from_secs(10);

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error);
            ExitCode::FAILURE
        }
    }
}

fn log(error: &anyhow::Error) {
    eprintln!("{}", line(error, SystemTime::now()));
}

/// A line as netd's own are, into whose log it goes.
fn line(error: &anyhow::Error, now: SystemTime) -> Value {
    json!({
        "timestamp": humantime::format_rfc3339_micros(now).to_string(),
        "level": "WARN",
        "message": format!("{error:#}"),
        "target": "netd_relay",
    })
}

fn run() -> Result<()> {
    let path: PathBuf = env::args_os().nth(1).context("it wants the path of its socket")?.into();
    // A descriptor for each port, and two for each connection.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most)?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let tasks = tokio::task::LocalSet::new();
    tasks.block_on(&runtime, obey(&path))
}

/// Takes orders until there is nothing left to relay.
async fn obey(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| path.display().to_string());
        }
        _ => {}
    }
    // Who may give orders is netd.
    umask(Mode::S_IXUSR | Mode::S_IRWXG | Mode::S_IRWXO);
    let listener = UnixListener::bind(path).with_context(|| path.display().to_string())?;
    let relayed = Rc::<RefCell<Relayed>>::default();
    loop {
        let idle = relayed.borrow().is_empty();
        let stream = match timeout(IDLE, listener.accept()).await {
            Ok(accepted) => accepted?.0,
            // Who started it died before it said why.
            Err(_) if idle => {
                return fs::remove_file(path).with_context(|| path.display().to_string());
            }
            Err(_) => continue,
        };
        match follow(stream, &relayed, path).await {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(error) => log(&error),
        }
    }
}

/// Obeys one netd until it goes; whether it left nothing to relay.
async fn follow(stream: UnixStream, relayed: &Rc<RefCell<Relayed>>, path: &Path) -> Result<bool> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    // That netd is gone is no failure, however the kernel tells.
    while let Ok(Some(line)) = lines.next_line().await {
        let orders: Orders = serde_json::from_str(&line).context("an order is not understood")?;
        let failed = relayed.borrow_mut().obey(orders);
        let empty = relayed.borrow().is_empty();
        if empty {
            // Who comes from now on starts another one.
            fs::remove_file(path).with_context(|| path.display().to_string())?;
        }
        let mut answer = serde_json::to_string(&Done { failed })?;
        answer.push('\n');
        let told = write.write_all(answer.as_bytes()).await;
        if empty {
            // Whether anybody waits to hear it or not.
            return Ok(true);
        }
        if told.is_err() {
            break;
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_as_netds_own_are() {
        let error = anyhow::anyhow!("it is \"taken\"").context("cannot listen");
        let at = SystemTime::UNIX_EPOCH + Duration::from_micros(1_500_000);
        let said = line(&error, at).to_string();
        let read: Value = serde_json::from_str(&said).expect("JSON");
        assert_eq!(read["timestamp"], "1970-01-01T00:00:01.500000Z");
        assert_eq!(read["message"], "cannot listen: it is \"taken\"");
        assert_eq!((&read["level"], &read["target"]), (&"WARN".into(), &"netd_relay".into()));
        assert!(!said.contains('\n'), "{said}");
    }
}
