//! What is seen of an endpoint from within its container: routes, and how fast its packets go.

use cnm::Result;
use kernel::{
    netlink::Socket,
    netns::Netns,
    resolver,
    routes::{self, Route},
    shaping::{self, Seen},
};

use words::{bucket, no_netns, refusal, way};

use crate::Port;

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
