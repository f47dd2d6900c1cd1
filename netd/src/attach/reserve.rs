//! What an attach is to have: everything that was not said is chosen, and all of it is held.

use std::{collections::BTreeSet, net::IpAddr};

use cnm::{
    Error, IfName, Kind, Name, Result,
    bandwidth::Bandwidth,
    driver::Capabilities,
    endpoint::{AddressRange, Attach, Endpoint, Port, Route, State},
    network::Network,
    options::is_delivered_on_host,
};
use ipnetwork::IpNetwork;

use super::wishes;
use crate::{
    clock,
    host::sockets::{self, Bound},
    names::given::{check_endpoint, with_search},
    netd::Netd,
    networks::divided::not_anothers,
    registry::{
        Registry, Stage, Taker, Wishes, check_bound, from_outside, holders::called, protocols,
    },
};

impl Netd {
    /// The endpoint as it is to be; its addresses and ports are nobody else's from now on.
    pub(super) fn reserve(
        &self,
        network: &Network,
        params: Attach,
        ifname: IfName,
        capabilities: Capabilities,
        key: Option<String>,
    ) -> Result<Endpoint> {
        let id = clock::endpoint_id()?;
        check_request(network, &params, capabilities)?;
        check_endpoint(&params, network, &self.config.dns_domain)?;
        self.check_servers(&params.options, &network.id)?;
        let mac = match params.mac {
            Some(mac) => {
                self.check_mac(network, mac)?;
                Some(mac)
            }
            None if capabilities.addresses => Some(clock::mac()?),
            None => None,
        };
        let now = self.now();
        let mut ports = params.ports;
        sockets::check_addresses(&mut ports)?;
        // Who has one of many is seen later.
        let unseen = params.ports_bound || sockets::are_many(&ports);
        let bound = if unseen { Vec::new() } else { self.bound_by_host(&ports)? };
        let (addresses, dns, metric) = {
            let mut registry = self.registry.borrow_mut();
            let metric = registry.next_metric(&params.container.id, params.gateway_priority)?;
            registry.not_called_so(&id, &network.id, &params.container)?;
            if from_outside(network) {
                registry.not_anybodys(network, &params.addresses)?;
            }
            let entry = registry.network_mut(&network.id);
            let entry = entry.filter(|entry| entry.stage != Stage::Leaving).ok_or_else(|| {
                Error::not_found(format_args!("network {} not found", network.name))
                    .with("network", network.id.as_str())
            })?;
            if entry.stage == Stage::Making {
                return Err(Error::new(
                    Kind::Busy,
                    format_args!("network {} is still being made", network.name),
                )
                .with("network", network.id.as_str()));
            }
            let name = params.container.name.as_ref();
            let leased = match &params.assigned {
                None => {
                    let (wanted, ranges, sticky) =
                        (&params.addresses, &params.ranges, params.sticky);
                    entry.lease(Wishes { wanted, ranges, name, sticky }, now)
                }
                Some(assigned) => {
                    let kept = entry.keep(&assigned.addresses, name, now);
                    kept.map(|()| assigned.addresses.clone())
                }
            };
            let addresses = match leased {
                Ok(addresses) => addresses,
                Err(error) => return Err(registry.with_holder(network, error)),
            };
            let dns = entry.dns.iter().copied().filter(|dns| is_near(&addresses, *dns)).collect();
            registry.share(&network.id, &addresses);
            let container = &params.container.id;
            let others: Vec<_> = registry.endpoints_of(container).map(|e| e.id.clone()).collect();
            let taker = Taker { endpoint: &id, container, others: &others, bound: &bound };
            if let Err(error) = registry.ports.take(taker, &mut ports) {
                registry.release(&network.id, &addresses, now);
                return Err(name_holder(&registry, error));
            }
            (addresses, dns, metric)
        };
        let gateways = match &params.assigned {
            _ if network.internal => Vec::new(),
            None => {
                // The first that it has of each family: more of them would cost the same.
                let of = |v4: bool| {
                    let mut own = addresses.iter().filter(|address| address.is_ipv4() == v4);
                    own.find_map(|address| network.subnet_of(address.ip())?.gateway)
                };
                [of(true), of(false)].into_iter().flatten().collect()
            }
            Some(assigned) => assigned.gateways.clone(),
        };
        let (gateways, mut routes) = ways(gateways, params.routes.as_deref(), &addresses);
        for route in routes.iter_mut().filter(|route| route.is_default() && metric != 0) {
            route.priority.get_or_insert(metric);
        }
        if params.assigned.is_none() && params.routes.is_none() {
            routes.extend(beside(network, &addresses));
        }
        Ok(Endpoint {
            id,
            network: network.id.clone(),
            network_name: network.name.clone(),
            container: params.container,
            ifname,
            state: State::Attaching,
            mac,
            addresses,
            gateways,
            routes,
            metric,
            dns,
            aliases: params.aliases,
            ports,
            ports_bound: params.ports_bound,
            bandwidth: params.bandwidth.and_then(|b| Bandwidth::of(b.ingress, b.egress)),
            netns: None,
            mtu: None,
            options: with_search(params.options, &network.options),
            labels: params.labels,
            created: clock::timestamp(),
            idempotency_key: key,
        })
    }

