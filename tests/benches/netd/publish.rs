//! What published ports cost: those who come through one, beside none at all and beside a rule for
//! each of them as others lay them out, and the attach that publishes many in a row.

use std::{
    io::Write as _,
    net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cnm::endpoint::Port;
use kernel::netns::Netns;
use socket2::SockRef;

use crate::{
    Options,
    daemon::{self, Daemon},
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    world::NETWORK,
};

/// How many connections are made at a time, one after the other.
const RUN: usize = 100;
/// The port of the host that leads to the server's port 80.
const PUBLISHED: u16 = 8080;
/// From where on others are published.
const OTHERS: usize = 20_000;

/// A host, a neighbour of it on a LAN, and a container that serves.
struct Side {
    lan: Netns,
    server: SocketAddr,
    daemon: Option<Daemon>,
    times: Samples,
    rate: Samples,
    /// What holds the namespaces.
    sandboxes: Vec<Sandbox>,
}

/// A command in a namespace.
fn run(sandbox: &Sandbox, script: &str) -> Result<()> {
    let netns = format!("--net={}", sandbox.path());
    let output = Command::new("nsenter").args([&netns, "sh", "-ec", script]).output()?;
    ensure!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

fn inside<T>(sandbox: &Sandbox, act: impl FnOnce() -> T) -> Result<T> {
    Ok(Netns::open(&sandbox.path())?.inside(&Netns::own()?, act)?)
}

/// Takes whoever comes to port 80, for as long as the process lives.
fn serve(container: &Sandbox) -> Result<()> {
    let at = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 80));
    let listener = inside(container, || TcpListener::bind(at))??;
    thread::spawn(move || while listener.accept().is_ok() {});
    Ok(())
}

impl Side {
    fn new(host: Sandbox, server: SocketAddr) -> Result<Self> {
        let lan = Sandbox::make(1)?.pop().context("one was asked for")?;
        let there = lan.path();
        run(
            &host,
            &format!(
                "ip link set lo up; ip link add lan0 type veth peer name eth0 netns {there}; \
                 ip link set lan0 up; ip address add 192.0.2.1/24 dev lan0"
            ),
        )?;
        run(
            &lan,
            "ip link set eth0 up; ip address add 192.0.2.2/24 dev eth0; \
             ip route add default via 192.0.2.1",
        )?;
        Ok(Self {
            lan: Netns::open(&lan.path())?,
            server,
            daemon: None,
            times: Samples::default(),
            rate: Samples::default(),
            sandboxes: vec![host, lan],
        })
    }

    /// A host on which netd has published so many ports.
    fn ours(count: usize) -> Result<Self> {
        let host = Sandbox::make(1)?.pop().context("one was asked for")?;
        let mut side = Self::new(host, SocketAddr::from(([192, 0, 2, 1], PUBLISHED)))?;
        let mut daemon =
            inside(&side.sandboxes[0], || Daemon::start(&format!("publish-{count}")))??;
        daemon.create(NETWORK, 79)?;
        let mut others = count.saturating_sub(1);
        let mut n = 0;
        while others > 0 {
            let some = others.min(1000);
            others -= some;
            let port = |k| format!("{}:80", OTHERS + others + k).parse::<Port>();
            let ports = (0..some).map(port).collect::<Result<_, _>>()?;
            n += 1;
            side.attach(&mut daemon, n, ports)?;
        }
        side.attach(&mut daemon, n + 1, vec![format!("{PUBLISHED}:80").parse()?])?;
        serve(side.sandboxes.last().context("it was just attached")?)?;
        side.daemon = Some(daemon);
        Ok(side)
    }

    fn attach(&mut self, daemon: &mut Daemon, n: usize, ports: Vec<Port>) -> Result<()> {
        let sandbox = Sandbox::make(1)?.pop().context("one was asked for")?;
        daemon::attach(&mut daemon.client, NETWORK, n, &sandbox, ports)?;
        self.sandboxes.push(sandbox);
        Ok(())
    }

    /// A host that does nothing but forward, with these rules.
    fn bare(server: SocketAddr, rules: &str) -> Result<Self> {
        let host = Sandbox::make(1)?.pop().context("one was asked for")?;
        let container = Sandbox::make(1)?.pop().context("one was asked for")?;
        let mut side = Self::new(host, server)?;
        let there = container.path();
        run(
            &side.sandboxes[0],
            &format!(
                "echo 1 >/proc/sys/net/ipv4/ip_forward; ip link add br0 type bridge; \
                 ip link set br0 up; ip address add 10.79.0.1/16 dev br0; \
                 ip link add web0 master br0 type veth peer name eth0 netns {there}; \
                 ip link set web0 up"
            ),
        )?;
        run(
            &container,
            "ip link set eth0 up; ip address add 10.79.0.2/16 dev eth0; \
             ip route add default via 10.79.0.1",
        )?;
        serve(&container)?;
        if !rules.is_empty() {
            let host = &side.sandboxes[0];
            let mut nft = inside(host, || {
                Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()
            })??;
            nft.stdin.take().context("it is piped")?.write_all(rules.as_bytes())?;
            ensure!(nft.wait()?.success(), "nft refuses the rules");
        }
        side.sandboxes.push(container);
        Ok(side)
    }

