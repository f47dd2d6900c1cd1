//! The resolver by itself, asked by dnsperf over loopback, beside Podman's and beside a server that
//! sends back what it got: own names, names of others that are kept and that are not, many names,
//! many networks. And what a change of one name costs, and how much memory a name takes.

use std::{
    fs,
    io::Write as _,
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use dns::{At, Member, Names, Options as DnsOptions, Server, Upstreams, Zone};
use nix::unistd::gettid;

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

fn own(n: usize) -> String {
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
    let echo = echo(ECHO, |_| {})?;
    upstream(UPSTREAM)?;
    for case in &CASES {
        let questions = dir.join("questions");
        let lines: String =
            (0..case.questions).map(|n| format!("{} A\n", (case.question)(n))).collect();
        fs::write(&questions, lines)?;
        let ours = Ours::start(case)?;
        let aardvark = Aardvark::start(dir, case)?;
        let (mut mine, mut bare, mut theirs) =
            (Samples::default(), Samples::default(), Samples::default());
        for _ in 0..rounds {
            mine.push(ask(&questions, ours.port, || spent(&ours.thread))?);
            bare.push(ask(&questions, ECHO, || spent(&echo))?);
            if let Some(aardvark) = &aardvark {
                theirs.push(ask(&questions, OTHER, || spent_by(aardvark.0.id()))?);
            }
        }
        let row = |name, samples| {
            Row::new(format!("{}, queries per CPU-second", case.what), "/s", mine.clone())
                .beside(name, samples)
        };
        let local = case.cache > 0 && (case.question)(0) == own(0);
        let floor = row("UDP echo", bare);
        report.row(if local { floor.at_least_times(0.6) } else { floor });
        if aardvark.is_some() {
            let peer = row("aardvark-dns", theirs);
            report.row(if local { peer.at_least_times(3.0) } else { peer });
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

/// How much this process grows by a name.
fn memory(report: &mut Report) -> Result<()> {
    const COUNT: usize = 10_000;
    let before = resident()?;
    let names = Names::new();
    publish(&names, COUNT, 1);
    let bytes = resident()? - before;
    drop(names);
    let each = bytes / 1e4;
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
        endpoint: format!("endpoint-{n}"),
        container: format!("container-{n}"),
        names: vec![own(n)],
        addresses: vec![Ipv4Addr::from(0x0a00_0002 + low).into()],
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

/// Podman's, as netavark would start it.
struct Aardvark(Child);

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
        writeln!(file, "127.0.0.1 127.0.0.1:{UPSTREAM}")?;
        for n in 0..case.names {
            let low = u32::try_from(n)?;
            writeln!(file, "{n:064x} {}  {}", Ipv4Addr::from(0x0a00_0002 + low), own(n))?;
        }
        let child = Command::new(program)
            .args(["-c", &config.to_string_lossy(), "-p", &OTHER.to_string(), "run"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let started = Self(child);
        let client = UdpSocket::bind("127.0.0.1:0")?;
        client.set_read_timeout(Some(Duration::from_millis(50)))?;
        wait_until("aardvark-dns answers", || {
            client.send_to(
                b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x05web-1\0\0\x01\0\x01",
                ("127.0.0.1", OTHER),
            )?;
            Ok(client.recv(&mut [0; 512]).is_ok())
        })?;
        Ok(Some(started))
    }
}

impl Drop for Aardvark {
    fn drop(&mut self) {
        if let Err(error) = self.0.kill().and_then(|()| self.0.wait()) {
            eprintln!("aardvark-dns does not end: {error}");
        }
    }
}

/// Has dnsperf ask a server, and gives how many answers a second of its processor time made.
fn ask(questions: &Path, port: u16, spent: impl Fn() -> Result<f64>) -> Result<f64> {
    let before = spent()?;
    let output = Command::new("dnsperf")
        .args(["-s", "127.0.0.1", "-p", &port.to_string(), "-l", SECONDS, "-q", OUTSTANDING, "-d"])
        .arg(questions)
        .output()
        .context("dnsperf is missing: `make deps-test`")?;
    let took = spent()? - before;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.trim().strip_prefix("Queries completed:"));
    let count = line.and_then(|line| line.split_whitespace().next()).context("dnsperf's count")?;
    let count: f64 = count.parse()?;
    ensure!(count > 0.0, "nothing was answered: {text}");
    Ok(count / took)
}

/// Sends back what it gets, once `change` has been at it; on a thread that ends with the process.
/// Gives the path of its figures.
fn echo(port: u16, change: fn(&mut Vec<u8>)) -> Result<String> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port))?;
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
fn upstream(port: u16) -> Result<String> {
    echo(port, |packet| {
        if packet.len() > 12 {
            packet[7] = 1;
            packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1]);
        }
    })
}