    /// Refuses what an endpoint publishes where a process of the host has it.
    pub(super) fn check_unbound(&self, endpoint: &Endpoint) -> Result<()> {
        let bound = self.bound_by_host(&endpoint.ports)?;
        let registry = self.registry.borrow();
        // What leads through another endpoint of the container is its already.
        let own = |port: &&Port| registry.ports.leads_through(&endpoint.id, port);
        let mut ports = endpoint.ports.iter().filter(own);
        ports.try_for_each(|port| check_bound(port, &bound, &endpoint.container.id))
    }

    /// What processes of the host hold, of the protocols of these ports: one look for all of them,
    /// and none where there are none.
    pub(super) fn bound_by_host(&self, ports: &[Port]) -> Result<Vec<Bound>> {
        if sockets::are_free(ports) {
            return Ok(Vec::new());
        }
        // One that is to be any may be any.
        let first = ports.iter().map(|port| port.host_port).min().unwrap_or_default();
        let last = |port: &Port| {
            let last = port.host_port.saturating_add(port.count.saturating_sub(1));
            port.host_port_to.map_or(last, |to| last.max(to))
        };
        let last = match first {
            0 => u16::MAX,
            _ => ports.iter().map(last).max().unwrap_or_default(),
        };
        let bound = sockets::bound_within(&protocols(ports), first..=last);
        let mut bound = bound.map_err(|error| {
            Error::internal(format_args!("cannot see which ports the host holds: {error}"))
        })?;
        bound.retain(|socket| !self.relay.has(socket));
        Ok(bound)
    }

    /// The name of the new interface.
    pub(super) fn choose_ifname(
        &self,
        network: &Network,
        params: &Attach,
        capabilities: Capabilities,
    ) -> Result<IfName> {
        if !capabilities.addresses {
            return Ok(IfName::lo());
        }
        if let Some(given) = &params.ifname {
            if *given == IfName::lo() {
                return Err(Error::invalid(
                    "invalid interface name lo: it is the loopback interface, which the container \
                     has already; name another",
                )
                .with("ifname", given.as_str()));
            }
            return Ok(given.clone());
        }
        let registry = self.registry.borrow();
        let container = &params.container.id;
        // Asked again without a name, it is the same endpoint that is meant.
        let mut own = registry.endpoints_of(container);
        match own.find(|e| e.network == network.id) {
            Some(same) => Ok(same.ifname.clone()),
            None => Ok(registry.free_ifname(container, wishes::prefix(&network.options)?)),
        }
    }

    /// The endpoint that the request would make again; an error unless it has the request's key.
    pub(super) fn existing(
        &self,
        network: &Network,
        params: &Attach,
        ifname: &IfName,
        key: Option<&str>,
    ) -> Result<Option<Endpoint>> {
        let registry = self.registry.borrow();
        let mut own = registry.endpoints_of(&params.container.id);
        let Some(existing) = own.find(|e| e.ifname == *ifname) else { return Ok(None) };
        if existing.network == network.id
            && key.is_some()
            && existing.idempotency_key.as_deref() == key
        {
            return Ok(Some(existing.clone()));
        }
        Err(Error::exists(format_args!(
            "container {} already has {} on network {}: say an ifname for another interface",
            params.container.label(),
            existing.ifname,
            existing.network_name
        ))
        .with("endpoint", existing.id.as_str()))
    }
}

/// Names the endpoint that holds a port, as people know it.
pub(super) fn name_holder(registry: &Registry, mut error: Error) -> Error {
    let id = error.operands.get("endpoint").and_then(|id| id.as_str()).map(str::to_owned);
    let holder = id.and_then(|id| registry.resolve_endpoint(&id).ok());
    if let Some(holder) = holder {
        error.message = error.message.replace(
            &format!("endpoint {}", holder.id.short()),
            &format!("{} on network {}", called(holder), holder.network_name),
        );
    }
    error
}

