//! The resolver by itself, asked by dnsperf over loopback, beside Podman's and beside a server that
//! sends back what it got: own names, names of others that are kept and that are not, many names,
//! many networks. And what a change of one name costs, and how much memory a name takes.

use std::{
    fs,
    io::Write as _,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dns::{At, Member, Names, Options as DnsOptions, Server, Upstreams, Zone};
use nix::{
    mount::{MsFlags, mount},
    sys::signal::{Signal, kill},
    unistd::{Pid, gettid},
};

use crate::{
    Options,
    names::{spent, spent_by},
    place::wait_until,
    report::{Report, Row, Samples},
};

/// How long dnsperf asks for one sample, in seconds.
const SECONDS: &str = "1";

/// Questions that are out at a time.
const OUTSTANDING: &str = "64";

/// Where the others listen; ours has any port.
const ECHO: u16 = 5301;
const OTHER: u16 = 5302;
const UPSTREAM: u16 = 5303;
const ELSEWHERE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 53)), 53);

/// What is asked of whom.
struct Case {
    what: &'static str,
    names: usize,
    networks: usize,
    /// The questions' names, of so many.
    question: fn(usize) -> String,
    questions: usize,
    cache: usize,
}

const CASES: [Case; 6] = [
    Case {
        what: "10 own names",
        names: 10,
        networks: 1,
        question: own,
        questions: 10,
        cache: 8 << 20,
    },
    Case {
        what: "10,000 own names",
        names: 10_000,
        networks: 1,
        question: own,
        questions: 10_000,
        cache: 8 << 20,
    },
    Case {
        what: "10,000 own names on 500 networks",
        names: 10_000,
        networks: 500,
        question: own,
        questions: 10_000,
        cache: 8 << 20,
    },
    Case {
        what: "names of others, kept",
        names: 10,
        networks: 1,
        question: foreign,
        questions: 1_000,
        cache: 8 << 20,
    },
    Case {
        what: "names of others, kept, 500 networks",
        names: 10_000,
        networks: 500,
        question: foreign,
        questions: 1_000,
        cache: 8 << 20,
    },
    Case {
        what: "names of others, asked",
        names: 10,
        networks: 1,
        question: foreign,
        questions: 10_000,
        cache: 0,
    },
];

pub(crate) fn own(n: usize) -> String {
    format!("web-{n}")
}

fn foreign(n: usize) -> String {
    format!("www-{n}.example.org")
}

/// Queries in a second of processor time.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let rounds = (options.rounds / 60).max(1);
    let dir = Path::new("/run/bench/resolver");
    fs::create_dir_all(dir)?;
    let echo = echo((Ipv4Addr::LOCALHOST, ECHO).into(), |_| {})?;
    upstream((Ipv4Addr::LOCALHOST, UPSTREAM).into())?;
    upstream(ELSEWHERE)?;
    // aardvark-dns asks the servers of the host, at their port.
    let resolv_conf = dir.join("resolv.conf");
    fs::write(&resolv_conf, format!("nameserver {}\n", ELSEWHERE.ip()))?;
    let none = None::<&str>;
    mount(Some(&resolv_conf), "/etc/resolv.conf", none, MsFlags::MS_BIND, none)
        .context("cannot mount a resolv.conf of our own")?;
    for case in &CASES {
        let questions = dir.join("questions");
        let lines: String =
            (0..case.questions).map(|n| format!("{} A\n", (case.question)(n))).collect();
        fs::write(&questions, lines)?;
        let ours = Ours::start(case)?;
        let aardvark = Aardvark::start(dir, case)?;
        let [mut mine, mut bare, mut theirs] = <[Seen; 3]>::default();
        for _ in 0..rounds {
            mine.look(&questions, "127.0.0.1", ours.port, || spent(&ours.thread))?;
            bare.look(&questions, "127.0.0.1", ECHO, || spent(&echo))?;
            if let Some(aardvark) = &aardvark {
                theirs.look(&questions, "127.0.0.1", OTHER, || spent_by(aardvark.pid))?;
            }
        }
        let local = (case.question)(0) == own(0);
        let cpu = |seen: &Seen| seen.per_cpu_second.clone();
        let row = |what: &str, unit, of: fn(&Seen) -> &Samples, name, peer: &Seen| {
            let what = format!("{}, {what}", case.what);
            Row::new(what, unit, of(&mine).clone()).beside(name, of(peer).clone())
        };
        let per_cpu = "queries per CPU-second";
        let floor = row(per_cpu, "/s", |seen| &seen.per_cpu_second, "UDP echo", &bare);
        report.row(if local { floor.at_least_times(0.6) } else { floor });
        let mut others = vec![("UDP echo", &bare)];
        if aardvark.is_some() {
            let name = "aardvark-dns";
            let peer = Row::new(format!("{}, {per_cpu}", case.what), "/s", cpu(&mine));
            let peer = peer.beside(name, cpu(&theirs));
            report.row(if local { peer.at_least_times(3.0) } else { peer });
            others = vec![(name, &theirs)];
        }
        for (name, peer) in others {
            report.row(row("queries per second", "/s", |seen| &seen.per_second, name, peer));
            report.row(row("p99 at half load", "µs", |seen| &seen.late, name, peer));
        }
    }
    changes(report);
    memory(report)
}

