//! What netd asks of a driver: the calls, and the trait that a driver in Rust fills.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Call, Empty, EndpointId, Error, IfName, MacAddr, Result,
    endpoint::{Checked, Endpoint, NetnsId, Port},
    network::Network,
    options::{self, Options},
    peers::{ChangePeers, PeersChanged},
    plugin::Teller,
};

/// Asks who a driver is. The first call of every session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct GetInfo {}

impl Call for GetInfo {
    const METHOD: &'static str = "driver.info";
    type Reply = Info;
}

/// Who a driver is and what it takes part in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Info {
    /// What networks name it by.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The protocol versions it speaks.
    pub protocols: Vec<u32>,
    /// What it takes part in.
    #[serde(default)]
    pub capabilities: Capabilities,
    /// The options that it knows, so that others are refused; where it says nothing it is handed
    /// whatever there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
}

impl Info {
    /// Whether it has an option of this name for its networks; where it says nothing it may.
    pub fn takes_for_network(&self, name: &str) -> bool {
        self.options.as_ref().is_none_or(|options| options::has(&options.network, name))
    }

    /// As [`Info::takes_for_network`], for its endpoints.
    pub fn takes_for_endpoint(&self, name: &str) -> bool {
        self.options.as_ref().is_none_or(|options| options::has(&options.endpoint, name))
    }
}

/// What a driver takes part in. All of it is `false` where a driver says nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Capabilities {
    /// Its endpoints have an interface of their own, with addresses from netd.
    #[serde(default)]
    pub addresses: bool,
    /// Its networks have a link on the host that carries the gateway's address.
    #[serde(default)]
    pub gateway: bool,
    /// It can publish ports.
    #[serde(default)]
    pub ports: bool,
    /// Its sandboxes are the host's own namespace, and only that.
    #[serde(default)]
    pub host_netns: bool,
    /// Several of its networks may have the same subnet, as they share what they lead to.
    #[serde(default)]
    pub shared_subnets: bool,
    /// It can limit how fast an endpoint's packets come and go.
    #[serde(default)]
    pub bandwidth: bool,
    /// Its networks span hosts: they come with `overlay`, and it is told of the other hosts.
    #[serde(default)]
    pub peers: bool,
}

/// How a driver's refusal calls who has the port of VXLAN: netd, which looks for it, says its name instead.
pub const ANOTHER_PROGRAM: &str = "another program";

/// The operand of such a refusal that says which port that is.
pub const UDP_PORT: &str = "udp_port";

/// Makes a network's part of the host: its link, its address, its place in the firewall.
/// One that is there already is brought to what is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkUp {
    /// The network.
    pub network: Network,
}

impl Call for NetworkUp {
    const METHOD: &'static str = "driver.network_up";
    type Reply = NetworkState;
}

/// What a network looks like in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkState {
    /// The MTU that its endpoints get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Options that the driver chose where none were given: the network has them from now on.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// Takes a network's part of the host away. One that is not there is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetworkDown {
    /// The network.
    pub network: Network,
}

impl Call for NetworkDown {
    const METHOD: &'static str = "driver.network_down";
    type Reply = Empty;
}

/// Makes an endpoint. Whatever fails, nothing of it is left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AttachEndpoint {
    /// Its network.
    pub network: Network,
    /// What is wanted.
    pub endpoint: Endpoint,
    /// A path to the sandbox's namespace, good for this call alone.
    pub netns: String,
}

impl Call for AttachEndpoint {
    const METHOD: &'static str = "driver.attach";
    type Reply = Attached;
}

/// What an endpoint became.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attached {
    /// The namespace it is in.
    pub netns: NetnsId,
    /// The interface in the container, where it got one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<Interface>,
}

/// An interface of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Interface {
    /// Its name.
    pub name: IfName,
    /// Its index there.
    pub index: u32,
    /// Its address.
    pub mac: MacAddr,
    /// Its MTU.
    pub mtu: u32,
    /// The index of its other end on the host, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_index: Option<u32>,
}

