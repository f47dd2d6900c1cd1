//! The machine that a rule has for itself: its uplink, its neighbour, and the kernel's own account
//! of what is on it.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use cnm::{Error, Result};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, setns},
};
use serde_json::Value;

use super::{
    options::COVERED,
    rule::{Checked, Flaw, ensure},
};
use crate::{out, run::place::refused, sandbox};

/// The neighbour's address.
pub(super) const NEIGHBOUR: &str = "192.0.2.2";

/// How long something may take that the plugin leaves to others, such as taking down a link.
const PATIENCE: Duration = Duration::from_secs(3);

/// How long a client waits for a server.
const CONNECTING: Duration = Duration::from_secs(3);

/// How long to let others run before looking again.
const PAUSE: Duration = Duration::from_millis(10);

/// Where the namespaces are that the rules make, as `ip netns` has it.
const NAMESPACES: &str = "/run/netns";

/// The machine. There is one in a process, and it is the one that the process is in.
#[derive(Debug)]
pub(super) struct Machine;

impl Machine {
    /// Makes this process's namespaces a machine, and runs `setup` on it.
    pub(super) fn new(setup: Option<&str>) -> Result<Self> {
        for (kind, place) in
            COVERED.map(|place| ("tmpfs", place)).into_iter().chain([("sysfs", "/sys")])
        {
            mount(Some(kind), place, Some(kind), MsFlags::empty(), None::<&str>)
                .map_err(|errno| refused(format_args!("mount a {kind} on {place}"), errno))?;
        }
        fs::create_dir_all(NAMESPACES)
            .map_err(|error| out::system(format_args!("cannot make {NAMESPACES}"), &error))?;
        let machine = Self;
        machine.namespace("lan")?;
        for line in [
            "ip link set lo up",
            "ip link add uplink0 type veth peer name eth0 netns lan",
            "ip address add 192.0.2.1/24 dev uplink0",
            "ip link set uplink0 up",
            "ip -n lan address add 192.0.2.2/24 dev eth0",
            "ip -n lan link set eth0 up",
            "ip route add default via 192.0.2.2",
        ] {
            tool(line).map_err(Error::unavailable)?;
        }
        if let Some(setup) = setup {
            machine.set_up(setup)?;
        }
        Ok(machine)
    }

    fn set_up(&self, command: &str) -> Result<()> {
        let path = "/run/conformance-setup.log";
        let failed = |error: io::Error| out::system("cannot run the setup", &error);
        let log = fs::File::create(path).map_err(failed)?;
        let status = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(failed)?)
            .stderr(log)
            .status()
            .map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read_to_string(path).unwrap_or_default();
        Err(Error::unavailable(format_args!("the setup failed: {status}: {}", said.trim())))
    }

    /// Makes a network namespace.
    pub(super) fn namespace(&self, name: &str) -> Result<PathBuf> {
        let path = Path::new(NAMESPACES).join(name);
        fs::File::create_new(&path)
            .map_err(|error| out::system(format_args!("cannot make {}", path.display()), &error))?;
        sandbox::hold(&path)?;
        Ok(path)
    }

    /// Links, addresses and firewall rules, one line each. The names of links that have a peer are
    /// left out, as plugins choose them by chance.
    pub(super) fn account(&self) -> Checked<BTreeSet<String>> {
        let mut lines = BTreeSet::new();
        for link in json("ip -j -d address")? {
            let kind = link["linkinfo"]["info_kind"].as_str().unwrap_or("none");
            let name = link["ifname"].as_str().unwrap_or_default();
            let master = link["master"].as_str().unwrap_or("none");
            lines.insert(format!("link {name} of kind {kind} on {master}"));
            for address in list(&link["addr_info"]).filter(|address| address["scope"] != "link") {
                let address = address["local"].as_str().unwrap_or_default();
                lines.insert(format!("address {address} of {name}"));
            }
        }
        let mut place = String::new();
        for line in tool("nft -s list ruleset").map_err(Flaw::Broken)?.lines() {
            if line.ends_with('{') {
                place = line.trim().trim_end_matches(" {").to_owned();
            }
            lines.insert(format!("rule in {place}: {}", line.trim()));
        }
        Ok(lines)
    }

    /// Whether a client in one namespace gets from an address what a server in another serves on
    /// TCP port 8000.
    pub(super) fn served(
        &self,
        server: &Path,
        client: &Path,
        address: SocketAddr,
    ) -> Checked<bool> {
        let listener = inside(server, || TcpListener::bind(("0.0.0.0", 8000)))?;
        thread::scope(|scope| {
            scope.spawn(|| {
                listener.set_nonblocking(true)?;
                let deadline = Instant::now() + CONNECTING;
                while Instant::now() < deadline {
                    match listener.accept() {
                        Ok((mut stream, _)) => return stream.write_all(b"served"),
                        Err(_) => thread::park_timeout(PAUSE),
                    }
                }
                Ok(())
            });
            let connected = inside(client, || TcpStream::connect_timeout(&address, CONNECTING));
            let Ok(mut stream) = connected else { return Ok(false) };
            let mut text = String::new();
            let read = stream
                .set_read_timeout(Some(CONNECTING))
                .and_then(|()| stream.read_to_string(&mut text));
            Ok(read.is_ok() && text == "served")
        })
    }

    /// How long it takes to send so many bytes from one namespace to an address of another, on TCP port
    /// 8000, until all of them have come.
    pub(super) fn transfer(
        &self,
        from: &Path,
        to: &Path,
        address: IpAddr,
        amount: usize,
    ) -> Checked<Duration> {
        let at = SocketAddr::new(address, 8000);
        let listener = inside(to, || TcpListener::bind(at))?;
        let mut sender = inside(from, || TcpStream::connect_timeout(&at, CONNECTING))?;
        let began = Instant::now();
        let read = thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let (mut stream, _) = listener.accept()?;
                stream.set_read_timeout(Some(CONNECTING))?;
                io::copy(&mut stream, &mut io::sink())
            });
            let sent = sender.write_all(&vec![0; amount]);
            let sent = sent.and_then(|()| sender.shutdown(Shutdown::Write));
            let read = reading.join().unwrap_or_else(|_| Err(io::Error::other("it panicked")));
            sent.and(read)
        });
        let read = read.map_err(|error| Flaw::Broken(format!("cannot send to {at}: {error}")))?;
        ensure!(read == amount as u64, "of {amount} bytes {read} came to {at}");
        Ok(began.elapsed())
    }

    /// A client of UDP in a namespace, which sends to an address from one port.
    pub(super) fn flow(&self, client: &Path, to: SocketAddr) -> Checked<Flow> {
        Ok(Flow { socket: inside(client, || UdpSocket::bind(("0.0.0.0", 0)))?, to })
    }

    /// Waits until the machine is as it was, and says what is left where it does not become so.
    pub(super) fn becomes(&self, before: &BTreeSet<String>) -> Checked {
        eventually(|| {
            let now = self.account()?;
            let more: Vec<_> = now.difference(before).map(String::as_str).collect();
            let less: Vec<_> = before.difference(&now).map(String::as_str).collect();
            match (more.as_slice(), less.as_slice()) {
                ([], []) => Ok(()),
                (more @ [_, ..], _) => {
                    Err(Flaw::Broken(format!("left on the host: {}", few(more))))
                }
                (_, less) => Err(Flaw::Broken(format!("missing on the host: {}", few(less)))),
            }
        })
    }
}

