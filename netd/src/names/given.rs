//! What networks and endpoints are told about names, in their options.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use cnm::{
    Error, Result,
    dns::{check_domains, is_name, is_server},
    endpoint::{Attach, Endpoint, Protocol},
    network::{Network, Subnet},
    options::{
        self, DNS, DNS_OF_DOMAIN, DNS_PORT, DNS_SEARCH, LIVE_OF_ANY_NETWORK, OF_ANY_NETWORK, search,
    },
};

use super::{PORT, called::check_container};

/// What options about names are called.
const SERVERS: &str = DNS.names[0];
const STUB: &str = DNS_OF_DOMAIN.names[0];
const EXPOSE: &str = options::EXPOSE.names[0];
const RESOLVER: &str = options::RESOLVER.names[0];

pub(super) type Options = BTreeMap<String, String>;

/// Whether an option of a network is about names, and so netd's whatever the driver.
pub(crate) fn is_networks(option: &str) -> bool {
    OF_ANY_NETWORK.iter().any(|setting| setting.is(option))
}

/// Whether it may change while the network is in use: those who ask notice nothing but other answers.
pub(crate) fn is_live(option: &str) -> bool {
    LIVE_OF_ANY_NETWORK.iter().any(|setting| setting.is(option))
}

/// An endpoint's options, with the domains that its container tries behind names: its network's
/// where it has none of its own.
pub(crate) fn with_search(mut endpoint: Options, network: &Options) -> Options {
    if let Some((name, list)) = DNS_SEARCH.given(network)
        && DNS_SEARCH.given(&endpoint).is_none()
    {
        endpoint.insert(name.to_owned(), list.to_owned());
    }
    endpoint
}

/// Refuses domains that nobody could ask for, and a list that says nothing.
fn check_search(options: &Options) -> Result<()> {
    let Some((name, list)) = DNS_SEARCH.given(options) else { return Ok(()) };
    let domains = search(options);
    if domains.is_empty() {
        return Err(Error::invalid(format_args!(
            "invalid {name} {list:?}: it should be a list of domains, or . for none"
        ))
        .with(name, list));
    }
    check_domains(&domains).map_err(|error| error.with(name, list))
}

/// Where a container finds the resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// At a gateway of its network.
    Gateway,
    /// Inside itself.
    Inside,
}

/// Where an endpoint's container is to find the resolver, if that was said of it or its network.
pub(super) fn place(endpoint: &Options, network: &Options) -> Result<Option<Place>> {
    match endpoint.get(RESOLVER).or_else(|| network.get(RESOLVER)).map(String::as_str) {
        None => Ok(None),
        Some("gateway") => Ok(Some(Place::Gateway)),
        Some("inside") => Ok(Some(Place::Inside)),
        Some(other) => Err(Error::invalid(format_args!(
            "invalid resolver {other:?}: it should be inside, where a container asks at 127.0.0.11 \
             in itself, or gateway"
        ))
        .with(RESOLVER, other)),
    }
}

/// Refuses to have containers ask at the gateway of a network on which the host is not: they would have
/// nobody to ask.
pub(crate) fn check_reach(network: &Network, endpoint: &Options) -> Result<()> {
    let isolated =
        |subnet: &Subnet| options::is_isolated(&network.options, subnet.subnet.is_ipv6());
    let subnets = &network.subnets;
    let reached = !network.internal || subnets.is_empty() || !subnets.iter().all(isolated);
    if reached || place(endpoint, &network.options)? != Some(Place::Gateway) {
        return Ok(());
    }
    Err(Error::invalid(format_args!(
        "network {} is isolated, and nobody is asked at its gateway: leave {RESOLVER}=gateway out, and \
         containers ask inside themselves",
        network.name
    ))
    .with("network", network.id.as_str()))
}

/// The servers of a list like `10.0.0.53,[fd00::53]:5353`.
pub(crate) fn servers(list: &str) -> Result<Vec<SocketAddr>> {
    list.split(',').map(|server| one_server(server.trim())).collect()
}

