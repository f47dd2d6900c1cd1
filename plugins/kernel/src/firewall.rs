//! The firewall of bridge networks: constant rules, and facts that are elements of their sets.
//!
//! The rules are [`BASE`], readable as they are, laid down by `nft` once per start in one
//! transaction that keeps the elements. (They go in as text: the JSON of nft 1.0.6 cannot declare
//! a map whose values are `address . port`, and ends with a segmentation fault when asked to.)

use std::{
    collections::BTreeSet,
    fmt,
    io::Write,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::{Command, Stdio},
};

use ipnetwork::IpNetwork;
use nix::errno::Errno;

use crate::{
    Error, Result,
    nft::{Element, Nft, Transaction},
};

/// The rules, with empty sets, as `nft -f` takes them.
pub const BASE: &str = include_str!("firewall/base.nft");
/// The name of their tables, of the families `inet` (with all sets) and `bridge`.
pub const TABLE: &str = "netd";
/// The link group of bridge ports that get no frame of IPv6: a port says so by its group, which it
/// is born with, rather than by an element ("netd" in ASCII, plus 2).
pub const WITHOUT_IPV6: u32 = 0x6e65_7466;
/// How many changes go into one transaction at most, so that it fits a socket's buffer.
const CHUNK: usize = 4096;

/// The sets that facts are elements of.
const SETS: [&str; 10] = [
    "bridges",
    "internal",
    "outward",
    "within",
    "members4",
    "members6",
    "publish4_at",
    "publish6_at",
    "publish4",
    "publish6",
];

/// Something that the firewall is to know: one element.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Fact {
    /// This link is a network's bridge: nothing enters it unasked.
    Bridge(String),
    /// What goes from this bridge to itself stays on its network.
    Within(String),
    /// This bridge has no way in or out.
    Internal(String),
    /// What leaves this bridge for elsewhere takes the host's address.
    Outward(String),
    /// These addresses are on this bridge.
    Members {
        /// The bridge.
        bridge: String,
        /// Its subnet.
        subnet: IpNetwork,
    },
    /// A port that the host answers for.
    Publish {
        /// The protocol's number in an IP header.
        protocol: u8,
        /// The host's address; all of the family unless given.
        address: Option<IpAddr>,
        /// The host's port.
        port: u16,
        /// The container's address and port, of the same family.
        to: SocketAddr,
    },
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge(link) => write!(f, "guard of {link}"),
            Self::Within(link) => write!(f, "traffic within {link}"),
            Self::Internal(link) => write!(f, "seclusion of {link}"),
            Self::Outward(link) => write!(f, "masquerade from {link}"),
            Self::Members { bridge, subnet } => write!(f, "members {subnet} of {bridge}"),
            Self::Publish { protocol, address, port, to } => {
                match address {
                    Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
                    Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
                    None => {}
                }
                let protocol = match protocol {
                    6 => "tcp",
                    17 => "udp",
                    _ => "protocol of another name",
                };
                write!(f, "port {port} to {to} {protocol}")
            }
        }
    }
}

/// A link's name as nftables' type `ifname`: 16 bytes, `IFNAMSIZ`.
fn ifname(key: &mut Vec<u8>, name: &str) {
    let end = key.len() + 16;
    key.extend_from_slice(name.as_bytes());
    key.resize(end, 0);
}

fn name_at(key: &[u8]) -> Option<String> {
    let text = key.get(..16)?.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}

fn address(key: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(ip) => key.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => key.extend_from_slice(&ip.octets()),
    }
}

fn take_address(bytes: &[u8], v6: bool) -> Option<(IpAddr, &[u8])> {
    Some(if v6 {
        let (octets, rest) = bytes.split_first_chunk::<16>()?;
        (Ipv6Addr::from(*octets).into(), rest)
    } else {
        let (octets, rest) = bytes.split_first_chunk::<4>()?;
        (Ipv4Addr::from(*octets).into(), rest)
    })
}

fn port(key: &mut Vec<u8>, port: u16) {
    key.extend_from_slice(&port.to_be_bytes());
    key.extend_from_slice(&[0; 2]);
}