/// What publishing a name and taking it back costs, by how many there are.
fn changes(report: &mut Report) {
    let mut first = None;
    for count in [10, 1_000, 10_000] {
        let names = Names::new();
        publish(&names, count, 1);
        let mut samples = Samples::default();
        for round in 0..2_000 {
            let start = Instant::now();
            names.publish("network-0", member(count + round));
            names.retract("network-0", &format!("endpoint-{}", count + round));
            samples.push(start.elapsed().as_secs_f64() * 1e6);
        }
        let row = Row::new(format!("a name comes and goes, {count} there"), "µs", samples.clone());
        let p50 = samples.percentile(50);
        // O(log n): at the most a few levels of a tree.
        report.row(match first {
            Some(first) => row.at_most(first * 3.0),
            None => row,
        });
        first.get_or_insert(p50);
    }
}

/// How much this process grows by a name. Of so many that what it has left over from before is
/// little of it.
fn memory(report: &mut Report) -> Result<()> {
    const COUNT: usize = 10_000;
    const SETS: usize = 20;
    let before = resident()?;
    let mut sets = Vec::new();
    for _ in 0..SETS {
        let names = Names::new();
        publish(&names, COUNT, 1);
        sets.push(names);
    }
    let bytes = resident()? - before;
    drop(sets);
    let each = bytes / 2e5;
    report.row(Row::new("memory for a name, 10,000 there", "B", each.into()).at_most(1024.0));
    Ok(())
}

fn resident() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: f64 = line.context("VmRSS")?.trim().trim_end_matches(" kB").parse()?;
    Ok(kib * 1024.0)
}

fn member(n: usize) -> Member {
    let low = u32::try_from(n).unwrap_or_default();
    Member {
        endpoint: format!("endpoint-{n}").into(),
        container: format!("container-{n}").into(),
        names: [own(n).into()].into(),
        addresses: [Ipv4Addr::from(0x0a00_0002 + low).into()].into(),
        ..Member::default()
    }
}

/// The asker is on the first network, with all names; the others have as many, once more.
fn publish(names: &Names, count: usize, networks: usize) {
    for network in 0..networks {
        let zone = Zone { name: format!("net-{network}"), forward: true, ..Zone::default() };
        names.network_up(&format!("network-{network}"), zone);
    }
    for n in 0..count {
        names.publish("network-0", member(n));
    }
    for network in 1..networks {
        names.publish(&format!("network-{network}"), member(network));
    }
}

struct Ours {
    port: u16,
    thread: String,
    _server: Server,
}

impl Ours {
    fn start(case: &Case) -> Result<Self> {
        let names = Names::new();
        publish(&names, case.names, case.networks);
        let before = threads()?;
        let upstream = SocketAddr::from((Ipv4Addr::LOCALHOST, UPSTREAM));
        let options = DnsOptions {
            upstreams: Upstreams::Fixed(vec![upstream]),
            cache: case.cache,
            ..DnsOptions::default()
        };
        let server = Server::start(names, options)?;
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = udp.local_addr()?.port();
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        server.listen(At::Network("network-0".into()), udp, tcp)?;
        let thread = threads()?.into_iter().find(|thread| !before.contains(thread));
        let thread = format!("/proc/self/task/{}/schedstat", thread.context("its thread")?);
        Ok(Self { port, thread, _server: server })
    }
}

fn threads() -> Result<Vec<String>> {
    let names = fs::read_dir("/proc/self/task")?.map(|thread| Ok(thread?.file_name()));
    let names: Result<Vec<_>> = names.collect();
    Ok(names?.into_iter().map(|name| name.to_string_lossy().into_owned()).collect())
}

/// Podman's, as netavark would start it. It leaves whoever starts it.
struct Aardvark {
    pid: u32,
}

