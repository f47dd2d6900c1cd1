//! Endpoints: one sandbox on one network, under one interface name.

use std::fmt;
use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::{
    Call, ContainerId, EndpointId, Error, IfName, Kind, MacAddr, Name, NetworkId,
    bandwidth::Bandwidth, options::is_delivered_on_host,
};

mod port;

pub use port::{Port, Protocol};

/// One sandbox on one network, as it is stored, shown and handed to a driver.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Endpoint {
    /// Its identifier.
    pub id: EndpointId,
    /// The network it is on.
    pub network: NetworkId,
    /// That network's name.
    pub network_name: Name,
    /// Whose it is.
    pub container: Container,
    /// The interface in the container; with network and container it is the endpoint's key.
    pub ifname: IfName,
    /// How far it has come.
    pub state: State,
    /// Its link-layer address, where it has one of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// Its addresses, each with its subnet's prefix length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpNetwork>,
    /// Its default routes, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
    /// Its other routes, beside those of its own subnets. A default route of which more is said
    /// than its gateway is here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// What its default routes cost beside those of the sandbox's other endpoints.
    #[serde(default)]
    pub metric: u32,
    /// Where the container is to ask for names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<IpAddr>,
    /// What else it is called on this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Name>,
    /// Its ports that the host answers for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Whether whoever asked for them holds these ports on the host himself.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ports_bound: bool,
    /// How fast its packets may come and go; without limits unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Which namespace it is in, once its driver has seen it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<NetnsId>,
    /// The link's MTU, once it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The user's own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// When it was made, as RFC 3339 in UTC with nanoseconds.
    pub created: String,
    /// The key of the request that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl Endpoint {
    /// What the container's end is called where a driver makes it: what it is to be called there, or,
    /// delivered on the host, what nothing else there is called.
    pub fn made_as(&self) -> IfName {
        if is_delivered_on_host(&self.options) {
            self.id.delivered_name()
        } else {
            self.ifname.clone()
        }
    }
}

/// A way that a container's packets take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Route {
    /// Where to.
    #[cfg_attr(feature = "schema", schemars(with = "String"))]
    pub dst: IpNetwork,
    /// Through whom; nobody when it is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The MTU of the path, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The largest segment of TCP to tell others of, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// What it costs: of two routes to one place the one that costs less is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table that it is in; the main one unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// How far away it leads (`rtm_scope`, linux/rtnetlink.h): 0 anywhere, 253 to what is on the
    /// link, 254 to the container itself. What follows from the gateway unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
    /// What becomes of packets that do not go on; unless told they do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

/// What becomes of packets that take a route which leads nowhere (`rtm_type`, linux/rtnetlink.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Refusal {
    /// They vanish.
    Blackhole,
    /// Who sent them is told that there is no way.
    Unreachable,
    /// Who sent them is told that it is not allowed.
    Prohibit,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Blackhole => "blackhole",
            Self::Unreachable => "unreachable",
            Self::Prohibit => "prohibit",
        })
    }
}

impl Route {
    /// A route of which no more is said than where it leads, and through whom.
    pub fn new(dst: IpNetwork, gateway: Option<IpAddr>) -> Self {
        let (mtu, advmss, priority, table, scope, refusal) = Default::default();
        Self { dst, gateway, mtu, advmss, priority, table, scope, refusal }
    }

    /// Whether more is said of it than that.
    pub fn has_details(&self) -> bool {
        *self != Self::new(self.dst, self.gateway)
    }

    /// Whether it leads everywhere, and by the main table.
    pub fn is_default(&self) -> bool {
        const RT_TABLE_MAIN: u32 = 254;
        self.dst.prefix() == 0 && self.table.is_none_or(|table| table == RT_TABLE_MAIN)
    }

    /// Whether it leads to what is on the link itself, and so through nobody.
    pub fn is_on_link(&self) -> bool {
        const RT_SCOPE_LINK: u8 = 253;
        self.scope.is_some_and(|scope| scope >= RT_SCOPE_LINK)
    }
}

/// `10.7.0.0/16 via 10.0.0.1 metric 100`, as `ip route` has it.
impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(refusal) = self.refusal {
            write!(f, "{refusal} ")?;
        }
        write!(f, "{}", self.dst)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        let details = [
            ("table", self.table),
            ("metric", self.priority),
            ("scope", self.scope.map(u32::from)),
            ("mtu", self.mtu),
            ("advmss", self.advmss),
        ];
        details.iter().try_for_each(|(name, value)| match value {
            Some(value) => write!(f, " {name} {value}"),
            None => Ok(()),
        })
    }
}

