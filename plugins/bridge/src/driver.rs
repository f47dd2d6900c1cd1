//! The driver as netd calls it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::IpAddr,
};

use cnm::{
    Error, Kind, NetworkId, Result,
    driver::{
        Attached, Capabilities, Delivered, Driver, Info, Interface, NetworkState, Plan, Sync,
        Synced, Uninstall, Uninstalled,
    },
    endpoint::{self, Checked, Endpoint, NetnsId},
    fault,
    network::Network,
    plugin::Teller,
};
use ipnetwork::IpNetwork;
use kernel::{
    Errno,
    firewall::Firewall,
    guard::Door,
    links::{self, Link},
    netlink::Batch,
    netns::Netns,
    resolver,
};
use serde_json::json;

use words::{names, no_netns, refusal};

use crate::{
    Marks, Port, Segment,
    apply::{Kernel, condemn},
    attach::{Joined, Made},
    coexist::Coexist,
    desired, door,
    inside::Inside,
    modes,
    options::options,
    plan::{self, Observed, Step},
    reaper::Moved,
    shape, shards, undone, uninstall,
    watch::{Quiet, Watch},
};

/// From how many elements on it is worth two system calls that the kernel tells nobody of each.
const FEW: usize = 32;

/// The driver `bridge`. It touches nothing until it is called, since a runtime's call ends with
/// netd's answer.
#[derive(Debug)]
pub struct Bridge {
    marks: Marks,
    kernel: Option<Kernel>,
    /// The bridges that this session has seen, by their names.
    joined: HashMap<String, Joined>,
    /// The MTU that networks without a given one have had, by their bridge's name.
    mtus: BTreeMap<String, u32>,
    /// The bridges that the last sync did not put right.
    unfinished: HashSet<String>,
    /// Addresses that endpoints had and have no more: neighbours may still look for those there.
    left: HashMap<NetworkId, HashSet<IpAddr>>,
    /// The host ends, by index, whose doors are to be shut once nobody waits.
    doors: Vec<(u32, Door)>,
    /// How it gets along with the rules of others.
    coexist: Coexist,
    /// Who is told when somebody disturbs it.
    teller: Option<Teller>,
    /// Who notices.
    watch: Option<Watch>,
}

impl Default for Bridge {
    fn default() -> Self {
        Self::marked(Marks::BRIDGE)
    }
}

impl Bridge {
    /// The bridges of a driver that does more with them.
    pub fn marked(marks: Marks) -> Self {
        Self {
            marks,
            kernel: None,
            joined: HashMap::new(),
            mtus: BTreeMap::new(),
            unfinished: HashSet::new(),
            left: HashMap::new(),
            doors: Vec::new(),
            coexist: Coexist::default(),
            teller: None,
            watch: None,
        }
    }

