//! The text of a sandbox's `/etc/resolv.conf` (resolv.conf(5)) and `/etc/hosts` (hosts(5)).

use std::{fs, net::IpAddr, slice};

use cnm::{Name, endpoint::Endpoint, options};

use crate::args::ExtraHost;

/// More name servers than these nobody asks (`MAXNS`, resolv.h).
pub(super) const SERVERS: usize = 3;

/// Where they are.
pub(crate) const RESOLV_CONF: &str = "/etc/resolv.conf";
const HOSTS: &str = "/etc/hosts";

/// What is to be in them, whatever the sandbox's networks say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wishes {
    /// Who is asked for names; who its networks say where there is nobody.
    pub(crate) dns: Vec<IpAddr>,
    /// The domains to try behind names; what its networks say, or else the host's, where there is
    /// none.
    pub(crate) search: Vec<String>,
    /// Options of `resolv.conf`; the host's where there is none.
    pub(crate) options: Vec<String>,
    /// Names besides its own.
    pub(crate) hosts: Vec<ExtraHost>,
}

impl Wishes {
    /// Whether where this host is has to be known.
    pub(crate) fn name_this_host(&self) -> bool {
        self.hosts.iter().any(|host| host.address.is_none())
    }
}

/// The files of a sandbox that has `endpoints`, by path, and reaches this host at `gateways`. Where
/// nobody is said to be asked for names, it asks as the host does.
pub(crate) fn all(
    wishes: &Wishes,
    hostname: &Name,
    endpoints: &[Endpoint],
    gateways: &[IpAddr],
) -> Vec<(String, String)> {
    let search = &wishes.search;
    let mut servers = wishes.dns.clone();
    if servers.is_empty() {
        servers.extend(endpoints.iter().flat_map(|endpoint| &endpoint.dns));
    }
    let mut files = Vec::new();
    if !servers.is_empty() {
        // A host without one has neither search domains nor options.
        let host = hosts_own();
        let networks = endpoints.iter().flat_map(|endpoint| options::search(&endpoint.options));
        let mut domains: Vec<&str> = Vec::new();
        for domain in
            search.iter().map(String::as_str).chain(networks.filter(|_| search.is_empty()))
        {
            if !domains.contains(&domain) {
                domains.push(domain);
            }
        }
        files.push((
            RESOLV_CONF.to_owned(),
            resolv_conf(&servers, &domains, &wishes.options, &host),
        ));
    }
    let mut hosts = hosts(hostname, endpoints);
    for ExtraHost { name, address } in &wishes.hosts {
        for address in address.as_ref().map_or(gateways, slice::from_ref) {
            hosts.push_str(&format!("{address}\t{name}\n"));
        }
    }
    files.push((HOSTS.to_owned(), hosts));
    files
}

/// What the host's own programs go by; nothing where it has none.
pub(crate) fn hosts_own() -> String {
    fs::read_to_string(RESOLV_CONF).unwrap_or_default()
}

/// `servers`, with domains to try and options, unless they are said those that the host has. Names of
/// containers have no dot, so unless it is said otherwise of the command they are asked for as they
/// are, before any domain: the host's `ndots` is for the host's names.
fn resolv_conf(servers: &[IpAddr], domains: &[&str], said: &[String], host: &str) -> String {
    let mut search = None;
    let mut options: Vec<&str> = Vec::new();
    for line in host.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        match line.split_once(char::is_whitespace) {
            Some(("search" | "domain", hosts)) => search = Some(hosts.trim().to_owned()),
            Some(("options", words)) => options.extend(words.split_whitespace()),
            _ => {}
        }
    }
    let counts_dots = |option: &&str| option.starts_with("ndots:");
    options.retain(|option| !counts_dots(option));
    if !said.is_empty() {
        options = said.iter().map(String::as_str).collect();
    }
    if !options.iter().any(counts_dots) {
        options.push("ndots:0");
    }
    let mut text = String::new();
    let mut said: Vec<&IpAddr> = Vec::new();
    for server in servers {
        if said.len() < SERVERS && !said.contains(&server) {
            said.push(server);
            text.push_str(&format!("nameserver {server}\n"));
        }
    }
    if !domains.is_empty() {
        search = Some(domains.join(" "));
    }
    if let Some(domains) = search.filter(|domains| !domains.is_empty()) {
        text.push_str(&format!("search {domains}\n"));
    }
    text + &format!("options {}\n", options.join(" "))
}

