//! Where in the store each row lies. What a node may write lies under `n/<node>/`, so that one
//! right per node is enough; everything else is written by managers.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cnm::{EndpointId, Name, NetworkId};
use ipnetwork::IpNetwork;
use store::Keys;

use crate::{ClusterId, NodeId};

/// The keys of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    prefix: String,
}

/// What a key is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    /// [`crate::rows::Meta`].
    Meta,
    /// [`crate::rows::Config`].
    Config,
    /// [`crate::rows::Node`].
    Node(NodeId),
    /// [`crate::rows::Live`].
    Live(NodeId),
    /// [`crate::rows::Away`].
    Away(NodeId),
    /// [`crate::rows::Network`].
    Network(NetworkId),
    /// The network that has a name; see [`Key::name`].
    Name(String),
    /// The network that has a number.
    Vni(u32),
    /// The network that has a subnet.
    Subnet(IpNetwork),
    /// [`crate::rows::Port`]: protocol and port.
    Port(String, u16),
    /// The node that has an address of the node subnet.
    Ingress(IpAddr),
    /// [`crate::rows::Block`].
    Block(NetworkId, IpNetwork),
    /// The node whose addresses of a network these were, for as long as nobody else gets them.
    Rest(NetworkId, IpNetwork),
    /// [`crate::rows::Endpoint`].
    Endpoint(NodeId, NetworkId, EndpointId),
    /// [`crate::rows::Token`], by the digest of its secret.
    Token(String),
}

impl Key {
    /// Of the network that has a name: one for all that differ by case alone, since DNS does not
    /// tell them apart (RFC 4343).
    pub fn name(name: &Name) -> Self {
        Self::Name(name.as_str().to_ascii_lowercase())
    }
}

impl Layout {
    /// The keys of `cluster`.
    pub fn new(cluster: &ClusterId) -> Self {
        Self { prefix: format!("/netd/{cluster}/") }
    }

    fn at(&self, rest: impl fmt::Display) -> String {
        format!("{}{rest}", self.prefix)
    }

    /// Every row.
    pub fn all(&self) -> Keys {
        Keys::prefix(self.prefix.as_str())
    }

    /// Where a row lies.
    pub fn key(&self, key: &Key) -> String {
        match key {
            Key::Meta => self.at("meta"),
            Key::Config => self.at("cfg"),
            Key::Node(node) => self.at(format_args!("node/{node}")),
            Key::Live(node) => self.at(format_args!("n/{node}/live")),
            Key::Away(node) => self.at(format_args!("n/{node}/away")),
            Key::Network(network) => self.at(format_args!("net/{network}")),
            Key::Name(name) => self.at(format_args!("ix/name/{name}")),
            Key::Vni(vni) => self.at(format_args!("ix/vni/{vni:06x}")),
            Key::Subnet(subnet) => self.at(format_args!("ix/sub/{}", range(*subnet))),
            Key::Port(protocol, port) => self.at(format_args!("ix/port/{protocol}/{port}")),
            Key::Ingress(address) => self.at(format_args!("ix/ingress/{}", hex(*address))),
            Key::Block(network, block) => self.at(format_args!("blk/{network}/{}", range(*block))),
            Key::Rest(network, of) => self.at(format_args!("rest/{network}/{}", range(*of))),
            Key::Endpoint(node, network, endpoint) => {
                self.at(format_args!("n/{node}/ep/{network}/{endpoint}"))
            }
            Key::Token(digest) => self.at(format_args!("tok/{digest}")),
        }
    }

    /// What a key is of; `None` for those of later versions.
    pub fn parse(&self, key: &str) -> Option<Key> {
        let parts: Vec<_> = key.strip_prefix(&self.prefix)?.split('/').collect();
        Some(match parts.as_slice() {
            ["meta"] => Key::Meta,
            ["cfg"] => Key::Config,
            ["node", node] => Key::Node(node.parse().ok()?),
            ["n", node, "live"] => Key::Live(node.parse().ok()?),
            ["n", node, "away"] => Key::Away(node.parse().ok()?),
            ["n", node, "ep", network, endpoint] => {
                Key::Endpoint(node.parse().ok()?, network.parse().ok()?, endpoint.parse().ok()?)
            }
            ["net", network] => Key::Network(network.parse().ok()?),
            ["ix", "name", name] => Key::Name((*name).to_owned()),
            ["ix", "vni", vni] => Key::Vni(u32::from_str_radix(vni, 16).ok()?),
            ["ix", "sub", family, first, length] => {
                Key::Subnet(parse_range(family, first, length)?)
            }
            ["ix", "port", protocol, port] => Key::Port((*protocol).to_owned(), port.parse().ok()?),
            ["ix", "ingress", family, address] => Key::Ingress(parse_address(family, address)?),
            ["blk", network, family, first, length] => {
                Key::Block(network.parse().ok()?, parse_range(family, first, length)?)
            }
            ["rest", network, family, first, length] => {
                Key::Rest(network.parse().ok()?, parse_range(family, first, length)?)
            }
            ["tok", digest] => Key::Token((*digest).to_owned()),
            _ => return None,
        })
    }