fn one_server(text: &str) -> Result<SocketAddr> {
    let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
    plain.or_else(|_| text.parse()).ok().filter(can_be_asked).ok_or_else(|| {
        Error::invalid(format_args!(
            "invalid name server {text:?}: it should be the address of one server, or ADDRESS:PORT, and \
             on whichever link"
        ))
        .with(SERVERS, text)
    })
}

/// Whether one server may be there, of whom something is asked.
pub(crate) fn can_be_asked(server: &SocketAddr) -> bool {
    let scoped = matches!(server, SocketAddr::V6(server) if server.scope_id() != 0);
    server.port() != 0 && (scoped || is_server(server.ip()))
}

/// The servers that are asked for names that are not ours; none where nobody said.
pub(super) fn upstreams(options: &Options) -> Result<Vec<SocketAddr>> {
    options.get(SERVERS).map_or_else(|| Ok(Vec::new()), |list| servers(list))
}

/// The domains that have servers of their own.
pub(super) fn stubs(options: &Options) -> Result<Vec<dns::Stub>> {
    let below = options.range(STUB.to_owned()..);
    below
        .map_while(|(key, list)| Some((key.strip_prefix(STUB)?, list)))
        .map(|(domain, list)| {
            if !is_name(domain) || !domain.is_ascii() {
                return Err(Error::invalid(format_args!(
                    "invalid option {STUB}{domain}: behind the first dot there should be a domain, as \
                     in {STUB}example.corp"
                ))
                .with("option", format!("{STUB}{domain}")));
            }
            Ok(dns::Stub { domain: domain.to_owned(), servers: servers(list)? })
        })
        .collect()
}

/// The ports that an endpoint serves: those that are published, and `[NAME=]PORT[/PROTOCOL]` or
/// `PORT-PORT[/PROTOCOL]` each of those that are only exposed. A published one may get its name there.
pub(super) fn ports(endpoint: &Endpoint) -> Result<Vec<dns::Port>> {
    let mut ports: Vec<dns::Port> = Vec::new();
    let published = endpoint.ports.iter().map(|port| dns::Port {
        protocol: protocol(port.protocol),
        number: port.container_port,
        last: port.container_port.saturating_add(port.count.saturating_sub(1)),
        service: None,
    });
    for port in exposed(&endpoint.options)?.into_iter().chain(published) {
        let same = |other: &dns::Port| other.protocol == port.protocol && row(other) == row(&port);
        if !ports.iter().any(same) {
            ports.push(port);
        }
    }
    Ok(ports)
}

/// The first number and the last one.
fn row(port: &dns::Port) -> (u16, u16) {
    (port.number, port.last)
}

/// The same for other hosts, as text each.
pub(crate) fn port_texts(endpoint: &Endpoint) -> Vec<String> {
    // They were checked when they were given.
    ports(endpoint).unwrap_or_default().iter().map(port_text).collect()
}

fn port_text(port: &dns::Port) -> String {
    let name = port.service.as_ref().map(|name| format!("{name}=")).unwrap_or_default();
    let protocol = match port.protocol {
        dns::Protocol::Tcp => "",
        dns::Protocol::Udp => "/udp",
        dns::Protocol::Sctp => "/sctp",
    };
    let rest = if port.last > port.number { format!("-{}", port.last) } else { String::new() };
    format!("{name}{}{rest}{protocol}", port.number)
}

/// What another host has said so. One that cannot be read is of a later version, and passed over.
pub(crate) fn ports_read(texts: &[String]) -> Box<[dns::Port]> {
    texts.iter().filter_map(|text| one_port(text)).collect()
}

fn exposed(options: &Options) -> Result<Vec<dns::Port>> {
    let Some(list) = options.get(EXPOSE) else { return Ok(Vec::new()) };
    let port = |text: &str| {
        one_port(text.trim()).ok_or_else(|| {
            Error::invalid(format_args!(
                "invalid exposed port {text:?}: it should be [NAME=]PORT[/PROTOCOL] or PORT-PORT[/PROTOCOL], the \
                 name of a service being letters, digits, - and _"
            ))
            .with(EXPOSE, text)
        })
    };
    let ports = list.split(',').map(port).collect::<Result<Vec<_>>>()?;
    for (n, port) in ports.iter().enumerate() {
        let other = ports.iter().take(n).find(|other| {
            other.protocol == port.protocol
                && row(other) == row(port)
                && other.service != port.service
        });
        if other.is_some() {
            return Err(Error::invalid(format_args!(
                "invalid exposed ports {list:?}: {} is there twice, and has one name at most",
                port.number
            ))
            .with(EXPOSE, list.as_str()));
        }
    }
    Ok(ports)
}