impl Fact {
    /// The element that says it.
    pub fn element(&self) -> Element {
        let mut key = Vec::with_capacity(32);
        let (mut end, mut data) = (None, None);
        let set = match self {
            Self::Bridge(link) | Self::Internal(link) | Self::Outward(link) => {
                ifname(&mut key, link);
                match self {
                    Self::Bridge(_) => "bridges",
                    Self::Internal(_) => "internal",
                    _ => "outward",
                }
            }
            Self::Within(link) => {
                ifname(&mut key, link);
                ifname(&mut key, link);
                "within"
            }
            Self::Members { bridge, subnet } => {
                ifname(&mut key, bridge);
                let mut last = key.clone();
                address(&mut key, subnet.network());
                address(&mut last, subnet.broadcast());
                end = Some(last);
                if subnet.is_ipv4() { "members4" } else { "members6" }
            }
            Self::Publish { protocol, address: at, port: from, to } => {
                if let Some(at) = at {
                    address(&mut key, *at);
                }
                key.extend_from_slice(&[*protocol, 0, 0, 0]);
                port(&mut key, *from);
                let mut target = Vec::with_capacity(20);
                address(&mut target, to.ip());
                port(&mut target, to.port());
                data = Some(target);
                match (at.is_some(), to.is_ipv4()) {
                    (true, true) => "publish4_at",
                    (true, false) => "publish6_at",
                    (false, true) => "publish4",
                    (false, false) => "publish6",
                }
            }
        };
        Element { set, key, end, data }
    }

    /// What an element says; none when it is none of ours.
    pub fn parse(element: &Element) -> Option<Self> {
        let key = &element.key;
        Some(match element.set {
            "bridges" => Self::Bridge(name_at(key)?),
            "internal" => Self::Internal(name_at(key)?),
            "outward" => Self::Outward(name_at(key)?),
            "within" => Self::Within(name_at(key)?),
            set @ ("members4" | "members6") => {
                let v6 = set == "members6";
                let (first, _) = take_address(key.get(16..)?, v6)?;
                let (last, _) = take_address(element.end.as_ref()?.get(16..)?, v6)?;
                let subnet = IpNetwork::new(first, prefix_between(first, last)?).ok()?;
                Self::Members { bridge: name_at(key)?, subnet }
            }
            set => {
                let v6 = set.starts_with("publish6");
                let (at, key) = if set.ends_with("_at") {
                    let (at, key) = take_address(key, v6)?;
                    (Some(at), key)
                } else {
                    (None, key.as_slice())
                };
                let (ip, target) = take_address(element.data.as_ref()?, v6)?;
                let number = |bytes: &[u8]| Some(u16::from_be_bytes(*bytes.first_chunk()?));
                Self::Publish {
                    protocol: *key.first()?,
                    address: at,
                    port: number(key.get(4..)?)?,
                    to: SocketAddr::new(ip, number(target)?),
                }
            }
        })
    }
}

/// The length of the prefix that both ends of a subnet share.
fn prefix_between(first: IpAddr, last: IpAddr) -> Option<u8> {
    let common = match (first, last) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return None,
    };
    u8::try_from(common).ok()
}

/// The firewall of the namespace that it was opened in.
#[derive(Debug)]
pub struct Firewall {
    nft: Nft,
    /// How many rules there are when all are there; known once they were laid down.
    rules: Option<usize>,
}

