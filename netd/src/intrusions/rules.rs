//! Rules of others that lead a published port elsewhere: such as a container engine leaves whose
//! containers are gone, or were taken over. They are read from what `nft` lists, which shows those of
//! iptables as well.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Stdio,
    time::Duration,
};

use cnm::endpoint::{Port, Protocol};
use tokio::process::Command;

use crate::{netd::Netd, registry::Registry};

/// How long the list may take: on a host with very many rules nobody waits for it.
const PATIENCE: Duration = Duration::from_secs(2);

/// netd's own tables: one of this name, and one for each driver that has its own.
const OWN: &str = "netd";

/// Ports of the host, and where a rule leads them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    /// The family and the name of its table.
    table: String,
    /// The ports, of which the container's are not known.
    ports: Vec<Port>,
    /// Where to, as it is listed.
    to: String,
}

impl Netd {
    /// One sentence for each. Where nothing is published there is nothing to look for.
    pub(super) async fn led_astray(&self) -> Vec<String> {
        if self.registry.borrow().endpoints().all(|endpoint| endpoint.ports.is_empty()) {
            return Vec::new();
        }
        let mut listing = Command::new("nft");
        listing.args(["--terse", "list", "ruleset"]).stdin(Stdio::null()).kill_on_drop(true);
        match tokio::time::timeout(PATIENCE, listing.output()).await {
            Ok(Ok(listed)) => {
                sentences(&self.registry.borrow(), &String::from_utf8_lossy(&listed.stdout))
            }
            _ => Vec::new(),
        }
    }
}

fn sentences(registry: &Registry, listed: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    for Rule { table, ports, to } in rules(listed) {
        for port in &ports {
            let endpoint = registry.ports.holder(port).and_then(|id| registry.endpoint(id));
            let Some(endpoint) = endpoint else { continue };
            let last = *port.host_ports().end();
            let numbers = if port.count == 1 { String::new() } else { format!("-{last}") };
            sentences.push(format!(
                "a rule of table {table}, which is not netd's, leads port {}{numbers}/{} of the host to {to}: \
                 it is published for container {} on network {}, which may not be reached there \
                 (nft list table {table})",
                port.host_port,
                port.protocol,
                endpoint.container.label(),
                endpoint.network_name
            ));
        }
    }
    sentences.sort();
    sentences.dedup();
    sentences
}

/// The rules of others that change where packets to a port go.
fn rules(listed: &str) -> impl Iterator<Item = Rule> {
    let mut table = "";
    listed.lines().filter_map(move |line| {
        if let Some(name) = line.strip_prefix("table ") {
            table = name.trim_end_matches(" {");
            return None;
        }
        let name = table.split(' ').nth(1).unwrap_or_default();
        let is_own = name.strip_prefix(OWN).is_some_and(|of| of.is_empty() || of.starts_with('-'));
        if is_own { None } else { rule(table, line) }
    })
}

/// A rule of a line such as `ip daddr 192.0.2.1 tcp dport { 80, 8000-8010 } dnat to 10.0.0.2:80`. One for
/// some callers alone is between others and them.
fn rule(table: &str, line: &str) -> Option<Rule> {
    let (matches, to) = line.split_once(" dnat ")?;
    let to = to.split_once("to ")?.1.split(' ').next()?;
    // Where it depends on the packet it is a map, which is not looked into.
    to.contains(|c: char| c.is_ascii_digit()).then_some(())?;
    let (before, after) = matches.split_once(" dport ").filter(|_| !matches.contains(" saddr "))?;
    let protocol: Protocol = before.rsplit(' ').next()?.trim().parse().ok()?;
    let numbers = match after.strip_prefix('{') {
        Some(set) => set.split('}').next()?,
        None => after.split(' ').next()?,
    };
    let at = before.split_once(" daddr ").map(|(_, at)| at).filter(|at| !at.starts_with("!= "));
    let address = match at {
        Some(at) => Some(at.split(' ').next()?.parse().ok()?),
        None if table.starts_with("ip ") => Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED)),
        None if table.starts_with("ip6 ") => Some(IpAddr::V6(Ipv6Addr::UNSPECIFIED)),
        None => None,
    };
    let ports = numbers.split(',').filter_map(|number| {
        let number = number.trim();
        let (first, last) = number.split_once('-').unwrap_or((number, number));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        Some(Port {
            protocol,
            host_ip: address,
            host_port: first,
            host_port_to: None,
            container_port: first,
            count: last.checked_sub(first)?.saturating_add(1),
        })
    });
    Some(Rule { table: table.to_owned(), ports: ports.collect(), to: to.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_read_from_what_nft_lists() {
        let listed = "\
table ip nat {
\tchain PREROUTING {
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\ttcp dport 8081 counter packets 0 bytes 0 dnat to 10.89.0.3:80
\t\tip daddr 192.0.2.1 udp dport 53 counter packets 0 bytes 0 dnat to 10.89.0.3
\t\tip daddr != 127.0.0.0/8 tcp dport 54 counter packets 0 bytes 0 dnat to 10.89.0.3
\t\tip saddr 10.89.0.0/24 tcp dport 55 counter packets 0 bytes 0 dnat to 10.89.0.3
\t\ttcp dport 99 counter packets 0 bytes 0 redirect to :8080
\t}
\tchain X {
\t\tmeta l4proto tcp tcp dport { 80, 8000-8010 } counter packets 0 bytes 0 dnat to 10.89.0.4
\t}
}
table ip6 nat {
\tchain PREROUTING {
\t\ttcp dport 9000 counter packets 0 bytes 0 
\t}
}
table inet theirs {
\tchain c {
\t\tip daddr @some tcp dport 1 dnat ip to 10.0.0.1
\t\ttcp dport 0-65535 dnat ip6 to fd00::1
\t\tdnat ip to tcp dport map { 25 : 10.0.0.1 }
\t\ticmp type echo-request dnat ip to 10.0.0.1
\t\ttcp dport @some dnat ip to 10.0.0.1
\t}
}
table inet netd {
\tchain c {
\t\ttcp dport 8082 dnat ip to 10.0.0.1
\t}
}
table inet netd-overlay {
\tchain c {
\t\ttcp dport 8083 dnat ip to 10.0.0.1
\t}
}
table inet netdata {
\tchain c {
\t\ttcp dport 8084 dnat ip to 10.0.0.1
\t}
}
";
        let all: Vec<_> = rules(listed)
            .flat_map(|Rule { table, ports, to }| {
                let said = move |port: Port| {
                    let at = port.host_ip.map(|ip| format!("{ip} ")).unwrap_or_default();
                    let (first, last) = port.host_ports().into_inner();
                    format!("{table}: {at}{first}-{last}/{} to {to}", port.protocol)
                };
                ports.into_iter().map(said)
            })
            .collect();
        assert_eq!(
            all,
            [
                "ip nat: 0.0.0.0 8081-8081/tcp to 10.89.0.3:80",
                "ip nat: 192.0.2.1 53-53/udp to 10.89.0.3",
                "ip nat: 0.0.0.0 54-54/tcp to 10.89.0.3",
                "ip nat: 0.0.0.0 80-80/tcp to 10.89.0.4",
                "ip nat: 0.0.0.0 8000-8010/tcp to 10.89.0.4",
                "inet theirs: 0-65534/tcp to fd00::1",
                "inet netdata: 8084-8084/tcp to 10.0.0.1",
            ]
        );
    }
}
