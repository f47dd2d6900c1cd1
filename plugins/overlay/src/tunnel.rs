//! What the VXLAN devices should look like, as far as it follows from what netd says of networks.

use std::net::IpAddr;

use cnm::{
    Error, Result,
    network::Network,
    options::Setting,
    peers::{MAX_NODE, Overlay},
};
use ipnetwork::IpNetwork;
use kernel::{firewall::Fact, links::Mac};
use netd_bridge::{Segment, tunnel_link};

use crate::overhead;

/// Whether what goes to everybody goes to the other hosts, too.
pub(crate) const BROADCAST: Setting = Setting {
    names: &["broadcast"],
    about: "on: what goes to everybody goes to other hosts as well",
};

/// How packets get to the other hosts.
pub(crate) const MODE: Setting = Setting {
    names: &["mode"],
    about: "vxlan, or routed: straight to other hosts that are on one link with this one",
};

/// The largest number on the wire.
const MAX_VNI: u32 = (1 << 24) - 1;

/// The smallest MTU of a link that has IPv6 (RFC 8200, section 5).
const IPV6_MTU: u32 = 1280;

/// A VXLAN device of this host: a network's, which is a port of its bridge, or the one between the
/// nodes, which has addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its name, which follows from its number.
    pub name: String,
    /// Its number on the wire.
    pub vni: u32,
    /// Where this host takes VXLAN.
    pub local: IpAddr,
    /// At which UDP port.
    pub port: u16,
    /// Its address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// The bridge that it is a port of.
    pub bridge: Option<String>,
    /// Whether what goes to everybody goes to other hosts.
    pub broadcast: bool,
    /// Whether its members on nodes of the same link are reached by routes.
    pub routed: bool,
    /// Its network addresses.
    pub addresses: Vec<IpNetwork>,
}

/// A locally administered address out of three letters' worth and a number.
fn numbered_mac(letter: u8, number: u32) -> Mac {
    let [_, a, b, c] = number.to_be_bytes();
    [0x02, b'n', letter, a, b, c]
}

/// The address of a node's end of the network between the nodes.
pub(crate) fn node_mac(number: u32) -> Mac {
    numbered_mac(b'd', number)
}

/// The node whose end of the network between the nodes has an address.
pub(crate) fn node_of(mac: Mac) -> Option<u32> {
    let [_, _, _, a, b, c] = mac;
    let number = u32::from_be_bytes([0, a, b, c]);
    (mac == node_mac(number)).then_some(number)
}

/// What netd says of how a network reaches other hosts.
///
/// # Errors
/// `invalid` when it says nothing, or what cannot be.
pub(crate) fn overlay_of(network: &Network) -> Result<&Overlay> {
    let wrong = |what: &str| {
        Error::invalid(format_args!("network {} spans hosts and {what}", network.name))
            .with("network", network.name.as_str())
    };
    let overlay = network.overlay.as_ref().ok_or_else(|| {
        wrong("this one is in no cluster: `netctl cluster init` makes one, `join` enters one")
    })?;
    let ingress = overlay.ingress.map_or(overlay.vni, |ingress| ingress.vni);
    if ![overlay.vni, ingress].iter().all(|vni| (1..=MAX_VNI).contains(vni)) {
        return Err(wrong("its VNI is not within 1 and 16777215").with("vni", overlay.vni));
    }
    if overlay.ingress.is_some_and(|ingress| ingress.vni == overlay.vni) {
        let what = "has the VNI of the network between the nodes";
        return Err(wrong(what).with("vni", overlay.vni));
    }
    if !(1..=MAX_NODE).contains(&overlay.node.number) || overlay.port == 0 {
        return Err(wrong("comes with no number of this node or no UDP port"));
    }
    Ok(overlay)
}

