//! A network namespace to put on networks, and what can be seen and done inside.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    process, thread,
    time::{Duration, Instant},
};

use nix::{
    ifaddrs::getifaddrs,
    net::if_::{InterfaceFlags, if_nametoindex},
    sched::{CloneFlags, setns, unshare},
};

use super::rtnl;

/// How long something may take that should come to be.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long something is tried that should not come to be.
const IMPATIENCE: Duration = Duration::from_millis(300);

/// A network namespace. It ends when this is dropped, if nobody else is in it.
#[derive(Debug)]
pub(crate) struct Sandbox {
    file: File,
}

/// A link as it is seen inside.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) index: u32,
    pub(crate) up: bool,
    pub(crate) mac: Option<[u8; 6]>,
    /// Address and mask.
    pub(crate) addresses: Vec<(IpAddr, Option<IpAddr>)>,
    /// Where the kernel tells: only one with IPv6 does without `/sys`.
    pub(crate) mtu: Option<u32>,
}

impl Sandbox {
    /// A new one, with nothing in it but `lo`, down.
    pub(crate) fn new() -> io::Result<Self> {
        let made = thread::spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        });
        let file = made.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))?;
        Ok(Self { file })
    }

    /// The calling thread's own.
    pub(crate) fn own() -> io::Result<Self> {
        File::open("/proc/thread-self/ns/net").map(|file| Self { file })
    }

    /// A path to it, as netd gives drivers one.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd())
    }

    /// Does something inside, on a thread of its own.
    #[expect(clippy::disallowed_methods, reason = "on a thread that ends with its work")]
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T, String> {
        thread::scope(|scope| {
            let acting = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)?;
                nix::Result::Ok(act())
            });
            match acting.join() {
                Ok(Ok(done)) => Ok(done),
                Ok(Err(errno)) => Err(format!("cannot enter a network namespace: {errno}")),
                Err(_) => Err("a thread panicked".to_owned()),
            }
        })
    }

    /// Its links, by name.
    pub(crate) fn links(&self) -> Result<BTreeMap<String, Seen>, String> {
        self.inside(|| {
            let mut links = BTreeMap::<String, Seen>::new();
            for entry in getifaddrs()? {
                let name = entry.interface_name;
                let seen = links.entry(name.clone()).or_default();
                seen.up = entry.flags.contains(InterfaceFlags::IFF_UP);
                seen.index = if_nametoindex(name.as_str()).unwrap_or(0);
                let path = format!("/proc/sys/net/ipv6/conf/{name}/mtu");
                seen.mtu = fs::read_to_string(path).ok().and_then(|text| text.trim().parse().ok());
                let ip = |address: &nix::sys::socket::SockaddrStorage| {
                    let v4 = address.as_sockaddr_in().map(|at| IpAddr::from(at.ip()));
                    v4.or_else(|| address.as_sockaddr_in6().map(|at| IpAddr::from(at.ip())))
                };
                let Some(address) = entry.address else { continue };
                if let Some(link) = address.as_link_addr() {
                    seen.mac = link.addr();
                }
                let mask = entry.netmask.as_ref().and_then(ip);
                seen.addresses.extend(ip(&address).map(|address| (address, mask)));
            }
            nix::Result::Ok(links)
        })?
        .map_err(|errno| format!("cannot list links: {errno}"))
    }

    /// The gateways of its default routes of IPv4.
    pub(crate) fn default_routes(&self) -> Result<Vec<Ipv4Addr>, String> {
        let table = self.inside(|| fs::read_to_string("/proc/thread-self/net/route"))?;
        let table = table.map_err(|error| format!("cannot list routes: {error}"))?;
        let route = |line: &str| {
            let mut words = line.split_whitespace().skip(1);
            let (to, through) = (words.next()?, words.next()?);
            let through = u32::from_str_radix(through, 16).ok()?;
            (to == "00000000").then(|| Ipv4Addr::from(through.to_ne_bytes()))
        };
        Ok(table.lines().skip(1).filter_map(route).collect())
    }

    /// Sets `lo` up, as a host has it.
    pub(crate) fn set_lo_up(&self) -> Result<(), String> {
        self.inside(|| rtnl::set_up(1))?.map_err(|errno| format!("cannot set lo up: {errno}"))
    }

    /// Takes a link away, as somebody else would.
    pub(crate) fn delete(&self, index: u32) -> Result<(), String> {
        self.inside(|| rtnl::delete(index))?
            .map_err(|errno| format!("cannot delete a link: {errno}"))
    }

    /// Whether datagrams go from here to `address` of `other` and back.
    pub(crate) fn reaches(&self, other: &Self, address: IpAddr) -> Result<bool, String> {
        self.tries(other, address, PATIENCE)
    }

    /// Whether none do.
    pub(crate) fn reaches_not(&self, other: &Self, address: IpAddr) -> Result<bool, String> {
        self.tries(other, address, IMPATIENCE).map(|reached| !reached)
    }

    fn tries(&self, other: &Self, address: IpAddr, time: Duration) -> Result<bool, String> {
        let server = other.inside(|| UdpSocket::bind((address, 0)))?;
        // One that has not the address is not reached there.
        let Ok(server) = server else { return Ok(false) };
        let at = server.local_addr().map_err(|error| error.to_string())?;
        let deadline = Instant::now() + time;
        self.inside(|| {
            let any: IpAddr = if at.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
            let client = UdpSocket::bind((any, 0))?;
            let pause = Some(Duration::from_millis(50));
            client.set_read_timeout(pause)?;
            server.set_read_timeout(pause)?;
            let mut bytes = [0; 16];
            while Instant::now() < deadline {
                // No route yet, or nobody there: it is tried again.
                if client.send_to(b"there", at).is_ok()
                    && let Ok((length, from)) = server.recv_from(&mut bytes)
                    && server.send_to(&bytes[..length], from).is_ok()
                    && client.recv_from(&mut bytes).is_ok_and(|(_, from)| from == at)
                {
                    return Ok(true);
                }
            }
            Ok(false)
        })?
        .map_err(|error: io::Error| format!("cannot send: {error}"))
    }

    /// Whether a connection made here to `at` comes out at `address` of `other`.
    pub(crate) fn connects(
        &self,
        at: SocketAddr,
        other: &Self,
        address: SocketAddr,
    ) -> Result<bool, String> {
        let listener = other.inside(|| TcpListener::bind(address))?;
        let listener = listener.map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let connected = self.inside(|| TcpStream::connect_timeout(&at, PATIENCE).is_ok())?;
        drop(listener);
        Ok(connected)
    }
}

/// Waits until something is so.
pub(crate) fn eventually(
    what: &str,
    mut is_so: impl FnMut() -> Result<bool, String>,
) -> Result<(), String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let over = Instant::now() >= deadline;
        if is_so()? {
            return Ok(());
        }
        if over {
            return Err(format!("{what}, for {PATIENCE:?}"));
        }
        thread::park_timeout(Duration::from_millis(5));
    }
}