    /// A firewall for other facts in the same tables: they have one owner.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn share_firewall(&mut self, owner: &'static str) -> Result<Firewall> {
        let kernel = self.kernel()?;
        kernel.firewall.lay().map_err(refusal)?;
        Ok(kernel.firewall.share(owner))
    }

    /// Does as the host's administrator said. `tables` is `owned`, unless told, or `plain`; `coexist`
    /// is `insert`, unless told, or `report`.
    ///
    /// # Errors
    /// `invalid` for another value, and what the kernel refuses.
    pub fn heed(&mut self, settings: &BTreeMap<String, String>) -> Result<()> {
        let owning = match settings.get("tables").map(String::as_str) {
            None | Some("owned") => true,
            Some("plain") => false,
            Some(other) => {
                return Err(Error::invalid(format_args!(
                    "invalid tables {other:?}: it should be owned or plain"
                )));
            }
        };
        self.coexist = Coexist::parse(settings.get("coexist").map(String::as_str))?;
        self.kernel()?.firewall.set_owning(owning);
        Ok(())
    }

    /// Shuts the doors of new endpoints.
    fn shut(&mut self) -> kernel::Result<()> {
        let doors = std::mem::take(&mut self.doors);
        match &mut self.kernel {
            Some(kernel) if !doors.is_empty() => kernel.shut(&doors),
            _ => Ok(()),
        }
    }

    /// Begins to watch over what this session made, where there is somebody to tell.
    fn watch(&mut self, segments: &[Segment], replace: bool) -> Result<()> {
        let Some(teller) = &self.teller else { return Ok(()) };
        let marks = self.marks;
        if self.watch.is_none() {
            self.watch = Some(Watch::start(marks, teller.clone()).map_err(refusal)?);
        }
        let rules = self.kernel()?.firewall.watched();
        if let Some(watch) = &self.watch {
            watch.over(segments, &self.joined, rules, replace);
        }
        Ok(())
    }

    /// Watches over a link besides that is there for its networks, and up, and on this bridge if on any, until
    /// the next sync.
    pub fn watch_link(&self, index: u32, name: &str, bridge: Option<u32>) {
        if let Some(watch) = &self.watch {
            watch.besides(index, name, bridge);
        }
    }

    /// Has the driver told to look again before long, since something was not put right that is none of a bridge's.
    pub fn try_again(&self) {
        if let Some(watch) = &self.watch {
            watch.troubled(Some(TRIED_AGAIN));
        }
    }

    /// Watches over such a link no longer.
    pub fn watch_link_no_more(&self, index: u32) {
        if let Some(watch) = &self.watch {
            watch.besides_no_more(index);
        }
    }

    /// Watches over a network's bridges no longer: what becomes of them from now on is the driver's own doing.
    pub fn watch_no_more(&self, segment: &Segment) {
        if let Some(watch) = &self.watch {
            segment.bridges().for_each(|bridge| watch.no_more(bridge));
        }
    }

    /// Where so many elements are to change, nobody is told of each.
    fn quiet(&self, elements: usize) -> Option<Quiet> {
        self.watch.as_ref().filter(|_| elements > FEW).and_then(Watch::quiet)
    }

    /// Gets along with the rules of others; what is not as it should be.
    fn get_along(&mut self, bridges: Vec<String>) -> Vec<String> {
        let coexist = self.coexist;
        match self.kernel() {
            Ok(kernel) => coexist.settle(kernel.firewall.others(), &bridges),
            Err(error) => vec![error.to_string()],
        }
    }

    fn kernel(&mut self) -> Result<&mut Kernel> {
        if self.kernel.is_none() {
            self.kernel = Some(Kernel::open(self.marks).map_err(refusal)?);
        }
        Ok(self.kernel.as_mut().expect("it was just opened"))
    }

    /// The bridge of a network, which is made if this session has not seen it yet, and put right if
    /// that failed before.
    fn joined(&mut self, network: &Network, bridge: &str) -> Result<Joined> {
        match self.joined.get(bridge) {
            Some(joined) if !self.unfinished.contains(bridge) => Ok(*joined),
            _ => self.bring_up(network, bridge),
        }
    }

    /// Remembers the bridges of a network that are there.
    fn join(&mut self, segment: &Segment, mtu: u32, links: &[Link]) {
        self.mtus.insert(segment.bridge.clone(), mtu);
        let bridges = links.iter().filter(|link| self.marks.is_bridge(link));
        for name in segment.bridges() {
            if let Some(link) = bridges.clone().find(|link| link.name == *name) {
                self.joined.insert(name.clone(), Joined { index: link.index, mtu });
            }
        }
    }

    /// Makes all that a network has on this host; gives the one of its bridges that is asked for.
    fn bring_up(&mut self, network: &Network, bridge: &str) -> Result<Joined> {
        let segment = Segment::of(network);
        let marks = self.marks;
        let kernel = self.kernel()?;
        kernel.firewall.lay().map_err(refusal)?;
        let mut observed = kernel.observe(std::slice::from_ref(&segment)).map_err(refusal)?;
        observed.kept_mtus.clone_from(&self.mtus);
        not_others(&marks, &segment, &observed)?;
        let kernel = self.kernel()?;
        kernel.apply(&plan::network(&segment, &observed), &observed).map_err(refusal)?;
        let mut links = Vec::new();
        for name in segment.bridges() {
            let link = links::by_name(&mut kernel.socket, name).map_err(refusal)?;
            links.push(link.ok_or_else(|| gone(name))?);
        }
        self.join(&segment, plan::mtu(&segment, &observed), &links);
        self.unfinished.retain(|name| segment.bridges().all(|own| own != name));
        for problem in self.get_along(segment.bridges().cloned().collect()) {
            eprintln!("{problem}");
        }
        self.watch(std::slice::from_ref(&segment), false)?;
        self.joined.get(bridge).copied().ok_or_else(|| gone(bridge))
    }
}