fn one_port(text: &str) -> Option<dns::Port> {
    let (service, rest) = match text.split_once('=') {
        Some((service, rest)) => (Some(service), rest),
        None => (None, text),
    };
    if service.is_some_and(|name| !is_service(name)) {
        return None;
    }
    let (numbers, name) = rest.split_once('/').unwrap_or((rest, "tcp"));
    let (number, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
    let (number, last): (u16, u16) = (number.parse().ok()?, last.parse().ok()?);
    let is_row = 0 < number && number <= last && (number == last || service.is_none());
    is_row.then_some(dns::Port {
        protocol: protocol(name.parse().ok()?),
        number,
        last,
        service: service.map(str::to_owned),
    })
}

/// Whether a service may be called so (RFC 6335, section 5.1, which has no underscores): with one in
/// front of it, it is a label (RFC 2782). One without letters would be a port, and protocols are asked
/// for in another place.
fn is_service(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=62).contains(&name.len())
        && name.bytes().all(plain)
        && name.bytes().any(|byte| byte.is_ascii_alphabetic())
        && name.parse::<Protocol>().is_err()
}

fn protocol(protocol: Protocol) -> dns::Protocol {
    match protocol {
        Protocol::Tcp => dns::Protocol::Tcp,
        Protocol::Udp => dns::Protocol::Udp,
        Protocol::Sctp => dns::Protocol::Sctp,
    }
}

/// Refuses a network whose name cannot be asked for, or whose servers are none.
pub(crate) fn check_network(name: &str, options: &Options, domain: &str) -> Result<()> {
    dns::check_name(name, &[domain]).map_err(|error| Error::invalid(error).with("name", name))?;
    upstreams(options)?;
    place(options, &Options::new())?;
    if let Some((name, text)) = DNS_PORT.given(options)
        && DNS_PORT.port(options).is_none()
    {
        return Err(Error::invalid(format_args!(
            "invalid {name} {text:?}: it should be a port from 1 to 65535"
        ))
        .with(name, text));
    }
    check_search(options)?;
    stubs(options).map(drop)
}

