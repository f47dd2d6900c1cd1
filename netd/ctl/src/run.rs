//! `netctl run`: a command in a sandbox of its own, without a container runtime.
//!
//! The command's process is made first and held before its beginning; netd puts its namespace on
//! the networks; then it is told its names and let go. It dies with netctl, and with the last
//! process in the namespace the namespace dies, which netd notices: nothing is left whatever is
//! killed.

mod check;
pub(crate) mod files;
mod follow;
mod held;
pub(crate) mod init;
mod keep;
pub(crate) mod place;

use std::{
    fs::File,
    io::{self, Read as _},
    net::IpAddr,
    os::fd::AsFd as _,
    path::Path,
    process::{Child, ExitCode, ExitStatus},
    thread,
};

use cnm::{
    ContainerId, Error, Name, Result,
    client::{Client, With},
    dns::QueryName,
    endpoint::{Container, Endpoint, Netns},
    sandbox::{CreateSandbox, RemoveSandbox},
};
use nix::{
    errno::Errno,
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};

use crate::{
    args::{self, Join, Wanted},
    attach,
    out::{self, Outcome},
};
use files::Wishes;
use follow::Follower;
use held::Held;
use init::Isolation;
use place::Setting;

/// The network that is the host's own.
const HOST: &str = "host";
/// The network that is none.
const NONE: &str = "none";

/// What is passed on to the command when somebody sends it to netctl.
const FORWARDED: [Signal; 6] = [
    Signal::SIGTERM,
    Signal::SIGINT,
    Signal::SIGHUP,
    Signal::SIGQUIT,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
];

/// Runs a command and ends as it does.
pub(crate) fn run(socket: &Path, args: args::Run) -> Outcome {
    let isolation = isolation(&args.networks)?;
    let wishes = Wishes {
        dns: args.dns,
        search: args.dns_search,
        options: args.dns_option,
        hosts: args.add_host,
    };
    if isolation == Isolation::Host && wishes != Wishes::default() {
        return Err(Error::invalid(format_args!(
            "on network {HOST} a command reads the host's resolv.conf and hosts: leave --dns, \
             --dns-search, --dns-option and --add-host out"
        ))
        .into());
    }
    check::check(&wishes)?;
    let id = random_id()?;
    let name = match args.name {
        Some(name) => name,
        None => format!("c-{}", id.short()).parse().map_err(Error::invalid)?,
    };
    let hostname = args.hostname.unwrap_or_else(|| name.clone());
    let mut client = Client::connect(socket)?;

    let held = match Held::start(isolation, &args.command)? {
        Ok(held) => held,
        Err(status) => return Ok(code(status)),
    };
    let container = Container {
        id: id.clone(),
        name: Some(name),
        hostname: Some(hostname.clone()),
        // The host's namespace does not end with the command.
        // With it another network can be connected later, and the end of a process in the
        // host's own namespace is noticed.
        pid: Some(held.pid()),
    };
    let endpoints = held.netns().and_then(|netns| {
        let endpoints = join(&mut client, &args.networks, &container, args.wanted, &netns)?;
        if isolation == Isolation::Own {
            stay(&mut client, &container, &netns)?;
        }
        Ok(endpoints)
    });
    let joined = endpoints.and_then(|endpoints| {
        let gateways = if wishes.name_this_host() { this_host(&mut client, &id)? } else { vec![] };
        Ok((endpoints, gateways))
    });
    let (endpoints, gateways) = match joined {
        Ok(joined) => joined,
        Err(error) => {
            held.end();
            leave(socket, &id);
            return Err(error.into());
        }
    };
    drop(client);
    let (setting, follower) = match isolation {
        Isolation::Host => (Setting::default(), None),
        Isolation::Own => {
            let mut files = files::all(&wishes, &hostname, &endpoints, &gateways);
            // On a network that has no names it asks as the host does, until it is on another.
            if files.iter().all(|(path, _)| path != files::RESOLV_CONF) {
                files.push((files::RESOLV_CONF.to_owned(), files::hosts_own()));
            }
            let follower = Follower {
                socket: socket.to_owned(),
                container: id.clone(),
                pid: held.pid(),
                hostname: hostname.clone(),
                wishes,
                files: files.clone(),
            };
            if let Err(error) = keep::start(held.pid(), files) {
                held.end();
                leave(socket, &id);
                return Err(error.into());
            }
            let hostname = Some(hostname.to_string());
            (Setting { hostname, ..Setting::default() }, Some(follower))
        }
    };
    // Who hears from the command may send signals at once.
    let ended = signals().and_then(|signals| wait(held.release(&setting)?, &signals, follower));
    leave(socket, &id);
    Ok(code(ended?))
}

/// Where a container reaches this host.
fn this_host(client: &mut Client, container: &ContainerId) -> Result<Vec<IpAddr>> {
    let mut addresses = Vec::new();
    for kind in ["A", "AAAA"] {
        let call = QueryName {
            name: "host.netd.internal".to_owned(),
            kind: Some(kind.to_owned()),
            from: Some(container.to_string()),
        };
        let records = client.call(&call)?.answers;
        let data = records.iter().filter_map(|record| record.split_whitespace().next_back());
        addresses.extend(data.filter_map(|data| data.parse::<IpAddr>().ok()));
    }
    if addresses.is_empty() {
        return Err(Error::invalid(
            "no network of the command leads to this host, which host-gateway means: say an address \
             instead, or another network",
        ));
    }
    Ok(addresses)
}

