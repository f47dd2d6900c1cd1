//! The driver as netd calls it.

use std::collections::{BTreeMap, HashMap};

use cnm::{
    Error, Kind, NetworkId, Result,
    driver::{
        Attached, Capabilities, Delivered, Driver, Info, Interface, NetworkState, Plan, Sync,
        Synced,
    },
    endpoint::{Checked, Endpoint, NetnsId},
    fault,
    network::Network,
};
use kernel::{
    links,
    macvlan::{self, Found, Mode},
    netns::Netns,
    resolver,
};
use serde_json::json;

use words::{names, no_netns, refusal};

use crate::{
    Parent, Port, Segment,
    apply::Kernel,
    attach::Joined,
    delete::delete,
    inside,
    options::options,
    plan::{self, Base, Observed, Step},
};

/// The driver `macvlan`. It touches nothing until it is called, since a runtime's call ends with
/// netd's answer.
#[derive(Debug, Default)]
pub struct Macvlan {
    kernel: Option<Kernel>,
    joined: HashMap<NetworkId, Joined>,
}

impl Macvlan {
    fn kernel(&mut self) -> Result<&mut Kernel> {
        if self.kernel.is_none() {
            self.kernel = Some(Kernel::open().map_err(refusal)?);
        }
        Ok(self.kernel.as_mut().expect("it was just opened"))
    }

    /// A network that is up, which it is made if this session has not seen it yet.
    fn joined(&mut self, network: &Network) -> Result<Joined> {
        match self.joined.get(&network.id) {
            Some(joined) => Ok(joined.clone()),
            None => self.bring_up(network),
        }
    }

    fn bring_up(&mut self, network: &Network) -> Result<Joined> {
        let segment = Segment::of(network)?;
        let kernel = self.kernel()?;
        let observed = kernel.observe(&[&segment]).map_err(refusal)?;
        let base = Base::of(&segment, &observed)?;
        not_others(&segment, &base, &observed)?;
        self.not_taken(&network.id, &segment, &base)?;
        let kernel = self.kernel()?;
        let parent = observed.link(base.name()).or_else(|| match &base {
            Base::Vlan { on, .. } => observed.link(on),
            _ => None,
        });
        if let (Some(mtu), Some(parent)) = (segment.mtu, parent)
            && mtu > parent.mtu
            && !matches!(base, Base::Nowhere(_))
        {
            return Err(Error::invalid(format_args!(
                "the MTU {mtu} of network {} is more than that of {}, which has {}",
                network.name, parent.name, parent.mtu
            ))
            .with("mtu", mtu)
            .with("parent", parent.name.as_str()));
        }
        kernel
            .apply(&plan::network(&segment, &base, &observed), &observed)
            .map_err(|error| explain(error, &segment, &base))?;
        let observed = kernel.observe(&[]).map_err(refusal)?;
        let joined = join(segment, base, &observed)?;
        self.joined.insert(network.id.clone(), joined.clone());
        Ok(joined)
    }

    /// A parent in mode passthru has one network.
    fn not_taken(&self, id: &NetworkId, segment: &Segment, base: &Base) -> Result<()> {
        let other = self.joined.iter().find(|(other, joined)| {
            *other != id
                && joined.base.name() == base.name()
                && [segment.mode, joined.segment.mode].contains(&Mode::Passthru)
        });
        match other {
            Some((_, other)) => Err(Error::exists(format_args!(
                "the parent {} is network {}'s, and in mode passthru a network has its parent \
                 alone",
                base.name(),
                other.segment.network
            ))
            .with("parent", base.name())),
            None => Ok(()),
        }
    }

    /// The macvlan of an endpoint, wherever it is.
    fn find(&mut self, port: &Port, endpoint: &Endpoint) -> Result<Option<Found>> {
        let kernel = self.kernel()?;
        let own = kernel.own;
        let socket = &mut kernel.socket;
        let found = match nsid(endpoint) {
            // Where it is made, and taken back to by who moved it; else wherever that was to.
            _ if port.delivered => macvlan::within(socket, Some(own)).and_then(|mut found| {
                found.extend(macvlan::elsewhere(socket, own)?);
                Ok(found)
            }),
            Some(nsid) => macvlan::within(socket, Some(nsid)),
            // It never came to the answer that would have told.
            None => macvlan::elsewhere(socket, own),
        };
        let mut found = found.map_err(refusal)?;
        // Of mode passthru nothing else tells one from another network's.
        let parent = self.joined.get(&endpoint.network).map(|joined| joined.parent);
        found.retain(|found| {
            let here = found.nsid == Some(own);
            let ours = found.link.peer_nsid == Some(own) || here;
            let hangs = !port.delivered || parent.is_none() || found.link.peer == parent;
            ours && hangs && plan::is_of(found, port)
        });
        Ok(found.pop())
    }
}