/// Refuses what an endpoint cannot be called, or be served by.
pub(crate) fn check_endpoint(params: &Attach, network: &Network, domain: &str) -> Result<()> {
    check_container(&params.container, &params.aliases, network.name.as_str(), domain)?;
    if !params.options.is_empty() {
        upstreams(&params.options)?;
        exposed(&params.options)?;
        place(&params.options, &network.options)?;
        check_reach(network, &params.options)?;
        check_search(&params.options)?;
        if let Some((name, _)) = DNS_PORT.given(&params.options) {
            return Err(Error::invalid(format_args!(
                "netd chooses the {name} of an endpoint: leave it out, and say {RESOLVER}=inside"
            ))
            .with("option", name));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(pairs: &[(&str, &str)]) -> Options {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn servers_are_addresses_with_or_without_a_port() {
        let given = options(&[
            ("dns", "10.0.0.53, fd00::53,[fd00::54]:5353"),
            ("dns.example.corp", "10.0.0.9:53"),
            ("dnsx", "not ours"),
            ("mtu", "1400"),
        ]);
        let servers: Vec<String> =
            upstreams(&given).expect("servers").iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["10.0.0.53:53", "[fd00::53]:53", "[fd00::54]:5353"]);
        let found = stubs(&given).expect("stubs");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].domain, "example.corp");
        assert_eq!(found[0].servers, ["10.0.0.9:53".parse().expect("an address")]);
        for bad in ["", "x", "10.0.0.1,", "10.0.0.1:x", "10.0.0.1:70000"] {
            assert!(upstreams(&options(&[("dns", bad)])).is_err(), "{bad}");
        }
        assert!(upstreams(&options(&[("dns", "[fe80::1%2]:53")])).is_ok(), "it says which link");
        for nobody in [
            "0.0.0.0",
            "::",
            "10.0.0.1:0",
            "224.0.0.251",
            "[ff02::fb]:53",
            "255.255.255.255",
            "fe80::1",
        ] {
            assert!(upstreams(&options(&[("dns", nobody)])).is_err(), "{nobody}");
        }
        for bad in ["dns.a..b", "dns.", "dns..", "dns.a b", "dns.b\u{fc}cher", "dns.a\nb"] {
            assert!(stubs(&options(&[(bad, "10.0.0.1")])).is_err(), "{bad}");
        }
        assert_eq!(stubs(&options(&[("dns.corp.", "10.0.0.1")])).map(|found| found.len()), Ok(1));
    }

    #[test]
    fn where_the_resolver_is_may_be_said_of_a_network_and_of_an_endpoint() {
        let (none, inside) = (options(&[]), options(&[("resolver", "inside")]));
        let gateway = options(&[("resolver", "gateway")]);
        assert_eq!(place(&none, &none), Ok(None));
        assert_eq!(place(&none, &inside), Ok(Some(Place::Inside)));
        assert_eq!(place(&gateway, &inside), Ok(Some(Place::Gateway)));
        assert!(place(&options(&[("resolver", "x")]), &none).is_err());
        for bad in ["0", "x", "65536", ""] {
            assert!(check_network("app", &options(&[("dns-port", bad)]), "netd").is_err(), "{bad}");
        }
        assert_eq!(check_network("app", &options(&[("dns-port", "5353")]), "netd"), Ok(()));
    }

    #[test]
    fn domains_to_try_are_the_endpoints_own_or_its_networks() {
        let (none, network) = (options(&[]), options(&[("dns-search", "corp.example, lab")]));
        let own = options(&[("dns-search", ".")]);
        assert_eq!(search(&with_search(none.clone(), &network)), ["corp.example", "lab"]);
        assert_eq!(search(&with_search(own.clone(), &network)), ["."]);
        assert!(search(&with_search(none, &options(&[]))).is_empty());
        for good in [&network, &own] {
            assert_eq!(check_network("app", good, "netd"), Ok(()));
        }
        for bad in ["", " , ", "a..b", "corp.example,.", "x y"] {
            let given = options(&[("dns-search", bad)]);
            assert!(check_network("app", &given, "netd").is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_to_other_hosts_what_they_are_here() {
        let all = ["http=80", "81", "dns=53/udp", "7/sctp", "8000-8010/udp"].map(str::to_owned);
        let ports = ports_read(&all);
        assert_eq!(ports.iter().map(port_text).collect::<Vec<_>>(), all);
        let later = ["http=80".to_owned(), "80/quic".to_owned(), "80,81".to_owned()];
        assert_eq!(*ports_read(&later), ports[..1]);
    }

    #[test]
    fn ports_are_exposed_by_number_and_perhaps_by_name() {
        let given = |list| exposed(&options(&[("expose", list)]));
        let ports = given("80, http=8080/tcp,53/udp,100-110").expect("ports");
        let all: Vec<_> = ports.iter().map(|p| (p.number, p.last, p.service.as_deref())).collect();
        assert_eq!(
            all,
            [(80, 80, None), (8080, 8080, Some("http")), (53, 53, None), (100, 110, None)]
        );
        assert_eq!(ports[2].protocol, dns::Protocol::Udp);
        let long = format!("{}=80", "x".repeat(63));
        for bad in [
            "",
            "0",
            "x",
            "80/xyz",
            "=80",
            "http=",
            "http",
            "70000",
            "a..b=80",
            "a.b=80",
            "a b=80",
            "81=80",
            "tcp=80",
            "UDP=53",
            "http=80-81",
            "81-80",
            "0-9",
            "80-",
            "65535-65536",
            "bü=80",
            "http=80,",
            "http=80,web=80",
            "80,http=80/TCP",
            &long,
        ] {
            assert!(given(bad).is_err(), "{bad}");
        }
    }
}
