//! Names of others, as far as netd and its networks stand in their way: a name server that is netd
//! itself, at the gateway of a network or elsewhere, one that would never be asked, and a host that has
//! nobody to ask.

use std::{
    fmt, iter,
    net::{IpAddr, SocketAddr},
};

use cnm::{
    Error, NetworkId, Result,
    network::Network,
    options::{self, DNS_PORT},
};

use ipnetwork::IpNetwork;

use super::{
    PORT, Resolver,
    given::{Options, stubs, upstreams},
    inside,
};
use crate::{netd::Netd, registry::Registry};

/// Refuses name servers that are netd itself, at the gateways of networks, inside containers or where
/// the configuration has it listen (`fixed`): it does not ask itself, and would tell nothing of other
/// networks if it did. `own` is the network whose options they are, or of whose endpoint.
fn check_servers<'a>(
    options: &Options,
    own: Option<&NetworkId>,
    fixed: &[SocketAddr],
    networks: impl Iterator<Item = &'a Network>,
) -> Result<()> {
    let servers = servers_of(options)?;
    if servers.is_empty() {
        return Ok(());
    }
    let Some((ip, itself)) = netd_among(&servers, fixed, networks) else { return Ok(()) };
    let mut error = match itself {
        Itself::Gateway(network) if own != Some(&network.id) => Error::invalid(format_args!(
            "the name server {ip} is the gateway of network {}, where netd itself answers, and its own \
             members only: leave it out, and connect containers to both networks, where they know the \
             names of both",
            network.name
        )),
        _ => Error::invalid(format_args!(
            "the name server {ip} is netd itself, {itself}: leave it out, and netd asks others by itself, \
             or name one of those"
        )),
    };
    if let Itself::Gateway(network) = itself {
        error = error.with("network", network.id.as_str());
    }
    Err(error.with("dns", ip.to_string()))
}

/// Where a name server is netd itself.
enum Itself<'a> {
    Inside,
    Fixed,
    Gateway(&'a Network),
}

impl fmt::Display for Itself<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inside => f.write_str("inside containers"),
            Self::Fixed => f.write_str("where its configuration has it listen"),
            Self::Gateway(network) => write!(f, "at the gateway of network {}", network.name),
        }
    }
}

/// The first of some servers that is netd itself.
fn netd_among<'a>(
    servers: &[SocketAddr],
    fixed: &[SocketAddr],
    mut networks: impl Iterator<Item = &'a Network>,
) -> Option<(IpAddr, Itself<'a>)> {
    let find = |is: &dyn Fn(&SocketAddr) -> bool| {
        servers.iter().find(|server| is(server)).map(SocketAddr::ip)
    };
    let plain = |server: &SocketAddr| SocketAddr::new(server.ip().to_canonical(), server.port());
    if let Some(ip) = find(&is_inside) {
        return Some((ip, Itself::Inside));
    }
    if let Some(ip) = find(&|server| fixed.contains(&plain(server))) {
        return Some((ip, Itself::Fixed));
    }
    networks.find_map(|network| {
        let ip = find(&|server| is_asked_at(network, server))?;
        Some((ip, Itself::Gateway(network)))
    })
}

/// Refuses servers of domains that are in zones of netd's own, the networks' reverse zones among them.
fn check_stubs<'a>(
    options: &Options,
    domain: &str,
    networks: impl Iterator<Item = &'a Network>,
) -> Result<()> {
    let stubs = stubs(options)?;
    if stubs.is_empty() {
        return Ok(());
    }
    let zones: Vec<_> = networks.flat_map(own_zones).collect();
    stubs.into_iter().try_for_each(|stub| {
        dns::check_stub(&stub.domain, domain, zones.iter().copied())
            .map_err(|error| Error::invalid(error).with("dns", stub.domain))
    })
}

/// Refuses gateways that are name servers of other networks: netd would answer there in their place.
fn check_gateways<'a>(
    network: &Network,
    mut others: impl Iterator<Item = &'a Network>,
) -> Result<()> {
    let asks = |other: &'a Network| {
        let servers = servers_of(&other.options).ok()?;
        let server = servers.iter().find(|server| is_asked_at(network, server))?;
        Some((other, server.ip()))
    };
    let Some((other, server)) = others.find_map(asks) else { return Ok(()) };
    Err(Error::invalid(format_args!(
        "{server} is a name server of network {}, and would be netd itself as the gateway of \
         network {}: choose another gateway or subnet, or name another server there",
        other.name, network.name
    ))
    .with("gateway", server.to_string())
    .with("network", other.id.as_str()))
}

/// All that a network's options name, for whatever names.
fn servers_of(options: &Options) -> Result<Vec<SocketAddr>> {
    let mut servers = upstreams(options)?;
    servers.extend(stubs(options)?.into_iter().flat_map(|stub| stub.servers));
    Ok(servers)
}

