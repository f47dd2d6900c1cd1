//! The driver as netd calls it.

use std::collections::{BTreeMap, BTreeSet};

use cnm::{
    Error, Kind, NetworkId, Result,
    driver::{
        Attached, Capabilities, Delivered, Driver, Info, NetworkState, Plan, Sync, Synced,
        Uninstall, Uninstalled,
    },
    endpoint::{Checked, Endpoint, Port},
    network::Network,
    options::{
        DELIVER, DNS_PORT, HOST_BINDING, IFNAME, IFNAME_PREFIX, LINGER, MTU, ON_OR_OFF, Options,
    },
    peers::{ChangePeers, PeersChanged},
    plugin::Teller,
};
use kernel::{
    firewall::{DROPPED, Fact},
    links::Link,
    routes::Address,
};
use netd_bridge::{Bridge, HAIRPIN, MASQUERADE, SPOOF_CHECK, SYSCTLS, Segment, tunnel_link};
use serde_json::json;
use words::{Undone, refusal};

use crate::{
    MARKS, OWNER, TUNNELS, Tunnel,
    apply::{self, Kernel},
    gathered::Gathered,
    plan::{self, Observed, Step},
    table::{Here, Place, Underlay},
    tunnel::{BROADCAST, MODE, overlay_of},
    undone,
};

mod elsewhere;

/// The driver `overlay`. It touches nothing until it is called, since a runtime's call ends with
/// netd's answer.
#[derive(Debug)]
pub struct Overlay {
    bridge: Bridge,
    kernel: Option<Kernel>,
    /// What this session was told that is here, and seen in the kernel.
    here: Here,
    /// Networks whose devices are not as they should be: the next attach tries again.
    unfinished: BTreeSet<NetworkId>,
    /// What comes in parts and is not whole yet.
    gathered: Gathered,
    /// What the firewall has been told of other hosts since it was last looked at: a peer says it of
    /// its node each time.
    learned: BTreeSet<Fact>,
    /// The counters of dropped VXLAN as they were last seen.
    dropped: BTreeMap<String, u64>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            bridge: Bridge::marked(MARKS),
            kernel: None,
            here: Here::default(),
            unfinished: BTreeSet::new(),
            gathered: Gathered::default(),
            learned: BTreeSet::new(),
            dropped: BTreeMap::new(),
        }
    }
}

/// What people may ask of it.
fn options() -> Options {
    Options::of(
        &[
            MTU,
            HOST_BINDING,
            IFNAME_PREFIX,
            MASQUERADE,
            HAIRPIN,
            BROADCAST,
            MODE,
            SPOOF_CHECK,
            DNS_PORT,
        ],
        &[IFNAME, LINGER, SYSCTLS, SPOOF_CHECK, DNS_PORT, DELIVER],
    )
    .with_values(MASQUERADE, &ON_OR_OFF)
    .with_values(HAIRPIN, &ON_OR_OFF)
    .with_values(SPOOF_CHECK, &ON_OR_OFF)
    .with_endpoint_values(LINGER, &ON_OR_OFF)
    .with_endpoint_values(SPOOF_CHECK, &ON_OR_OFF)
    .with_endpoint_values(DELIVER, &["host"])
    .with_values(BROADCAST, &["on", "off", "true", "false"])
    .with_values(MODE, &["vxlan", "routed"])
}

/// The counter of what comes from nobody known.
const STRANGERS: &str = DROPPED[0];

/// The MTU of Ethernet, for the device between the nodes of a host that does not have the address
/// that it takes VXLAN at.
const ETHERNET_MTU: u32 = 1500;

impl Overlay {
    fn kernel(&mut self) -> Result<&mut Kernel> {
        if self.kernel.is_none() {
            let firewall = self.bridge.share_firewall(OWNER)?;
            let mut kernel = Kernel::open(firewall).map_err(refusal)?;
            self.here.nodes = kernel.nodes().map_err(refusal)?;
            self.kernel = Some(kernel);
        }
        Ok(self.kernel.as_mut().expect("it was just opened"))
    }

    /// The devices of networks: their own, and the one between the nodes.
    fn tunnels(&mut self, networks: &[&Network]) -> Result<Vec<Tunnel>> {
        let mut tunnels = networks.iter().map(|one| Tunnel::of(one)).collect::<Result<Vec<_>>>()?;
        for network in networks {
            let overlay = overlay_of(network)?;
            let is_made = |tunnel: &Tunnel| overlay.ingress.is_some_and(|i| i.vni == tunnel.vni);
            if overlay.ingress.is_some() && !tunnels.iter().any(is_made) {
                let underlay = self.kernel()?.underlay(overlay.node.vtep).map_err(refusal)?;
                tunnels.extend(Tunnel::ingress(overlay, underlay.unwrap_or(ETHERNET_MTU)));
            }
        }
        Ok(tunnels)
    }

