//! Networks of nothing but loopback: the driver sets it up, and gives the namespace an id under
//! which its death is announced.

use cnm::{
    Error, Kind, Result,
    driver::{Attached, Capabilities, Driver, Info, NetworkState, Plan, Sync, Synced},
    endpoint::{Checked, Endpoint, NetnsId},
    network::Network,
    options::{LINGER, ON_OR_OFF, Options},
};
use kernel::{
    Errno,
    links::{self, Change},
    netlink::{Batch, Socket},
    netns::{self, Netns},
};

/// The driver `none`. It touches nothing until it is called.
#[derive(Debug, Default)]
pub struct Loopback {
    kernel: Option<Kernel>,
}

#[derive(Debug)]
struct Kernel {
    home: Netns,
    socket: Socket,
}

impl Loopback {
    fn kernel(&mut self) -> Result<&mut Kernel> {
        if self.kernel.is_none() {
            let open = || Ok(Kernel { home: Netns::own()?, socket: Socket::route()? });
            self.kernel = Some(open().map_err(refusal)?);
        }
        Ok(self.kernel.as_mut().expect("it was just opened"))
    }

    /// Those of the endpoints whose namespace is gone.
    fn missing<'a>(&mut self, endpoints: &'a [Endpoint]) -> Result<Vec<&'a Endpoint>> {
        let nsid = |endpoint: &Endpoint| endpoint.netns.and_then(|netns| netns.nsid);
        let asked = endpoints.iter().filter_map(nsid).collect();
        let living = netns::living(&mut self.kernel()?.socket, &asked).map_err(refusal)?;
        let gone = |endpoint: &&Endpoint| nsid(endpoint).is_some_and(|id| !living.contains(&id));
        Ok(endpoints.iter().filter(gone).collect())
    }
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

impl Driver for Loopback {
    fn info(&self) -> Info {
        Info {
            name: "none".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: vec![cnm::PROTOCOL],
            capabilities: Capabilities::default(),
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
                "network {} has nothing but loopback: no address and no published port",
                network.name
            ))
            .with("network", network.name.as_str()));
        }
        let kernel = self.kernel()?;
        let sandbox = Netns::open(netns).map_err(refusal)?;
        if sandbox.same_as(&kernel.home).map_err(refusal)? {
            return Err(Error::invalid(format_args!(
                "network namespace {netns} is the host's own: use the network host for it"
            ))
            .with("netns", netns));
        }
        let mut socket =
            sandbox.inside(&kernel.home, Socket::route_small).and_then(|s| s).map_err(refusal)?;
        let mut batch = Batch::new();
        let up = Change { up: Some(true), ..Change::default() };
        links::change_index(&mut batch, links::LOOPBACK, &up);
        socket.run(batch).map_err(refusal)?;
        let cookie = socket.cookie().map_err(refusal)?;
        let nsid = sandbox.assign_nsid(&mut kernel.socket).map_err(refusal)?;
        Ok(Attached { netns: NetnsId { cookie, nsid: Some(nsid) }, interface: None })
    }

    fn detach(&mut self, _: &Network, _: &Endpoint) -> Result<()> {
        Ok(())
    }

    fn check(&mut self, _: &Network, endpoint: &Endpoint, netns: Option<&str>) -> Result<Checked> {
        let missing = self.missing(std::slice::from_ref(endpoint))?;
        let gone = missing.iter().map(|_| "the network namespace is gone".to_owned());
        let mut differences: Vec<_> = gone.collect();
        if let Some(netns) = netns {
            let home = &self.kernel()?.home;
            let look = || links::by_index(&mut Socket::route_small()?, links::LOOPBACK);
            let sandbox = Netns::open(netns).map_err(refusal)?;
            let lo = sandbox.inside(home, look).and_then(|lo| lo).map_err(refusal)?;
            if !lo.is_some_and(|lo| lo.up) {
                differences.push("lo in the container is down".to_owned());
            }
        }
        Ok(Checked { differences })
    }

    fn plan(&mut self, _: &Network, _: &Endpoint) -> Result<Plan> {
        Ok(Plan { steps: vec!["set lo up in the container".to_owned()], ..Plan::default() })
    }

    fn sync(&mut self, desired: &Sync) -> Result<Synced> {
        let missing = self.missing(&desired.endpoints)?;
        let missing = missing.iter().map(|endpoint| endpoint.id.clone()).collect();
        Ok(Synced { missing, ..Synced::default() })
    }
}
