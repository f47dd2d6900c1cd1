//! A container's end as it is, compared with what it should be.

use std::collections::BTreeSet;

use kernel::{
    Result,
    links::{self, Link},
    netlink::Socket,
    netns::Netns,
    resolver,
    routes::{self, Address, Route},
};

use words::way;

use crate::Port;

/// What is seen in a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inside {
    link: Option<Link>,
    addresses: Vec<Address>,
    routes: Vec<Route>,
    /// Whether what the container asks inside itself comes to nobody.
    misled: bool,
}

impl Inside {
    /// Looks at the interface of an endpoint, in the container's namespace.
    pub(crate) fn observe(port: &Port, home: &Netns, sandbox: &Netns) -> Result<Self> {
        sandbox.inside(home, || {
            let mut socket = Socket::route()?;
            let Some(link) = links::by_name(&mut socket, &port.name)? else {
                return Ok(Self::default());
            };
            Ok(Self {
                link: Some(link),
                addresses: routes::addresses(&mut socket)?,
                routes: routes::routes(&mut socket)?,
                misled: resolver::misled(port.resolver)?,
            })
        })?
    }

    /// What is not as it should be; what is there beyond is the container's own. `host` is the other
    /// end.
    pub(crate) fn differences(&self, port: &Port, host: Option<&Link>) -> Vec<String> {
        let name = &port.name;
        let Some(link) = &self.link else {
            return vec![format!("the container has no {name}")];
        };
        let mut differences = Vec::new();
        if link.kind.as_deref() != Some("veth") || host.is_some_and(|h| link.peer != Some(h.index))
        {
            differences
                .push(format!("{name} in the container is not the other end of {}", port.host));
        }
        if !link.up {
            differences.push(format!("{name} in the container is down"));
        }
        if link.mac != Some(port.mac) {
            let mac = cnm::MacAddr(port.mac);
            differences.push(format!("{name} in the container does not have the address {mac}"));
        }
        if self.misled {
            differences.push(resolver::MISLED.to_owned());
        }
        let addresses: BTreeSet<_> =
            self.addresses.iter().filter(|a| a.link == link.index).map(|a| a.address).collect();
        for address in port.addresses.iter().filter(|address| !addresses.contains(address)) {
            differences.push(format!("{name} in the container does not have {address}"));
        }
        let here = |route: &&Route| route.link == link.index || route.refusal.is_some();
        let own: Vec<_> = self.routes.iter().filter(here).collect();
        for gateway in &port.gateways {
            let is_way = |own: &&Route| own.is_default() && own.through == Some(*gateway);
            if !own.iter().any(is_way) {
                differences.push(format!("the container has no default route via {gateway}"));
            }
        }
        for route in &port.routes {
            let wanted = way(route, link.index);
            if !own.iter().any(|own| own.is(&wanted)) {
                differences.push(format!("the container has no route to {route}"));
            }
        }
        differences
    }
}