impl Firewall {
    /// Opens it, in the calling thread's namespace; lays nothing down.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        Ok(Self { nft: Nft::open()?, rules: None })
    }

    /// Lays the rules down unless this was done and all are there still. Elements that are there
    /// stay. Whether somebody had taken them away since.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses.
    pub fn lay(&mut self) -> Result<bool> {
        let before = self.rules;
        if before.is_some() && before == Some(self.nft.rules(TABLE)?) {
            return Ok(false);
        }
        let emptied = ["inet", "bridge"]
            .map(|family| format!("add table {family} {TABLE}\nflush table {family} {TABLE}\n"))
            .concat();
        run_nft(&format!("{emptied}{BASE}"))?;
        self.rules = Some(self.nft.rules(TABLE)?);
        Ok(before.is_some())
    }

    /// Whether the rules were laid down by this very value.
    pub fn laid(&self) -> bool {
        self.rules.is_some()
    }

    /// Everything that it knows. Nothing where the sets are missing.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn facts(&mut self) -> Result<BTreeSet<Fact>> {
        let mut facts = BTreeSet::new();
        for set in SETS {
            let elements = self.nft.elements(TABLE, set)?.unwrap_or_default();
            facts.extend(elements.iter().filter_map(Fact::parse));
        }
        Ok(facts)
    }

    /// Adds and deletes, all of it or nothing (of more than 4,096 changes: in runs of as many).
    ///
    /// # Errors
    /// The first change that the kernel refused: a fact to delete that is not there (`ENOENT`), a
    /// port that leads elsewhere (`EBUSY`).
    pub fn change(&mut self, delete: &[Fact], add: &[Fact]) -> Result<()> {
        let changes: Vec<_> =
            delete.iter().map(|fact| (fact, false)).chain(add.iter().map(|f| (f, true))).collect();
        for chunk in changes.chunks(CHUNK) {
            let mut transaction = Transaction::new(TABLE);
            for (fact, adding) in chunk {
                if *adding {
                    transaction.add(&fact.element(), fact);
                } else {
                    transaction.delete(&fact.element(), fact);
                }
            }
            self.nft.commit(transaction)?;
        }
        Ok(())
    }

    /// Sees to it that these facts are not known, whichever of them were.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn forget(&mut self, facts: &[Fact]) -> Result<()> {
        match self.change(facts, &[]) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                let known = self.facts()?;
                let left: Vec<_> = facts.iter().filter(|f| known.contains(f)).cloned().collect();
                self.change(&left, &[])
            }
            outcome => outcome,
        }
    }
}

fn run_nft(ruleset: &str) -> Result<()> {
    let failed = |error| Error::io("run", "nft", &error);
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = nft.stdin.take().expect("it was asked to be piped");
    let written = input.write_all(ruleset.as_bytes());
    drop(input);
    let output = nft.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.lines().collect::<Vec<_>>().join(" ");
        return Err(Error::Nft(text));
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Vec<Fact> {
        let publish = |address: Option<&str>, to: &str| Fact::Publish {
            protocol: 17,
            address: address.map(|a| a.parse().unwrap()),
            port: 8080,
            to: to.parse().unwrap(),
        };
        let members = |subnet: &str| Fact::Members {
            bridge: "br-0123456789ab".into(),
            subnet: subnet.parse().unwrap(),
        };
        vec![
            Fact::Bridge("br-0123456789ab".into()),
            Fact::Within("a".into()),
            Fact::Internal("netd0".into()),
            Fact::Outward("netd0".into()),
            members("10.1.0.0/16"),
            members("10.1.0.4/32"),
            members("fd00:1::/64"),
            publish(None, "10.1.0.2:80"),
            publish(Some("192.0.2.1"), "10.1.0.2:80"),
            publish(None, "[fd00::2]:80"),
            publish(Some("2001:db8::1"), "[fd00::2]:80"),
        ]
    }

    #[test]
    fn a_fact_reads_as_it_was_written() {
        for fact in facts() {
            assert_eq!(Fact::parse(&fact.element()), Some(fact.clone()), "{fact}");
        }
    }

    #[test]
    fn a_published_port_is_padded_field_by_field() {
        let element = facts()[8].element();
        assert_eq!(element.set, "publish4_at");
        assert_eq!(element.key, [192, 0, 2, 1, 17, 0, 0, 0, 0x1f, 0x90, 0, 0]);
        assert_eq!(element.data.as_deref(), Some(&[10, 1, 0, 2, 0, 80, 0, 0][..]));
    }

    #[test]
    fn the_rules_know_the_group_without_ipv6() {
        assert!(BASE.contains(&format!("oifgroup {WITHOUT_IPV6:#x} ")));
    }

    #[test]
    fn facts_are_of_sets_that_the_rules_declare() {
        for set in SETS {
            assert!(
                BASE.contains(&format!("set {set} {{")) || BASE.contains(&format!("map {set} {{")),
                "{set}"
            );
        }
        for fact in facts() {
            assert!(SETS.contains(&fact.element().set), "{fact}");
        }
    }
}