fn join(segment: Segment, base: Base, observed: &Observed) -> Result<Joined> {
    let link = observed.link(base.name()).ok_or_else(|| {
        Error::new(
            Kind::Busy,
            format_args!("the parent {} of network {} is gone", base.name(), segment.network),
        )
        .with("parent", base.name())
    })?;
    let host = segment.host.as_ref().and_then(|host| observed.link(&host.name));
    let (parent, mtu, host) =
        (link.index, segment.mtu.unwrap_or(link.mtu), host.map(|host| host.index));
    Ok(Joined { segment, base, parent, mtu, host })
}

/// A link that has a name which netd wants for one of its own is left alone.
fn not_others(segment: &Segment, base: &Base, observed: &Observed) -> Result<()> {
    let nowhere = match base {
        Base::Nowhere(name) => observed.link(name).filter(|link| !plan::is_own_nowhere(link)),
        _ => None,
    };
    let host = segment.host.as_ref().and_then(|host| observed.link(&host.name));
    match nowhere.or_else(|| host.filter(|link| !plan::is_own_host_end(link))) {
        Some(link) => Err(Error::exists(format_args!(
            "a link {} exists already on the host and is not netd's",
            link.name
        ))
        .with("link", link.name.as_str())),
        None => Ok(()),
    }
}

/// Why a network could not be made, where the kernel's word alone would not tell.
fn explain(error: kernel::Error, segment: &Segment, base: &Base) -> Error {
    match base {
        Base::Vlan { name, .. } if error.errno() == Some(kernel::Errno::EOPNOTSUPP) => {
            Error::unsupported(format_args!(
                "cannot make {name} for network {}: this kernel has no VLANs (802.1Q): load the \
                 module 8021q",
                segment.network
            ))
            .with("parent", name.as_str())
        }
        _ => refusal(error),
    }
}

impl Driver for Macvlan {
    fn info(&self) -> Info {
        Info {
            name: "macvlan".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: vec![cnm::PROTOCOL],
            capabilities: Capabilities {
                addresses: true,
                shared_subnets: true,
                bandwidth: true,
                ..Capabilities::default()
            },
            options: Some(options()),
        }
    }

    fn network_up(&mut self, network: &Network) -> Result<NetworkState> {
        let joined = self.bring_up(network)?;
        let mut options = BTreeMap::new();
        // The default route may lead elsewhere tomorrow: the network stays where it is.
        if let Parent::Uplink { .. } = joined.segment.parent {
            let chosen = match &joined.base {
                Base::Nowhere(_) => String::new(),
                base => base.name().to_owned(),
            };
            options.insert("parent".to_owned(), chosen);
        }
        Ok(NetworkState { mtu: Some(joined.mtu), options })
    }

    fn network_down(&mut self, network: &Network) -> Result<()> {
        let joined = self.joined.remove(&network.id);
        // One that could not be brought up has made nothing.
        let Ok(segment) = Segment::of(network) else { return Ok(()) };
        let kernel = self.kernel()?;
        let observed = kernel.observe(&[]).map_err(refusal)?;
        let base = joined.map(|joined| joined.base).or_else(|| Base::of(&segment, &observed).ok());
        let last = base
            .as_ref()
            .is_some_and(|base| self.joined.values().all(|other| other.base.name() != base.name()));
        let host = segment.host.as_ref().and_then(|host| observed.link(&host.name));
        let base = base.as_ref().and_then(|base| observed.link(base.name()));
        let going = host.filter(|link| plan::is_own_host_end(link)).into_iter().chain(
            base.filter(|link| last && (plan::is_own_vlan(link) || plan::is_own_nowhere(link))),
        );
        let steps: Vec<_> = going.map(|link| Step::Remove { name: link.name.clone() }).collect();
        self.kernel()?.apply(&steps, &observed).map_err(refusal)
    }

    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached> {
        let port = Port::of(network, endpoint)?;
        let mut joined = self.joined(network)?;
        let sandbox = Netns::open(netns).map_err(|error| no_netns(netns, error))?;
        let kernel = self.kernel()?;
        if !port.delivered && sandbox.same_as(&kernel.home).map_err(refusal)? {
            return Err(Error::invalid(format_args!(
                "network namespace {netns} is the host's own: use the network host for it"
            ))
            .with("netns", netns));
        }
        let made = match kernel.attach(&port, &joined, &sandbox) {
            // Somebody took what it hangs on away: it is looked for again, once.
            Err(error) if error.kind == Kind::Busy || error.kind == Kind::Kernel => {
                let again = self.bring_up(network)?;
                if again.parent == joined.parent && again.host == joined.host {
                    return Err(error);
                }
                joined = again;
                self.kernel()?.attach(&port, &joined, &sandbox)?
            }
            outcome => outcome?,
        };
        Ok(Attached {
            netns: NetnsId { cookie: made.cookie, nsid: made.nsid },
            interface: Some(Interface {
                name: endpoint.made_as(),
                index: made.index,
                mac: cnm::MacAddr(made.mac),
                mtu: joined.mtu,
                host_index: None,
            }),
        })
    }

