//! Local names: how many questions netd answers in a second of processor time, beside a server that
//! sends back what it got; and how long none is answered when netd was killed and is started again.
//! The questions come from a container, by way of its bridge.

use std::{
    fs,
    net::{SocketAddr, UdpSocket},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use kernel::netns::Netns;
use nix::unistd::gettid;

use crate::{
    Options, daemon,
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    world::NETWORK,
};

/// How many questions are asked before the answers are read.
const WINDOW: usize = 64;

/// How many windows are one sample.
const WINDOWS: usize = 100;

/// What has the echo server end.
const END: &[u8] = b"end";

/// Questions of type A for a name that exists.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let mut daemon = daemon::Daemon::start("names")?;
    daemon.create(NETWORK, 79)?;
    let sandboxes = Sandbox::make(100)?;
    for (n, sandbox) in sandboxes.iter().enumerate() {
        daemon::attach(&mut daemon.client, NETWORK, n, sandbox, Vec::new())?;
    }
    let home = Netns::own()?;
    let inside = Netns::open(&sandboxes[0].path())?;
    let client = inside.inside(&home, || UdpSocket::bind("0.0.0.0:0"))??;
    client.set_read_timeout(Some(Duration::from_secs(2)))?;

    let resolver = SocketAddr::from(([10, 79, 0, 1], 53));
    let echo = UdpSocket::bind("10.79.0.1:0")?;
    let echoing = echo.local_addr()?;
    let (sender, receiver) = mpsc::channel();
    let server = thread::spawn(move || {
        sender.send(gettid())?;
        send_back(&echo)
    });
    let echo_thread = format!("/proc/self/task/{}/schedstat", receiver.recv()?);

    let question = question("web-42");
    let answer = ask(&client, resolver, &question)?;
    ensure!(answer.get(6..8) == Some(&[0, 1]), "web-42 has not one address: {answer:?}");
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    for _ in 0..options.rounds / 10 {
        let before = spent_by(daemon.pid())?;
        flood(&client, resolver, &question)?;
        ours.push(rate(before, spent_by(daemon.pid())?));
        let before = spent(&echo_thread)?;
        flood(&client, echoing, &question)?;
        bare.push(rate(before, spent(&echo_thread)?));
    }
    client.send_to(END, echoing)?;
    server.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    report.row(
        Row::new("names, queries per CPU-second", "/s", ours)
            .beside("UDP echo", bare)
            .at_least_times(0.6),
    );
    Ok(())
}

/// From `kill -9` to the first answer of the netd after it, with many endpoints, started at once by
/// nobody who would keep its sockets.
pub(crate) fn restart(_: &Options, report: &mut Report) -> Result<()> {
    const ENDPOINTS: usize = 1000;
    const KILLS: usize = 20;
    let mut daemon = daemon::Daemon::start("names-restart")?;
    daemon.create(NETWORK, 79)?;
    let sandboxes = Sandbox::make(ENDPOINTS)?;
    for (n, sandbox) in sandboxes.iter().enumerate() {
        daemon::attach(&mut daemon.client, NETWORK, n, sandbox, Vec::new())?;
    }
    let inside = Netns::open(&sandboxes[0].path())?;
    let client = inside.inside(&Netns::own()?, || UdpSocket::bind("0.0.0.0:0"))??;
    // Asked again as soon as it may have been lost.
    client.set_read_timeout(Some(Duration::from_millis(1)))?;
    let resolver = SocketAddr::from(([10, 79, 0, 1], 53));
    let question = question(&daemon::name_of(ENDPOINTS - 1));
    let (answered, answers) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let asking = thread::spawn(move || -> Result<()> {
        let mut bytes = [0; 512];
        while stopped.try_recv() == Err(mpsc::TryRecvError::Empty) {
            client.send_to(&question, resolver)?;
            if let Ok(length) = client.recv(&mut bytes) {
                // An answer is one that says where the name is.
                ensure!(length > question.len() && bytes[7] == 1, "{:?}", &bytes[..length]);
                answered.send(Instant::now())?;
            }
        }
        Ok(())
    });
    let mut times = Samples::default();
    for _ in 0..KILLS {
        answers.recv_timeout(Duration::from_secs(5)).context("it does not answer")?;
        let start = Instant::now();
        daemon.kill()?;
        let dead = Instant::now();
        daemon.revive()?;
        let next = loop {
            let at = answers.recv_timeout(Duration::from_secs(5)).context("no answer any more")?;
            if at > dead {
                break at;
            }
        };
        times.add(next - start);
        daemon.settled()?;
    }
    drop(stop);
    asking.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
    report.row(
        Row::new("names answered again after kill -9, 1000 endpoints", "ms", times).at_most(200.0),
    );
    Ok(())
}

fn send_back(socket: &UdpSocket) -> Result<()> {
    let mut bytes = [0; 512];
    loop {
        let (length, from) = socket.recv_from(&mut bytes)?;
        if &bytes[..length] == END {
            return Ok(());
        }
        socket.send_to(&bytes[..length], from)?;
    }
}

fn ask(client: &UdpSocket, server: SocketAddr, question: &[u8]) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 512];
    client.send_to(question, server)?;
    let length = client.recv(&mut bytes).with_context(|| format!("no answer from {server}"))?;
    bytes.truncate(length);
    Ok(bytes)
}

fn flood(client: &UdpSocket, server: SocketAddr, question: &[u8]) -> Result<()> {
    let mut bytes = [0; 512];
    for _ in 0..WINDOWS {
        for _ in 0..WINDOW {
            client.send_to(question, server)?;
        }
        for _ in 0..WINDOW {
            client.recv(&mut bytes).with_context(|| format!("no answer from {server}"))?;
        }
    }
    Ok(())
}

/// Queries in a second of processor time.
fn rate(before: f64, after: f64) -> f64 {
    f64::from(u32::try_from(WINDOW * WINDOWS).unwrap_or(u32::MAX)) / (after - before)
}

/// Seconds that a thread has run (the first number of its `schedstat`, proc(5)).
pub(crate) fn spent(path: &str) -> Result<f64> {
    let text = fs::read_to_string(path)?;
    let nanoseconds: f64 = text.split(' ').next().unwrap_or_default().parse()?;
    Ok(nanoseconds / 1e9)
}

/// Seconds that the threads of a process have run.
pub(crate) fn spent_by(pid: u32) -> Result<f64> {
    let mut sum = 0.0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        sum += spent(&thread?.path().join("schedstat").to_string_lossy())?;
    }
    Ok(sum)
}

/// A question for the IPv4 addresses of a name (RFC 1035, section 4).
pub(crate) fn question(name: &str) -> Vec<u8> {
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).unwrap_or(u8::MAX));
        bytes.extend(label.as_bytes());
    }
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}
