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
    /// second of use. A file that is missing or has no such line means no servers.
    ResolvConf(PathBuf),
}

/// The servers that an [`Upstreams`] stands for, kept current.
#[derive(Debug)]
pub(crate) struct HostServers {
    source: Upstreams,
    servers: Vec<SocketAddr>,
    looked: Option<Instant>,
    seen: Option<Seen>,
}

/// What tells one state of a file from the next: device, inode, size, and when it changed.
type Seen = (u64, u64, u64, i64, i64);

impl HostServers {
    pub(crate) fn new(source: Upstreams) -> Self {
        Self { source, servers: Vec::new(), looked: None, seen: None }
    }

    /// The servers as of `now`.
    pub(crate) fn at(&mut self, now: Instant) -> &[SocketAddr] {
        let path = match &self.source {
            Upstreams::Fixed(servers) => return servers,
            Upstreams::ResolvConf(path) => path,
        };
        if self.looked.is_none_or(|looked| now.duration_since(looked) >= RECHECK) {
            self.looked = Some(now);
            let seen = look(path);
            if seen != self.seen || seen.is_none() {
                self.seen = seen;
                self.servers =
                    fs::read(path).map_or_else(|_| Vec::new(), |file| nameservers(&file));
                tracing::debug!(path = %path.display(), servers = ?self.servers, "host servers read");
            }
        }
        &self.servers
    }
}

fn look(path: &Path) -> Option<Seen> {
    let file = fs::metadata(path).ok()?;
    Some((file.dev(), file.ino(), file.size(), file.ctime(), file.ctime_nsec()))
}

/// The servers that a resolv.conf(5) names, each once, on port 53.
///
/// The zone of an IPv6 address (`%eth0`) is left out: it names a link of whoever wrote the file.
fn nameservers(file: &[u8]) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in String::from_utf8_lossy(file).lines() {
        // resolv.conf(5): a keyword starts in the first column, a comment with ; or # there.
        let mut words = line.split([' ', '\t']).filter(|word| !word.is_empty());
        if !line.starts_with("nameserver") || words.next() != Some("nameserver") {
            continue;
        }
        let address = words.next().and_then(|word| word.split('%').next());
        if let Some(address) = address.and_then(|word| word.parse::<IpAddr>().ok()) {
            let server = SocketAddr::new(address, 53);
            if !servers.contains(&server) {
                servers.push(server);
            }
        }
    }
    servers
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
            nameserver fe80::1%eth0\n\
            nameserver 192.0.2.1\n\
            nameserver nonsense\n\
            nameserver\n\
            \x20nameserver 192.0.2.7\n\
            nameservers 192.0.2.6\n\
            options ndots:2\r\n\
            \xff\xfe\n";
        let servers: Vec<String> = nameservers(file).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1]:53"]);
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

        // Replaced as resolvconf does, by a rename.
        let next = path.with_extension("next");
        fs::write(&next, "nameserver 192.0.2.2\n").unwrap();
        fs::rename(&next, &path).unwrap();
        assert_eq!(host.at(start + RECHECK * 2), ["192.0.2.2:53".parse().unwrap()]);

        fs::remove_file(&path).unwrap();
        assert!(host.at(start + RECHECK * 3).is_empty());
    }
}