/// Has an endpoint that is there publish other ports than it did, all of them or none. A driver that
/// does not know it is told everything instead ([`Sync`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PublishPorts {
    /// Its network.
    pub network: Network,
    /// The endpoint, with the ports that it is to publish.
    pub endpoint: Endpoint,
    /// Those that it has published until now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instead_of: Vec<Port>,
}

impl Call for PublishPorts {
    const METHOD: &'static str = "driver.publish";
    type Reply = Empty;
}

/// Takes an endpoint away. What is not there is a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct DetachEndpoint {
    /// Its network.
    pub network: Network,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// A path to the sandbox's namespace, where it is the last one there with a `dns-port`: what is
    /// asked inside is to be led nowhere any more. The path may lead elsewhere by now: the
    /// namespace's cookie tells. Of an attach that failed there may be no cookie: the path is good for
    /// this call then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Whether its container goes on with other endpoints: it is to send nothing this way any more,
    /// by routes that last as long as the interface, when the answer comes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
}

impl Call for DetachEndpoint {
    const METHOD: &'static str = "driver.detach";
    type Reply = Empty;
}

/// Compares an endpoint with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckAttached {
    /// Its network.
    pub network: Network,
    /// The endpoint.
    pub endpoint: Endpoint,
    /// A path to the sandbox's namespace, good for this call alone, when it is to look inside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
}

impl Call for CheckAttached {
    const METHOD: &'static str = "driver.check";
    type Reply = Checked;
}

/// Asks where an endpoint is by now that was left on the host (`deliver=host`), and has it announced to
/// whoever may have known another at its addresses. Asked when its container runs, and before a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct FindDelivered {
    /// Its network.
    pub network: Network,
    /// The endpoint.
    pub endpoint: Endpoint,
}

impl Call for FindDelivered {
    const METHOD: &'static str = "driver.delivered";
    type Reply = Delivered;
}

/// Where an endpoint is by now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Delivered {
    /// What its interface is called in its container; none as long as it is on the host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
}

/// Shows the steps that would make an endpoint and what the kernel has of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PlanEndpoint {
    /// Its network.
    pub network: Network,
    /// The endpoint.
    pub endpoint: Endpoint,
}

impl Call for PlanEndpoint {
    const METHOD: &'static str = "driver.plan";
    type Reply = Plan;
}

/// A driver's plan and what it sees.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Plan {
    /// The steps from nothing to the endpoint, each one line for people.
    pub steps: Vec<String>,
    /// What the kernel has, in the driver's own words.
    pub observed: Value,
}

/// Everything that the driver's part of the kernel should hold: makes it so.
/// What is netd's own and not here is taken away.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Sync {
    /// All networks of this driver.
    pub networks: Vec<Network>,
    /// All endpoints on them.
    pub endpoints: Vec<Endpoint>,
    /// What the host's administrator said that is of no network alone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// Paths to the namespaces of those endpoints to which one is known, for what is to be kept or
    /// changed inside. A path may lead elsewhere by now: the namespace's cookie tells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub netns: BTreeMap<EndpointId, String>,
}

impl Call for Sync {
    const METHOD: &'static str = "driver.sync";
    type Reply = Synced;
}

impl Sync {
    /// Leads what a container asks inside itself to the resolver at `port` there, where that is no
    /// longer so: the sentence of what was put right. `keep` does it, in the namespace of a path and a
    /// cookie, and says whether there was something to do; what it fails for is logged.
    pub fn lead_inside<E: fmt::Display>(
        &self,
        endpoint: &Endpoint,
        port: Option<u16>,
        keep: impl FnOnce(&str, u64, u16) -> Result<bool, E>,
    ) -> Option<String> {
        let (port, path, netns) = (port?, self.netns.get(&endpoint.id)?, endpoint.netns?);
        let label = endpoint.container.label();
        match keep(path, netns.cookie, port) {
            Ok(true) => Some(format!("lead {label} to the resolver inside it")),
            Ok(false) => None,
            Err(error) => {
                eprintln!("names may not resolve inside {label}: {error}");
                None
            }
        }
    }
}

