//! Traffic between two containers: a stream, round trips and small datagrams, by turns over several
//! ways between them.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd,
    process::Command,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kernel::netns::Netns;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    sys::socket::{MsgFlags, recv},
    unistd::Pid,
};

use crate::{Options, report::Samples, sandbox::Sandbox};

/// How long it is one side's turn.
const TURN: Duration = Duration::from_millis(5);

/// How many turns of each side make one run.
const TURNS: usize = 20;

/// How often the sides are made anew.
const MAKINGS: usize = 4;

/// The calling thread stays on one processor, the sender on the first and the receiver on the last:
/// where the kernel puts them otherwise decides more than all that is between them. What was before
/// comes back when this is dropped.
struct Pinned(CpuSet);

/// The processors that the benchmark may use.
static ALLOWED: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(Pid::from_raw(0)).unwrap_or_default();
    (0..CpuSet::count()).filter(|cpu| allowed.is_set(*cpu).unwrap_or(false)).collect()
});

impl Pinned {
    fn first() -> Result<Self> {
        Self::to(ALLOWED.first())
    }

    fn last() -> Result<Self> {
        Self::to(ALLOWED.last())
    }

    fn to(cpu: Option<&usize>) -> Result<Self> {
        let me = Pid::from_raw(0);
        let before = sched_getaffinity(me)?;
        let mut one = CpuSet::new();
        one.set(*cpu.context("a thread runs somewhere")?)?;
        sched_setaffinity(me, &one)?;
        Ok(Self(before))
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        if let Err(error) = sched_setaffinity(Pid::from_raw(0), &self.0) {
            eprintln!("a thread stays where it was put: {error}");
        }
    }
}

