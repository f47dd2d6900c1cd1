//! Traffic between two containers: a stream, round trips and small datagrams, by turns over several
//! ways between them.

use std::{
    fs,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kernel::netns::Netns;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

use crate::{Options, report::Samples, sandbox::Sandbox};

/// How long one run takes: many short ones, by turns, meet the same weather.
const RUN: Duration = Duration::from_millis(100);

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
        let [from, there] = ends.map(|end| Netns::open(&sandboxes[end].path()));
        Ok(Self { inside: [from?, there?], to, sandboxes })
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

    /// Gigabits in a second.
    fn throughput(&self) -> Result<f64> {
        let (mut client, mut server) = self.connect()?;
        let _pinned = Pinned::first()?;
        let start = Instant::now();
        let reader = thread::spawn(move || -> Result<f64> {
            let _pinned = Pinned::last()?;
            let (mut bytes, mut total) = (vec![0; 256 << 10], 0_u32);
            let mut megabytes = 0.0;
            loop {
                match server.read(&mut bytes)? {
                    0 => break,
                    length => total += u32::try_from(length)?,
                }
                if total > 1 << 24 {
                    megabytes += f64::from(total) / 1e6;
                    total = 0;
                }
            }
            Ok((megabytes + f64::from(total) / 1e6) * 8.0 / 1e3 / start.elapsed().as_secs_f64())
        });
        let bytes = vec![7; 256 << 10];
        while start.elapsed() < RUN {
            client.write_all(&bytes)?;
        }
        drop(client);
        reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Thousands of single bytes there and back in a second.
    fn round_trips(&self) -> Result<f64> {
        let (mut client, mut server) = self.connect()?;
        let _pinned = Pinned::first()?;
        let echo = thread::spawn(move || {
            let _pinned = Pinned::last()?;
            let mut byte = [0; 1];
            while server.read(&mut byte)? == 1 {
                server.write_all(&byte)?;
            }
            anyhow::Ok(())
        });
        let (start, mut count, mut byte) = (Instant::now(), 0_u32, [1; 1]);
        while start.elapsed() < RUN {
            client.write_all(&byte)?;
            client.read_exact(&mut byte)?;
            count += 1;
        }
        let rate = f64::from(count) / 1e3 / start.elapsed().as_secs_f64();
        drop(client);
        echo.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(rate)
    }

    /// Thousands of small datagrams that arrive in a second.
    fn packets(&self) -> Result<f64> {
        let home = Netns::own()?;
        let server = self.inside[1].inside(&home, || UdpSocket::bind("0.0.0.0:0"))??;
        let client = self.inside[0].inside(&home, || UdpSocket::bind("0.0.0.0:0"))??;
        client.connect(SocketAddr::new(self.to, server.local_addr()?.port()))?;
        server.set_read_timeout(Some(Duration::from_millis(50)))?;
        let _pinned = Pinned::first()?;
        let counter = thread::spawn(move || {
            let _pinned = Pinned::last()?;
            let (mut count, mut bytes) = (0_u32, [0; 64]);
            while server.recv(&mut bytes).is_ok() {
                count += 1;
            }
            anyhow::Ok(count)
        });
        let start = Instant::now();
        while start.elapsed() < RUN {
            client.send(&[7; 64])?;
        }
        let took = start.elapsed().as_secs_f64();
        let count = counter.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(f64::from(count) / 1e3 / took)
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
type Measure = fn(&Side) -> Result<f64>;

/// Each kind of traffic on each of the sides, by turns.
pub(crate) fn measure<const N: usize>(
    options: &Options,
    sides: [&Side; N],
) -> Result<Vec<Measured<N>>> {
    let kinds: [(&str, &str, Measure); 3] = [
        ("one TCP stream", "Gb/s", Side::throughput),
        ("round trips of a byte", "k/s", Side::round_trips),
        ("small datagrams", "k/s", Side::packets),
    ];
    let mut measured = Vec::new();
    for (what, unit, of) in kinds {
        let mut samples: [Samples; N] = std::array::from_fn(|_| Samples::default());
        // The first of each finds its way, and does not count.
        for round in 0..=options.rounds.div_ceil(5) {
            for turn in 0..N {
                let who = (turn + round) % N;
                let value = of(sides[who])?;
                if round > 0 {
                    samples[who].push(value);
                }
            }
        }
        measured.push(Measured { what, unit, samples });
    }
    Ok(measured)
}
