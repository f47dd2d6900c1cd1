//! The relay, which takes what comes to published ports at `[::1]`: what it is told, and that it is
//! there while there is something to tell. It is the only process through which packets of a
//! container pass, and outlives netd as the kernel's part does. Nobody waits for it: a port is
//! relayed a moment after it is published.

use std::{
    cell::RefCell,
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    rc::Rc,
    time::Duration,
};

use cnm::endpoint::{Endpoint, Port, Protocol};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    process::Command,
    sync::mpsc,
    time::{Instant, sleep, sleep_until},
};

use crate::{host::sockets::Bound, netd::Netd};

/// The executable, beside the drivers.
pub(crate) const PROGRAM: &str = "netd-relay";

/// How long it is waited for at its start, in so many steps.
const STEP: Duration = Duration::from_millis(5);
const STEPS: u32 = 400;

/// How long after its death it is started again; where it ended for want of a port that it could have,
/// twice as long each time, up to the longest.
const PAUSE: Duration = Duration::from_millis(200);
const LONGEST: Duration = Duration::from_secs(60);

/// A port of `[::1]` and where it leads.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Lead {
    protocol: Protocol,
    port: u16,
    to: SocketAddr,
}

impl Lead {
    fn key(&self) -> (Protocol, u16) {
        (self.protocol, self.port)
    }

    fn pair(&self) -> ((Protocol, u16), SocketAddr) {
        (self.key(), self.to)
    }
}

/// What it is told on one line.
#[derive(Debug, Default, Serialize)]
struct Orders<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<&'a [Lead]>,
    #[serde(skip_serializing_if = "<[Lead]>::is_empty")]
    remove: &'a [Lead],
    #[serde(skip_serializing_if = "<[Lead]>::is_empty")]
    add: &'a [Lead],
}

/// What it answers.
#[derive(Debug, Deserialize)]
struct Done {
    failed: Vec<String>,
}

#[derive(Debug)]
enum Change {
    All(Vec<Lead>),
    Add(Vec<Lead>),
    Remove(Vec<Lead>),
}

/// The most ports in a row that are relayed: each takes a socket, where the kernel has one element
/// for all.
const ROW: u16 = 16;

/// Ports of which the relay may have a socket.
type Held = Rc<RefCell<HashSet<(Protocol, u16)>>>;

/// How to tell the relay.
#[derive(Debug)]
pub(crate) struct Relay {
    changes: mpsc::UnboundedSender<Change>,
    held: Held,
}

impl Relay {
    /// Nothing is started before there is something to relay.
    pub(crate) fn new(run_dir: &Path, directories: Vec<PathBuf>) -> Self {
        let (sender, changes) = mpsc::unbounded_channel();
        let held = Held::default();
        let keeper = Keeper {
            held: held.clone(),
            socket: run_dir.join("relay.sock"),
            directories,
            wanted: HashMap::new(),
            failed: false,
            talk: None,
        };
        tokio::task::spawn_local(keeper.keep(changes));
        Self { changes: sender, held }
    }

    fn tell(&self, change: Change) {
        if let Change::All(leads) | Change::Add(leads) = &change {
            self.held.borrow_mut().extend(leads.iter().map(Lead::key));
        }
        // Who hears it is there as long as netd is.
        drop(self.changes.send(change));
    }

    /// Whether a socket may be the relay's, which gives way to whoever has the port next.
    pub(crate) fn has(&self, socket: &Bound) -> bool {
        socket.address == IpAddr::from(Ipv6Addr::LOCALHOST)
            && self.held.borrow().contains(&(socket.protocol, socket.port))
    }

    /// These are relayed as well.
    pub(crate) fn add(&self, endpoint: &Endpoint) {
        let leads = leads(endpoint);
        if !leads.is_empty() {
            self.tell(Change::Add(leads));
        }
    }

    /// These are relayed no longer.
    pub(crate) fn remove(&self, endpoint: &Endpoint) {
        let leads = leads(endpoint);
        if !leads.is_empty() {
            self.tell(Change::Remove(leads));
        }
    }
}

impl Netd {
    /// Has everything relayed that is to be, and nothing else.
    pub(crate) fn relay_all(&self) {
        let registry = self.registry.borrow();
        let wanted = registry.endpoints().filter(|endpoint| registry.is_wanted(endpoint));
        let leads = wanted.flat_map(|endpoint| leads(&registry.published(endpoint))).collect();
        self.relay.tell(Change::All(leads));
    }
}

