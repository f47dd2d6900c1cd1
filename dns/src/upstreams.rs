//! The host's own servers: which they are now.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the file is believed without another look.
const RECHECK: Duration = Duration::from_secs(1);

/// Where the servers come from that are asked when a network names none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Upstreams {
    /// These, in order of preference.
    Fixed(Vec<SocketAddr>),
    /// The `nameserver` lines of a file like `/etc/resolv.conf`. A change is noticed within a
    /// second of use, however it was made. A file that is missing or has no such line means no
    /// servers. Where all it names is systemd-resolved's stub, the servers are those that resolved
    /// itself asks, as it writes them down in `/run/systemd/resolve/resolv.conf`.
    ResolvConf(PathBuf),
}

/// The servers that an [`Upstreams`] stands for, kept current.
#[derive(Debug)]
pub(crate) struct HostServers {
    source: Upstreams,
    resolved: PathBuf,
    servers: Vec<SocketAddr>,
    looked: Option<Instant>,
    seen: [Option<Seen>; 2],
    changed: bool,
}

/// What tells one state of a file from the next: device, inode, size, and when it changed.
type Seen = (u64, u64, u64, i64, i64);

impl HostServers {
    pub(crate) fn new(source: Upstreams) -> Self {
        let resolved = PathBuf::from("/run/systemd/resolve/resolv.conf");
        Self {
            source,
            resolved,
            servers: Vec::new(),
            looked: None,
            seen: [None; 2],
            changed: false,
        }
    }

    /// The servers as of `now`.
    pub(crate) fn at(&mut self, now: Instant) -> &[SocketAddr] {
        let path = match &self.source {
            Upstreams::Fixed(servers) => return servers,
            Upstreams::ResolvConf(path) => path,
        };
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= RECHECK) {
            self.looked = Some(now);
            let seen = [look(path), look(&self.resolved)];
            if seen != self.seen || seen[0].is_none() {
                self.changed |= seen != self.seen;
                self.seen = seen;
                let read = |path: &Path| {
                    fs::read(path).map_or_else(|_| Vec::new(), |file| nameservers(&file))
                };
                self.servers = read(path);
                if !self.servers.is_empty() && self.servers.iter().all(is_resolved) {
                    let real = read(&self.resolved);
                    if !real.is_empty() {
                        self.servers = real;
                    }
                }
                tracing::debug!(path = %path.display(), servers = ?self.servers, "host servers read");
            }
        }
        &self.servers
    }

    /// Whether somebody has written the file since this was asked last, the same servers even.
    pub(crate) fn has_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }
}

fn look(path: &Path) -> Option<Seen> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}

/// Whether a server is systemd-resolved's stub (systemd-resolved.service(8)).
fn is_resolved(server: &SocketAddr) -> bool {
    server.ip() == IpAddr::from([127, 0, 0, 53]) || server.ip() == IpAddr::from([127, 0, 0, 54])
}

/// The servers that a resolv.conf(5) names, each once, on port 53. The zone of an IPv6 address is a link
/// of this host's, by name or index (`fe80::1%eth0`).
fn nameservers(file: &[u8]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in String::from_utf8_lossy(file).lines() {
        // resolv.conf(5): a keyword starts in the first column, a comment with ; or # there.
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        if !line.starts_with("nameserver") || words.next() != Some("nameserver") {
            continue;
        }
        if let Some(server) = words.next().and_then(nameserver)
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    servers
}

fn nameserver(word: &str) -> Option<SocketAddr> {
    let (address, zone) = word.split_once('%').unwrap_or((word, ""));
    let mut server = SocketAddr::new(address.parse().ok()?, 53);
    if let SocketAddr::V6(server) = &mut server {
        server.set_scope_id(index(zone).unwrap_or_default());
    }
    Some(server)
}

/// The index of a link.
fn index(link: &str) -> Option<u32> {
    if let Ok(index) = link.parse() {
        return Some(index);
    }
    // It is no path.
    let named = !link.is_empty() && !link.contains('/') && link != "..";
    let index = named.then(|| fs::read_to_string(format!("/sys/class/net/{link}/ifindex")))?;
    index.ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read_and_nothing_else() {
        let file = b"# made by hand\n\
            ; nameserver 192.0.2.9\n\
            #nameserver 192.0.2.8\n\
            search example.org\n\
            nameserver 192.0.2.1\n\
            nameserver\t2001:db8::1  # trailing\n\
            nameserver fe80::1%lo\n\
            nameserver fe80::2%7\n\
            nameserver fe80::3%nosuch\n\
            nameserver fe80::4%../net/lo\n\
            nameserver 192.0.2.1\n\
            nameserver nonsense\n\
            nameserver\n\
            \x20nameserver 192.0.2.7\n\
            nameservers 192.0.2.6\n\
            options ndots:2\r\n\
            \xff\xfe\n";
        let servers: Vec<String> = nameservers(file).iter().map(ToString::to_string).collect();
        assert_eq!(
            servers,
            [
                "192.0.2.1:53",
                "[2001:db8::1]:53",
                "[fe80::1%1]:53",
                "[fe80::2%7]:53",
                "[fe80::3]:53",
                "[fe80::4]:53",
            ]
        );
    }

    #[test]
    fn carriage_returns_end_lines_too() {
        assert_eq!(nameservers(b"nameserver 192.0.2.1\r\n"), ["192.0.2.1:53".parse().unwrap()]);
    }

    #[test]
    fn a_changed_file_is_noticed_after_a_second_and_not_before() {
        let path = std::env::temp_dir().join(format!("resolv.conf.{}", std::process::id()));
        let mut host = HostServers::new(Upstreams::ResolvConf(path.clone()));
        let start = Instant::now();
        assert!(host.at(start).is_empty(), "the file does not exist yet");

        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert!(host.at(start + RECHECK / 2).is_empty());
        assert_eq!(host.at(start + RECHECK), ["192.0.2.1:53".parse().unwrap()]);
        assert!(host.has_changed() && !host.has_changed());

        // Replaced as resolvconf does, by a rename.
        let next = path.with_extension("next");
        fs::write(&next, "nameserver 192.0.2.2\n").unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(host.at(start + RECHECK * 2), ["192.0.2.2:53".parse().unwrap()]);

        fs::remove_file(&path).unwrap();
        assert!(host.at(start + RECHECK * 3).is_empty());
    }
    #[test]
    fn behind_resolveds_stub_are_the_servers_that_it_asks() {
        let base = std::env::temp_dir().join(format!("stub.{}", std::process::id()));
        let (path, real) = (base.with_extension("conf"), base.with_extension("real"));
        fs::write(&path, "nameserver 127.0.0.53\n").unwrap();
        let mut host = HostServers::new(Upstreams::ResolvConf(path.clone()));
        host.resolved = real.clone();
        let start = Instant::now();
        assert_eq!(host.at(start), ["127.0.0.53:53".parse().unwrap()], "all that is known");
        fs::write(&real, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(host.at(start + RECHECK), ["192.0.2.1:53".parse().unwrap()]);
        fs::write(&path, "nameserver 127.0.0.53\nnameserver 192.0.2.9\n").unwrap();
        let both = ["127.0.0.53:53".parse().unwrap(), "192.0.2.9:53".parse().unwrap()];
        assert_eq!(host.at(start + RECHECK * 2), both);
        fs::remove_file(path).unwrap();
        fs::remove_file(real).unwrap();
    }
}
