//! The driver as netd calls it.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use cnm::{
    Error, Kind, NetworkId, Result,
    driver::{Attached, Capabilities, Driver, Info, Interface, NetworkState, Plan, Sync, Synced},
    endpoint::{Checked, Endpoint, NetnsId},
    fault,
    network::Network,
};
use ipnetwork::IpNetwork;
use kernel::{Errno, links, netlink::Batch, netns::Netns};
use serde_json::json;

use crate::{
    Marks, Port, Segment,
    apply::{Kernel, condemn},
    attach::Joined,
    desired,
    inside::Inside,
    options::options,
    plan::{self, Observed, Step},
    reaper::Moved,
    refusal::{no_netns, refusal},
    shape,
};

/// The driver `bridge`. It touches nothing until it is called, since a runtime's call ends with
/// netd's answer.
#[derive(Debug)]
pub struct Bridge {
    marks: Marks,
    kernel: Option<Kernel>,
    joined: HashMap<NetworkId, Joined>,
    /// Addresses that endpoints had and have no more: neighbours may still look for those there.
    left: HashMap<NetworkId, HashSet<IpAddr>>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self::marked(Marks::BRIDGE)
    }
}

impl Bridge {
    /// The bridges of a driver that does more with them.
    pub fn marked(marks: Marks) -> Self {
        Self { marks, kernel: None, joined: HashMap::new(), left: HashMap::new() }
    }

    fn kernel(&mut self) -> Result<&mut Kernel> {
        if self.kernel.is_none() {
            self.kernel = Some(Kernel::open(self.marks).map_err(refusal)?);
        }
        Ok(self.kernel.as_mut().expect("it was just opened"))
    }

    /// The bridge of a network, which is made if this session has not seen it yet.
    fn joined(&mut self, network: &Network) -> Result<Joined> {
        match self.joined.get(&network.id) {
            Some(joined) => Ok(*joined),
            None => self.bring_up(network),
        }
    }

    fn bring_up(&mut self, network: &Network) -> Result<Joined> {
        let segment = Segment::of(network);
        let marks = self.marks;
        let kernel = self.kernel()?;
        kernel.firewall.lay().map_err(refusal)?;
        let observed = kernel.observe(std::slice::from_ref(&segment)).map_err(refusal)?;
        not_others(&marks, &segment, &observed)?;
        kernel.apply(&plan::network(&segment, &observed), &observed).map_err(refusal)?;
        let link = links::by_name(&mut kernel.socket, &segment.bridge).map_err(refusal)?;
        let link = link.ok_or_else(|| gone(&segment.bridge))?;
        let joined = Joined { index: link.index, mtu: link.mtu };
        self.joined.insert(network.id.clone(), joined);
        Ok(joined)
    }
}

impl Bridge {
    /// Has those on the bridge told who has a port's addresses now, where others had them before.
    fn announce(&mut self, network: &Network, port: &Port, bridge: Joined) -> Result<()> {
        let Some(left) = self.left.get(&network.id) else { return Ok(()) };
        let had = port.addresses.iter().map(IpNetwork::ip).filter(|ip| left.contains(ip));
        let moved = |address| Moved { bridge: bridge.index, address, mac: port.mac };
        let moved: Vec<_> = had.map(moved).collect();
        self.kernel()?.reaper.moved(moved.into_iter());
        Ok(())
    }
}

fn gone(bridge: &str) -> Error {
    Error::new(Kind::Busy, format_args!("the bridge {bridge} was taken away as it was made"))
        .with("bridge", bridge)
}

/// A link of the bridge's name that is not the driver's is left alone.
fn not_others(marks: &Marks, segment: &Segment, observed: &Observed) -> Result<()> {
    match observed.link(&segment.bridge).filter(|link| !marks.is_bridge(link)) {
        Some(link) => Err(Error::exists(format_args!(
            "a link {} exists already on the host and is not netd's",
            link.name
        ))
        .with("link", link.name.as_str())),
        None => Ok(()),
    }
}

impl Driver for Bridge {
    fn info(&self) -> Info {
        Info {
            name: self.marks.driver.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: vec![cnm::PROTOCOL],
            capabilities: Capabilities {
                addresses: true,
                gateway: true,
                ports: true,
                bandwidth: true,
                ..Capabilities::default()
            },
            options: Some(options()),
        }
    }

