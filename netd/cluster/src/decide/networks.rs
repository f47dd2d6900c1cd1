//! Networks: names, numbers and subnets are each one row of an index, so that two networks with the
//! same are the same row, and overlap is a row in a range.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv6Addr},
};

use cnm::{MacAddr, NetworkId, docker::NETWORK_PREFIX, network::Subnet};
use ipnetwork::{IpNetwork, Ipv6Network};
use serde::{Deserialize, Serialize};
use store::{Compare, Keys, Op, Read, Row, Txn};

use super::{ATTEMPTS, Decider, choose_block, contended, unwritten_since};
use crate::{
    Error, Key, Layout, NodeId, Result,
    rows::{self, NetworkOwner, Pool, Schema},
};

/// The numbers of networks: those below are left to people (Docker does so as well), and there are
/// 24 bits.
const VNIS: std::ops::Range<u32> = 4096..1 << 24;

/// How wide a subnet may be and how narrow: what is outside cannot be compared in one transaction.
const V4_LENGTHS: std::ops::RangeInclusive<u8> = 8..=30;
const V6_LENGTHS: std::ops::RangeInclusive<u8> = 32..=112;

/// Which families get a subnet when none is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// One of the cluster's pools.
    pub ipv4: bool,
    /// A ULA /64 (RFC 4193).
    pub ipv6: bool,
}

/// How a network is to change. What is not named stays as it is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Changes {
    /// Subnets that it has besides.
    pub subnets: Vec<Subnet>,
    /// Labels that it has from now on.
    pub labels: BTreeMap<String, String>,
    /// Keys of labels that it has no more.
    pub remove_labels: Vec<String>,
}

impl Changes {
    /// Whether no more is said than that a dockerd has the network, or has it no longer: each host says
    /// that of its own.
    pub fn are_dockers(&self) -> bool {
        let mut keys = self.labels.keys().chain(&self.remove_labels);
        self.subnets.is_empty() && keys.all(|key| key.starts_with(NETWORK_PREFIX))
    }

    /// Makes them, but for subnets.
    pub fn label(&self, labels: &mut BTreeMap<String, String>) {
        labels.retain(|key, _| !self.remove_labels.contains(key));
        labels.extend(self.labels.clone());
    }
}

/// The first number from `start` on that is free.
pub fn choose_vni(taken: &BTreeSet<u32>, start: u32) -> Option<u32> {
    let span = VNIS.end - VNIS.start;
    let first = VNIS.start + start % span;
    (first..VNIS.end).chain(VNIS.start..first).find(|vni| !taken.contains(vni))
}

/// A /64 that nobody else has, as good as surely (RFC 4193, section 3.2).
///
/// # Errors
/// When the kernel gives no random bytes.
pub fn random_ula() -> Result<Ipv6Network> {
    let mut bytes = [0; 16];
    getrandom::fill(bytes.split_at_mut(8).0)?;
    bytes[0] = 0xfd;
    Ok(Ipv6Network::new(Ipv6Addr::from(bytes), 64).expect("64 is a length"))
}

/// The first subnet of the pools that overlaps with none that is taken.
pub fn choose_subnet(pools: &[Pool], taken: &[IpNetwork]) -> Option<IpNetwork> {
    pools.iter().find_map(|pool| {
        let all: u8 = if pool.base.is_ipv4() { 32 } else { 128 };
        let bits = u32::from(all.checked_sub(pool.size)?);
        choose_block(pool.base, taken, &[], bits, 0)
    })
}

/// The gateway of a subnet, unless another one was asked for: its first address.
pub fn usual_gateway(subnet: IpNetwork) -> Option<IpAddr> {
    subnet.iter().nth(1)
}

fn checked(subnet: &mut Subnet) -> Result<()> {
    let range = subnet.subnet;
    let wrong = |rule| Error::Subnet { subnet: range, rule };
    let lengths = if range.is_ipv4() { V4_LENGTHS } else { V6_LENGTHS };
    if !lengths.contains(&range.prefix()) {
        return Err(wrong("a subnet of a cluster is /8 to /30, or /32 to /112 with IPv6"));
    }
    if range.ip() != range.network() {
        return Err(wrong("it has bits outside its prefix"));
    }
    subnet.gateway = subnet.gateway.or_else(|| usual_gateway(range));
    if subnet.gateway.is_some_and(|gateway| !range.contains(gateway)) {
        return Err(wrong("its gateway is outside of it"));
    }
    Ok(())
}