impl Bridge {
    /// Makes an endpoint; where its bridge turns out to be another by now, that is said.
    fn make(
        &mut self,
        network: &Network,
        port: &Port,
        bridge: &mut Joined,
        sandbox: &Netns,
    ) -> Result<Made> {
        match self.kernel()?.attach(port, *bridge, sandbox) {
            // Somebody took the bridge or the rules away: they are made again, once.
            Err(error) if is_lost(&error) => {
                *bridge = self.bring_up(network, &port.bridge)?;
                self.kernel()?.attach(port, *bridge, sandbox)
            }
            outcome => outcome,
        }
    }

    /// Has those on the bridge told who has a port's addresses now, where others had them before.
    fn announce(&mut self, network: &Network, port: &Port, bridge: Joined) -> Result<()> {
        // Where one is that is routed is written down.
        let left = self.left.get(&network.id).filter(|_| !port.is_routed());
        let Some(left) = left else { return Ok(()) };
        let had = port.addresses.iter().map(IpNetwork::ip).filter(|ip| left.contains(ip));
        let moved = |address| Moved { bridge: bridge.index, address, mac: port.mac };
        let moved: Vec<_> = had.map(moved).collect();
        self.kernel()?.reaper.moved(moved.into_iter());
        Ok(())
    }
}

impl Bridge {
    /// Learns which MTU networks without a given one have had from their endpoints, where this session
    /// has not seen it itself: what somebody made of a bridge since is not it.
    fn remember_mtus(&mut self, desired: &Sync) {
        for network in desired.networks.iter().filter(|network| network.mtu.is_none()) {
            let its = desired.endpoints.iter().filter(|endpoint| endpoint.network == network.id);
            let had = its.filter_map(|endpoint| endpoint.mtu).max();
            if let Some(mtu) = had {
                self.mtus.entry(Segment::of(network).bridge).or_insert(mtu);
            }
        }
    }
}

/// The id of the namespace that an endpoint is in.
fn nsid_of(endpoint: &Endpoint) -> Option<i32> {
    endpoint.netns.and_then(|netns| netns.nsid)
}

fn gone(bridge: &str) -> Error {
    Error::new(Kind::Busy, format_args!("the bridge {bridge} was taken away as it was made"))
        .with("bridge", bridge)
}

/// The link of a bridge's name that is not the driver's, if there is one.
fn others<'a>(marks: &Marks, segment: &Segment, observed: &'a Observed) -> Option<&'a Link> {
    let mut there = segment.bridges().filter_map(|name| observed.link(name));
    there.find(|link| !marks.is_bridge(link))
}

/// A link of the bridge's name that is not the driver's is left alone.
fn not_others(marks: &Marks, segment: &Segment, observed: &Observed) -> Result<()> {
    match others(marks, segment, observed).map(|link| &link.name) {
        Some(name) => Err(Error::exists(format_args!(
            "a link {name} exists already on the host and is not netd's: {}if another program has left it, end \
             the containers that are on it, and delete it (ip link delete {name})",
            // Of the others the name follows from the network's id.
            if *marks == Marks::BRIDGE { "have the network's link called otherwise; or, " } else { "" }
        ))
        .with("link", name.as_str())),
        None => Ok(()),
    }
}