/// Whether a resolver is on a subnet of these addresses, if on one of their family at all.
fn is_near(addresses: &[IpNetwork], dns: IpAddr) -> bool {
    let mut family =
        addresses.iter().filter(|address| address.is_ipv4() == dns.is_ipv4()).peekable();
    family.peek().is_none() || family.any(|address| address.contains(dns))
}

/// The ways to the network's other subnets of the families that somebody has: they are on the same
/// link.
fn beside(network: &Network, addresses: &[IpNetwork]) -> Vec<Route> {
    let family = |subnet: &IpNetwork| addresses.iter().any(|a| a.is_ipv4() == subnet.is_ipv4());
    let own = |subnet: &IpNetwork| addresses.iter().any(|address| subnet.contains(address.ip()));
    let subnets = network.subnets.iter().map(|subnet| subnet.subnet);
    let others = subnets.filter(|subnet| family(subnet) && !own(subnet));
    others.map(|dst| Route::new(dst, None)).collect()
}

/// The default routes and the others: all that lead through the network's gateways unless told.
fn ways(
    gateways: Vec<IpAddr>,
    wanted: Option<&[Route]>,
    addresses: &[IpNetwork],
) -> (Vec<IpAddr>, Vec<Route>) {
    let Some(wanted) = wanted else { return (gateways, Vec::new()) };
    let (mut defaults, mut routes): (Vec<IpAddr>, _) = (Vec::new(), Vec::new());
    for route in wanted {
        let v4 = route.dst.is_ipv4();
        if !addresses.iter().any(|address| address.is_ipv4() == v4) {
            continue;
        }
        let leads_on = !route.is_on_link() && route.refusal.is_none();
        let own = gateways.iter().copied().find(|g| g.is_ipv4() == v4 && leads_on);
        match route.gateway.or(own) {
            Some(gateway) if route.dst.prefix() == 0 && !route.has_details() => {
                if defaults.iter().all(|other| other.is_ipv4() != v4) {
                    defaults.push(gateway);
                }
            }
            // Where there is no way out there is none to everywhere.
            None if route.dst.prefix() == 0 && leads_on => {}
            gateway => routes.push(Route { gateway, ..*route }),
        }
    }
    (defaults, routes)
}

/// Refuses ports that the network cannot publish.
pub(super) fn check_ports(
    network: &Network,
    ports: &[Port],
    capabilities: Capabilities,
) -> Result<()> {
    if !ports.is_empty() && (!capabilities.ports || network.internal) {
        let (name, driver) = (&network.name, &network.driver);
        let why = if network.internal {
            "it is internal".to_owned()
        } else {
            format!("its driver is {driver}")
        };
        return Err(Error::invalid(format_args!(
            "network {name} publishes no ports, since {why}: leave them out, or use a bridge \
             network that is not internal"
        ))
        .with("network", network.id.as_str()));
    }
    if let Some(port) = ports.iter().find(|port| !port.is_possible()) {
        let (first, count) = (port.host_port.max(port.container_port), port.count);
        return Err(Error::invalid(format_args!(
            "there are no {count} ports from {first} on: the last is 65535"
        ))
        .with("port", first)
        .with("count", count));
    }
    let is_wrong = |port: &&Port| {
        let (first, many) = (port.host_port, port.count != 1);
        port.host_port_to.is_some_and(|last| many || first == 0 || last < first)
    };
    if let Some(port) = ports.iter().find(is_wrong) {
        return Err(Error::invalid(format_args!(
            "invalid ports {port}: those of the host to choose from are for one port of the \
             container, the first before the last"
        ))
        .with("port", port.host_port));
    }
    Ok(())
}

/// Refuses addresses that somebody else gives out, but for what is kept for the container's name.
fn check_parts(network: &Network, params: &Attach) -> Result<()> {
    let assigned = params.assigned.iter().flat_map(|assigned| &assigned.addresses);
    let named = params.addresses.iter().copied().chain(assigned.map(IpNetwork::ip));
    let name = params.container.name.as_ref().map(Name::as_str);
    let is_kept = |address: &IpAddr| {
        let mut kept = network.subnets.iter().flat_map(|subnet| &subnet.reserved);
        kept.any(|(owner, kept)| {
            kept == address && name.is_some_and(|name| name.eq_ignore_ascii_case(owner.as_str()))
        })
    };
    let mut named = named.filter(|address| !is_kept(address));
    named.try_for_each(|address| not_anothers(network, address, &params.labels))
}

