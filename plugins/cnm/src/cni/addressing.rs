//! The `ipam` block: in the words of `host-local`, or another plugin's own business.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde_json::{Value, json};

use super::{
    keys::{Item, Keys},
    outcome::Dns,
    refusal::{Refusal, Result},
};
use crate::{
    endpoint::{AddressRange, Route},
    network::Subnet,
};

/// Who gives addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ipam {
    /// netd, as it sees fit.
    Left,
    /// netd, from these.
    Given {
        /// One set of subnets for each range set.
        subnets: Vec<Subnet>,
        /// Where in them, when it is the runtime that says so, for one container.
        ranges: Vec<AddressRange>,
        /// Whether the block is a reference plugin's, whose words are taken as there.
        moved: bool,
    },
    /// Nobody: the interface has none.
    Nobody,
    /// Another plugin.
    Delegated,
}

/// The names under which netd itself is meant; `host-local` is, since its words are understood.
const OURS: [&str; 3] = ["netd", "netd-ipam", MOVED];

/// The reference's plugin that gives addresses of one host.
const MOVED: &str = "host-local";

/// The plugin that is to give the addresses, when it is not netd.
pub(super) fn delegate(keys: &Keys<'_>) -> Result<Option<String>> {
    let Some(ipam) = keys.object("ipam")? else { return Ok(None) };
    let Some(kind) = ipam.text("type")? else { return Ok(None) };
    if OURS.contains(&kind) && !(kind == MOVED && ipam.flag("delegate")?.unwrap_or(false)) {
        return Ok(None);
    }
    if kind.contains('/') || kind == "." || kind == ".." {
        let rule = "it should be the name of a plugin in CNI_PATH";
        return Err(Refusal::config("ipam.type", &Value::from(kind), rule));
    }
    Ok(Some(kind.to_owned()))
}

impl Ipam {
    pub(super) fn parse(keys: &Keys<'_>, runtime: Option<&Keys<'_>>) -> Result<Self> {
        if delegate(keys)?.is_some() {
            return Ok(Self::Delegated);
        }
        let ipam = keys.object("ipam")?;
        let (subnets, ranges) = subnets(ipam.as_ref(), runtime)?;
        let Some(ipam) = ipam else {
            return Ok(if subnets.is_empty() {
                Self::Left
            } else {
                Self::Given { subnets, ranges, moved: false }
            });
        };
        match ipam.text("type")? {
            // As in the reference: a block that names nobody.
            None if subnets.is_empty() => Ok(Self::Nobody),
            Some(MOVED) if subnets.is_empty() => Err(Refusal::new(
                Refusal::CONFIG,
                "ipam has neither ranges nor a subnet: give one, or leave the block out and netd \
                 chooses",
            )),
            kind => Ok(Self::Given { subnets, ranges, moved: kind == Some(MOVED) }),
        }
    }

    /// Whether nothing is said of addresses, so that everything about them is as netd has it.
    pub(super) fn is_left_to_netd(&self) -> bool {
        *self == Self::Left
    }

    /// The routes that a container is to have; none when it is to have the network's own.
    pub(super) fn routes(&self, keys: &Keys<'_>, default: bool) -> Result<Option<Vec<Route>>> {
        // Another plugin reads its block itself, and its routes come with its answer.
        let ipam = if *self == Self::Delegated { None } else { keys.object("ipam")? };
        let listed = ipam.map(|ipam| ipam.list("routes")).transpose()?.unwrap_or_default();
        let mut routes = Vec::new();
        for item in listed {
            routes.push(route(item)?);
        }
        let said = !routes.is_empty() || *self == Self::Nobody;
        let moved = matches!(self, Self::Given { moved: true, .. });
        if *self != Self::Delegated && !said && !moved {
            return Ok(None);
        }
        if default {
            for family in ["0.0.0.0/0", "::/0"] {
                let dst: IpNetwork = family.parse().expect("a network");
                if routes.iter().all(|route: &Route| route.dst != dst) {
                    routes.push(Route::new(dst, None));
                }
            }
        }
        Ok(Some(routes))
    }
}

/// A route of `ipam.routes`.
fn route(item: Item<'_>) -> Result<Route> {
    let keys = item.object()?;
    let dst = keys.parsed("dst")?.ok_or_else(|| {
        Refusal::new(Refusal::CONFIG, format_args!("{} is missing", keys.path("dst")))
    })?;
    details(&keys, Route::new(dst, keys.parsed("gw")?))
}