/// Where an endpoint's ports lead from `[::1]`: to its address of IPv6 where it has one, as those at all
/// addresses of IPv6 always do. Where somebody else holds the port there, he gets what comes.
fn leads(endpoint: &Endpoint) -> Vec<Lead> {
    let address = |v4: bool| {
        endpoint.addresses.iter().map(|address| address.ip()).find(|ip| ip.is_ipv4() == v4)
    };
    let of = |port: &Port| -> Option<IpAddr> {
        const LOOPBACK: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
        const ALL: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        match port.host_ip {
            Some(LOOPBACK | ALL) if endpoint.ports_bound => None,
            None | Some(LOOPBACK) => address(false).or_else(|| address(true)),
            Some(ALL) => address(false),
            Some(_) => None,
        }
    };
    let relayed = |port: &&Port| port.protocol != Protocol::Sctp && port.count <= ROW;
    let ports = endpoint.ports.iter().filter(relayed);
    ports
        .filter_map(|port| Some((port, of(port)?)))
        .flat_map(|(port, ip)| {
            port.host_ports().zip(port.container_ports()).map(move |(number, to)| Lead {
                protocol: port.protocol,
                port: number,
                to: SocketAddr::new(ip, to),
            })
        })
        .collect()
}

/// Who tells it, one change after the other.
#[derive(Debug)]
struct Keeper {
    held: Held,
    socket: PathBuf,
    directories: Vec<PathBuf>,
    wanted: HashMap<(Protocol, u16), SocketAddr>,
    /// Whether something of the last order could not be had.
    failed: bool,
    talk: Option<Talk>,
}

#[derive(Debug)]
struct Talk {
    answers: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl Keeper {
    async fn keep(mut self, mut changes: mpsc::UnboundedReceiver<Change>) {
        let (mut pause, mut again) = (PAUSE, None);
        loop {
            let change = tokio::select! {
                change = changes.recv() => match change {
                    Some(change) => change,
                    None => return,
                },
                () = end(&mut self.talk) => {
                    self.talk = None;
                    if self.wanted.is_empty() {
                        continue;
                    }
                    pause = if self.failed { (pause * 2).min(LONGEST) } else { PAUSE };
                    tracing::warn!(?pause, "the relay ended: it is started again");
                    again = Some(Instant::now() + pause);
                    continue;
                }
                () = due(again) => Change::Add(Vec::new()),
            };
            again = None;
            if let Err(error) = self.carry_out(&change).await {
                self.talk = None;
                tracing::error!(%error, "ports are not relayed from [::1]");
            }
            if let Change::Remove(leads) = &change {
                self.let_go(leads);
            }
        }
    }

    /// What was removed is the relay's no longer, unless it is another's by now.
    fn let_go(&self, leads: &[Lead]) {
        let mut held = self.held.borrow_mut();
        for key in leads.iter().map(Lead::key).filter(|key| !self.wanted.contains_key(key)) {
            held.remove(&key);
        }
    }

    async fn carry_out(&mut self, change: &Change) -> io::Result<()> {
        match change {
            Change::All(leads) => self.wanted = leads.iter().map(Lead::pair).collect(),
            Change::Add(leads) => self.wanted.extend(leads.iter().map(Lead::pair)),
            Change::Remove(leads) => {
                for lead in leads {
                    if self.wanted.get(&lead.key()) == Some(&lead.to) {
                        self.wanted.remove(&lead.key());
                    }
                }
            }
        }
        if let Some(talk) = &mut self.talk {
            let orders = match change {
                Change::All(all) => Orders { all: Some(all), ..Orders::default() },
                Change::Add(add) => Orders { add, ..Orders::default() },
                Change::Remove(remove) => Orders { remove, ..Orders::default() },
            };
            if let Ok(failed) = talk.order(&orders).await {
                self.failed = failed;
                return Ok(());
            }
            // It ended meanwhile.
            self.talk = None;
        }
        let lead =
            |(&(protocol, port), &to): (&(Protocol, u16), &SocketAddr)| Lead { protocol, port, to };
        let all: Vec<Lead> = self.wanted.iter().map(lead).collect();
        let orders = Orders { all: Some(&all), ..Orders::default() };
        if let Ok(stream) = UnixStream::connect(&self.socket).await {
            let mut talk = Talk::over(stream);
            // One that is ending takes none any more.
            if let Ok(failed) = talk.order(&orders).await {
                (self.failed, self.talk) = (failed, Some(talk));
                return Ok(());
            }
        }
        if all.is_empty() || !has_loopback() {
            return Ok(());
        }
        let mut talk = self.start().await?;
        self.failed = talk.order(&orders).await?;
        self.talk = Some(talk);
        Ok(())
    }

    async fn start(&self) -> io::Result<Talk> {
        let places = self.directories.iter().map(|directory| directory.join(PROGRAM));
        let program = places.into_iter().find(|path| path.is_file()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, format!("there is no {PROGRAM}"))
        })?;
        let mut child = Command::new(program)
            .arg(&self.socket)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // What a terminal sends to netd is not for it.
            .process_group(0)
            .spawn()?;
        for _ in 0..STEPS {
            if let Ok(stream) = UnixStream::connect(&self.socket).await {
                tracing::info!(pid = child.id(), "the relay is started");
                return Ok(Talk::over(stream));
            }
            if let Some(status) = child.try_wait()? {
                return Err(io::Error::other(format!("{PROGRAM} ended: {status}")));
            }
            sleep(STEP).await;
        }
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{PROGRAM} does not listen")))
    }
}