/// Refuses what the network cannot give.
fn check_request(network: &Network, params: &Attach, capabilities: Capabilities) -> Result<()> {
    check_ports(network, &params.ports, capabilities)?;
    let assigned = params.assigned.as_ref().map_or(&[][..], |assigned| &assigned.addresses);
    if !assigned.is_empty() && !params.addresses.is_empty() {
        return Err(Error::invalid(
            "addresses are asked for and brought along: leave one of them out",
        ));
    }
    let asks = !params.addresses.is_empty() || !assigned.is_empty() || params.mac.is_some();
    if !capabilities.addresses && asks {
        return Err(Error::invalid(format_args!(
            "network {} gives no addresses: leave the address out",
            network.name
        ))
        .with("network", network.id.as_str()));
    }
    check_parts(network, params)?;
    check_routes(network, params)?;
    if params.bandwidth.is_some() && !capabilities.bandwidth {
        return Err(Error::unsupported(format_args!(
            "the driver {} of network {} limits no bandwidth: leave the limit out",
            network.driver, network.name
        ))
        .with("network", network.id.as_str()));
    }
    let mut sets = BTreeSet::new();
    for address in &params.addresses {
        let Some(subnet) = network.subnet_of(*address) else {
            return Err(Error::invalid(format_args!(
                "no configured subnet of network {} contains IP address {address}",
                network.name
            ))
            .with("address", address.to_string())
            .with("network", network.id.as_str()));
        };
        if !sets.insert((address.is_ipv6(), subnet.set)) {
            return Err(Error::invalid(format_args!(
                "an endpoint has one address of each family, or of each of its sets of subnets: \
                 {address} is a second one"
            ))
            .with("address", address.to_string()));
        }
    }
    check_ranges(network, params)
}

/// Refuses routes through somebody who is not on the network: the kernel would, but late.
fn check_routes(network: &Network, params: &Attach) -> Result<()> {
    let routes = params.routes.as_deref().unwrap_or_default();
    if is_delivered_on_host(&params.options) {
        // Who sets it up sees to its routes.
        return Ok(());
    }
    let assigned = params.assigned.iter().flat_map(|assigned| &assigned.addresses);
    let subnets = network.subnets.iter().map(|subnet| subnet.subnet);
    let mut near: Vec<IpNetwork> = subnets.chain(assigned.copied()).collect();
    // Of a family in which nobody has an address the routes are left out.
    let families = [false, true].map(|v4| near.iter().any(|subnet| subnet.is_ipv4() == v4));
    let has_way_out = !network.internal && network.subnets.iter().any(|s| s.gateway.is_some());
    let on_link = |route: &&Route| {
        route.gateway.is_none() && route.refusal.is_none() && (route.is_on_link() || !has_way_out)
    };
    near.extend(routes.iter().filter(on_link).map(|route| route.dst));
    for (dst, gateway) in routes.iter().filter_map(|route| Some((route.dst, route.gateway?))) {
        let v4 = gateway.is_ipv4();
        let why = if dst.is_ipv4() != v4 {
            "which is of the other family".to_owned()
        } else if families[usize::from(v4)] && !near.iter().any(|s| is_within(*s, gateway)) {
            format!("who is not on network {}: name an address of its subnets", network.name)
        } else {
            continue;
        };
        return Err(Error::invalid(format_args!(
            "the route to {dst} goes through {gateway}, {why}"
        ))
        .with("gateway", gateway.to_string())
        .with("network", network.id.as_str()));
    }
    Ok(())
}

/// Whether somebody on the link of a subnet can have this address.
fn is_within(subnet: IpNetwork, address: IpAddr) -> bool {
    if matches!(address, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return subnet.is_ipv6();
    }
    // Of two addresses both are somebody's (RFC 3021).
    let edges = subnet.is_ipv4() && subnet.prefix() < 31;
    let is_edge = address == subnet.network() || address == subnet.broadcast();
    subnet.contains(address) && !(edges && is_edge)
}