/// A route with what version 1.1.0 can say of it beside where it leads.
pub(super) fn details(keys: &Keys<'_>, route: Route) -> Result<Route> {
    let number = |key: &str| -> Result<Option<u32>> {
        let Some(number) = keys.number(key)? else { return Ok(None) };
        u32::try_from(number).map(Some).map_err(|_| {
            Refusal::config(&keys.path(key), &json!(number), "it should fit into 32 bits")
        })
    };
    let scope = number("scope")?.map(|scope| {
        u8::try_from(scope).map_err(|_| {
            let rule = "it should be 0 (global), 200 (site), 253 (link) or 254 (host)";
            Refusal::config(&keys.path("scope"), &json!(scope), rule)
        })
    });
    Ok(Route {
        // As in the reference: 0 is what the kernel takes by itself.
        mtu: number("mtu")?.filter(|mtu| *mtu != 0),
        advmss: number("advmss")?.filter(|advmss| *advmss != 0),
        priority: number("priority")?.filter(|priority| *priority != 0),
        table: number("table")?.filter(|table| *table != 0),
        scope: scope.transpose()?,
        ..route
    })
}

/// What `resolvConf` names, as a resolver would read it.
pub(super) fn resolver_file(keys: &Keys<'_>) -> Result<Option<Dns>> {
    let Some(ipam) = keys.object("ipam")? else { return Ok(None) };
    let Some(path) = ipam.text("resolvConf")? else { return Ok(None) };
    let text = std::fs::read_to_string(path)
        .map_err(|error| Refusal::config("ipam.resolvConf", &Value::from(path), error))?;
    let mut dns = Dns::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.nameservers.extend(words.next().map(str::to_owned)),
            Some("domain") => dns.domain = words.next().map(str::to_owned),
            Some("search") => dns.search.extend(words.map(str::to_owned)),
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    Ok(Some(dns))
}

/// One range of addresses as it is written.
struct Range {
    subnet: IpNetwork,
    first: IpAddr,
    last: IpAddr,
    gateway: Option<IpAddr>,
    path: String,
}

/// The subnets of `ipam`; or those of `runtimeConfig.ipRanges`, and where in them. A range set is where
/// one address comes from: a set of subnets, of which netd gives one address as well.
fn subnets(
    ipam: Option<&Keys<'_>>,
    runtime: Option<&Keys<'_>>,
) -> Result<(Vec<Subnet>, Vec<AddressRange>)> {
    let mut sets: Vec<Vec<Range>> = Vec::new();
    if let Some(ipam) = ipam {
        if ipam.text("subnet")?.is_some() {
            sets.push(vec![range(ipam)?]);
        }
        sets.extend(range_sets(ipam.list("ranges")?)?);
    }
    // What the runtime says goes before what was written down, and for one container: the next may
    // have other ranges of the same subnets.
    let given = runtime.map(|runtime| runtime.list("ipRanges")).transpose()?.unwrap_or_default();
    let given = range_sets(given)?;
    let is_given = given.iter().any(|set| !set.is_empty());
    if is_given {
        sets = given;
    }
    let mut subnets: Vec<Subnet> = Vec::new();
    let mut families = [0u8; 2];
    for set in &sets {
        let Some(first) = set.first() else { continue };
        let v4 = first.subnet.is_ipv4();
        let number = families[usize::from(v4)];
        families[usize::from(v4)] = number.checked_add(1).ok_or_else(|| {
            let why = "a container has at most 255 addresses of a family";
            Refusal::unsupported(&first.path, &json!(first.subnet.to_string()), why)
        })?;
        for range in set {
            let subnet = range.subnet;
            if subnet.is_ipv4() != v4 {
                let rule = format!("a range set is of one family, and {} is first", first.subnet);
                return Err(Refusal::config(&range.path, &json!(subnet.to_string()), rule));
            }
            match subnets.iter().find(|other| overlap(other.subnet, subnet)) {
                None => {}
                Some(other) if other.subnet == subnet && other.set == number => continue,
                Some(other) => {
                    return Err(Refusal::unsupported(
                        &range.path,
                        &json!(subnet.to_string()),
                        format_args!(
                            "it overlaps {}, and of a subnet a container has one address",
                            other.subnet
                        ),
                    ));
                }
            }
            let ranges: Vec<_> = set.iter().filter(|range| range.subnet == subnet).collect();
            let gateway = ranges.iter().find_map(|range| range.gateway);
            subnets.push(Subnet {
                gateway: Some(gateway.unwrap_or_else(|| usable(subnet).0)),
                exclude: if is_given { Vec::new() } else { outside(subnet, &ranges) },
                set: number,
                ..Subnet::new(subnet)
            });
        }
    }
    let ranges = sets.iter().flatten().filter(|_| is_given);
    let ranges = ranges.map(|range| AddressRange { first: range.first, last: range.last });
    Ok((subnets, ranges.collect()))
}