/// The loopback names, then the sandbox's own name at each of its addresses.
fn hosts(hostname: &Name, endpoints: &[Endpoint]) -> String {
    let mut text = "127.0.0.1\tlocalhost\n\
                    ::1\tlocalhost ip6-localhost ip6-loopback\n\
                    fe00::\tip6-localnet\n\
                    ff00::\tip6-mcastprefix\n\
                    ff02::1\tip6-allnodes\n\
                    ff02::2\tip6-allrouters\n"
        .to_owned();
    let addresses: Vec<IpAddr> = endpoints
        .iter()
        .flat_map(|endpoint| endpoint.addresses.iter().map(|address| address.ip()))
        .collect();
    if addresses.is_empty() {
        text.push_str(&format!("127.0.1.1\t{hostname}\n"));
    }
    for address in addresses {
        text.push_str(&format!("{address}\t{hostname}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use cnm::{EndpointId, NetworkId};
    use serde_json::json;

    use super::*;

    fn servers(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn the_hosts_search_domains_and_options_are_kept() {
        let host = "# made by hand\nnameserver 192.0.2.1\ndomain old\n\
                    search\tcorp.example lab.example # two\noptions edns0 trust-ad\noptions rotate\n";
        assert_eq!(
            resolv_conf(
                &servers(&["10.0.0.1", "10.0.0.1", "fd00::1", "10.1.0.1", "10.2.0.1"]),
                &[],
                &[],
                host
            ),
            "nameserver 10.0.0.1\nnameserver fd00::1\nnameserver 10.1.0.1\n\
             search corp.example lab.example\noptions edns0 trust-ad rotate ndots:0\n"
        );
        assert_eq!(
            resolv_conf(&servers(&["10.0.0.1"]), &["own.example", "b"], &[], host),
            "nameserver 10.0.0.1\nsearch own.example b\noptions edns0 trust-ad rotate ndots:0\n"
        );
        assert_eq!(
            resolv_conf(&servers(&["10.0.0.1"]), &[], &[], "search h.ex\noptions ndots:2 rotate\n"),
            "nameserver 10.0.0.1\nsearch h.ex\noptions rotate ndots:0\n"
        );
        assert_eq!(
            resolv_conf(&servers(&["10.0.0.1"]), &[], &[], ""),
            "nameserver 10.0.0.1\noptions ndots:0\n"
        );
        for (said, options) in [("timeout:1", "timeout:1 ndots:0"), ("ndots:3", "ndots:3")] {
            let text = resolv_conf(&servers(&["10.0.0.1"]), &[], &[said.to_owned()], host);
            assert!(text.ends_with(&format!("\noptions {options}\n")), "{text}");
        }
    }

    fn endpoint(addresses: &[&str], dns: &[&str]) -> Endpoint {
        serde_json::from_value(json!({
            "id": EndpointId::from_bytes([1; 32]),
            "network": NetworkId::from_bytes([2; 32]),
            "network_name": "app",
            "container": {"id": "c1"},
            "ifname": "eth0",
            "state": "attached",
            "addresses": addresses,
            "dns": dns,
            "created": "2026-01-02T03:04:05Z",
        }))
        .expect("an endpoint")
    }

    #[test]
    fn a_sandbox_knows_itself_by_every_address() {
        let web: Name = "web".parse().expect("a name");
        let two = [endpoint(&["10.0.0.2/24", "fd00::2/64"], &[]), endpoint(&["10.1.0.2/24"], &[])];
        let text = hosts(&web, &two);
        assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost "), "{text}");
        assert!(text.ends_with("10.0.0.2\tweb\nfd00::2\tweb\n10.1.0.2\tweb\n"), "{text}");
        assert!(hosts(&web, &[]).ends_with("\n127.0.1.1\tweb\n"));
    }

    #[test]
    fn without_a_name_server_the_hosts_resolv_conf_stays() {
        let web: Name = "web".parse().expect("a name");
        let paths = |dns: &[IpAddr], endpoints: &[Endpoint]| -> Vec<String> {
            let wishes = Wishes { dns: dns.to_vec(), ..Wishes::default() };
            all(&wishes, &web, endpoints, &[]).into_iter().map(|(path, _)| path).collect()
        };
        assert_eq!(paths(&[], &[endpoint(&[], &[])]), ["/etc/hosts"]);
        let both = ["/etc/resolv.conf", "/etc/hosts"];
        assert_eq!(paths(&[], &[endpoint(&[], &["10.0.0.1"])]), both);
        assert_eq!(paths(&servers(&["192.0.2.7"]), &[]), both);
        let wishes = Wishes { dns: servers(&["192.0.2.7"]), ..Wishes::default() };
        let chosen = all(&wishes, &web, &[endpoint(&[], &["10.0.0.1"])], &[]);
        assert!(chosen[0].1.starts_with("nameserver 192.0.2.7\n"), "{chosen:?}");
        assert!(!chosen[0].1.contains("10.0.0.1"), "{chosen:?}");
    }

    #[test]
    fn domains_are_the_commands_own_or_its_networks() {
        let web: Name = "web".parse().expect("a name");
        let mut endpoints = [endpoint(&[], &["10.0.0.1"]), endpoint(&[], &["10.1.0.1"])];
        endpoints[0].options.insert("dns-search".into(), "a.example,b.example".into());
        endpoints[1].options.insert("dns-search".into(), "b.example,c.example".into());
        let text = |search: &[String]| {
            let wishes = Wishes { search: search.to_vec(), ..Wishes::default() };
            all(&wishes, &web, &endpoints, &[])[0].1.clone()
        };
        assert!(text(&[]).contains("\nsearch a.example b.example c.example\n"));
        assert!(text(&["own.example".to_owned()]).contains("\nsearch own.example\n"));
    }

    #[test]
    fn other_names_stand_behind_its_own() {
        let web: Name = "web".parse().expect("a name");
        let hosts = ["db:10.9.0.7", "up:host-gateway"].map(|host| host.parse().expect("a host"));
        let wishes = Wishes { hosts: hosts.into(), ..Wishes::default() };
        let text = |gateways: &[&str]| {
            let endpoints = [endpoint(&["10.0.0.2/24"], &[])];
            all(&wishes, &web, &endpoints, &servers(gateways))[0].1.clone()
        };
        let both = text(&["10.0.0.1", "fd00::1"]);
        assert!(
            both.ends_with("10.0.0.2\tweb\n10.9.0.7\tdb\n10.0.0.1\tup\nfd00::1\tup\n"),
            "{both}"
        );
        assert!(text(&[]).ends_with("\tdb\n"));
    }
}
