//! The host's own network namespace as a network: the driver makes nothing of it, it sees to it that
//! the namespace it is given is the host's. What netd has of its own there is its business too: the
//! address at which all networks' containers find the resolver.

use std::net::Ipv4Addr;

use cnm::{
    Error, Kind, Result,
    driver::{
        Attached, Capabilities, Driver, Info, NetworkState, Plan, Sync, Synced, Uninstall,
        Uninstalled,
    },
    endpoint::{Checked, Endpoint, NetnsId},
    network::Network,
    options::{LINGER, ON_OR_OFF, Options},
    plugin::Teller,
};
use kernel::{Errno, netlink::Socket, netns::Netns};

mod resolver;
mod watch;

use watch::Watch;

/// The driver `host`.
#[derive(Debug, Default)]
pub struct Host {
    /// Who is told when somebody takes the resolver's address away.
    teller: Option<Teller>,
    /// Who notices.
    watch: Option<Watch>,
}

fn refusal(error: kernel::Error) -> Error {
    let kind = match (&error, error.errno()) {
        (kernel::Error::NoNamespace(_), _) => Kind::Invalid,
        (_, Some(Errno::ENOENT)) => Kind::NotFound,
        (_, Some(Errno::EPERM | Errno::EACCES)) => Kind::Denied,
        _ => Kind::Kernel,
    };
    let answer = Error::new(kind, &error);
    match error.errno() {
        Some(errno) => answer.with("errno", errno as i32),
        None => answer,
    }
}

impl Host {
    /// Watches over this address, where there is somebody to tell. One that nobody wants is not watched
    /// over.
    fn watch(&mut self, wanted: Option<Ipv4Addr>) -> kernel::Result<()> {
        if self.watch.is_none()
            && wanted.is_some()
            && let Some(teller) = &self.teller
        {
            self.watch = Some(Watch::start(teller.clone(), wanted)?);
        } else if let Some(watch) = &self.watch {
            watch.over(wanted);
        }
        Ok(())
    }
}

impl Driver for Host {
    fn info(&self) -> Info {
        Info {
            name: "host".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: vec![cnm::PROTOCOL],
            capabilities: Capabilities { host_netns: true, ..Capabilities::default() },
            options: Some(Options::of(&[], &[LINGER]).with_endpoint_values(LINGER, &ON_OR_OFF)),
        }
    }

    fn network_up(&mut self, _: &Network) -> Result<NetworkState> {
        Ok(NetworkState::default())
    }

    fn network_down(&mut self, _: &Network) -> Result<()> {
        Ok(())
    }

    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached> {
        if !endpoint.ports.is_empty() || !endpoint.addresses.is_empty() {
            return Err(Error::invalid(format_args!(
                "on network {} a container has the host's addresses and ports: none of its own, \
                 and none to publish",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        let own = Netns::own().map_err(refusal)?;
        if !Netns::open(netns).and_then(|given| given.same_as(&own)).map_err(refusal)? {
            return Err(Error::invalid(format_args!(
                "network namespace {netns} is not the host's own, which network {} is for",
                network.name
            ))
            .with("netns", netns));
        }
        let cookie = Socket::route_small().and_then(|socket| socket.cookie()).map_err(refusal)?;
        Ok(Attached { netns: NetnsId { cookie, nsid: None }, interface: None })
    }

    fn detach(&mut self, _: &Network, _: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn check(&mut self, _: &Network, _: &Endpoint, netns: Option<&str>) -> Result<Checked> {
        let mut differences = Vec::new();
        if let Some(netns) = netns {
            let own = Netns::own().map_err(refusal)?;
            if !Netns::open(netns).and_then(|given| given.same_as(&own)).map_err(refusal)? {
                differences.push("the network namespace is not the host's own".to_owned());
            }
        }
        Ok(Checked { differences })
    }

    fn plan(&mut self, _: &Network, _: &Endpoint) -> Result<Plan> {
        Ok(Plan::default())
    }

    fn sync(&mut self, desired: &Sync) -> Result<Synced> {
        let wanted = resolver::wanted(&desired.settings)?;
        let repaired = resolver::have(wanted).map_err(refusal)?;
        self.watch(wanted).map_err(refusal)?;
        Ok(Synced { repaired, ..Synced::default() })
    }

    fn attend(&mut self, teller: Teller) {
        self.teller = Some(teller);
    }

    fn uninstall(&mut self, uninstall: Uninstall) -> Result<Uninstalled> {
        let found = resolver::remove(uninstall.check).map_err(refusal)?;
        Ok(Uninstalled { found })
    }
}