/// Whether the networks are the host's.
fn isolation(networks: &[Join]) -> Result<Isolation> {
    let mut names = networks.iter().map(|join| join.network.as_str());
    if let [_, _, ..] = networks
        && let Some(only) = names.clone().find(|name| [HOST, NONE].contains(name))
    {
        return Err(Error::invalid(format_args!(
            "network {only} cannot be combined with other networks"
        )));
    }
    let host = names.any(|network| network == HOST);
    Ok(if host { Isolation::Host } else { Isolation::Own })
}

fn random_id() -> Result<ContainerId> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")
        .and_then(|mut source| source.read_exact(&mut bytes))
        .map_err(|error| out::system("cannot read /dev/urandom", &error))?;
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.concat().parse().map_err(Error::internal)
}

/// Puts the namespace on one network after the other.
fn join(
    client: &mut Client,
    networks: &[Join],
    container: &Container,
    wanted: Wanted,
    netns: &File,
) -> Result<Vec<Endpoint>> {
    let others = Wanted {
        aliases: wanted.aliases.clone(),
        labels: wanted.labels.clone(),
        sticky: wanted.sticky,
        ..Wanted::default()
    };
    let wanted = std::iter::once(wanted).chain(std::iter::repeat(others));
    networks
        .iter()
        .zip(wanted)
        .map(|(join, wanted)| {
            let request = join.with(wanted).on(&join.network, container.clone(), Some(Netns::Fd));
            attach::send(client, &request, netns)
        })
        .collect()
}

/// Has netd know the container while its process lasts, though it is taken off its last network.
fn stay(client: &mut Client, container: &Container, netns: &File) -> Result<()> {
    let request = CreateSandbox { container: container.clone(), netns: Netns::Fd };
    client.call_with(&request, With { fds: &[netns.as_fd()], ..With::default() }).map(drop)
}

/// Has netd forget the container and its endpoints, over a connection of its own: netd may have been
/// started again since. When it cannot be told, it notices by itself that the namespace is gone.
fn leave(socket: &Path, id: &ContainerId) {
    let request = RemoveSandbox { container: id.to_string() };
    if let Err(error) = Client::connect(socket).and_then(|mut client| client.call(&request)) {
        out::complain(&error);
    }
}

/// From here on signals wait to be read; one that came before ended netctl and what it held.
fn signals() -> Result<SignalFd> {
    let mut signals = SigSet::from_iter(FORWARDED);
    signals.add(Signal::SIGCHLD);
    signals
        .thread_block()
        .and_then(|()| SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC))
        .map_err(|errno| out::system("cannot wait for signals", &errno.into()))
}

/// Waits for the command and passes signals on to it. Meanwhile its files follow its networks.
fn wait(mut child: Child, signals: &SignalFd, follower: Option<Follower>) -> Result<ExitStatus> {
    let failed = |error: io::Error| out::system("cannot wait for the command", &error);
    let pid = i32::try_from(child.id()).map_err(Error::internal)?;
    if let Some(follower) = follower {
        // It is this process's for as long as that lasts, and takes no signals, either.
        thread::spawn(move || follower.follow());
    }
    loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            return Ok(status);
        }
        let info = match signals.read_signal() {
            Ok(Some(info)) => info,
            Ok(None) | Err(Errno::EINTR) => continue,
            Err(errno) => return Err(failed(errno.into())),
        };
        // The kernel's own, such as the terminal's Ctrl-C, went to the command as well.
        let sent = info.ssi_code <= 0;
        let signal = i32::try_from(info.ssi_signo).ok().and_then(|n| Signal::try_from(n).ok());
        if let Some(signal) = signal.filter(|signal| sent && *signal != Signal::SIGCHLD) {
            // It cannot be somebody else's process: it is not waited for yet.
            kill(Pid::from_raw(pid), signal).ok();
        }
    }
}

/// The exit code that a shell would give.
fn code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let number = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(number.and_then(|number| u8::try_from(number).ok()).unwrap_or(u8::MAX))
}

/// A container's own name for itself, where it has told none.
pub(crate) fn hostname(container: &Container) -> Option<&Name> {
    container.hostname.as_ref().or(container.name.as_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(names: &[&str]) -> Vec<Join> {
        names.iter().map(|name| name.parse().expect("a network")).collect()
    }

    #[test]
    fn the_hosts_network_and_none_are_alone() {
        assert_eq!(isolation(&networks(&["bridge"])), Ok(Isolation::Own));
        assert_eq!(isolation(&networks(&["none"])), Ok(Isolation::Own));
        assert_eq!(isolation(&networks(&["host"])), Ok(Isolation::Host));
        assert_eq!(isolation(&networks(&["a", "b", "a"])), Ok(Isolation::Own));
        assert!(isolation(&networks(&["a", "host"])).is_err());
        assert!(isolation(&networks(&["none", "a"])).is_err());
    }

    #[test]
    fn no_two_commands_are_the_same_container() {
        let id = random_id().expect("an id");
        assert_eq!(id.as_str().len(), 64);
        assert_ne!(id, random_id().expect("another"));
    }
}