    /// Makes connections, and breaks each off at once.
    fn connect(&mut self) -> Result<()> {
        let (server, times) = (self.server, &mut self.times);
        let rate = self.lan.inside(&Netns::own()?, || -> Result<f64> {
            let began = Instant::now();
            for _ in 0..RUN {
                let start = Instant::now();
                let stream = TcpStream::connect_timeout(&server, Duration::from_secs(5))?;
                times.push(start.elapsed().as_secs_f64() * 1e6);
                // Neither side is to wait for the end of it.
                SockRef::from(&stream).set_linger(Some(Duration::ZERO))?;
            }
            Ok(RUN as f64 / began.elapsed().as_secs_f64())
        })??;
        self.rate.push(rate);
        Ok(())
    }
}

/// As Docker and netavark lay them out: a rule for each port, one after the other.
fn linear(count: usize) -> String {
    let mut rules = "table ip linear { chain ports {\n".to_owned();
    for n in 0..count - 1 {
        rules += &format!("tcp dport {} counter dnat to 10.79.0.2:80\n", OTHERS + n);
    }
    rules += &format!("tcp dport {PUBLISHED} counter dnat to 10.79.0.2:80\n}}\n");
    rules
        + "chain prerouting {\ntype nat hook prerouting priority dstnat\n\
           fib daddr type local jump ports\n}\n}\n"
}

/// Those who come through a published port.
pub(crate) fn connections(options: &Options, report: &mut Report) -> Result<()> {
    let direct = SocketAddr::from(([10, 79, 0, 2], 80));
    let published = SocketAddr::from(([192, 0, 2, 1], PUBLISHED));
    let mut sides = [
        Side::bare(direct, "")?,
        Side::ours(1)?,
        Side::ours(1000)?,
        Side::ours(10_000)?,
        Side::bare(published, &linear(10_000))?,
    ];
    for round in 0..options.rounds / 5 + 1 {
        for side in &mut sides {
            side.connect()?;
        }
        // The first is for neighbours and caches.
        if round == 0 {
            for side in &mut sides {
                (side.times, side.rate) = Default::default();
            }
        }
    }
    let [none, one, thousand, all, rules] = &sides;
    let what = |count| format!("new connection through 1 of {count} published ports");
    let time = |count, side: &Side| Row::new(what(count), "µs", side.times.clone());
    report.row(time("1", one).beside("no publishing", none.times.clone()));
    for (count, side) in [("1,000", thousand), ("10,000", all)] {
        report.row(time(count, side).beside("1 of 1", one.times.clone()).at_most_times(1.05));
    }
    report.row(time("10,000", all).beside("a rule for each port", rules.times.clone()));
    let rate = |count, side: &Side| Row::new(what(count), "/s", side.rate.clone());
    report.row(rate("1", one).beside("no publishing", none.rate.clone()));
    report.row(rate("10,000", all).beside("1 of 1", one.rate.clone()).at_least_times(0.95));
    report.row(rate("10,000", all).beside("a rule for each port", rules.rate.clone()));
    Ok(())
}

/// An attach that publishes a thousand ports in a row, beside one that publishes one.
pub(crate) fn rows(options: &Options, report: &mut Report) -> Result<()> {
    let mut daemon = Daemon::start("rows")?;
    daemon.create(NETWORK, 79)?;
    let wanted: [Port; 3] = [
        "8080:80".parse()?,
        "20000-20999:20000-20999".parse()?,
        "20000-20999:30000-30999".parse()?,
    ];
    // As long as one is published the relay stays: it would start and end each time.
    let other = Sandbox::make(1)?;
    daemon::attach(&mut daemon.client, NETWORK, OTHERS, &other[0], vec!["8081:80".parse()?])?;
    let mut attaches = [(); 3].map(|()| Samples::default());
    let mut detaches = attaches.clone();
    for n in 0..options.rounds / 3 + 1 {
        for (which, port) in wanted.iter().enumerate() {
            let sandbox = Sandbox::make(1)?;
            let number = 3 * n + which;
            let client = &mut daemon.client;
            let (took, _) = daemon::attach(client, NETWORK, number, &sandbox[0], vec![*port])?;
            attaches[which].add(took);
            detaches[which].add(daemon::detach(client, NETWORK, number)?);
        }
    }
    let [one, straight, shifted] = attaches;
    let beside = "one port";
    report.row(
        Row::new("attach with 1,000 ports in a row", "ms", straight)
            .beside(beside, one.clone())
            .at_most_times(1.05),
    );
    report.row(
        Row::new("attach with 1,000 ports in a row, shifted", "ms", shifted)
            .beside(beside, one)
            .at_most(2.0),
    );
    let [one, straight, shifted] = detaches;
    report.row(
        Row::new("detach with 1,000 ports in a row", "ms", straight).beside(beside, one.clone()),
    );
    report.row(
        Row::new("detach with 1,000 ports in a row, shifted", "ms", shifted).beside(beside, one),
    );
    Ok(())
}