/// Refuses ranges that no address of the network can come from.
fn check_ranges(network: &Network, params: &Attach) -> Result<()> {
    if params.ranges.is_empty() {
        return Ok(());
    }
    if Netd::is_shared(&network.driver) || from_outside(network) || params.assigned.is_some() {
        return Err(Error::unsupported(format_args!(
            "the addresses of network {} are not this host's alone to choose: leave the ranges out",
            network.name
        ))
        .with("network", network.id.as_str()));
    }
    for AddressRange { first, last } in &params.ranges {
        let subnet = network.subnet_of(*first);
        if last < first || !subnet.is_some_and(|subnet| subnet.subnet.contains(*last)) {
            return Err(Error::invalid(format_args!(
                "network {} has no subnet with a range from {first} to {last}",
                network.name
            ))
            .with("first", first.to_string())
            .with("last", last.to_string())
            .with("network", network.id.as_str()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cnm::network::Subnet;

    use super::*;

    #[test]
    fn routes_lead_through_the_networks_gateways_unless_told() {
        let gateways: Vec<IpAddr> = ["10.0.0.1", "fd00::1"].map(|g| g.parse().expect("ip")).into();
        let four: IpNetwork = "10.0.0.5/24".parse().expect("an address");
        let six: IpNetwork = "fd00::5/64".parse().expect("an address");
        let route = |dst: &str, gateway: Option<&str>| {
            let gateway = gateway.map(|gateway| gateway.parse().expect("an address"));
            Route::new(dst.parse().expect("a network"), gateway)
        };
        assert_eq!(ways(gateways.clone(), None, &[four]), (gateways.clone(), Vec::new()));
        assert_eq!(ways(gateways.clone(), Some(&[]), &[four]), (Vec::new(), Vec::new()));
        let wanted = [
            route("0.0.0.0/0", None),
            route("0.0.0.0/0", Some("10.0.0.9")),
            route("::/0", None),
            route("10.7.0.0/16", None),
            route("10.8.0.0/16", Some("10.0.0.9")),
        ];
        let (defaults, routes) = ways(gateways.clone(), Some(&wanted), &[four]);
        assert_eq!(defaults, gateways[..1], "the first of a family, and no IPv6 without one");
        let through: Vec<_> = routes.iter().map(|route| route.gateway).collect();
        assert_eq!(through, [Some(gateways[0]), "10.0.0.9".parse().ok()]);
        let (defaults, _) = ways(gateways.clone(), Some(&wanted), &[four, six]);
        assert_eq!(defaults, gateways);
        let (defaults, routes) = ways(Vec::new(), Some(&wanted[..4]), &[four]);
        assert_eq!(defaults, ["10.0.0.9".parse::<IpAddr>().expect("an address")]);
        assert_eq!(routes, [route("10.7.0.0/16", None)], "on the link itself");
    }

    #[test]
    fn what_is_of_another_subnet_is_on_the_link_and_its_gateway_nobodys() {
        let parse = |text: &str| text.parse::<IpNetwork>().expect("a network");
        let mut network = Network {
            id: cnm::NetworkId::from_bytes([1; 32]),
            name: "app".parse().expect("a name"),
            driver: "bridge".into(),
            created: String::new(),
            subnets: ["10.0.0.0/24", "10.1.0.0/24", "fd00::/64"]
                .map(|text| Subnet::new(parse(text)))
                .into(),
            internal: false,
            predefined: false,
            link: None,
            mtu: None,
            overlay: None,
            options: Default::default(),
            labels: Default::default(),
            idempotency_key: None,
        };
        let both = [parse("10.1.0.5/24"), parse("fd00::5/64")];
        let to: Vec<_> = beside(&network, &both).iter().map(|route| route.dst).collect();
        assert_eq!(to, [parse("10.0.0.0/24")]);
        assert_eq!(beside(&network, &both[1..]), [], "no IPv4 without an address of it");
        let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
        assert!(!is_near(&both, ip("10.0.0.1")) && is_near(&both, ip("10.1.0.1")));
        assert!(is_near(&both[1..], ip("10.0.0.1")), "there is none that is nearer");
        network.subnets.truncate(1);
        assert_eq!(beside(&network, &[parse("10.0.0.5/24")]), []);
    }

    #[test]
    fn a_default_route_of_which_more_is_said_is_one_of_the_others() {
        let gateway: IpAddr = "10.0.0.1".parse().expect("an address");
        let four: IpNetwork = "10.0.0.5/24".parse().expect("an address");
        let any: IpNetwork = "0.0.0.0/0".parse().expect("a network");
        let costly = Route { priority: Some(50), ..Route::new(any, None) };
        let on_link = Route { scope: Some(253), ..Route::new(any, None) };
        let wanted = [costly, Route::new(any, None), on_link];
        let (defaults, routes) = ways(vec![gateway], Some(&wanted), &[four]);
        assert_eq!(defaults, [gateway]);
        assert_eq!(routes, [Route { gateway: Some(gateway), ..costly }, on_link]);
    }
}