    /// Whether this host can have the network.
    fn admit(&mut self, network: &Network) -> Result<()> {
        let overlay = overlay_of(network)?;
        let vni = overlay.vni;
        let between = self.here.ingress.is_some_and(|(_, ingress)| ingress == vni);
        let mut others = self.here.networks.iter().filter(|(id, _)| **id != network.id);
        if between || others.any(|(_, place)| place.vni == vni) {
            return Err(Error::exists(format_args!(
                "VNI {vni} of network {} is another network's on this host",
                network.name
            ))
            .with("network", network.name.as_str())
            .with("vni", vni));
        }
        let vtep = overlay.node.vtep;
        let Some(underlay) = self.kernel()?.underlay(vtep).map_err(refusal)? else {
            return Err(Error::not_found(format_args!(
                "no link of this host has the address {vtep} that it should take VXLAN at"
            ))
            .with("vtep", vtep.to_string()));
        };
        Tunnel::of(network)?.fits(network, underlay)
    }

    /// Remembers where the rows of these networks go, as far as their links are there.
    fn place(&mut self, networks: &[&Network], observed: &Observed) -> Result<()> {
        for network in networks {
            let overlay = overlay_of(network)?;
            let tunnel = Tunnel::of(network)?;
            self.here.number = overlay.node.number;
            let vtep = overlay.node.vtep;
            let found = observed.addresses.iter().find(|found| found.address.ip() == vtep);
            let underlay = found.map(|f| Underlay { link: f.link, address: f.address });
            self.here.underlay = underlay.or(self.here.underlay);
            let ingress = overlay.ingress.and_then(|ingress| {
                let found = observed.tunnel(&tunnel_link(ingress.vni))?;
                self.bridge.watch_link(found.link.index, &found.link.name, None);
                Some((found.link.index, found.vni))
            });
            self.here.ingress = ingress.or(self.here.ingress);
            self.here.ingress_ipv6 = self.here.ingress.is_some_and(|(link, _)| {
                let six = |f: &&Address| f.link == link && f.address.is_ipv6() && !f.link_local;
                observed.addresses.iter().any(|found| six(&found))
            });
            let (segment, routed) = (tunnel.bridge, tunnel.routed);
            let bridge = segment.as_ref().and_then(|bridge| observed.bridges.get(bridge));
            let found = observed.tunnel(&tunnel.name);
            if let (Some(bridge), Some(found)) = (bridge, found) {
                self.bridge.watch_link(found.link.index, &tunnel.name, Some(*bridge));
                let (vni, bridge, tunnel, broadcast) =
                    (tunnel.vni, *bridge, found.link.index, tunnel.broadcast);
                let routed = routed.then(|| segment.clone()).flatten();
                let place = Place { vni, bridge, tunnel, broadcast, routed };
                self.here.networks.insert(network.id.clone(), place);
            }
        }
        Ok(())
    }

    /// Brings devices to what they should be, and remembers where they are; what it did, and what it could not do.
    fn arrange(
        &mut self,
        networks: &[&Network],
        tunnels: &[Tunnel],
        plan: impl FnOnce(&Observed) -> Vec<Step>,
    ) -> Result<(Vec<Step>, Undone<Step>)> {
        let kernel = self.kernel()?;
        let observed = kernel.observe(tunnels).map_err(refusal)?;
        let mut steps = plan(&observed);
        let undone = kernel.apply(&steps, &observed).map_err(refusal)?;
        let now =
            if steps.is_empty() { observed } else { kernel.observe(tunnels).map_err(refusal)? };
        self.place(networks, &now)?;
        steps.retain(|step| undone.failed.iter().all(|(failed, _)| failed != step));
        Ok((steps, undone))
    }

    /// Makes a network's devices, all of them.
    fn make_devices(&mut self, network: &Network, tunnels: &[Tunnel]) -> Result<()> {
        let (_, undone) = self.arrange(&[network], tunnels, |observed| {
            tunnels.iter().flat_map(|tunnel| plan::tunnel(tunnel, observed)).collect()
        })?;
        if undone.failed.is_empty() {
            return undone.all_done().map_err(refusal);
        }
        let there = self.kernel()?.observe(&[]).map_err(refusal)?.tunnels;
        let obstacle = undone::obstacle(&undone, tunnels, &there);
        obstacle.map_or_else(|| undone.all_done().map_err(refusal), Err)
    }

