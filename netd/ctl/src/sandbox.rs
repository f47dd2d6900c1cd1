//! `netctl sandbox`: network namespaces that stay until they are removed, held by a bind mount
//! beside netd's socket as `ip netns` holds its own.

use std::{
    ffi::OsString,
    fs::{self, File},
    io,
    path::{self, Path, PathBuf},
    process::ExitCode,
    thread,
};

use cnm::{
    ContainerId, Error, Kind, Name, Result,
    client::Client,
    endpoint::{Container, ListEndpoints, Netns},
    sandbox::{CreateSandbox, ListSandboxes, RemoveSandbox, Sandbox},
};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::{
    args::{Format, SandboxCommand},
    out::{self, Outcome, Tally},
    run::{
        files::{self, Wishes},
        hostname,
        place::{self, Setting, refused},
    },
    table::{Table, cell},
};

/// Does one of the commands.
pub(crate) fn sandbox(socket: &Path, command: SandboxCommand) -> Outcome {
    match command {
        SandboxCommand::Create { name } => create(socket, name),
        SandboxCommand::Ls(Format { json }) => ls(socket, json),
        SandboxCommand::Rm { sandboxes } => rm(socket, &sandboxes),
        SandboxCommand::Exec { sandbox, command } => exec(socket, &sandbox, &command),
    }
}

/// The sandbox that `wanted` means: its id, its name, or the beginning of exactly one id.
pub(crate) fn find(client: &mut Client, wanted: &str) -> Result<Sandbox> {
    let all = client.call(&ListSandboxes {})?.sandboxes;
    let exact = |sandbox: &&Sandbox| {
        let Container { id, name, .. } = &sandbox.container;
        id.as_str() == wanted || name.as_ref().is_some_and(|name| name.as_str() == wanted)
    };
    let begins = |sandbox: &&Sandbox| {
        !wanted.is_empty() && sandbox.container.id.as_str().starts_with(wanted)
    };
    if let Some(sandbox) = all.iter().find(exact) {
        return Ok(sandbox.clone());
    }
    let mut candidates = all.iter().filter(begins);
    match (candidates.next(), candidates.next()) {
        (Some(sandbox), None) => Ok(sandbox.clone()),
        (Some(_), Some(_)) => Err(Error::invalid(format_args!(
            "container {wanted} is ambiguous: several ids begin so"
        ))
        .with("container", wanted)),
        (None, _) => Err(Error::not_found(format_args!("container {wanted} not found"))
            .with("container", wanted)),
    }
}

/// Where the sandboxes' namespaces are held.
fn directory(socket: &Path) -> Result<PathBuf> {
    let socket = path::absolute(socket)
        .map_err(|error| out::system(format_args!("cannot find {}", socket.display()), &error))?;
    Ok(socket.parent().unwrap_or_else(|| Path::new("/")).join("netns"))
}

fn create(socket: &Path, name: Name) -> Outcome {
    let mut client = Client::connect(socket)?;
    let directory = directory(socket)?;
    let path = directory.join(name.as_str());
    fs::create_dir_all(&directory).map_err(|error| {
        out::system(format_args!("cannot make {}", directory.display()), &error)
    })?;
    File::create_new(&path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            Error::exists(format_args!("sandbox {name} already exists"))
                .with("sandbox", name.as_str())
        }
        _ => out::system(format_args!("cannot make {}", path.display()), &error),
    })?;
    let made = hold(&path).and_then(|()| {
        let id = ContainerId::try_from(name.to_string()).map_err(Error::invalid)?;
        let container = Container { name: Some(name), ..Container::new(id) };
        client
            .call(&CreateSandbox {
                container,
                netns: Netns::Path(path.to_string_lossy().into_owned()),
            })
            .map_err(|error| unseen(error, &path))
    });
    match made {
        Ok(sandbox) => {
            out::print(&format!("{}\n", sandbox.container.id))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            if let Err(error) = let_go(&path) {
                out::complain(&error);
            }
            Err(error.into())
        }
    }
}

/// A namespace that is held here and that netd does not find is held where netd does not look.
fn unseen(error: Error, path: &Path) -> Error {
    if error.kind != Kind::Invalid || !error.operands.contains_key("netns") {
        return error;
    }
    let message = format!(
        "netd does not see the namespace that is held at {}, since this command has a mount namespace of \
         its own, as `ip netns exec` gives one: enter netd's host by nsenter --net=PATH instead, or \
         use netctl run",
        path.display()
    );
    Error { message, ..error }
}