/// Two subnets are apart, or one is within the other.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

fn range_sets(items: Vec<Item<'_>>) -> Result<Vec<Vec<Range>>> {
    let mut sets = Vec::new();
    for item in items {
        let mut set = Vec::new();
        for item in item.list()? {
            set.push(range(&item.object()?)?);
        }
        sets.push(set);
    }
    Ok(sets)
}

fn range(keys: &Keys<'_>) -> Result<Range> {
    let path = keys.path("subnet");
    let missing = || {
        Refusal::new(Refusal::CONFIG, format_args!("{path} is missing, and says which addresses"))
    };
    let written: IpNetwork = keys.parsed("subnet")?.ok_or_else(missing)?;
    let subnet = IpNetwork::new(written.network(), written.prefix()).unwrap_or(written);
    let within = |key: &str| -> Result<Option<IpAddr>> {
        let address: Option<IpAddr> = keys.parsed(key)?;
        match address {
            Some(address) if !subnet.contains(address) => Err(Refusal::config(
                &keys.path(key),
                &json!(address.to_string()),
                format_args!("it is not in {subnet}"),
            )),
            address => Ok(address),
        }
    };
    let (first, last) = usable(subnet);
    let (first, last) =
        (within("rangeStart")?.unwrap_or(first), within("rangeEnd")?.unwrap_or(last));
    if last < first {
        return Err(Refusal::config(
            &keys.path("rangeEnd"),
            &json!(last.to_string()),
            format_args!("it is before rangeStart {first}"),
        ));
    }
    Ok(Range { subnet, first, last, gateway: within("gateway")?, path })
}

/// The first and the last address of a subnet that an interface can have.
fn usable(subnet: IpNetwork) -> (IpAddr, IpAddr) {
    let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
    let v4 = subnet.is_ipv4();
    if last - first <= 1 {
        return (address(first, v4), address(last, v4));
    }
    (address(first + 1, v4), address(if v4 { last - 1 } else { last }, v4))
}

/// What of a subnet is in none of the ranges, as few networks as can be.
fn outside(subnet: IpNetwork, ranges: &[&Range]) -> Vec<IpNetwork> {
    let v4 = subnet.is_ipv4();
    let (first, last) = usable(subnet);
    let mut open: Vec<(u128, u128)> =
        ranges.iter().map(|range| (number(range.first), number(range.last))).collect();
    open.sort_unstable();
    let mut outside = Vec::new();
    // The next address that no range has reached.
    let mut next = Some(number(first));
    for (from, to) in open {
        let Some(reached) = next else { break };
        if from > reached {
            cover(reached, from - 1, v4, &mut outside);
        }
        next = to.checked_add(1).map(|after| after.max(reached));
    }
    if let Some(next) = next.filter(|next| *next <= number(last)) {
        cover(next, number(last), v4, &mut outside);
    }
    outside
}

/// The networks that hold exactly the addresses from `first` to `last`.
fn cover(mut first: u128, last: u128, v4: bool, networks: &mut Vec<IpNetwork>) {
    let width: u32 = if v4 { 32 } else { 128 };
    loop {
        let left = last - first;
        // As large as its beginning is round, and not beyond the end.
        let fits = if left == u128::MAX { 128 } else { 127 - (left + 1).leading_zeros() };
        let size = first.trailing_zeros().min(width).min(fits);
        let prefix = u8::try_from(width - size).expect("at most 128");
        networks.extend(IpNetwork::new(address(first, v4), prefix));
        match size.lt(&128).then(|| first.checked_add(1 << size)).flatten() {
            Some(after) if after <= last => first = after,
            _ => return,
        }
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    }
}

fn address(number: u128, v4: bool) -> IpAddr {
    match u32::try_from(number) {
        Ok(number) if v4 => IpAddr::V4(number.into()),
        _ => IpAddr::V6(number.into()),
    }
}

#[cfg(test)]
mod tests;