/// Leaves out the networks in whose bridges' place there is a link of others: each link, and a sentence of
/// what that does and what to do.
fn in_place(
    marks: &Marks,
    networks: &[Network],
    segments: &mut Vec<Segment>,
    observed: &Observed,
) -> Vec<(Link, String)> {
    let mut found = Vec::new();
    let mut networks = networks.iter();
    segments.retain(|segment| {
        let network = networks.next();
        let Some(link) = others(marks, segment, observed) else { return true };
        let (name, of) = (&link.name, network.map_or("", |network| network.name.as_str()));
        let problem = format!(
            "a link {name} exists already on the host and is not netd's, so containers on network {of} reach \
             nobody: end what uses it, and delete it (ip link delete {name}) or have it called otherwise"
        );
        eprintln!("{problem}");
        found.push((link.clone(), problem));
        false
    });
    found
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
        modes::check(network)?;
        modes::check_outbound(network)?;
        modes::check_trusted(network)?;
        shards::check(network)?;
        let bridge = Segment::of(network).bridge;
        self.bring_up(network, &bridge)
            .map(|joined| NetworkState { mtu: Some(joined.mtu), ..NetworkState::default() })
    }

    fn network_down(&mut self, network: &Network) -> Result<()> {
        self.left.remove(&network.id);
        let segment = Segment::of(network);
        self.mtus.remove(&segment.bridge);
        self.watch_no_more(&segment);
        for bridge in segment.bridges() {
            self.joined.remove(bridge);
            self.unfinished.remove(bridge);
        }
        let kernel = self.kernel()?;
        let mut batch = Batch::new();
        for bridge in segment.bridges() {
            let link = links::by_name(&mut kernel.socket, bridge).map_err(refusal)?;
            if link.is_some_and(|link| kernel.marks.is_bridge(&link)) {
                links::delete(&mut batch, bridge);
            }
        }
        kernel.socket.run_but(&[Errno::ENODEV], batch, |_| ()).map_err(refusal)?;
        // After the bridge: until it is gone it is guarded.
        kernel.firewall.forget(&segment.facts).map_err(refusal)
    }

    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached> {
        let port = Port::of(network, endpoint)?;
        let mut bridge = self.joined(network, &port.bridge)?;
        let sandbox = Netns::open(netns).map_err(|error| no_netns(netns, error))?;
        let kernel = self.kernel()?;
        if !port.delivered && sandbox.same_as(&kernel.home).map_err(refusal)? {
            return Err(Error::invalid(format_args!(
                "network namespace {netns} is the host's own: use the network host for it"
            ))
            .with("netns", netns));
        }
        if port.door != Door::default() {
            kernel.guards().map_err(door::explain)?;
        }
        let quiet = self.quiet(port.facts.len());
        let made = self.make(network, &port, &mut bridge, &sandbox)?;
        drop(quiet);
        self.announce(network, &port, bridge)?;
        // One that has a detour is shut already.
        if !port.door.detour {
            self.doors.push((made.host, port.door));
        }
        Ok(Attached {
            netns: NetnsId { cookie: made.cookie, nsid: made.nsid },
            interface: Some(Interface {
                name: endpoint.made_as(),
                index: made.index,
                mac: cnm::MacAddr(port.mac),
                mtu: bridge.mtu,
                host_index: Some(made.host),
            }),
        })
    }

    fn publish(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        instead_of: &[endpoint::Port],
    ) -> Result<()> {
        let port = Port::of(network, endpoint)?;
        self.joined(network, &port.bridge)?;
        let mut before = endpoint.clone();
        before.ports = instead_of.to_vec();
        // Ports that could not be published are not to be taken back.
        let published = Port::of(network, &before).map(|before| before.facts).unwrap_or_default();
        self.kernel()?.publish_instead(&published, &port)
    }

    fn detach(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        // An endpoint whose ports could not be published has none to take back.
        let port = Port::of(network, endpoint).ok();
        let _quiet = self.quiet(port.as_ref().map_or(0, |port| port.facts.len()));
        let left = self.left.entry(network.id.clone()).or_default();
        left.extend(endpoint.addresses.iter().map(IpNetwork::ip));
        let kernel = self.kernel()?;
        fault::point("bridge.detach.before-elements");
        if let Some(port) = &port {
            kernel.leave(port);
            if let Some(guards) = &mut kernel.guards {
                guards.gone(&port.door);
            }
        }
        let facts = port.as_ref().map(|port| port.facts.clone()).unwrap_or_default();
        let forgotten = kernel.firewall.forget(&facts);
        kernel.redirected(&facts);
        fault::point("bridge.detach.after-elements");
        let mut batch = Batch::new();
        let mut hosts = vec![endpoint.id.link_name().to_string()];
        if endpoint.bandwidth.is_some_and(|bandwidth| bandwidth.egress.is_some()) {
            hosts.push(shape::detour_of(&hosts[0]));
        }
        hosts.iter().for_each(|host| condemn(&mut batch, &kernel.marks, host));
        let mut condemned =
            kernel.socket.run_but(&[Errno::ENODEV], batch, |_| ()).map_err(refusal)?;
        if let Some(port) = port.as_ref().filter(|_| condemned == 0) {
            condemned = kernel.condemn_renamed(port, nsid_of(endpoint)).map_err(refusal)?;
        }
        match condemned {
            0 => {}
            count if desired::is_looked_for(endpoint) => kernel.reaper.condemned_at_once(count),
            count => kernel.reaper.condemned(count),
        }
        fault::point("bridge.detach.after-condemn");
        forgotten.map_err(refusal)
    }

    fn see_off(&mut self, endpoint: &Endpoint) {
        let host = endpoint.id.link_name().to_string();
        if let Err(error) = self.kernel().map(|kernel| kernel.see_off(&host)) {
            eprintln!("what leads over {host} stays for a moment: {error}");
        }
    }

    fn leave_inside(&mut self, netns: &str, cookie: Option<u64>) {
        if let Ok(kernel) = self.kernel() {
            names::forget(&kernel.home, netns, cookie);
        }
    }

    fn delivered(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Delivered> {
        let port = Port::of(network, endpoint)?;
        let socket = &mut self.kernel()?.socket;
        let Some(host) = links::by_name(socket, &port.host).map_err(refusal)? else {
            return Ok(Delivered::default());
        };
        let inside = links::other_end(socket, &host).map_err(refusal)?;
        Ok(Delivered { ifname: inside.and_then(|inside| inside.name.parse().ok()) })
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
        observed.kept_mtus.clone_from(&self.mtus);
        let kernel = self.kernel()?;
        kernel.observe_limits(std::iter::once(&port), &mut observed).map_err(refusal)?;
        kernel.observe_doors(&mut observed).map_err(door::explain)?;
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
        let mtu = self.joined.get(&port.bridge).map(|joined| joined.mtu).or(network.mtu);
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
        self.doors.clear();
        self.remember_mtus(desired);
        self.heed(&desired.settings)?;
        let marks = self.marks;
        let kernel = self.kernel()?;
        let first = !kernel.firewall.laid();
        let relaid = kernel.firewall.lay().map_err(refusal)?;
        let mut observed = kernel.observe(&segments).map_err(refusal)?;
        observed.kept_mtus.clone_from(&self.mtus);
        let kernel = self.kernel()?;
        let whose = ports.iter().zip(desired.endpoints.iter().map(nsid_of));
        let renamed = kernel.name_again(whose, &mut observed).map_err(refusal)?;
        kernel.observe_limits(ports.iter(), &mut observed).map_err(refusal)?;
        kernel.observe_doors(&mut observed).map_err(door::explain)?;
        let in_place = in_place(&marks, &desired.networks, &mut segments, &observed);
        if first {
            let left = observed.links.iter().filter(|link| marks.is_condemned(link));
            kernel.reaper.condemned(left.count());
        }
        let steps = plan::everything(&marks, &segments, &ports, &observed);
        let paths: Vec<_> = desired.netns.values().map(String::as_str).collect();
        let undone = kernel.apply_with(&steps, &observed, &paths).map_err(refusal)?;
        let done: Vec<_> = steps
            .iter()
            .filter(|step| undone.failed.iter().all(|(other, _)| other != *step))
            .collect();
        let (unfinished, left) = undone::of_networks(undone, &desired.networks, &ports)?;
        let keep = |path: &str, cookie, to| resolver::keep(&kernel.home, path, cookie, to);
        let led = ports.iter().zip(&desired.endpoints);
        let led: Vec<_> =
            led.filter_map(|(port, one)| desired.lead_inside(one, port.resolver, keep)).collect();
        let links = links::all(&mut kernel.socket).map_err(refusal)?;
        let names: Vec<_> = segments.iter().flat_map(Segment::bridges).cloned().collect();
        for segment in &segments {
            self.join(segment, plan::mtu(segment, &observed), &links);
        }
        self.unfinished = unfinished.into_iter().collect();
        let there = |endpoint: &Endpoint| {
            let name = endpoint.id.link_name();
            let link = observed.link(name.as_str());
            link.is_some_and(|link| marks.is_end(link))
        };
        let mut repaired = renamed;
        repaired.extend(done.into_iter().map(Step::to_string));
        if relaid {
            repaired.insert(0, "lay the firewall's rules down again".to_owned());
        }
        let missing = desired.endpoints.iter().filter(|endpoint| !there(endpoint));
        let missing = missing.map(|endpoint| endpoint.id.clone()).collect();
        repaired.extend(led);
        let mut problems = self.get_along(names);
        let troubled = if left.is_empty() {
            (!problems.is_empty()).then_some("what was in the way of netd's is not any more")
        } else {
            Some(TRIED_AGAIN)
        };
        problems.extend(left);
        self.watch(&segments, true)?;
        if let Some(watch) = &self.watch {
            watch.troubled(troubled);
            watch.until_gone(in_place.iter().map(|(link, _)| link));
        }
        problems.extend(in_place.into_iter().map(|(_, problem)| problem));
        Ok(Synced { repaired, missing, problems })
    }

    fn attend(&mut self, teller: Teller) {
        self.teller = Some(teller);
    }

    fn after_answer(&mut self) {
        if let Some(kernel) = &mut self.kernel {
            kernel.spent = None;
        }
        if let Err(error) = self.shut() {
            eprintln!("cannot see to it that an endpoint speaks for nobody else: {error}");
        }
    }

    fn uninstall(&mut self, asked: Uninstall) -> Result<Uninstalled> {
        uninstall::everything(self.marks, asked.check).map_err(refusal)
    }
}