    fn network_up(&mut self, network: &Network) -> Result<NetworkState> {
        self.bring_up(network)
            .map(|joined| NetworkState { mtu: Some(joined.mtu), ..NetworkState::default() })
    }

    fn network_down(&mut self, network: &Network) -> Result<()> {
        self.joined.remove(&network.id);
        self.left.remove(&network.id);
        let segment = Segment::of(network);
        let kernel = self.kernel()?;
        let link = links::by_name(&mut kernel.socket, &segment.bridge).map_err(refusal)?;
        if link.is_some_and(|link| kernel.marks.is_bridge(&link)) {
            let mut batch = Batch::new();
            links::delete(&mut batch, &segment.bridge);
            match kernel.socket.run(batch) {
                Err(error) if error.errno() != Some(Errno::ENODEV) => return Err(refusal(error)),
                _ => {}
            }
        }
        // After the bridge: until it is gone it is guarded.
        kernel.firewall.forget(&segment.facts).map_err(refusal)
    }

    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached> {
        let port = Port::of(network, endpoint)?;
        let mut bridge = self.joined(network)?;
        let sandbox = Netns::open(netns).map_err(|error| no_netns(netns, error))?;
        let kernel = self.kernel()?;
        if sandbox.same_as(&kernel.home).map_err(refusal)? {
            return Err(Error::invalid(format_args!(
                "network namespace {netns} is the host's own: use the network host for it"
            ))
            .with("netns", netns));
        }
        let made = match kernel.attach(&port, bridge, &sandbox) {
            // Somebody took the bridge or the rules away: they are made again, once.
            Err(error) if is_lost(&error) => {
                bridge = self.bring_up(network)?;
                self.kernel()?.attach(&port, bridge, &sandbox)?
            }
            outcome => outcome?,
        };
        self.announce(network, &port, bridge)?;
        Ok(Attached {
            netns: NetnsId { cookie: made.cookie, nsid: made.nsid },
            interface: Some(Interface {
                name: endpoint.ifname.clone(),
                index: made.index,
                mac: cnm::MacAddr(port.mac),
                mtu: bridge.mtu,
                host_index: Some(made.host),
            }),
        })
    }

