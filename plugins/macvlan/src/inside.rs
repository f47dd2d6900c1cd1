//! What is seen of an endpoint from within its container: routes, and how fast its packets go.

use cnm::{Result, bandwidth::Limit, endpoint};
use kernel::{
    netlink::Socket,
    netns::Netns,
    resolver,
    routes::{self, Refusal, Route},
    shaping::{self, Bucket, Seen},
};

use crate::{
    Port,
    refusal::{no_netns, refusal},
};

/// What is not as it should be; what is there beyond is the container's own. `link` is the macvlan,
/// of this MTU.
pub(crate) fn differences(
    port: &Port,
    (link, mtu): (u32, u32),
    home: &Netns,
    netns: &str,
) -> Result<Vec<String>> {
    let sandbox = Netns::open(netns).map_err(|error| no_netns(netns, error))?;
    let observe = || -> kernel::Result<_> {
        let mut socket = Socket::route()?;
        let bucket = match port.limit {
            Some(_) => shaping::limits(&mut socket)?.remove(&link),
            None => None,
        };
        Ok((routes::routes(&mut socket)?, bucket, resolver::misled(port.resolver)?))
    };
    let (routes, limit, misled) =
        sandbox.inside(home, observe).and_then(|seen| seen).map_err(refusal)?;
    let here = |route: &Route| route.link == link || route.refusal.is_some();
    let own: Vec<_> = routes.into_iter().filter(here).collect();
    let mut differences = Vec::new();
    if misled {
        differences.push(resolver::MISLED.to_owned());
    }
    for gateway in &port.gateways {
        let is_way = |own: &Route| own.is_default() && own.through == Some(*gateway);
        if !own.iter().any(is_way) {
            differences.push(format!("the container has no default route via {gateway}"));
        }
    }
    for route in &port.routes {
        let wanted = way(route, link);
        if !own.iter().any(|own| own.is(&wanted)) {
            differences.push(format!("the container has no route to {route}"));
        }
    }
    if let Some(wanted) = port.limit
        && limit != Some(Seen::from(bucket(wanted, mtu)))
    {
        differences.push(format!("what comes from {} is not limited to {wanted}", port.name));
    }
    Ok(differences)
}

/// A limit as the kernel is told of it.
pub(crate) fn bucket(limit: Limit, mtu: u32) -> Bucket {
    Bucket::of_bits(limit.rate, limit.burst, mtu)
}

/// A route as the kernel is told of it.
pub(crate) fn way(route: &endpoint::Route, link: u32) -> Route {
    Route {
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        refusal: route.refusal.map(|refusal| match refusal {
            endpoint::Refusal::Blackhole => Refusal::Blackhole,
            endpoint::Refusal::Unreachable => Refusal::Unreachable,
            endpoint::Refusal::Prohibit => Refusal::Prohibit,
        }),
        ..Route::new(link, route.dst, route.gateway)
    }
}