impl Tunnel {
    /// A network's.
    ///
    /// # Errors
    /// `invalid` when netd does not say what it takes.
    pub fn of(network: &Network) -> Result<Self> {
        let overlay = overlay_of(network)?;
        let mtu = network.mtu.ok_or_else(|| {
            Error::invalid(format_args!("network {} spans hosts and has no MTU", network.name))
                .with("network", network.name.as_str())
        })?;
        let said = |setting: Setting| {
            let given = setting.given(&network.options);
            given.map(|(name, value)| (name, value.to_ascii_lowercase())).unwrap_or_default()
        };
        let (name, value) = said(BROADCAST);
        let broadcast = match &*value {
            "" | "off" | "false" => false,
            "on" | "true" => true,
            other => {
                let message = format_args!("option {name} is on or off, and not {other}");
                return Err(Error::invalid(message).with("option", name));
            }
        };
        let (name, value) = said(MODE);
        let routed = match &*value {
            "" | "vxlan" => false,
            // An internal network has nothing to do with any other link.
            "routed" => !network.internal,
            other => {
                let message = format_args!("option {name} is vxlan or routed, and not {other}");
                return Err(Error::invalid(message).with("option", name));
            }
        };
        Ok(Self {
            name: tunnel_link(overlay.vni),
            vni: overlay.vni,
            local: overlay.node.vtep,
            port: overlay.port,
            mac: numbered_mac(b'x', overlay.vni),
            mtu,
            bridge: Some(Segment::of(network).bridge),
            broadcast,
            routed,
            addresses: Vec::new(),
        })
    }

    /// The one between the nodes, where the cluster has such a network. `underlay` is the MTU below it.
    pub fn ingress(overlay: &Overlay, underlay: u32) -> Option<Self> {
        let ingress = overlay.ingress?;
        let room = underlay.saturating_sub(overhead(overlay.node.vtep));
        let mtu = ingress.mtu.unwrap_or(room);
        // Where packets are too small for it there is no IPv6, and the kernel refuses its addresses.
        let addresses = overlay.node.addresses.iter().copied();
        let addresses = addresses.filter(|address| address.is_ipv4() || mtu >= IPV6_MTU).collect();
        Some(Self {
            name: tunnel_link(ingress.vni),
            vni: ingress.vni,
            local: overlay.node.vtep,
            port: overlay.port,
            mac: node_mac(overlay.node.number),
            mtu,
            bridge: None,
            broadcast: false,
            routed: false,
            addresses,
        })
    }

    /// Whether an underlay has room for it.
    ///
    /// # Errors
    /// `invalid`, with what is wanted and what there is.
    pub fn fits(&self, network: &Network, underlay: u32) -> Result<()> {
        let overhead = overhead(self.local);
        if self.mtu + overhead <= underlay {
            return Ok(());
        }
        Err(Error::invalid(format_args!(
            "network {} has mtu {}, and with {overhead} bytes of VXLAN around it that does not fit \
             the mtu {underlay} of this host's link with {}: raise that, or make the network with \
             mtu {}",
            network.name,
            self.mtu,
            self.local,
            underlay.saturating_sub(overhead)
        ))
        .with("network", network.name.as_str())
        .with("mtu", self.mtu)
        .with("underlay_mtu", underlay)
        .with("overhead", overhead))
    }

    /// The kernel parameters that it needs, and their values.
    pub fn parameters(&self) -> Vec<(String, &'static str)> {
        let name = &self.name;
        if let Some(bridge) = &self.bridge {
            // Who is asked for on the bridge and is elsewhere by a route is answered for, at once.
            let answering = [
                (format!("net/ipv4/conf/{bridge}/proxy_arp"), "1"),
                (format!("net/ipv4/neigh/{bridge}/proxy_delay"), "0"),
            ];
            return answering.into_iter().filter(|_| self.routed).collect();
        }
        // What a container answers to this host comes by here, where the way to it is its bridge.
        let mut parameters = vec![(format!("net/ipv4/conf/{name}/rp_filter"), "2")];
        if self.addresses.iter().any(IpNetwork::is_ipv6) {
            parameters.push((format!("net/ipv6/conf/{name}/disable_ipv6"), "0"));
            parameters.push((format!("net/ipv6/conf/{name}/accept_ra"), "0"));
            parameters.push((format!("net/ipv6/conf/{name}/accept_dad"), "0"));
        } else {
            parameters.push((format!("net/ipv6/conf/{name}/disable_ipv6"), "1"));
        }
        parameters
    }

    /// What the firewall is to know of it, whoever else is on it.
    pub fn facts(&self) -> [Fact; 2] {
        [Fact::VxlanPort(self.port), Fact::Vni(self.vni)]
    }
}