/// Addresses that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct AddressRange {
    /// The first of them.
    pub first: IpAddr,
    /// The last of them, which is of the same family.
    pub last: IpAddr,
}

/// Addresses that somebody else's service gave out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Assigned {
    /// Each with its prefix length; an endpoint may have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(feature = "schema", schemars(with = "Vec<String>"))]
    pub addresses: Vec<IpNetwork>,
    /// The ways out that go with them, at most one of each family.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gateways: Vec<IpAddr>,
}

/// Whose an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Container {
    /// What its runtime calls it.
    pub id: ContainerId,
    /// What people call it; a name in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// What it calls itself; a name in DNS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<Name>,
    /// A process whose end is the container's, where the namespace cannot tell (the host's).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
}

impl Container {
    /// A container that is known by nothing but an id.
    pub fn new(id: ContainerId) -> Self {
        Self { id, name: None, hostname: None, pid: None }
    }

    /// What to call it in a sentence.
    pub fn label(&self) -> &str {
        self.name.as_ref().map_or_else(|| self.id.short(), Name::as_str)
    }
}

/// How far an endpoint has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down before the kernel is touched; undone if found after a crash.
    Attaching,
    /// In place.
    Attached,
}

/// A network namespace, by what is never used twice while the host runs, and by what its death
/// is announced under.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct NetnsId {
    /// `SO_NETNS_COOKIE` (socket(7)): unique until the host restarts.
    pub cookie: u64,
    /// The id that netd's own namespace knows it by (`RTM_NEWNSID`); absent for its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nsid: Option<i32>,
}

/// How a request names a namespace: `"fd"` for the next descriptor that came with the bytes
/// (`SCM_RIGHTS`), otherwise an absolute path that netd can open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(from = "String", into = "String")]
#[cfg_attr(feature = "schema", schemars(with = "String"))]
pub enum Netns {
    /// A descriptor, in the order in which they came.
    Fd,
    /// A path.
    Path(String),
}

impl Netns {
    /// Its path, unless it is a descriptor.
    pub fn path(&self) -> Option<&str> {
        match self {
            Self::Fd => None,
            Self::Path(path) => Some(path),
        }
    }
}

impl From<String> for Netns {
    fn from(text: String) -> Self {
        if text == "fd" { Self::Fd } else { Self::Path(text) }
    }
}

impl From<Netns> for String {
    fn from(netns: Netns) -> Self {
        match netns {
            Netns::Fd => "fd".into(),
            Netns::Path(path) => path,
        }
    }
}

/// Opens what should be a network namespace. It waits for nobody: a FIFO in its place would
/// otherwise hold whoever opens it until somebody writes.
///
/// # Errors
/// `not_found`, or `denied`, with the path under `netns`.
pub fn open_netns(path: &Path) -> Result<File, Error> {
    let flags = nix::fcntl::OFlag::O_NONBLOCK.bits();
    OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(|error| {
        let path = path.display();
        let kind = match error.kind() {
            io::ErrorKind::PermissionDenied => Kind::Denied,
            _ => Kind::NotFound,
        };
        Error::new(kind, format_args!("cannot open the network namespace {path}: {error}"))
            .with("netns", path.to_string())
    })
}

/// What netd calls the namespace of a request that came as a descriptor.
pub const DESCRIPTOR: &str = "the descriptor";

/// As an error about the namespace at `path`, where netd was handed only a descriptor of it and so
/// could name no more.
pub fn of_netns(mut error: Error, path: &str) -> Error {
    if error.operands.get("netns").is_some_and(|netns| netns == DESCRIPTOR) {
        error.message = error.message.replace(DESCRIPTOR, path);
        error = error.with("netns", path);
    }
    error
}

/// Puts a sandbox on a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Attach {
    /// The network's id, its name, or the beginning of its id.
    pub network: String,
    /// Whose namespace it is.
    pub container: Container,
    /// The namespace; not needed when the sandbox is known already.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// A path to that namespace where it is a descriptor. netd takes it for one where it leads there
    /// from netd, too, and knows then by what the namespace can be entered later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns_path: Option<String>,
    /// The interface's name; the first `ethN` that it does not have from netd unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
    /// Addresses it must have, at most one of each of the network's sets.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// Where its addresses are to come from, where not all of a subnet is meant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<AddressRange>,
    /// Addresses from outside: netd gives none out, and only sees to it that nobody else on the
    /// network gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<Assigned>,
    /// Its routes; one default route of each family unless told. One without a gateway goes through
    /// the network's, and those of a family in which it has no address are left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// Which of the container's networks its packets leave by: the one with the highest, and of
    /// equals the first.
    #[serde(default, skip_serializing_if = "is_usual")]
    pub gateway_priority: i32,
    /// A link-layer address it must have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// What else it is called on this network.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<Name>,
    /// Its ports that the host is to answer for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<Port>,
    /// Whether who asks binds those ports on the host itself, so that only another endpoint can be
    /// in their way.
    #[serde(default, skip_serializing_if = "is_false")]
    pub ports_bound: bool,
    /// How fast its packets may come and go; without limits unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Whether the container of this name is to have the address it had before.
    #[serde(default)]
    pub sticky: bool,
    /// The driver's options.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
    /// The user's own labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