    fn detach(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        let left = self.left.entry(network.id.clone()).or_default();
        left.extend(endpoint.addresses.iter().map(IpNetwork::ip));
        let kernel = self.kernel()?;
        fault::point("bridge.detach.before-elements");
        // An endpoint whose ports could not be published has none to take back.
        let facts = Port::of(network, endpoint).map(|port| port.facts).unwrap_or_default();
        let forgotten = kernel.firewall.forget(&facts);
        kernel.redirected(&facts);
        fault::point("bridge.detach.after-elements");
        let mut batch = Batch::new();
        let mut hosts = vec![endpoint.id.link_name().to_string()];
        if endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            hosts.push(shape::detour_of(&hosts[0]));
        }
        hosts.iter().for_each(|host| condemn(&mut batch, &kernel.marks, host));
        match kernel.socket.run_but(&[Errno::ENODEV], batch, |_| ()).map_err(refusal)? {
            0 => {}
            count if desired::is_looked_for(endpoint) => kernel.reaper.condemned_at_once(count),
            count => kernel.reaper.condemned(count),
        }
        fault::point("bridge.detach.after-condemn");
        forgotten.map_err(refusal)
    }

    fn check(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        netns: Option<&str>,
    ) -> Result<Checked> {
        let segment = Segment::of(network);
        let port = Port::of(network, endpoint)?;
        let marks = self.marks;
        let kernel = self.kernel()?;
        let mut observed = kernel.observe(std::slice::from_ref(&segment)).map_err(refusal)?;
        kernel.observe_limits(std::iter::once(&port), &mut observed).map_err(refusal)?;
        let mut differences = differences(&marks, &segment, &port, &observed);
        differences.extend(shape::missing(&marks, &port, &observed));
        if let Some(netns) = netns {
            let sandbox = Netns::open(netns).map_err(|error| no_netns(netns, error))?;
            let inside = Inside::observe(&port, &kernel.home, &sandbox).map_err(refusal)?;
            differences.extend(inside.differences(&port, observed.link(&port.host)));
        }
        Ok(Checked { differences })
    }

    fn plan(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Plan> {
        let port = Port::of(network, endpoint)?;
        let mtu = self.joined.get(&network.id).map(|joined| joined.mtu).or(network.mtu);
        let kernel = self.kernel()?;
        let link = links::by_name(&mut kernel.socket, &port.host).map_err(refusal)?;
        let bridge = links::by_name(&mut kernel.socket, &port.bridge).map_err(refusal)?;
        let known = kernel.firewall.facts().map_err(refusal)?;
        let ports: Vec<_> = port.facts.iter().filter(|f| known.contains(f)).collect();
        Ok(Plan {
            steps: plan::attach(&port, mtu).iter().map(Step::to_string).collect(),
            observed: json!({ "link": link, "bridge": bridge, "published": ports }),
        })
    }

    fn sync(&mut self, desired: &Sync) -> Result<Synced> {
        let mut segments: Vec<_> = desired.networks.iter().map(Segment::of).collect();
        let networks: HashMap<_, _> =
            desired.networks.iter().map(|network| (&network.id, network)).collect();
        let mut ports = Vec::new();
        for endpoint in &desired.endpoints {
            let network = networks.get(&endpoint.network).ok_or_else(|| {
                Error::invalid(format_args!("the network of endpoint {} is not given", endpoint.id))
            })?;
            ports.push(Port::of(network, endpoint)?);
        }
        self.joined.clear();
        let marks = self.marks;
        let kernel = self.kernel()?;
        let first = !kernel.firewall.laid();
        let relaid = kernel.firewall.lay().map_err(refusal)?;
        let mut observed = kernel.observe(&segments).map_err(refusal)?;
        kernel.observe_limits(ports.iter(), &mut observed).map_err(refusal)?;
        segments.retain(|segment| match not_others(&marks, segment, &observed) {
            Ok(()) => true,
            Err(error) => {
                eprintln!("{error}");
                false
            }
        });
        if first {
            let left = observed.links.iter().filter(|link| marks.is_condemned(link));
            kernel.reaper.condemned(left.count());
        }
        let steps = plan::everything(&marks, &segments, &ports, &observed);
        kernel.apply(&steps, &observed).map_err(refusal)?;
        let links = links::all(&mut kernel.socket).map_err(refusal)?;
        for network in &desired.networks {
            let name = Segment::of(network).bridge;
            if let Some(link) = links.iter().find(|link| link.name == name && marks.is_bridge(link))
            {
                let joined = Joined { index: link.index, mtu: link.mtu };
                self.joined.insert(network.id.clone(), joined);
            }
        }
        let there = |endpoint: &Endpoint| {
            let name = endpoint.id.link_name();
            let link = observed.link(name.as_str());
            link.is_some_and(|link| marks.is_end(link))
        };
        let mut repaired: Vec<_> = steps.iter().map(Step::to_string).collect();
        if relaid {
            repaired.insert(0, "lay the firewall's rules down again".to_owned());
        }
        let missing = desired.endpoints.iter().filter(|endpoint| !there(endpoint));
        Ok(Synced { repaired, missing: missing.map(|endpoint| endpoint.id.clone()).collect() })
    }
}

/// Whether an attach failed for want of what [`Bridge::bring_up`] makes.
fn is_lost(error: &Error) -> bool {
    error.kind == Kind::Busy
        || (error.kind == Kind::Kernel
            && error.operands.get("errno") == Some(&json!(Errno::ENOENT as i32)))
}

fn differences(marks: &Marks, segment: &Segment, port: &Port, observed: &Observed) -> Vec<String> {
    let mut differences = Vec::new();
    let bridge = observed.link(&port.bridge);
    match observed.link(&port.host).filter(|link| marks.is_end(link)) {
        None => differences.push(format!("the link {} is missing", port.host)),
        Some(link) => {
            if marks.is_condemned(link) {
                differences.push(format!("the link {} is about to be taken away", port.host));
            } else if link.group != marks.group(port.ipv6()) {
                differences.push(format!("the link {} is in the wrong link group", port.host));
            }
            if !link.up {
                differences.push(format!("the link {} is down", port.host));
            }
            if link.master.is_none() || link.master != bridge.map(|bridge| bridge.index) {
                differences.push(format!("the link {} is not on {}", port.host, port.bridge));
            }
        }
    }
    let steps = plan::network(segment, observed);
    differences.extend(steps.iter().map(|step| format!("still to do: {step}")));
    let unknown = port.facts.iter().filter(|fact| !observed.facts.contains(fact));
    differences.extend(unknown.map(|fact| format!("the firewall does not have the {fact}")));
    differences
}