/// The subnets whose reverse zones are netd's own: one that is not behind this host has its own names
/// for its addresses.
pub(super) fn own_zones(network: &Network) -> impl Iterator<Item = IpNetwork> + use<'_> {
    let own = network.subnets.iter().filter(|_| network.link.is_some());
    own.map(|subnet| subnet.subnet)
}

/// Whether netd is asked at an address inside containers.
fn is_inside(server: &SocketAddr) -> bool {
    server.ip().to_canonical() == inside::ADDRESS && server.port() == PORT
}

/// Whether netd is asked at an address as a network's gateway: the host is on it, and has that address.
fn is_asked_at(network: &Network, server: &SocketAddr) -> bool {
    let ip = server.ip().to_canonical();
    let port = DNS_PORT.port(&network.options).unwrap_or(PORT);
    network.link.is_some()
        && !options::is_isolated(&network.options, ip.is_ipv6())
        && network.subnets.iter().any(|subnet| subnet.gateway == Some(ip))
        && [PORT, port].contains(&server.port())
}

impl Netd {
    /// Refuses name servers, of a network or one of its endpoints, that are netd itself or would never
    /// be asked.
    pub(crate) fn check_servers(&self, options: &Options, own: &NetworkId) -> Result<()> {
        let registry = self.registry.borrow();
        let networks = || registry.networks().map(|entry| &entry.network);
        check_stubs(options, &self.config.dns_domain, networks())?;
        check_servers(options, Some(own), &self.fixed_resolvers(), networks())
    }

    /// That name servers are netd itself: of a network that came from another host, or where netd
    /// listens since, which could not be refused.
    pub(crate) fn asks_itself(&self, registry: &Registry) -> Vec<String> {
        let fixed = self.fixed_resolvers();
        let problem = |who: String, options: &Options| {
            let networks = registry.networks().map(|entry| &entry.network);
            let (ip, itself) = netd_among(&servers_of(options).ok()?, &fixed, networks)?;
            Some(format!(
                "the name server {ip} of {who} is netd itself, {itself}, and so it is not asked: name \
                 another (dns=ADDRESS), or none"
            ))
        };
        let of_networks = registry
            .networks()
            .filter_map(|it| problem(format!("network {}", it.network.name), &it.network.options));
        let of_endpoints = registry.endpoints().filter_map(|it| {
            let who = format!("container {} on network {}", it.container.label(), it.network_name);
            problem(who, &it.options)
        });
        of_networks.chain(of_endpoints).collect()
    }

    /// Servers of domains that are in zones of netd's own since, as a network came that has the
    /// addresses: nobody asks them any more.
    pub(crate) fn asked_no_more(&self, registry: &Registry) -> Vec<String> {
        let zones: Vec<_> =
            registry.networks().flat_map(|entry| own_zones(&entry.network)).collect();
        let problem = |who: String, stubs: &[dns::Stub]| {
            let check = |stub: &dns::Stub| {
                dns::check_stub(&stub.domain, &self.config.dns_domain, zones.iter().copied()).err()
            };
            stubs.iter().find_map(check).map(|error| format!("of the servers of {who}: {error}"))
        };
        let of = |who: String, options: &Options| problem(who, &stubs(options).ok()?);
        let of_networks = registry
            .networks()
            .filter_map(|it| of(format!("network {}", it.network.name), &it.network.options));
        let of_endpoints = registry.endpoints().filter_map(|it| {
            let who = format!("container {} on network {}", it.container.label(), it.network_name);
            of(who, &it.options)
        });
        let own = problem("dns_stubs".to_owned(), &self.config.dns_stubs);
        own.into_iter().chain(of_networks).chain(of_endpoints).collect()
    }

    /// As [`Netd::check_servers`], of a network that is to be; and refuses gateways of it that are asked
    /// as servers of others.
    pub(crate) fn check_outside(&self, network: &Network) -> Result<()> {
        let (options, own) = (&network.options, &network.id);
        check_stubs(options, &self.config.dns_domain, iter::once(network))?;
        check_servers(options, Some(own), &[], iter::once(network))?;
        self.check_servers(options, own)?;
        let registry = self.registry.borrow();
        let others = registry.networks().map(|entry| &entry.network);
        check_gateways(network, others.filter(|other| other.id != *own))
    }
}