fn is_usual(priority: &i32) -> bool {
    *priority == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

impl Attach {
    /// An attach of which everything else is chosen.
    pub fn new(network: &str, container: Container, netns: Option<Netns>) -> Self {
        Self {
            network: network.to_owned(),
            container,
            netns,
            netns_path: None,
            ifname: None,
            addresses: Vec::new(),
            ranges: Vec::new(),
            assigned: None,
            routes: None,
            gateway_priority: 0,
            mac: None,
            aliases: Vec::new(),
            ports: Vec::new(),
            ports_bound: false,
            bandwidth: None,
            sticky: false,
            options: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The same, saying by which path the namespace was opened that is handed over.
    #[must_use]
    pub fn opened_at(self, path: &Path) -> Self {
        let absolute = std::path::absolute(path).ok();
        let netns_path = absolute.and_then(|path| path.into_os_string().into_string().ok());
        Self { netns_path, ..self }
    }
}

impl Call for Attach {
    const METHOD: &'static str = "endpoint.attach";
    type Reply = Endpoint;
}

/// Changes an endpoint while it is in use. What is not given stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct UpdateEndpoint {
    /// The endpoint's id, or the beginning of it.
    pub endpoint: String,
    /// Whose it is, where that was not known when it was made: only for one that is delivered on the
    /// host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// Its ports that the host is to answer for, in place of those that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ports: Option<Vec<Port>>,
}

impl Call for UpdateEndpoint {
    const METHOD: &'static str = "endpoint.update";
    type Reply = Endpoint;
}

/// Takes a sandbox off a network. What is not there is already taken off: always a success.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Detach {
    /// The network's id, its name, or the beginning of its id; all of them unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// The container's id or name.
    pub container: String,
    /// The interface's name; all of them unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ifname: Option<IfName>,
}

impl Call for Detach {
    const METHOD: &'static str = "endpoint.detach";
    type Reply = Detached;
}

/// What a detach took off.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Detached {
    /// The endpoints that were; none when there was nothing to do.
    pub endpoints: Vec<EndpointId>,
}

/// Compares an endpoint with the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct CheckEndpoint {
    /// The endpoint's id, or the beginning of it.
    pub endpoint: String,
    /// The container's namespace, to look inside as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub netns: Option<Netns>,
    /// The link-layer address it should have by now, where others have changed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

impl CheckEndpoint {
    /// A check of what can be seen from the host.
    pub fn new(endpoint: impl Into<String>) -> Self {
        Self { endpoint: endpoint.into(), netns: None, mac: None }
    }
}

impl Call for CheckEndpoint {
    const METHOD: &'static str = "endpoint.check";
    type Reply = Checked;
}

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Checked {
    /// One sentence for each thing that is not as it should be.
    pub differences: Vec<String>,
}

/// Shows endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct ListEndpoints {
    /// Only those on this network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Only those of this container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
}

impl Call for ListEndpoints {
    const METHOD: &'static str = "endpoint.list";
    type Reply = Endpoints;
}

/// Endpoints, sorted by network, container and interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Endpoints {
    /// Each of them.
    pub endpoints: Vec<Endpoint>,
}

/// Shows one endpoint and, when asked, what its driver would do and what it sees.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct InspectEndpoint {
    /// The endpoint's id, or the beginning of it.
    pub endpoint: String,
    /// Whether to ask the driver.
    #[serde(default)]
    pub plan: bool,
}

impl Call for InspectEndpoint {
    const METHOD: &'static str = "endpoint.inspect";
    type Reply = EndpointDetail;
}

/// An endpoint and, when asked, what its driver says of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct EndpointDetail {
    /// The endpoint.
    #[serde(flatten)]
    pub endpoint: Endpoint,
    /// Those of its gateways through which the container's packets leave: no other endpoint of the
    /// container goes before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub elected: Vec<IpAddr>,
    /// What its driver would do and what it sees.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<crate::driver::Plan>,
}