    /// Says how much VXLAN was dropped since it was last asked for.
    fn report_dropped(&mut self) -> Result<()> {
        let dropped = self.kernel()?.dropped().map_err(refusal)?;
        for (name, now) in dropped {
            let before = self.dropped.insert(name.clone(), now).unwrap_or(0);
            let new = now.saturating_sub(before);
            if new > 0 {
                let whose = match name.as_str() {
                    STRANGERS => "of nobody in the cluster",
                    _ => "of nodes that are not on the network",
                };
                eprintln!("{new} packets of VXLAN {whose} were dropped");
            }
        }
        Ok(())
    }
}

/// A link of a device's name that is not netd's is left alone.
fn not_others(tunnel: &Tunnel, links: &[Link]) -> Result<()> {
    let name = &tunnel.name;
    match links.iter().find(|link| link.name == *name && link.group != TUNNELS) {
        Some(_) => Err(Error::exists(format_args!(
            "a link {name} exists already on the host and is not netd's: delete it (ip link delete {name}), \
             and have netd look again (netctl reconcile)"
        ))
        .with("link", name.as_str())),
        None => Ok(()),
    }
}

impl Driver for Overlay {
    fn info(&self) -> Info {
        Info {
            name: "overlay".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            protocols: vec![cnm::PROTOCOL],
            capabilities: Capabilities {
                addresses: true,
                gateway: true,
                ports: true,
                bandwidth: true,
                peers: true,
                ..Capabilities::default()
            },
            options: Some(options()),
        }
    }

    fn network_up(&mut self, network: &Network) -> Result<NetworkState> {
        self.learned.clear();
        self.admit(network)?;
        let tunnels = self.tunnels(&[network])?;
        let links = self.kernel()?.links().map_err(refusal)?;
        tunnels.iter().try_for_each(|tunnel| not_others(tunnel, &links))?;
        let bridge = Segment::of(network).bridge;
        let is_first = self.kernel()?.link(&bridge).map_err(refusal)?.is_none();
        let state = self.bridge.network_up(network)?;
        self.unfinished.insert(network.id.clone());
        let made = self.make_devices(network, &tunnels);
        if made.is_err()
            && is_first
            && let Err(left) = self.network_down(network)
        {
            eprintln!("something of network {} is left: {left}", network.name);
        }
        made?;
        self.unfinished.remove(&network.id);
        Ok(state)
    }

    fn network_down(&mut self, network: &Network) -> Result<()> {
        self.learned.clear();
        let segment = Segment::of(network);
        // Without its last port a bridge has another MTU, before it is gone itself.
        self.bridge.watch_no_more(&segment);
        let segment = segment.bridge;
        let device = self.here.networks.get(&network.id).map(|place| place.tunnel);
        let between = self.here.ingress.map(|(link, _)| link);
        // The device between the nodes may go with it.
        let last = self.here.networks.len() <= 1;
        for link in device.into_iter().chain(between.filter(|_| last)) {
            self.bridge.watch_link_no_more(link);
        }
        let kernel = self.kernel()?;
        let observed = kernel.observe(&[]).map_err(refusal)?;
        let bridge = kernel.link(&segment).map_err(refusal)?.map(|link| link.index);
        let on_it = |found: &&kernel::vxlan::Found| {
            plan::is_own(found) && found.link.master.is_some() && found.link.master == bridge
        };
        let vni = network.overlay.as_ref().map(|overlay| overlay.vni);
        let vni = vni.or_else(|| observed.tunnels.iter().find(on_it).map(|found| found.vni));
        if let Some(vni) = vni {
            let said = network.overlay.as_ref().and_then(|overlay| overlay.ingress);
            let ingress = said.map(|i| i.vni).or_else(|| self.here.ingress.map(|(_, vni)| vni));
            let steps = plan::without(vni, &observed, ingress);
            self.kernel()?.apply(&steps, &observed).and_then(Undone::all_done).map_err(refusal)?;
        }
        self.forget_routes(&segment)?;
        self.bridge.network_down(network)?;
        self.here.networks.remove(&network.id);
        self.unfinished.remove(&network.id);
        let left = self.kernel()?.observe(&[]).map_err(refusal)?;
        if left.tunnels.iter().any(plan::is_own) { Ok(()) } else { self.forget_nodes() }
    }

    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached> {
        let placed = self.here.networks.contains_key(&network.id);
        if !placed || self.unfinished.contains(&network.id) {
            self.network_up(network)?;
        }
        self.bridge.attach(network, endpoint, netns)
    }

    fn publish(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        instead_of: &[Port],
    ) -> Result<()> {
        self.bridge.publish(network, endpoint, instead_of)
    }