/// Makes a network namespace and holds it at `path`.
pub(crate) fn hold(path: &Path) -> Result<()> {
    let path = path.to_owned();
    // A namespace is a thread's: this one goes with it, and the mount keeps what it was in.
    let thread = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(|errno| refused("make a network namespace, for which you need root", errno))?;
        mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
            .map_err(|errno| refused(format_args!("hold a namespace at {}", path.display()), errno))
    });
    thread.join().unwrap_or_else(|_| Err(Error::internal("making a namespace panicked")))
}

/// Ends what [`hold`] began, as far as it came.
pub(crate) fn let_go(path: &Path) -> Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // Not a mount, or not there.
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(errno) => return Err(refused(format_args!("unmount {}", path.display()), errno)),
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(out::system(format_args!("cannot remove {}", path.display()), &error))
        }
        _ => Ok(()),
    }
}

fn ls(socket: &Path, json: bool) -> Outcome {
    let found = Client::connect(socket)?.call(&ListSandboxes {})?;
    if json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["CONTAINER ID", "NAME", "KEPT", "CREATED", "NETNS"]);
    for sandbox in found.sandboxes {
        table.row([
            sandbox.container.id.short().to_owned(),
            cell(sandbox.container.name),
            if sandbox.kept { "yes" } else { "no" }.to_owned(),
            sandbox.created,
            cell(sandbox.path),
        ]);
    }
    out::print(&table.text())?;
    Ok(ExitCode::SUCCESS)
}

fn rm(socket: &Path, sandboxes: &[String]) -> Outcome {
    let mut client = Client::connect(socket)?;
    let directory = directory(socket)?;
    let mut tally = Tally::default();
    for wanted in sandboxes {
        match remove(&mut client, &directory, wanted) {
            Ok(()) => out::print(&format!("{wanted}\n"))?,
            Err(error) => tally.fault(&error),
        }
    }
    Ok(tally.code())
}

/// Has netd forget a sandbox, then lets its namespace go if it is one that we hold.
fn remove(client: &mut Client, directory: &Path, wanted: &str) -> Result<()> {
    let sandbox = match find(client, wanted) {
        Ok(sandbox) => sandbox,
        // A namespace that netd never heard of, as its maker was killed in between.
        Err(error) if error.kind == Kind::NotFound => {
            let path = wanted.parse::<Name>().ok().map(|name| directory.join(name.as_str()));
            return match path.filter(|path| path.exists()) {
                Some(path) => let_go(&path),
                None => Err(error),
            };
        }
        Err(error) => return Err(error),
    };
    client.call(&RemoveSandbox { container: sandbox.container.id.to_string() })?;
    match sandbox.path.map(PathBuf::from) {
        Some(path) if sandbox.kept && path.parent() == Some(directory) => let_go(&path),
        _ => Ok(()),
    }
}

/// Becomes a command in a sandbox.
fn exec(socket: &Path, wanted: &str, command: &[OsString]) -> Outcome {
    let mut client = Client::connect(socket)?;
    let Sandbox { container, path, .. } = find(&mut client, wanted)?;
    let Some(path) = path else {
        return Err(Error::unsupported(format_args!(
            "sandbox {} has no path by which to enter it; a process in it has: \
             nsenter --net=/proc/PID/ns/net",
            container.label()
        ))
        .into());
    };
    let request = ListEndpoints { container: Some(container.id.to_string()), network: None };
    let endpoints = client.call(&request)?.endpoints;
    drop(client);
    let netns = cnm::endpoint::open_netns(path.as_ref())?;
    enter(&netns)?;
    let hostname = hostname(&container);
    place::settle(&Setting {
        hostname: hostname.map(ToString::to_string),
        files: hostname
            .map(|name| files::all(&Wishes::default(), name, &endpoints, &[]))
            .unwrap_or_default(),
    })?;
    Ok(place::execute(command))
}

/// Enters a network namespace, and mount and UTS namespaces of this process's own.
#[allow(
    clippy::disallowed_methods,
    reason = "this process has one thread, and is about to become the command"
)]
fn enter(netns: &File) -> Result<()> {
    setns(netns, CloneFlags::CLONE_NEWNET)
        .map_err(|errno| refused("enter the network namespace", errno))?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS)
        .map_err(|errno| refused("make a mount namespace", errno))
}