/// Refuses subnets that share an address with one another: they are in no row yet.
fn among(subnets: &[Subnet]) -> Result<()> {
    for (n, Subnet { subnet, .. }) in subnets.iter().enumerate() {
        if subnets.iter().take(n).any(|other| overlap(*subnet, other.subnet)) {
            let rule = "it overlaps with another that is given with it";
            return Err(Error::Subnet { subnet: *subnet, rule });
        }
    }
    Ok(())
}

pub(super) fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.is_ipv4() == b.is_ipv4() && (a.contains(b.network()) || b.contains(a.network()))
}

/// The transaction that makes a network. Where it does not hold it reads what it met.
pub fn create_network_txn(layout: &Layout, row: &rows::Network) -> Txn {
    let owner = rows::write(&NetworkOwner { of: row.network.id.clone() });
    let network = Key::Network(row.network.id.clone());
    let name = layout.key(&Key::name(&row.network.name));
    let vni = layout.key(&Key::Vni(row.vni));
    let mut txn = Txn::new()
        .when(Compare::absent(Keys::one(layout.key(&network))))
        .when(Compare::absent(Keys::one(name.as_str())))
        .when(Compare::absent(Keys::one(vni.as_str())))
        .then(Op::put(layout.key(&network), rows::write(row)))
        .then(Op::put(name.as_str(), owner.clone()))
        .then(Op::put(vni, owner.clone()))
        .otherwise(Op::get(name))
        .otherwise(Op::Get(Read::new(layout.subnets())));
    for subnet in &row.network.subnets {
        for keys in layout.overlapping_subnets(subnet.subnet) {
            txn = txn.when(Compare::absent(keys));
        }
        txn = txn.then(Op::put(layout.key(&Key::Subnet(subnet.subnet)), owner.clone()));
    }
    txn
}

/// What the transaction met that nobody can choose around.
fn refusal(layout: &Layout, row: &rows::Network, named: &[Row], subnets: &[Row]) -> Result<()> {
    if let [taken] = named {
        let owner: NetworkOwner = rows::read(taken)?;
        let (name, network) = (row.network.name.to_string(), owner.of.short().to_owned());
        return Err(Error::NameTaken { name, network });
    }
    for taken in subnets {
        let Some(Key::Subnet(other)) = layout.parse(&taken.key) else { continue };
        let owner: NetworkOwner = rows::read(taken)?;
        for Subnet { subnet, .. } in &row.network.subnets {
            if overlap(*subnet, other) {
                let (subnet, network) = (*subnet, owner.of.short().to_owned());
                return Err(Error::Overlap { subnet, other, network });
            }
        }
    }
    Ok(())
}

impl Decider {
    /// A network of the cluster.
    ///
    /// # Errors
    /// [`Error::NoNetwork`]; when the store is away.
    pub async fn network(&self, id: &NetworkId) -> Result<rows::Network> {
        let found = self.find(&Key::Network(id.clone())).await?;
        let found = found.ok_or_else(|| Error::NoNetwork { network: id.short().to_owned() })?;
        Ok(found.1)
    }