/// A command in a namespace.
pub(crate) fn run(sandbox: &Sandbox, script: &str) -> Result<()> {
    let netns = format!("--net={}", sandbox.path());
    let output = Command::new("nsenter").args([&netns, "sh", "-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// A command in the calling thread's.
pub(crate) fn run_here(script: &str) -> Result<()> {
    let output = Command::new("sh").args(["-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Whether what is bridged on a host goes through the rules for IP as well: so it does where the kernel
/// has br_netfilter, unless somebody says otherwise. Most hosts load it only for Docker or Kubernetes.
pub(crate) const BRIDGED: [(bool, &str); 2] = [(false, ""), (true, ", with br_netfilter")];

/// Sets that in the calling thread's network namespace.
pub(crate) fn filter_bridged(on: bool) -> Result<()> {
    for family in ["iptables", "ip6tables", "arptables"] {
        let path = format!("/proc/sys/net/bridge/bridge-nf-call-{family}");
        fs::write(&path, if on { "1" } else { "0" }).with_context(|| path)?;
    }
    Ok(())
}

/// Sets it on a host.
pub(crate) fn filter_bridged_on(host: &Sandbox, on: bool) -> Result<()> {
    Netns::open(&host.path())?.inside(&Netns::own()?, || filter_bridged(on))?
}

/// Two containers that reach each other, in whichever way.
pub(crate) struct Side {
    inside: [Netns; 2],
    to: IpAddr,
    /// What holds the namespaces, and those of hosts between them.
    pub(crate) sandboxes: Vec<Sandbox>,
}

impl Side {
    /// From one of these sandboxes to another, which has this address.
    pub(crate) fn new(sandboxes: Vec<Sandbox>, ends: [usize; 2], to: IpAddr) -> Result<Self> {
        let side = Self::between(ends.map(|end| sandboxes[end].path()), to)?;
        Ok(Self { sandboxes, ..side })
    }

    /// From what one path leads to to what another does, which has this address; who made them keeps them.
    pub(crate) fn between(ends: [String; 2], to: IpAddr) -> Result<Self> {
        let [from, there] = ends.map(|end| Netns::open(&end));
        Ok(Self { inside: [from?, there?], to, sandboxes: Vec::new() })
    }

    /// Both ends of a connection.
    fn connect(&self) -> Result<(TcpStream, TcpStream)> {
        let home = Netns::own()?;
        let listener = self.inside[1].inside(&home, || TcpListener::bind("0.0.0.0:0"))??;
        let at = SocketAddr::new(self.to, listener.local_addr()?.port());
        let client = self.inside[0].inside(&home, || TcpStream::connect(at))??;
        let (server, _) = listener.accept()?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok((client, server))
    }

    /// A stream, counted in gigabits.
    fn stream(&self) -> Result<Box<dyn Flow>> {
        let (client, mut server) = self.connect()?;
        let arrived = Arc::<AtomicU64>::default();
        let count = arrived.clone();
        let reader = thread::spawn(move || -> Result<()> {
            let _pinned = Pinned::last()?;
            let mut bytes = vec![0; 256 << 10];
            loop {
                match server.read(&mut bytes)? {
                    0 => return Ok(()),
                    length => count.fetch_add(length as u64, Relaxed),
                };
            }
        });
        Ok(Box::new(Stream { client, arrived, sent: 0, reader }))
    }

    /// Single bytes there and back, in thousands.
    fn echo(&self) -> Result<Box<dyn Flow>> {
        let (client, mut server) = self.connect()?;
        let echo = thread::spawn(move || -> Result<()> {
            let _pinned = Pinned::last()?;
            let mut byte = [0; 1];
            while server.read(&mut byte)? == 1 {
                server.write_all(&byte)?;
            }
            Ok(())
        });
        Ok(Box::new(Echo { client, echo }))
    }

    /// Small datagrams that arrive, in thousands.
    fn datagrams(&self) -> Result<Box<dyn Flow>> {
        let home = Netns::own()?;
        let server = self.inside[1].inside(&home, || UdpSocket::bind("0.0.0.0:0"))??;
        let client = self.inside[0].inside(&home, || UdpSocket::bind("0.0.0.0:0"))??;
        client.connect(SocketAddr::new(self.to, server.local_addr()?.port()))?;
        server.set_read_timeout(Some(Duration::from_millis(50)))?;
        let waiting = server.try_clone()?;
        let (arrived, over) = (Arc::<AtomicU64>::default(), Arc::<AtomicBool>::default());
        let (count, ended) = (arrived.clone(), over.clone());
        let reader = thread::spawn(move || -> Result<()> {
            let _pinned = Pinned::last()?;
            let mut bytes = [0; 64];
            while !ended.load(Relaxed) {
                if server.recv(&mut bytes).is_ok() {
                    count.fetch_add(1, Relaxed);
                }
            }
            Ok(())
        });
        Ok(Box::new(Datagrams { client, waiting, arrived, over, reader }))
    }
}

/// Traffic that goes on when it is this side's turn.
trait Flow {
    /// Goes on for about so long, and until all that was sent has arrived or is lost: how much arrived.
    fn turn(&mut self, length: Duration) -> Result<f64>;

    /// Ends it.
    fn end(self: Box<Self>) -> Result<()>;
}

/// A thread at the other end.
type There = JoinHandle<Result<()>>;

fn join(there: There) -> Result<()> {
    there.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

struct Stream {
    client: TcpStream,
    arrived: Arc<AtomicU64>,
    sent: u64,
    reader: There,
}

impl Flow for Stream {
    fn turn(&mut self, length: Duration) -> Result<f64> {
        let (start, before) = (Instant::now(), self.sent);
        let bytes = [7; 64 << 10];
        while start.elapsed() < length {
            self.sent += self.client.write(&bytes)? as u64;
        }
        while self.arrived.load(Relaxed) < self.sent {
            ensure!(!self.reader.is_finished(), "the reader ended");
            thread::yield_now();
        }
        Ok(((self.sent - before) * 8) as f64 / 1e9)
    }

    fn end(self: Box<Self>) -> Result<()> {
        drop(self.client);
        join(self.reader)
    }
}

struct Echo {
    client: TcpStream,
    echo: There,
}

impl Flow for Echo {
    fn turn(&mut self, length: Duration) -> Result<f64> {
        let (start, mut count, mut byte) = (Instant::now(), 0_u32, [1; 1]);
        while start.elapsed() < length {
            self.client.write_all(&byte)?;
            self.client.read_exact(&mut byte)?;
            count += 1;
        }
        Ok(f64::from(count) / 1e3)
    }

    fn end(self: Box<Self>) -> Result<()> {
        drop(self.client);
        join(self.echo)
    }
}

struct Datagrams {
    client: UdpSocket,
    /// The other end, to see whether any are still waiting there.
    waiting: UdpSocket,
    arrived: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    reader: There,
}

impl Flow for Datagrams {
    fn turn(&mut self, length: Duration) -> Result<f64> {
        let (start, before) = (Instant::now(), self.arrived.load(Relaxed));
        while start.elapsed() < length {
            self.client.send(&[7; 64])?;
        }
        let look = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
        while recv(self.waiting.as_raw_fd(), &mut [0], look).is_ok() {
            thread::yield_now();
        }
        Ok((self.arrived.load(Relaxed) - before) as f64 / 1e3)
    }

    fn end(self: Box<Self>) -> Result<()> {
        self.over.store(true, Relaxed);
        join(self.reader)
    }
}

/// What one kind of traffic came to on each side.
pub(crate) struct Measured<const N: usize> {
    /// What it is, in a few words.
    pub(crate) what: &'static str,
    /// In what it is measured; more is better.
    pub(crate) unit: &'static str,
    /// The runs of each side, in their order.
    pub(crate) samples: [Samples; N],
}

/// What is measured of a side.
type Measure = fn(&Side) -> Result<Box<dyn Flow>>;

/// Each kind of traffic on each of the sides, by turns; they are made anew now and then, with whatever
/// keeps them, since where things come to lie in memory is worth a hundredth or two as well.
pub(crate) fn measure<const N: usize, Kept>(
    options: &Options,
    mut make: impl FnMut() -> Result<([Side; N], Kept)>,
) -> Result<Vec<Measured<N>>> {
    let kinds: [(&str, &str, Measure); 3] = [
        ("one TCP stream", "Gb/s", Side::stream),
        ("round trips of a byte", "k/s", Side::echo),
        ("small datagrams", "k/s", Side::datagrams),
    ];
    let mut measured = kinds.map(|(what, unit, _)| Measured {
        what,
        unit,
        samples: std::array::from_fn(|_| Samples::default()),
    });
    for _ in 0..MAKINGS {
        let (sides, _kept) = make()?;
        for (measured, (.., of)) in measured.iter_mut().zip(kinds) {
            for round in 0..options.rounds.div_ceil(5 * MAKINGS) {
                let rates = by_turns(&sides, of, round)?;
                measured
                    .samples
                    .iter_mut()
                    .zip(rates)
                    .for_each(|(samples, rate)| samples.push(rate));
            }
        }
    }
    Ok(measured.into())
}

/// New traffic of one kind on each of the sides: how much arrives in a second. Turns are so short that
/// what else the machine does meets all sides alike.
fn by_turns<const N: usize>(sides: &[Side; N], of: Measure, round: usize) -> Result<[f64; N]> {
    let _pinned = Pinned::first()?;
    let mut flows = sides.iter().map(of).collect::<Result<Vec<_>>>()?;
    let (mut amounts, mut times) = ([0.0; N], [0.0; N]);
    for turn in 0..=TURNS {
        for nth in 0..N {
            let who = (nth + turn + round) % N;
            let start = Instant::now();
            let amount = flows[who].turn(TURN)?;
            // The first finds its way, and does not count.
            if turn > 0 {
                amounts[who] += amount;
                times[who] += start.elapsed().as_secs_f64();
            }
        }
    }
    flows.into_iter().try_for_each(|flow| flow.end())?;
    Ok(std::array::from_fn(|who| amounts[who] / times[who]))
}