impl Resolver {
    /// That containers have nobody to ask for names of others, if there are such.
    pub(crate) fn nobody_to_ask(&self, registry: &Registry) -> Option<String> {
        let networks = registry.networks().filter(|entry| {
            let network = &entry.network;
            // Who asks nobody, or somebody else than netd, does not mind.
            let asks = !network.internal && names_nobody(&network.options);
            asks && registry
                .endpoints_on(&network.id)
                .any(|endpoint| !endpoint.dns.is_empty() && names_nobody(&endpoint.options))
        });
        let mut names: Vec<_> = networks.map(|entry| entry.network.name.as_str()).collect();
        if names.is_empty() || !self.server.host_servers().is_empty() {
            return None;
        }
        names.sort_unstable();
        Some(format!(
            "the host's /etc/resolv.conf names no server that netd could ask, and containers on {} \
             have no other for names of others: name one there, in dns_upstreams, or for a network \
             (dns=ADDRESS)",
            names.join(", ")
        ))
    }
}

fn names_nobody(options: &Options) -> bool {
    upstreams(options).is_ok_and(|servers| servers.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::IpAddr};

    use cnm::network::Subnet;

    use super::*;

    fn network(id: u8, name: &str, gateway: &str, options: &[(&str, &str)]) -> Network {
        let gateway: IpAddr = gateway.parse().expect("an address");
        let subnet = IpNetwork::new(gateway, if gateway.is_ipv4() { 24 } else { 64 });
        let mut subnet = Subnet::new(subnet.expect("a subnet"));
        subnet.gateway = Some(gateway);
        Network {
            id: NetworkId::from_bytes([id; 32]),
            name: name.parse().expect("a name"),
            driver: "bridge".into(),
            created: String::new(),
            subnets: vec![subnet],
            internal: false,
            predefined: false,
            link: Some(format!("br{id}").parse().expect("a name")),
            mtu: None,
            overlay: None,
            options: given(options),
            labels: BTreeMap::new(),
            idempotency_key: None,
        }
    }

    fn given(options: &[(&str, &str)]) -> Options {
        let pairs = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        pairs.collect::<BTreeMap<_, _>>()
    }

    #[test]
    fn a_server_that_is_netd_itself_is_refused() {
        let back = network(1, "back", "10.2.0.1", &[("dns-port", "5353")]);
        let six = network(2, "six", "fd00::1", &[]);
        let mut lan = network(3, "lan", "10.3.0.1", &[]);
        lan.link = None;
        let apart = network(4, "apart", "10.4.0.1", &[("gateway-mode-ipv4", "isolated")]);
        let all = [back, six, lan, apart];
        let check = |option, list| check_servers(&given(&[(option, list)]), None, &[], all.iter());
        for (option, list) in [
            ("dns", "10.2.0.1"),
            ("dns", "192.0.2.1,10.2.0.1:5353"),
            ("dns", "::ffff:10.2.0.1"),
            ("dns.example.corp", "10.2.0.1"),
        ] {
            let error = check(option, list).expect_err(list).message;
            assert!(error.contains("10.2.0.1 is the gateway of network back"), "{error}");
            assert!(error.contains("connect containers to both"), "{error}");
        }
        assert!(check("dns", "fd00::1").is_err());
        // Another server on the host, a router, and one that is nobody's gateway.
        for list in ["10.2.0.1:54", "10.2.0.2", "10.3.0.1", "10.4.0.1", "192.0.2.1"] {
            check("dns", list).expect(list);
        }
    }

    #[test]
    fn a_networks_own_gateway_and_the_resolver_inside_are_no_servers() {
        let app = network(1, "app", "10.2.0.1", &[]);
        let fixed = ["127.0.0.77:53", "169.254.76.53:53"].map(|at| at.parse().expect("an address"));
        let check = |list| {
            check_servers(&given(&[("dns", list)]), Some(&app.id), &fixed, [&app].into_iter())
        };
        let error = check("192.0.2.1,10.2.0.1").expect_err("its own");
        assert_eq!(error.kind, cnm::Kind::Invalid);
        assert!(error.message.contains("at the gateway of network app"), "{}", error.message);
        for fixed in ["127.0.0.77", "::ffff:127.0.0.77", "192.0.2.1,169.254.76.53"] {
            let error = check(fixed).expect_err(fixed).message;
            assert!(error.contains("where its configuration has it listen"), "{error}");
        }
        for inside in ["127.0.0.11", "::ffff:127.0.0.11", "127.0.0.11:53"] {
            let error = check(inside).expect_err(inside).message;
            assert!(error.contains("is netd itself, inside containers: leave it out"), "{error}");
        }
        for other in ["127.0.0.11:5353", "127.0.0.53", "127.0.0.77:5353", "10.2.0.9"] {
            check(other).expect(other);
        }
    }

    #[test]
    fn a_gateway_that_is_somebodys_server_is_refused() {
        let all = [network(1, "back", "10.2.0.1", &[("dns", "10.5.0.53")])];
        let check = |gateway| check_gateways(&network(2, "app", gateway, &[]), all.iter());
        let error = check("10.5.0.53").expect_err("it is asked").message;
        assert!(error.starts_with("10.5.0.53 is a name server of network back"), "{error}");
        check("10.5.0.1").expect("nobody's");
    }
}