    /// Where it says that somebody changes the members of etcd.
    pub fn turn(&self) -> String {
        self.at("turn")
    }

    /// All nodes.
    pub fn nodes(&self) -> Keys {
        Keys::Prefix(self.at("node/"))
    }

    /// All networks.
    pub fn networks(&self) -> Keys {
        Keys::Prefix(self.at("net/"))
    }

    /// All tokens.
    pub fn tokens(&self) -> Keys {
        Keys::Prefix(self.at("tok/"))
    }

    /// All published ports.
    pub fn ports(&self) -> Keys {
        Keys::Prefix(self.at("ix/port/"))
    }

    /// All numbers of networks that are taken.
    pub fn vnis(&self) -> Keys {
        Keys::Prefix(self.at("ix/vni/"))
    }

    /// All subnets of networks.
    pub fn subnets(&self) -> Keys {
        Keys::Prefix(self.at("ix/sub/"))
    }

    /// All addresses of the node subnet that are taken.
    pub fn ingress(&self) -> Keys {
        Keys::Prefix(self.at("ix/ingress/"))
    }

    /// The blocks of a network.
    pub fn blocks(&self, network: &NetworkId) -> Keys {
        Keys::Prefix(self.at(format_args!("blk/{network}/")))
    }

    /// The blocks of all networks.
    pub fn all_blocks(&self) -> Keys {
        Keys::Prefix(self.at("blk/"))
    }

    /// The addresses of a network that rest.
    pub fn rests(&self, network: &NetworkId) -> Keys {
        Keys::Prefix(self.at(format_args!("rest/{network}/")))
    }

    /// What a node itself writes: all it may write.
    pub fn own(&self, node: &NodeId) -> Keys {
        Keys::Prefix(self.at(format_args!("n/{node}/")))
    }

    /// What all nodes write themselves: liveness and endpoints.
    pub fn all_own(&self) -> Keys {
        Keys::Prefix(self.at("n/"))
    }

    /// The endpoints of a node, on all networks.
    pub fn endpoints(&self, node: &NodeId) -> Keys {
        Keys::Prefix(self.at(format_args!("n/{node}/ep/")))
    }

    /// The endpoints of a node on one network.
    pub fn endpoints_on(&self, node: &NodeId, network: &NetworkId) -> Keys {
        Keys::Prefix(self.at(format_args!("n/{node}/ep/{network}/")))
    }

    /// Every subnet of a network that shares an address with `subnet`.
    pub fn overlapping_subnets(&self, subnet: IpNetwork) -> Vec<Keys> {
        overlapping(&self.at("ix/sub/"), subnet, 0)
    }

    /// Every block of `network` that shares an address with `block` and is at most `widest`, a
    /// prefix length, wide.
    pub fn overlapping_blocks(
        &self,
        network: &NetworkId,
        block: IpNetwork,
        widest: u8,
    ) -> Vec<Keys> {
        overlapping(&self.at(format_args!("blk/{network}/")), block, widest)
    }
}

/// All that begins inside `range`, which is one stretch of keys, and the wider ones around it that
/// begin before it, which are one key each.
fn overlapping(prefix: &str, range: IpNetwork, widest: u8) -> Vec<Keys> {
    let (first, last) = (hex(range.network()), hex(range.broadcast()));
    let mut keys = vec![Keys::Between(format!("{prefix}{first}/"), format!("{prefix}{last}0"))];
    for length in widest..range.prefix() {
        let Ok(around) = IpNetwork::new(range.network(), length) else { continue };
        if around.network() != range.network() {
            keys.push(Keys::One(format!("{prefix}{}/{length}", hex(around.network()))));
        }
    }
    keys
}