/// Waits until the relay is gone; for ever where there is none.
async fn end(talk: &mut Option<Talk>) {
    match talk {
        // It says nothing unasked.
        Some(talk) => while matches!(talk.answers.next_line().await, Ok(Some(_))) {},
        None => std::future::pending().await,
    }
}

/// Waits until then; for ever where there is no such time.
async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Talk {
    fn over(stream: UnixStream) -> Self {
        let (read, orders) = stream.into_split();
        Self { answers: BufReader::new(read).lines(), orders }
    }

    /// Whether something of it could not be had.
    async fn order(&mut self, orders: &Orders<'_>) -> io::Result<bool> {
        let mut line = serde_json::to_string(orders)?;
        line.push('\n');
        self.orders.write_all(line.as_bytes()).await?;
        let gone = || io::Error::from(io::ErrorKind::UnexpectedEof);
        let answer = self.answers.next_line().await?.ok_or_else(gone)?;
        let done: Done = serde_json::from_str(&answer)?;
        for failed in &done.failed {
            tracing::warn!(failed, "not relayed");
        }
        Ok(!done.failed.is_empty())
    }
}

/// Whether the host has `::1` at all (`if_inet6`, proc(5)).
fn has_loopback() -> bool {
    let addresses = std::fs::read_to_string("/proc/self/net/if_inet6").unwrap_or_default();
    let loopback = format!("{:032x}", Ipv6Addr::LOCALHOST.to_bits());
    addresses.lines().any(|line| line.starts_with(&loopback))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_to_the_loopback_leads_to_the_container() {
        let endpoint = |ports: &[&str], addresses: &[&str]| -> Endpoint {
            let ports: Vec<Port> = ports.iter().map(|port| port.parse().expect("a port")).collect();
            serde_json::from_value(serde_json::json!({
                "id": cnm::EndpointId::from_bytes([1; 32]),
                "network": cnm::NetworkId::from_bytes([2; 32]),
                "network_name": "app", "container": {"id": "web"}, "ifname": "eth0",
                "state": "attached", "created": "", "ports": ports, "addresses": addresses,
            }))
            .expect("an endpoint")
        };
        let lead = |ports: &[&str], addresses: &[&str]| -> Vec<String> {
            leads(&endpoint(ports, addresses))
                .iter()
                .map(|lead| format!("{} {}", lead.port, lead.to))
                .collect()
        };
        let both = ["10.0.0.2/24", "fd00::2/64"];
        assert_eq!(lead(&["8080:80"], &both), ["8080 [fd00::2]:80"]);
        assert_eq!(lead(&["8080:80"], &both[..1]), ["8080 10.0.0.2:80"]);
        assert_eq!(lead(&["[::1]:8080:80", "[::]:81:81"], &both).len(), 2);
        assert_eq!(lead(&["[::1]:8080:80"], &both[..1]), ["8080 10.0.0.2:80"]);
        assert_eq!(lead(&["8080-8081:80-81/udp"], &both[..1])[1], "8081 10.0.0.2:81");
        assert_eq!(lead(&["8000-8015:8000-8015"], &both).len(), 16);
        let none = [
            "8000-8016:8000-8016",
            "127.0.0.1:8080:80",
            "0.0.0.0:81:81",
            "[2001:db8::1]:82:82",
            "9:9/sctp",
        ];
        assert!(lead(&none, &both).is_empty());
        assert!(lead(&["[::]:81:81"], &both[..1]).is_empty());
        // Who holds a port himself holds it where he said.
        let mut held = endpoint(&["[::]:80:80", "[::1]:81:81", "82:82"], &both);
        held.ports_bound = true;
        assert_eq!(leads(&held).iter().map(|lead| lead.port).collect::<Vec<_>>(), [82]);
    }
}