/// A client of UDP.
#[derive(Debug)]
pub(super) struct Flow {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Flow {
    /// Whether what it sends arrives at a server in a namespace, on port 8000.
    pub(super) fn arrives(&self, server: &Path) -> Checked<bool> {
        let listener = inside(server, || UdpSocket::bind(("0.0.0.0", 8000)))?;
        let sent = listener
            .set_read_timeout(Some(CONNECTING))
            .and_then(|()| self.socket.send_to(b"hello", self.to));
        sent.map_err(|error| Flaw::Broken(format!("cannot send to {}: {error}", self.to)))?;
        Ok(listener.recv(&mut [0; 16]).is_ok())
    }
}

/// Does something in a namespace, on a thread of its own.
#[allow(clippy::disallowed_methods, reason = "only called on a thread that ends with its work")]
fn inside<T: Send>(netns: &Path, act: impl FnOnce() -> io::Result<T> + Send) -> Checked<T> {
    let acting = || {
        let netns = fs::File::open(netns)?;
        setns(netns, CloneFlags::CLONE_NEWNET)?;
        act()
    };
    let acted = thread::scope(|scope| scope.spawn(acting).join());
    let acted = acted.unwrap_or_else(|_| Err(io::Error::other("it panicked")));
    acted.map_err(|error| Flaw::Broken(format!("in {}: {error}", netns.display())))
}

/// The first of many, and how many others there are.
fn few(lines: &[&str]) -> String {
    match lines {
        [first, _, ..] => format!("{first} (and {} more)", lines.len() - 1),
        _ => lines.concat(),
    }
}

/// Tries until it works, for a while; gives the last flaw.
pub(super) fn eventually<T>(mut attempt: impl FnMut() -> Checked<T>) -> Checked<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let over = Instant::now() >= deadline;
        match attempt() {
            Err(_) if !over => thread::park_timeout(PAUSE),
            ended => return ended,
        }
    }
}

/// Runs a command line, of words without quotes; gives what it printed, or why it failed.
pub(super) fn tool(line: &str) -> Result<String, String> {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap_or_default())
        .args(words)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("cannot run `{line}`: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let error = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{line}` fails: {}", error.trim()))
}

/// Runs a command line that prints a list as JSON, or nothing.
pub(super) fn json(line: &str) -> Checked<Vec<Value>> {
    let text = tool(line).map_err(Flaw::Broken)?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text)
        .map_err(|error| Flaw::Broken(format!("`{line}` prints no list: {error}")))
}

/// The values of a JSON array; none of anything else.
pub(super) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}
