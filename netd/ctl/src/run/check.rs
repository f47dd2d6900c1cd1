//! What a command's files may say: refused before anything is made, as netd refuses the same in options
//! of networks.

use std::net::{IpAddr, Ipv4Addr};

use cnm::{Error, Name, Result};

use super::files::Wishes;

/// The longest label of a name in DNS, and the longest name, in bytes (RFC 1035, section 2.3.4).
const LABEL: usize = 63;
const NAME: usize = 253;

/// The domain of those who want none to be tried (resolv.conf(5)).
const NO_DOMAIN: &str = ".";

/// At and below these every name has an answer already (RFC 6761, and netd's own).
const TAKEN: [&str; 4] = ["localhost", "netd.internal", "in-addr.arpa", "ip6.arpa"];

/// Refuses what cannot be meant.
pub(super) fn check(wishes: &Wishes, hostname: Option<&Name>) -> Result<()> {
    wishes.dns.iter().try_for_each(|server| check_server(*server))?;
    check_search(&wishes.search)?;
    for host in &wishes.hosts {
        if !is_name(&host.name) {
            return Err(wrong("host", &host.name, "before its address should be a name in DNS"));
        }
    }
    hostname.map_or(Ok(()), |hostname| check_hostname(hostname.as_str()))
}

fn check_server(server: IpAddr) -> Result<()> {
    let ip = server.to_canonical();
    let everybody = ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST);
    if ip.is_unspecified() || everybody {
        let rule = "it should be the address of one server";
        return Err(wrong("name server", &server.to_string(), rule));
    }
    Ok(())
}

fn check_search(domains: &[String]) -> Result<()> {
    if domains == [NO_DOMAIN] {
        return Ok(());
    }
    domains.iter().try_for_each(|domain| match domain.as_str() {
        NO_DOMAIN => Err(wrong("dns-search", domain, "it means no domain, so leave the others out")),
        other if is_name(other) => Ok(()),
        other => Err(wrong(
            "dns-search",
            other,
            "it should be one domain, such as corp.example, or . for none; say --dns-search once for each",
        )),
    })
}

/// What it calls itself stands in its `/etc/hosts`, and so goes before every answer.
fn check_hostname(name: &str) -> Result<()> {
    let lower = name.trim_end_matches('.').to_ascii_lowercase();
    let taken = |zone: &&str| {
        lower.strip_suffix(*zone).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if let Some(zone) = TAKEN.iter().find(|zone| taken(zone)) {
        let rule = format!("names at or below {zone} have an answer of their own; choose another");
        return Err(wrong("hostname", name, &rule));
    }
    if !is_name(name) || lower.parse::<Ipv4Addr>().is_ok() {
        return Err(wrong("hostname", name, "it should be a name in DNS, such as web-1"));
    }
    Ok(())
}

/// Whether it can be asked for, and is one word in a file. It may end in a dot.
fn is_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !['#', ';', ','].contains(&c);
    text.len() <= NAME
        && text.chars().all(plain)
        && text.split('.').all(|label| (1..=LABEL).contains(&label.len()))
}

fn wrong(what: &str, value: &str, rule: &str) -> Error {
    Error::invalid(format_args!("invalid {what} {value:?}: {rule}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn searching(domains: &[&str]) -> Wishes {
        Wishes { search: domains.iter().map(ToString::to_string).collect(), ..Wishes::default() }
    }

    #[test]
    fn domains_are_one_each_or_none_at_all() {
        for good in [&["corp.example", "lab"][..], &["."], &[], &["corp.example."]] {
            assert_eq!(check(&searching(good), None), Ok(()), "{good:?}");
        }
        for bad in [
            &["a..b"][..],
            &["c d"],
            &["a", "."],
            &["", "a"],
            &["a\nnameserver 192.0.2.1"],
            &["a,b"],
        ] {
            assert!(check(&searching(bad), None).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn servers_are_one_machine_each() {
        let asking = |server: &str| Wishes {
            dns: vec![server.parse().expect("an address")],
            ..Wishes::default()
        };
        for good in ["10.0.0.53", "fd00::53", "127.0.0.53"] {
            assert_eq!(check(&asking(good), None), Ok(()), "{good}");
        }
        for bad in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.251", "ff02::fb", "255.255.255.255"]
        {
            assert!(check(&asking(bad), None).is_err(), "{bad}");
        }
    }

    #[test]
    fn hosts_and_hostnames_can_be_asked_for() {
        let host =
            |host: &str| Wishes { hosts: vec![host.parse().expect("a host")], ..Wishes::default() };
        assert_eq!(check(&host("db.example:10.9.0.7"), None), Ok(()));
        for bad in ["a..b:1.2.3.4", ".a:1.2.3.4", "a,b:1.2.3.4"] {
            assert!(check(&host(bad), None).is_err(), "{bad}");
        }
        let named = |name: &str| check(&Wishes::default(), Some(&name.parse().expect("a name")));
        for good in ["web-1", "web.app.netd", "mylocalhost", "WEB"] {
            assert_eq!(named(good), Ok(()), "{good}");
        }
        for bad in
            ["localhost", "x.LocalHost", "netd.internal", "host.netd.internal.", "10.0.0.1", "a..b"]
        {
            assert!(named(bad).is_err(), "{bad}");
        }
    }
}