/// Why a look is due though nothing has changed.
const TRIED_AGAIN: &str = "something could not be put right, and is tried again";

/// Whether an attach failed for want of what [`Bridge::bring_up`] makes.
fn is_lost(error: &Error) -> bool {
    error.kind == Kind::Busy
        || (error.kind == Kind::Kernel
            && error.operands.get("errno") == Some(&json!(Errno::ENOENT as i32)))
}

fn differences(marks: &Marks, segment: &Segment, port: &Port, observed: &Observed) -> Vec<String> {
    let mut differences = Vec::new();
    let bridge = observed.link(&port.bridge);
    let end = observed.link(&port.host).filter(|link| marks.is_end(link));
    match end {
        None => differences.push(format!("the link {} is missing", port.host)),
        Some(link) => {
            if marks.is_condemned(link) {
                differences.push(format!("the link {} is about to be taken away", port.host));
            } else if link.group != marks.owned {
                differences.push(format!("the link {} is in the wrong link group", port.host));
            }
            if !link.up {
                differences.push(format!("the link {} is down", port.host));
            }
            if let Some(mtu) = segment.mtu.filter(|mtu| *mtu != link.mtu) {
                differences.push(format!("the link {} has mtu {}, not {mtu}", port.host, link.mtu));
            }
            if link.flags != port.flags {
                differences.push(format!("the link {} has the wrong port flags", port.host));
            }
            if link.master.is_none() || link.master != bridge.map(|bridge| bridge.index) {
                differences.push(format!("the link {} is not on {}", port.host, port.bridge));
            }
        }
    }
    let steps = plan::network(segment, observed);
    differences.extend(steps.iter().map(|step| format!("still to do: {step}")));
    for lead in plan::leads(port).filter(|lead| !observed.leads.contains(lead)) {
        differences.push(format!("the host does not lead to {} on {}", lead.address, lead.link));
    }
    if let Some(link) = end.filter(|link| !door::is_right(port, link.index, observed)) {
        let wanted = door::words(&port.door);
        differences.push(format!("it is not so that the container at {} {wanted}", link.name));
    }
    let unknown = port.facts.iter().filter(|fact| !observed.facts.contains(fact));
    differences.extend(unknown.map(|fact| format!("the firewall does not have the {fact}")));
    differences
}