    /// Makes a network. Its number is chosen, and a subnet for each family that is wanted and not
    /// given.
    ///
    /// # Errors
    /// [`Error::NameTaken`], [`Error::Overlap`], [`Error::Underlay`], [`Error::Subnet`],
    /// [`Error::PoolsExhausted`], [`Error::VnisExhausted`]; when the store is away.
    pub async fn create_network(
        &self,
        mut network: cnm::network::Network,
        wanted: Wanted,
    ) -> Result<rows::Network> {
        for subnet in &mut network.subnets {
            checked(subnet)?;
        }
        among(&network.subnets)?;
        let given = network.subnets.clone();
        let config = self.config().await?;
        let mut mac = [0; 6];
        getrandom::fill(&mut mac)?;
        // Locally administered, unicast.
        mac[0] = 0x02;
        for _ in 0..ATTEMPTS {
            let vnis = self.store.all(self.layout.vnis()).await?.rows;
            let vnis = vnis.iter().filter_map(|row| match self.layout.parse(&row.key) {
                Some(Key::Vni(vni)) => Some(vni),
                _ => None,
            });
            let vni = choose_vni(&vnis.collect(), getrandom::u32()?).ok_or(Error::VnisExhausted)?;
            // Before any is chosen: that no node comes meanwhile holds for those, too.
            let clear = self.clear_of_nodes(&given).await?;
            network.subnets = self.with_subnets(&given, wanted, &config.pools).await?;
            let (schema, mac) = (Schema::default(), MacAddr(mac));
            let (network, recalled) = (network.clone(), 0);
            let row = rows::Network { schema, network, vni, mac, recalled };
            let txn = create_network_txn(&self.layout, &row).when(clear);
            let outcome = self.store.txn(txn).await?;
            if outcome.held {
                return Ok(row);
            }
            // Only what was given cannot be chosen anew.
            let mut asked = row;
            asked.network.subnets.clone_from(&given);
            refusal(&self.layout, &asked, outcome.rows(0), outcome.rows(1))?;
        }
        Err(contended("making a network"))
    }

    async fn with_subnets(
        &self,
        given: &[Subnet],
        wanted: Wanted,
        pools: &[Pool],
    ) -> Result<Vec<Subnet>> {
        let mut subnets = given.to_vec();
        if wanted.ipv4 && !given.iter().any(|subnet| subnet.subnet.is_ipv4()) {
            let taken = self.store.all(self.layout.subnets()).await?.rows;
            let taken = taken.iter().filter_map(|row| match self.layout.parse(&row.key) {
                Some(Key::Subnet(subnet)) => Some(subnet),
                _ => None,
            });
            let mut taken: Vec<_> = taken.collect();
            taken.extend(self.of_nodes().await?);
            let chosen = choose_subnet(pools, &taken);
            subnets.push(Subnet::new(chosen.ok_or(Error::PoolsExhausted)?));
        }
        if wanted.ipv6 && !given.iter().any(|subnet| subnet.subnet.is_ipv6()) {
            subnets.push(Subnet::new(IpNetwork::V6(random_ula()?)));
        }
        for subnet in &mut subnets {
            checked(subnet)?;
        }
        Ok(subnets)
    }

    /// Changes a network: all of it or nothing.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::Overlap`], [`Error::Underlay`], [`Error::Subnet`]; when the
    /// store is away.
    pub async fn change_network(
        &self,
        id: &NetworkId,
        mut changes: Changes,
    ) -> Result<rows::Network> {
        for subnet in &mut changes.subnets {
            checked(subnet)?;
        }
        among(&changes.subnets)?;
        let owner = NetworkOwner { of: id.clone() };
        for _ in 0..ATTEMPTS {
            let found = self.find::<rows::Network>(&Key::Network(id.clone())).await?;
            let (row, mut network) =
                found.ok_or_else(|| Error::NoNetwork { network: id.short().to_owned() })?;
            network.network.subnets.extend(changes.subnets.iter().cloned());
            changes.label(&mut network.network.labels);
            let mut txn = Txn::new()
                .when(Compare::unchanged(&row))
                .then(self.put(&Key::Network(id.clone()), &network))
                .otherwise(Op::Get(Read::new(self.layout.subnets())));
            if !changes.subnets.is_empty() {
                txn = txn.when(self.clear_of_nodes(&changes.subnets).await?);
            }
            for Subnet { subnet, .. } in &changes.subnets {
                for keys in self.layout.overlapping_subnets(*subnet) {
                    txn = txn.when(Compare::absent(keys));
                }
                txn = txn.then(self.put(&Key::Subnet(*subnet), &owner));
            }
            let outcome = self.store.txn(txn).await?;
            if outcome.held {
                return Ok(network);
            }
            network.network.subnets.clone_from(&changes.subnets);
            refusal(&self.layout, &network, &[], outcome.rows(0))?;
        }
        Err(contended("changing a network"))
    }