    fn leave_inside(&mut self, netns: &str, cookie: Option<u64>) {
        self.bridge.leave_inside(netns, cookie);
    }

    fn detach(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()> {
        self.bridge.detach(network, endpoint)
    }

    fn see_off(&mut self, endpoint: &Endpoint) {
        self.bridge.see_off(endpoint);
    }

    fn delivered(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Delivered> {
        self.bridge.delivered(network, endpoint)
    }

    fn check(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        netns: Option<&str>,
    ) -> Result<Checked> {
        let mut checked = self.bridge.check(network, endpoint, netns)?;
        let tunnels = self.tunnels(&[network])?;
        let observed = self.kernel()?.observe(&tunnels).map_err(refusal)?;
        let steps = tunnels.iter().flat_map(|tunnel| plan::tunnel(tunnel, &observed));
        checked.differences.extend(steps.map(|step| format!("still to do: {step}")));
        Ok(checked)
    }

    fn plan(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Plan> {
        let mut plan = self.bridge.plan(network, endpoint)?;
        let tunnels = self.tunnels(&[network])?;
        let here = self.here.clone();
        let kernel = self.kernel()?;
        let mut devices = Vec::new();
        for tunnel in &tunnels {
            devices.push(json!(kernel.link(&tunnel.name).map_err(refusal)?));
        }
        let rows = kernel.table(&here).map_err(refusal)?.len();
        let dropped = kernel.dropped().map_err(refusal)?;
        if let Some(observed) = plan.observed.as_object_mut() {
            observed.insert("dropped".to_owned(), json!(dropped));
            observed.insert("tunnels".to_owned(), json!(devices));
            observed.insert("nodes".to_owned(), json!(here.nodes));
            observed.insert("rows".to_owned(), json!(rows));
        }
        Ok(plan)
    }

    fn attend(&mut self, teller: Teller) {
        self.bridge.attend(teller);
    }

    fn after_answer(&mut self) {
        self.bridge.after_answer();
    }

    fn uninstall(&mut self, asked: Uninstall) -> Result<Uninstalled> {
        let mut uninstalled = self.bridge.uninstall(asked)?;
        uninstalled.found.extend(apply::uninstall(asked.check).map_err(refusal)?);
        Ok(uninstalled)
    }

    fn sync(&mut self, desired: &Sync) -> Result<Synced> {
        // Whose the tables are is said before they are shared.
        self.bridge.heed(&desired.settings)?;
        self.learned.clear();
        let networks: Vec<_> = desired.networks.iter().collect();
        let mut tunnels = self.tunnels(&networks)?;
        let mut synced = self.bridge.sync(desired)?;
        self.kernel()?;
        self.here = Here { nodes: std::mem::take(&mut self.here.nodes), ..Here::default() };
        let links = self.kernel()?.links().map_err(refusal)?;
        // What has another's name is reported and passed over; of a bridge its own part did so.
        tunnels.retain(|tunnel| {
            let outcome = not_others(tunnel, &links);
            if let Err(error) = &outcome {
                eprintln!("{error}");
                synced.problems.push(error.to_string());
            }
            let is_bridge = |link: &&Link| MARKS.is_bridge(link);
            let bridge = |name: &String| links.iter().filter(is_bridge).any(|l| l.name == *name);
            outcome.is_ok() && tunnel.bridge.as_ref().is_none_or(bridge)
        });
        let (done, undone) =
            self.arrange(&networks, &tunnels, |observed| plan::everything(&tunnels, observed))?;
        synced.repaired.extend(done.iter().map(Step::to_string));
        let (unfinished, problems) = undone::of_networks(undone, &networks, &tunnels);
        if !problems.is_empty() {
            self.bridge.try_again();
        }
        self.unfinished = unfinished;
        synced.problems.extend(problems);
        if desired.networks.is_empty() {
            self.forget_nodes()?;
        }
        self.report_dropped()?;
        Ok(synced)
    }

    fn peers(&mut self, change: &ChangePeers) -> Result<PeersChanged> {
        self.kernel()?;
        if change.complete && !change.gone.is_empty() {
            return Err(Error::new(
                Kind::Invalid,
                "driver.peers with complete says what there is, and so nothing of what is gone",
            ));
        }
        let Some(change) = self.gathered.take(change)? else { return Ok(PeersChanged::default()) };
        // Without a network here nothing is sent to anybody, and nothing has to be known.
        if self.here.networks.is_empty() {
            return Ok(PeersChanged::default());
        }
        let rows = match change.complete {
            true => self.apply_everything(&change)?,
            false => self.apply_change(&change)?,
        };
        if change.complete {
            self.report_dropped()?;
        }
        Ok(PeersChanged { rows })
    }
}