impl Aardvark {
    /// None where it is not installed.
    fn start(dir: &Path, case: &Case) -> Result<Option<Self>> {
        // As installed, or as `make deps-test` unpacked it beside the build.
        let unpacked = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/debian");
        let places = ["", unpacked].map(|root| format!("{root}/usr/lib/podman/aardvark-dns"));
        let Some(program) = places.iter().find(|program| Path::new(program).exists()) else {
            return Ok(None);
        };
        let config = dir.join("aardvark");
        if config.exists() {
            fs::remove_dir_all(&config)?;
        }
        fs::create_dir_all(&config)?;
        let mut file = fs::File::create(config.join("bench"))?;
        writeln!(file, "127.0.0.1")?;
        for n in 0..case.names {
            let low = u32::try_from(n)?;
            writeln!(file, "{n:064x} {}  {}", Ipv4Addr::from(0x0a00_0002 + low), own(n))?;
        }
        let mut child = Command::new(program)
            .args(["-c", &config.to_string_lossy(), "-p", &OTHER.to_string(), "run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        child.wait()?;
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        wait_until("aardvark-dns answers", || {
            client.send_to(
                b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05web-1\0\0\x01\0\x01",
                ("127.0.0.1", OTHER),
            )?;
            Ok(client.recv(&mut [0; 512]).is_ok())
        })?;
        let pid = fs::read_to_string(config.join("aardvark.pid"))?;
        Ok(Some(Self { pid: pid.trim().parse()? }))
    }
}

impl Drop for Aardvark {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.pid.try_into().unwrap_or(0));
        if pid.as_raw() > 0
            && let Err(error) = kill(pid, Signal::SIGKILL)
        {
            eprintln!("aardvark-dns does not end: {error}");
        }
    }
}

/// What was seen of a server.
#[derive(Default)]
pub(crate) struct Seen {
    /// Answers for a second of its processor time, as fast as they come.
    pub(crate) per_cpu_second: Samples,
    /// Answers in a second.
    pub(crate) per_second: Samples,
    /// What one in a hundred took longer than, in microseconds, at half as many questions.
    pub(crate) late: Samples,
}

impl Seen {
    /// Has dnsperf ask a server whose processor time `spent` tells.
    pub(crate) fn look(
        &mut self,
        questions: &Path,
        address: &str,
        port: u16,
        spent: impl Fn() -> Result<f64>,
    ) -> Result<()> {
        let before = spent()?;
        let text = dnsperf(questions, address, port, &[])?;
        let took = spent()? - before;
        let figure = |what: &str| -> Result<f64> {
            let line = text.lines().find_map(|line| line.trim().strip_prefix(what));
            let figure = line.and_then(|line| line.split_whitespace().next());
            Ok(figure.with_context(|| format!("dnsperf says nothing of {what}"))?.parse()?)
        };
        let count = figure("Queries completed:")?;
        ensure!(count > 0.0, "nothing was answered: {text}");
        let rate = figure("Queries per second:")?;
        self.per_cpu_second.push(count / took);
        self.per_second.push(rate);
        let half = format!("{:.0}", (rate / 2.0).max(1.0));
        // Of each answer it then says how long that took.
        let text = dnsperf(questions, address, port, &["-v", "-Q", &half])?;
        let mut times = Samples::default();
        for line in text.lines().filter(|line| line.starts_with("> ")) {
            if let Some(seconds) = line.split_whitespace().last().and_then(|it| it.parse().ok()) {
                let seconds: f64 = seconds;
                times.push(seconds * 1e6);
            }
        }
        ensure!(times.len() > 0, "dnsperf says how long nothing took: {text}");
        self.late.push(times.percentile(99));
        Ok(())
    }
}

fn dnsperf(questions: &Path, address: &str, port: u16, more: &[&str]) -> Result<String> {
    let output = Command::new("dnsperf")
        .args(["-s", address, "-p", &port.to_string(), "-l", SECONDS, "-q", OUTSTANDING])
        .args(more)
        .arg("-d")
        .arg(questions)
        .output()
        .context("dnsperf is missing: `make deps-test`")?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Sends back what it gets, once `change` has been at it; on a thread that ends with the process.
/// Gives the path of its figures.
fn echo(at: SocketAddr, change: fn(&mut Vec<u8>)) -> Result<String> {
    let socket = UdpSocket::bind(at)?;
    let (sender, receiver) = std::sync::mpsc::channel();
    thread::spawn(move || {
        sender.send(gettid())?;
        let mut bytes = [0; 512];
        loop {
            let (length, from) = socket.recv_from(&mut bytes)?;
            let mut packet = bytes[..length].to_vec();
            change(&mut packet);
            if let Some(flags) = packet.get_mut(2) {
                *flags |= 0x80;
            }
            socket.send_to(&packet, from)?;
        }
        #[expect(unreachable_code, reason = "it says what the errors above are")]
        anyhow::Ok(())
    });
    Ok(format!("/proc/self/task/{}/schedstat", receiver.recv()?))
}

/// A server that has one address for every name, for a minute.
fn upstream(at: SocketAddr) -> Result<String> {
    echo(at, |packet| {
        if packet.len() > 12 {
            packet[7] = 1;
            packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
    })
}
