//! Containers that ask: whether a name resolves, whether its address answers, and how much of a
//! stream arrives.

use std::{
    io::ErrorKind,
    net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use kernel::{links, neighbours, netlink::Batch, netns::Netns};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::PATIENCE;
use crate::{names::question, place::pause, sandbox::Sandbox};

/// How often what was not answered is asked again.
const AGAIN: Duration = Duration::from_millis(2);

/// A container, and a socket in it.
pub(crate) struct Observer {
    socket: UdpSocket,
    address: IpAddr,
    resolver: SocketAddr,
    sandbox: Sandbox,
    /// Its link to the network, by index.
    link: u32,
}

/// A socket in a container, of a port that the kernel chose.
fn bind(sandbox: &Sandbox) -> Result<UdpSocket> {
    let socket = Netns::open(&sandbox.path())?
        .inside(&Netns::own()?, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))??;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// What came, if something did.
fn receive(socket: &UdpSocket, bytes: &mut [u8]) -> Result<Option<(usize, SocketAddr)>> {
    match socket.recv_from(bytes) {
        Ok(received) => Ok(Some(received)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends; that nobody is there yet is no failure.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) {
    // A host that cannot be found yet is reported with the next send.
    drop(socket.send_to(bytes, to));
}

/// The IPv4 address that a resolver answered with (RFC 1035, section 4.1: the last four bytes of an
/// answer to a question of ours).
fn answered(answer: &[u8]) -> Option<IpAddr> {
    let count = u16::from_be_bytes(answer.get(6..8)?.try_into().ok()?);
    let last: [u8; 4] = answer.get(answer.len() - 4..)?.try_into().ok()?;
    (count > 0).then(|| last.into())
}

impl Observer {
    pub(crate) fn inside(mut sandbox: Sandbox, address: IpAddr, gateway: IpAddr) -> Result<Self> {
        let socket = bind(&sandbox)?;
        let link = links::by_name(&mut sandbox.inside, "eth0")?.context("it is on the network")?;
        Ok(Self { socket, address, resolver: (gateway, 53).into(), sandbox, link: link.index })
    }

    /// Forgets who has an address. The kernel keeps some thousand neighbours for the whole machine
    /// (`gc_thresh3`, which a namespace cannot set), and looks for those that nobody needs every
    /// five seconds only; all hosts and containers are on one machine here.
    pub(crate) fn forget(&mut self, address: IpAddr) -> Result<()> {
        let mut batch = Batch::new();
        neighbours::delete(&mut batch, self.link, address);
        self.sandbox.inside.run(batch)?;
        Ok(())
    }

    fn ask(&self, name: &str) {
        send(&self.socket, &question(name), self.resolver);
    }

    /// Waits until a name resolves, or does not any more.
    pub(crate) fn until_resolved(&self, name: &str, there: bool) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let mut bytes = [0; 512];
        while Instant::now() < deadline {
            self.ask(name);
            readable(&[&self.socket], AGAIN)?;
            while let Some((length, from)) = receive(&self.socket, &mut bytes)? {
                let answer = &bytes[..length];
                let ours = from == self.resolver && answer[12..].starts_with(&question(name)[12..]);
                if ours && answered(answer).is_some() == there {
                    return Ok(());
                }
            }
            pause(1);
        }
        bail!("not within a minute: {name} resolves: {there}");
    }
}

/// Waits until one of them can be read, so long at most.
fn readable(sockets: &[&UdpSocket], most: Duration) -> Result<()> {
    let mut wanted: Vec<_> =
        sockets.iter().map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN)).collect();
    poll(&mut wanted, PollTimeout::try_from(most)?)?;
    Ok(())
}

/// Who sends back what he gets.
pub(crate) struct Echo {
    socket: UdpSocket,
    port: u16,
}

impl Echo {
    pub(crate) fn inside(sandbox: &Sandbox) -> Result<Self> {
        let socket = bind(sandbox)?;
        let port = socket.local_addr()?.port();
        Ok(Self { socket, port })
    }

    fn send_back(&self) -> Result<()> {
        let mut bytes = [0; 64];
        while let Some((length, from)) = receive(&self.socket, &mut bytes)? {
            send(&self.socket, &bytes[..length], from);
        }
        Ok(())
    }
}

/// How long until each observer has resolved `name` and had an echo from its address.
pub(crate) fn until_reached(observers: &[Observer], echo: &Echo, name: &str) -> Result<Duration> {
    const PROBE: &[u8] = b"are you there?";
    let start = Instant::now();
    let mut found: Vec<Option<SocketAddr>> = vec![None; observers.len()];
    let mut reached = vec![false; observers.len()];
    let mut sockets: Vec<_> = observers.iter().map(|observer| &observer.socket).collect();
    sockets.push(&echo.socket);
    let mut ask = start;
    let asked = question(name);
    let mut bytes = [0; 512];
    while reached.contains(&false) {
        ensure!(start.elapsed() < PATIENCE, "{name}: found {found:?}, reached {reached:?}");
        let now = Instant::now();
        if now >= ask {
            ask = now + AGAIN;
            for ((observer, found), _) in
                observers.iter().zip(&found).zip(&reached).filter(|(_, reached)| !**reached)
            {
                match found {
                    Some(address) => send(&observer.socket, PROBE, *address),
                    None => observer.ask(name),
                }
            }
        }
        readable(&sockets, ask.saturating_duration_since(now).max(Duration::from_millis(1)))?;
        echo.send_back()?;
        for (n, observer) in observers.iter().enumerate() {
            while let Some((length, from)) = receive(&observer.socket, &mut bytes)? {
                let answer = &bytes[..length];
                // What was asked last time may be answered twice, and late.
                let ours = answer.get(12..).is_some_and(|rest| rest.starts_with(&asked[12..]));
                if from != observer.resolver {
                    reached[n] |= found[n] == Some(from);
                } else if found[n].is_none()
                    && ours
                    && let Some(address) = answered(answer)
                {
                    let address = (address, echo.port).into();
                    found[n] = Some(address);
                    send(&observer.socket, PROBE, address);
                }
            }
        }
    }
    Ok(start.elapsed())
}

/// Datagrams from one container to another, one each millisecond.
pub(crate) struct Stream {
    ended: Arc<AtomicBool>,
    thread: JoinHandle<Result<(u32, u32)>>,
}

impl Stream {
    pub(crate) fn start(from: &Observer, to: &Observer) -> Result<Self> {
        let (sender, receiver) = (bind(&from.sandbox)?, bind(&to.sandbox)?);
        let there = SocketAddr::new(to.address, receiver.local_addr()?.port());
        let ended = Arc::new(AtomicBool::new(false));
        let until = ended.clone();
        let thread = thread::spawn(move || {
            let (mut sent, mut arrived, mut bytes) = (0_u32, 0, [0; 64]);
            let mut last = None;
            loop {
                while receive(&receiver, &mut bytes)?.is_some() {
                    arrived += 1;
                }
                match last {
                    None if until.load(Ordering::Relaxed) => last = Some(Instant::now()),
                    None => {
                        sender.send_to(&sent.to_be_bytes(), there)?;
                        sent += 1;
                    }
                    // What is on its way may arrive.
                    Some(last) if last.elapsed() > Duration::from_millis(100) => break,
                    Some(_) => {}
                }
                pause(1);
            }
            Ok((sent, arrived))
        });
        Ok(Self { ended, thread })
    }

    /// How many were sent, and how many of them arrived.
    pub(crate) fn end(self) -> Result<(u32, u32)> {
        self.ended.store(true, Ordering::Relaxed);
        let counted = self.thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        counted.context("a datagram could not be sent")
    }
}