    /// Removes a network that no endpoint is on.
    ///
    /// # Errors
    /// [`Error::NoNetwork`], [`Error::InUse`]; when the store is away.
    pub async fn remove_network(&self, id: &NetworkId) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let found = self.find::<rows::Network>(&Key::Network(id.clone())).await?;
            let (row, network) =
                found.ok_or_else(|| Error::NoNetwork { network: id.short().to_owned() })?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            // Only who has addresses can have endpoints.
            let mut nodes = BTreeSet::new();
            for block in &blocks.rows {
                nodes.insert(block.value.node.clone());
                nodes.extend(block.value.lent.values().cloned());
            }
            self.unused(id, &nodes).await?;
            let txn = self
                .removal(&row, &network)
                .await?
                .when(unwritten_since(self.layout.blocks(id), blocks.revision));
            if self.store.txn(self.without_endpoints(txn, id, &nodes)).await?.held {
                return Ok(());
            }
        }
        Err(contended("removing a network"))
    }

    /// The rows of a network's name: the one that it has by its spelling alone is of when names were
    /// told apart by case, and then the other may be another network's.
    async fn names_of(&self, network: &cnm::network::Network) -> Result<Vec<String>> {
        let spelled = Key::Name(network.name.to_string());
        let mut keys = Vec::new();
        for key in BTreeSet::from([Key::name(&network.name), spelled].map(|k| self.layout.key(&k)))
        {
            let Some(row) = self.store.get(key.as_str()).await? else { continue };
            if rows::read::<NetworkOwner>(&row)?.of == network.id {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// The transaction that removes a network, as it was read.
    pub(super) async fn removal(&self, row: &Row, network: &rows::Network) -> Result<Txn> {
        let id = &network.network.id;
        let mut txn = Txn::new()
            .when(Compare::unchanged(row))
            .then(Op::delete(row.key.as_str()))
            .then(Op::delete(self.layout.key(&Key::Vni(network.vni))))
            .then(Op::Delete(self.layout.blocks(id)))
            .then(Op::Delete(self.layout.rests(id)));
        for key in self.names_of(&network.network).await? {
            txn = txn.then(Op::delete(key));
        }
        for subnet in &network.network.subnets {
            txn = txn.then(Op::delete(self.layout.key(&Key::Subnet(subnet.subnet))));
        }
        Ok(txn)
    }

    /// That these nodes have no endpoints on a network. As many as a transaction takes; the others have
    /// just been looked at.
    pub(super) fn without_endpoints(
        &self,
        mut txn: Txn,
        id: &NetworkId,
        nodes: &BTreeSet<NodeId>,
    ) -> Txn {
        for node in nodes.iter().take(store::MOST_OPERATIONS - txn.compares.len()) {
            txn = txn.when(Compare::absent(self.layout.endpoints_on(node, id)));
        }
        txn
    }

    /// Refuses where any of these nodes has an endpoint on a network.
    pub(super) async fn unused(&self, id: &NetworkId, nodes: &BTreeSet<NodeId>) -> Result<()> {
        let mut used = BTreeMap::new();
        for node in nodes {
            let read = Read::new(self.layout.endpoints_on(node, id)).limit(1).bare();
            let count = self.store.read(read).await?.count;
            if count > 0 {
                used.insert(node.clone(), count);
            }
        }
        if used.is_empty() {
            return Ok(());
        }
        let endpoints = used.values().sum();
        Err(Error::InUse { network: id.clone(), endpoints, nodes: used.into_keys().collect() })
    }
}

/// The addresses of a subnet that no endpoint can have.
pub(super) fn reserved(subnet: &Subnet) -> Vec<IpAddr> {
    let mut reserved = vec![subnet.subnet.network()];
    if subnet.subnet.is_ipv4() {
        reserved.push(subnet.subnet.broadcast());
    }
    reserved.extend(subnet.gateway);
    reserved.extend(subnet.aux.values());
    reserved
}
