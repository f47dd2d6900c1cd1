//! The resolver, from outside: what it answers to whom, and why; and what may stand in the files by
//! which it is found, whoever writes them.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::{Call, Empty, Error, Result};

/// The longest label of a name in DNS, and the longest name, in bytes (RFC 1035, section 2.3.4).
const LABEL: usize = 63;
const NAME: usize = 253;

/// The domain of those who want none to be tried (resolv.conf(5)).
const NO_DOMAIN: &str = ".";

/// Asks the resolver for a name, as a container would.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct QueryName {
    /// The name, or an address, whose `PTR` is that of its name in reverse.
    pub name: String,
    /// The type of records, such as `AAAA`; `A` of a name, `SRV` of a service (`_http._tcp.web`) and
    /// `PTR` of an address unless told.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// The container's id, its name or the beginning of its id; the host itself unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

impl Call for QueryName {
    const METHOD: &'static str = "dns.query";
    type Reply = Answered;
}

/// What the resolver answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Answered {
    /// The code, such as `NOERROR` or `NXDOMAIN`.
    pub result: String,
    /// The records, as zone files have them (RFC 1035, section 5).
    pub answers: Vec<String>,
    /// Why, in sentences: which networks were looked at, whose name it is, who else was asked.
    pub why: Vec<String>,
}

/// Has each question logged that the resolver is asked, until netd ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct LogQueries {
    /// Whether to, or no longer.
    pub each: bool,
}

impl Call for LogQueries {
    const METHOD: &'static str = "dns.log";
    type Reply = Empty;
}

/// Whether something can be asked for, and is one word in resolv.conf(5) and hosts(5). It may end in a
/// dot.
pub fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !['#', ';', ','].contains(&c);
    text.len() <= NAME
        && text.chars().all(plain)
        && text.split('.').all(|label| (1..=LABEL).contains(&label.len()))
}

/// Whether one server may be at an address, of whom something is asked: not several, and not one on a
/// link that is not said.
pub fn is_server(address: IpAddr) -> bool {
    let ip = address.to_canonical();
    let everybody = ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    let on_some_link = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !ip.is_unspecified() && !everybody && !on_some_link
}

/// Refuses domains to try behind names that nobody could ask for, and others beside `.`, which is none.
///
/// # Errors
/// `invalid`, with the domain.
pub fn check_domains(domains: &[&str]) -> Result<()> {
    let is_one = |domain: &&&str| is_name(domain) || domains == [NO_DOMAIN];
    let Some(wrong) = domains.iter().find(|domain| !is_one(domain)) else { return Ok(()) };
    Err(Error::invalid(format_args!(
        "invalid dns-search {wrong:?}: it should be a domain such as corp.example, or . alone for none"
    ))
    .with("dns-search", *wrong))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_one_each_or_none_at_all() {
        for good in [&["corp.example", "lab"][..], &["."], &[], &["corp.example."]] {
            assert_eq!(check_domains(good), Ok(()), "{good:?}");
        }
        for bad in [
            &["a..b"][..],
            &["c d"],
            &["a", "."],
            &["", "a"],
            &["a\nnameserver 192.0.2.1"],
            &["a,b"],
            &[&"x".repeat(64)],
        ] {
            assert!(check_domains(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn servers_are_one_machine_each() {
        for (address, is) in [
            ("10.0.0.53", true),
            ("fd00::53", true),
            ("127.0.0.53", true),
            ("0.0.0.0", false),
            ("::", false),
            ("::ffff:0.0.0.0", false),
            ("224.0.0.251", false),
            ("ff02::fb", false),
            ("fe80::1", false),
            ("169.254.76.53", true),
            ("255.255.255.255", false),
        ] {
            assert_eq!(is_server(address.parse().expect("an address")), is, "{address}");
        }
    }
}