    fn detach(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        // An endpoint that could not be made has nothing to take away.
        let Ok(port) = Port::of(network, endpoint) else { return Ok(()) };
        fault::point("macvlan.detach.before-routes");
        if let Ok(segment) = Segment::of(network)
            && let Some(host) = &segment.host
        {
            let kernel = self.kernel()?;
            if let Some(host) = links::by_name(&mut kernel.socket, &host.name).map_err(refusal)? {
                kernel.lead_no_more(&port, &segment, host.index);
            }
        }
        fault::point("macvlan.detach.after-routes");
        if let Some(found) = self.find(&port, endpoint)?
            && let Some(nsid) = found.nsid
        {
            delete(&mut self.kernel()?.socket, nsid, &found.link).map_err(refusal)?;
        }
        fault::point("macvlan.detach.after-link");
        Ok(())
    }

    // It finds the link by the namespace's id, and looks inside for what is not told by that.
    fn leave_inside(&mut self, netns: &str, cookie: Option<u64>) {
        if let Ok(kernel) = self.kernel() {
            names::forget(&kernel.home, netns, cookie);
        }
    }

    fn delivered(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Delivered> {
        let port = Port::of(network, endpoint)?;
        let found = self.find(&port, endpoint)?;
        let kernel = self.kernel()?;
        let Some(found) = found.filter(|found| found.nsid != Some(kernel.own)) else {
            return Ok(Delivered::default());
        };
        if found.link.up
            && let (Some(parent), Some(mac)) = (found.link.peer, found.link.mac)
        {
            kernel.announce(parent, mac, &port);
        }
        Ok(Delivered { ifname: found.link.name.parse().ok() })
    }

    fn check(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        netns: Option<&str>,
    ) -> Result<Checked> {
        let (segment, port) = (Segment::of(network)?, Port::of(network, endpoint)?);
        let mut differences = Vec::new();
        let found = self.find(&port, endpoint)?;
        let kernel = self.kernel()?;
        let observed = kernel.observe(&[&segment]).map_err(refusal)?;
        match Base::of(&segment, &observed) {
            Ok(base) => {
                let steps = plan::network(&segment, &base, &observed);
                differences.extend(steps.iter().map(|step| format!("still to do: {step}")));
                let parent = observed.link(base.name()).map(|link| link.index);
                match &found {
                    Some(found) if found.link.peer != parent => {
                        differences.push(format!("{} is not on {}", found.link.name, base.name()));
                    }
                    _ => {}
                }
            }
            Err(error) => differences.push(error.message),
        }
        let name = found.as_ref().map_or(&port.name, |found| &found.link.name);
        match &found {
            None if port.delivered => differences
                .push(format!("the macvlan {name} is neither on the host nor in a container")),
            None => differences.push(format!("the macvlan {name} is missing in the container")),
            // It is yet to be moved, and to be set up.
            Some(found) if found.nsid == Some(kernel.own) => {}
            Some(found) => {
                if !found.link.up {
                    differences.push(format!("{name} is down in the container"));
                }
                if found.mode != Some(segment.mode) {
                    differences.push(format!("{name} is not of its network's mode"));
                }
                if endpoint.mtu.is_some_and(|mtu| mtu != found.link.mtu) {
                    differences.push(format!("the mtu of {name} is {}", found.link.mtu));
                }
                let nsid = found.nsid.unwrap_or(kernel.own);
                let there = macvlan::addresses_within(&mut kernel.socket, nsid).map_err(refusal)?;
                let of = |address| (found.link.index, address);
                let missing =
                    port.addresses.iter().filter(|address| !there.contains(&of(**address)));
                differences.extend(missing.map(|ip| format!("{name} does not have {ip}")));
                if let Some(netns) = netns {
                    let place = (found.link.index, found.link.mtu);
                    differences.extend(inside::differences(&port, place, &kernel.home, netns)?);
                }
            }
        }
        Ok(Checked { differences })
    }

    fn plan(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Plan> {
        let (segment, port) = (Segment::of(network)?, Port::of(network, endpoint)?);
        let found = self.find(&port, endpoint)?;
        let base = self.joined.get(&network.id).map(|joined| joined.base.clone());
        let kernel = self.kernel()?;
        let parent = match &base {
            Some(base) => links::by_name(&mut kernel.socket, base.name()).map_err(refusal)?,
            None => None,
        };
        let steps = plan::attach(&segment, base.as_ref(), &port);
        Ok(Plan {
            steps: steps.iter().map(Step::to_string).collect(),
            observed: json!({ "macvlan": found, "parent": parent }),
        })
    }

    fn sync(&mut self, desired: &Sync) -> Result<Synced> {
        let mut segments = BTreeMap::new();
        for network in &desired.networks {
            segments.insert(&network.id, Segment::of(network)?);
        }
        let networks: HashMap<_, _> =
            desired.networks.iter().map(|network| (&network.id, network)).collect();
        let mut ports = Vec::new();
        for endpoint in &desired.endpoints {
            let network = networks.get(&endpoint.network).ok_or_else(|| {
                Error::invalid(format_args!("the network of endpoint {} is not given", endpoint.id))
            })?;
            ports.push((endpoint, Port::of(network, endpoint)?));
        }
        self.joined.clear();
        let kernel = self.kernel()?;
        let all: Vec<_> = segments.values().collect();
        let observed = kernel.observe_all(&all).map_err(refusal)?;
        let (mut bases, mut problems) = (HashMap::new(), Vec::new());
        for (id, segment) in &segments {
            let base = Base::of(segment, &observed)
                .and_then(|base| not_others(segment, &base, &observed).map(|()| base));
            match base {
                Ok(base) => drop(bases.insert(*id, base)),
                Err(error) => problems.push(format!(
                    "network {} is not as it should be: {error}; netctl reconcile tries again",
                    segment.network
                )),
            }
        }
        let based: Vec<_> = segments.iter().map(|(id, segment)| (segment, bases.get(id))).collect();
        let placed: Vec<_> = ports
            .iter()
            .map(|(endpoint, port)| (nsid(endpoint), port, &segments[&endpoint.network]))
            .collect();
        let there = |endpoint: &Endpoint, port: &Port| {
            // Those of the host itself are the ones that are yet to be moved.
            let mut found = observed.elsewhere.iter().chain(&observed.macvlans);
            found.any(|found| plan::is_there(found, nsid(endpoint), port))
        };
        let missing = ports.iter().filter(|(endpoint, port)| !there(endpoint, port));
        let missing = missing.map(|(endpoint, _)| endpoint.id.clone()).collect();
        let steps = plan::everything(&based, &placed, &observed);
        if let Err(error) = kernel.apply(&steps, &observed) {
            // What one network lacks, such as a VLAN, is no reason to give up all of them.
            problems.push(format!("{error}; netctl reconcile tries again"));
        }
        let mut repaired: Vec<_> = steps.iter().map(Step::to_string).collect();
        for (endpoint, port) in &ports {
            let keep = |path: &str, cookie, to| resolver::keep(&kernel.home, path, cookie, to);
            repaired.extend(desired.lead_inside(endpoint, port.resolver, keep));
        }
        let observed = kernel.observe(&[]).map_err(refusal)?;
        for (id, segment) in &segments {
            if let Some(base) = bases.remove(id)
                && let Ok(joined) = join(segment.clone(), base, &observed)
            {
                self.joined.insert((*id).clone(), joined);
            }
        }
        Ok(Synced { repaired, missing, problems })
    }
}

fn nsid(endpoint: &Endpoint) -> Option<i32> {
    endpoint.netns.and_then(|netns| netns.nsid)
}