/// What a sync found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Synced {
    /// One sentence for each thing that was put right.
    pub repaired: Vec<String>,
    /// Endpoints that cannot be put right, since their link or namespace is gone.
    pub missing: Vec<EndpointId>,
    /// One sentence for each thing that is not as it should be, and that the driver did not put right:
    /// it is somebody else's, or the kernel refused it for one network, which the sentence names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
}

/// Takes everything of the driver's own out of the kernel, whoever is on its networks; or shows what
/// that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Uninstall {
    /// Only show.
    #[serde(default)]
    pub check: bool,
}

impl Call for Uninstall {
    const METHOD: &'static str = "driver.uninstall";
    type Reply = Uninstalled;
}

/// What of a driver's own was in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Uninstalled {
    /// One line for each thing.
    pub found: Vec<String>,
}

/// What a driver says unasked, as a notification: its part of the kernel is not as it left it, so a
/// sync is due.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Disturbed {
    /// One sentence for each thing that it noticed.
    pub what: Vec<String>,
}

impl Disturbed {
    /// Its method on the wire.
    pub const METHOD: &'static str = "driver.disturbed";
}

/// A driver. It stores nothing, allocates nothing, and is told everything it needs.
pub trait Driver {
    /// Who it is.
    fn info(&self) -> Info;

    /// As [`NetworkUp`].
    fn network_up(&mut self, network: &Network) -> Result<NetworkState>;

    /// As [`NetworkDown`].
    fn network_down(&mut self, network: &Network) -> Result<()>;

    /// As [`AttachEndpoint`].
    fn attach(&mut self, network: &Network, endpoint: &Endpoint, netns: &str) -> Result<Attached>;

    /// As [`DetachEndpoint`].
    fn detach(&mut self, network: &Network, endpoint: &Endpoint) -> Result<()>;

    /// Leads what a container asks inside itself nowhere any more, in the namespace of a path and, but
    /// for one that is good for this call, a cookie ([`DetachEndpoint::netns`]). A detach succeeds whether
    /// that can be done or not.
    fn leave_inside(&mut self, _netns: &str, _cookie: Option<u64>) {}

    /// Waits until no route of a container leads over an endpoint that was detached and from which it
    /// goes on with others ([`DetachEndpoint::stays`]). Whose links are gone with the detach need not.
    fn see_off(&mut self, _endpoint: &Endpoint) {}

    /// As [`PublishPorts`].
    fn publish(
        &mut self,
        _network: &Network,
        _endpoint: &Endpoint,
        _instead_of: &[Port],
    ) -> Result<()> {
        let name = self.info().name;
        Err(Error::unsupported(format_args!("driver {name} changes no ports by themselves"))
            .with("method", PublishPorts::METHOD))
    }

    /// As [`FindDelivered`].
    fn delivered(&mut self, _network: &Network, _endpoint: &Endpoint) -> Result<Delivered> {
        let name = self.info().name;
        Err(Error::unsupported(format_args!("driver {name} leaves nothing on the host"))
            .with("method", FindDelivered::METHOD))
    }

    /// As [`CheckAttached`].
    fn check(
        &mut self,
        network: &Network,
        endpoint: &Endpoint,
        netns: Option<&str>,
    ) -> Result<Checked>;

    /// As [`PlanEndpoint`].
    fn plan(&mut self, network: &Network, endpoint: &Endpoint) -> Result<Plan>;

    /// As [`Sync`].
    fn sync(&mut self, desired: &Sync) -> Result<Synced>;

    /// It is a session of netd's: it may watch its part of the kernel, and tell.
    fn attend(&mut self, _teller: Teller) {}

    /// A request was answered: what can wait until nobody waits for it is done now.
    fn after_answer(&mut self) {}

    /// As [`Uninstall`]; a driver that has nothing of the host has nothing to show.
    fn uninstall(&mut self, _uninstall: Uninstall) -> Result<Uninstalled> {
        Ok(Uninstalled::default())
    }

    /// As [`ChangePeers`]; a driver whose networks end with the host has no such method.
    fn peers(&mut self, _change: &ChangePeers) -> Result<PeersChanged> {
        let name = self.info().name;
        Err(Error::unsupported(format_args!("the networks of driver {name} end with the host"))
            .with("method", ChangePeers::METHOD))
    }
}