/// The family and the digits of an address.
fn hex(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("4/{:08x}", address.to_bits()),
        IpAddr::V6(address) => format!("6/{:032x}", address.to_bits()),
    }
}

fn range(range: IpNetwork) -> String {
    format!("{}/{}", hex(range.network()), range.prefix())
}

fn parse_address(family: &str, digits: &str) -> Option<IpAddr> {
    match (family, digits.len()) {
        ("4", 8) => {
            let bits = u32::from_str_radix(digits, 16).ok()?;
            Some(Ipv4Addr::from_bits(bits).into())
        }
        ("6", 32) => {
            let bits = u128::from_str_radix(digits, 16).ok()?;
            Some(Ipv6Addr::from_bits(bits).into())
        }
        _ => None,
    }
}

fn parse_range(family: &str, first: &str, length: &str) -> Option<IpNetwork> {
    IpNetwork::new(parse_address(family, first)?, length.parse().ok()?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn node() -> impl Strategy<Value = NodeId> {
        "[0-9a-z]{25}".prop_map(|text| text.parse().expect("a node"))
    }

    fn network() -> impl Strategy<Value = NetworkId> {
        any::<[u8; 32]>().prop_map(NetworkId::from_bytes)
    }

    fn range() -> impl Strategy<Value = IpNetwork> {
        let cut = |address: IpAddr, length: u8| {
            let range = IpNetwork::new(address, length).expect("a length");
            IpNetwork::new(range.network(), length).expect("a length")
        };
        prop_oneof![
            (any::<Ipv4Addr>(), 0..=32_u8).prop_map(move |(a, l)| cut(a.into(), l)),
            (any::<Ipv6Addr>(), 0..=128_u8).prop_map(move |(a, l)| cut(a.into(), l)),
        ]
    }

    fn key() -> impl Strategy<Value = Key> {
        prop_oneof![
            Just(Key::Meta),
            Just(Key::Config),
            node().prop_map(Key::Node),
            node().prop_map(Key::Live),
            node().prop_map(Key::Away),
            network().prop_map(Key::Network),
            "[a-z][a-z0-9_.-]{0,20}".prop_map(Key::Name),
            (0..1_u32 << 24).prop_map(Key::Vni),
            range().prop_map(Key::Subnet),
            any::<u16>().prop_map(|port| Key::Port("tcp".into(), port)),
            any::<IpAddr>().prop_map(Key::Ingress),
            (network(), range()).prop_map(|(network, block)| Key::Block(network, block)),
            (network(), range()).prop_map(|(network, range)| Key::Rest(network, range)),
            (node(), network(), any::<[u8; 32]>()).prop_map(|(node, network, endpoint)| {
                Key::Endpoint(node, network, EndpointId::from_bytes(endpoint))
            }),
            "[0-9a-f]{64}".prop_map(Key::Token),
        ]
    }

    fn layout() -> Layout {
        Layout::new(&"0".repeat(25).parse().expect("an id"))
    }

    proptest! {
        #[test]
        fn a_key_says_what_it_is_of(key in key()) {
            let layout = layout();
            let text = layout.key(&key);
            prop_assert!(layout.all().contains(&text));
            prop_assert_eq!(layout.parse(&text), Some(key));
        }

        #[test]
        fn ranges_overlap_when_their_keys_say_so(a in range(), b in range()) {
            // Half of the cases near each other, or nothing would ever overlap.
            for b in [b, IpNetwork::new(a.network(), b.prefix().min(a.prefix())).unwrap_or(b)] {
                let b = IpNetwork::new(b.network(), b.prefix()).expect("as before");
                let same = matches!((a, b), (IpNetwork::V4(_), IpNetwork::V4(_))
                    | (IpNetwork::V6(_), IpNetwork::V6(_)));
                let overlap = same && (a.contains(b.network()) || b.contains(a.network()));
                let key = layout().key(&Key::Subnet(b));
                let found = layout().overlapping_subnets(a).iter().any(|keys| keys.contains(&key));
                prop_assert_eq!(found, overlap, "{} and {}", a, b);
            }
        }

        #[test]
        fn only_its_own_keys_are_a_nodes(node in node(), key in key()) {
            let own = layout().own(&node).contains(&layout().key(&key));
            let of = match key {
                Key::Live(of) | Key::Away(of) | Key::Endpoint(of, ..) => Some(of),
                _ => None,
            };
            prop_assert_eq!(own, of == Some(node));
        }
    }
}
