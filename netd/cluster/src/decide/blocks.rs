//! Blocks: stretches of a network's addresses that a node gives out by itself, so that an attach
//! asks nobody. Small at first, then doubling; single addresses when there is no room for more.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use cnm::{NetworkId, network::Subnet};
use ipnetwork::IpNetwork;
use store::{Compare, Txn};

use super::{ATTEMPTS, Decider, Found, Listing, contended, networks::reserved, unwritten_since};
use crate::{
    Error, Key, NodeId, Result,
    rows::{self, NodeOwner},
};

/// Addresses that rest, and whose they were.
pub(super) type Rests = Listing<NodeOwner>;

/// The smallest block that is a block and no single address, and the largest: 16 and 64 addresses.
const SMALLEST: u32 = 4;
const LARGEST: u32 = 6;

/// The bits of the next block of a node that has `held` of them: /28 with IPv4, then /27, then /26.
pub fn block_bits(held: usize) -> u32 {
    u32::try_from(held).map_or(LARGEST, |held| LARGEST.min(SMALLEST + held))
}

/// Whether a node whose blocks have `total` addresses, `used` of them in use, should have another:
/// less than a quarter is free.
pub fn wants_another(total: usize, used: usize) -> bool {
    total.saturating_sub(used) * 4 < total || total == 0
}

/// Looks at a node's blocks, and says which to give back: those that were seen empty twice. The
/// last one is kept.
#[derive(Debug, Default)]
pub struct Idle {
    empty: BTreeMap<(NetworkId, IpNetwork), u32>,
}

impl Idle {
    /// One look at the blocks of a network, each with how many of its addresses are in use.
    pub fn look(&mut self, network: &NetworkId, blocks: &[(IpNetwork, usize)]) -> Vec<IpNetwork> {
        self.empty.retain(|(of, block), _| {
            of != network || blocks.iter().any(|(known, used)| known == block && *used == 0)
        });
        let mut left = blocks.len();
        let mut idle = Vec::new();
        for (block, _) in blocks.iter().filter(|(_, used)| *used == 0) {
            let looks = self.empty.entry((network.clone(), *block)).or_default();
            *looks += 1;
            if *looks >= 2 && left > 1 {
                left -= 1;
                idle.push(*block);
            }
        }
        for block in &idle {
            self.empty.remove(&(network.clone(), *block));
        }
        idle
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_bits().into(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A free block of 2^`bits` addresses of `range`, which overlaps with none that is `taken` and is
/// none of the `reserved` addresses; the first from a place on that `seed` chooses.
pub fn choose_block(
    range: IpNetwork,
    taken: &[IpNetwork],
    reserved: &[IpAddr],
    bits: u32,
    seed: u64,
) -> Option<IpNetwork> {
    let whole: u32 = if range.is_ipv4() { 32 } else { 128 };
    let host = whole - u32::from(range.prefix());
    let count = 1_u128.checked_shl(host.checked_sub(bits)?)?;
    let base = bits_of(range.network());
    // The slots that are not free, as the first and the last of each stretch.
    let slot = |address: u128| address.checked_sub(base).map(|offset| offset >> bits);
    let mut stretches: Vec<(u128, u128)> = Vec::new();
    for other in taken.iter().filter(|other| other.is_ipv4() == range.is_ipv4()) {
        if other.prefix() <= range.prefix() && other.contains(range.network()) {
            return None;
        }
        if range.contains(other.network()) {
            let (first, last) = (bits_of(other.network()), bits_of(other.broadcast()));
            stretches.extend(slot(first).zip(slot(last)));
        }
    }
    if bits == 0 {
        let inside = reserved.iter().filter(|address| range.contains(**address));
        stretches.extend(inside.filter_map(|address| slot(bits_of(*address))).map(|s| (s, s)));
    }
    stretches.sort_unstable();
    let start = u128::from(seed) % count;
    let free = |from: u128, to: u128| {
        let mut candidate = from;
        for (first, last) in &stretches {
            if *first > candidate {
                break;
            }
            candidate = candidate.max(last + 1);
        }
        (candidate < to).then_some(candidate)
    };
    let chosen = free(start, count).or_else(|| free(0, start))?;
    let first = base + (chosen << bits);
    let length = u8::try_from(whole - bits).ok()?;
    let address: IpAddr = match u32::try_from(first) {
        Ok(first) if range.is_ipv4() => Ipv4Addr::from_bits(first).into(),
        _ => Ipv6Addr::from_bits(first).into(),
    };
    IpNetwork::new(address, length).ok()
}

/// Where a node begins to look, so that two of them seldom meet.
pub(super) fn seed(node: &NodeId) -> u64 {
    let mut hasher = DefaultHasher::new();
    node.as_str().hash(&mut hasher);
    hasher.finish()
}

/// How many addresses a range has.
fn size(range: IpNetwork) -> u128 {
    bits_of(range.broadcast()) - bits_of(range.network()) + 1
}

/// Who has how many of a subnet's addresses, those that no endpoint can have left out; of those that
/// rest, who had them.
fn holders(subnet: &Subnet, blocks: &Listing<rows::Block>, rests: &Rests) -> Vec<(NodeId, u128)> {
    let reserved: BTreeSet<_> = reserved(subnet).into_iter().collect();
    let mut holders: BTreeMap<NodeId, u128> = BTreeMap::new();
    for found in &rests.rows {
        let Key::Rest(_, rest) = found.key else { continue };
        if !subnet.subnet.contains(rest.network()) {
            continue;
        }
        let nobodys = reserved.iter().filter(|address| rest.contains(**address)).count();
        // What others have of it are blocks of single addresses.
        let is_inside = |found: &&Found<rows::Block>| match found.key {
            Key::Block(_, block) => rest.contains(block.network()),
            _ => false,
        };
        let others = nobodys + blocks.rows.iter().filter(is_inside).count();
        *holders.entry(found.value.of.clone()).or_default() +=
            size(rest).saturating_sub(others as u128);
    }
    for found in &blocks.rows {
        let Key::Block(_, block) = found.key else { continue };
        if !subnet.subnet.contains(block.network()) {
            continue;
        }
        let nobodys = reserved.iter().filter(|address| block.contains(**address)).count();
        let others = nobodys + found.value.lent.len();
        let own = size(block).saturating_sub(others as u128);
        *holders.entry(found.value.node.clone()).or_default() += own;
        for borrower in found.value.lent.values() {
            *holders.entry(borrower.clone()).or_default() += 1;
        }
    }
    holders.into_iter().filter(|(_, held)| *held > 0).collect()
}

/// That a network has no addresses of a family left, and who has them.
pub(super) fn exhausted(
    network: &cnm::network::Network,
    blocks: &Listing<rows::Block>,
    rests: &Rests,
    ipv6: bool,
) -> Error {
    let of_family: Vec<_> =
        network.subnets.iter().filter(|subnet| subnet.subnet.is_ipv6() == ipv6).collect();
    if of_family.is_empty() {
        return Error::NoNetwork { network: network.id.short().to_owned() };
    }
    let mut all: BTreeMap<NodeId, u128> = BTreeMap::new();
    for (node, held) in of_family.iter().flat_map(|subnet| holders(subnet, blocks, rests)) {
        *all.entry(node).or_default() += held;
    }
    let subnets = of_family.iter().map(|subnet| subnet.subnet).collect();
    Error::Exhausted { network: network.id.clone(), subnets, holders: all.into_iter().collect() }
}

/// The block that `node` should claim of `subnet`, of which `blocks` are taken and `rests` not yet
/// anybody's: none smaller than 2^`least` addresses.
fn next_block(
    subnet: &Subnet,
    blocks: &Listing<rows::Block>,
    rests: &Rests,
    node: &NodeId,
    least: u32,
) -> Option<IpNetwork> {
    let range = subnet.range.unwrap_or(subnet.subnet);
    let mut taken = subnet.exclude.clone();
    taken.extend(rests.rows.iter().filter_map(|found| match found.key {
        Key::Rest(_, rest) => Some(rest),
        _ => None,
    }));
    let mut held = 0;
    for found in &blocks.rows {
        let Key::Block(_, block) = found.key else { continue };
        if block.is_ipv4() != range.is_ipv4() || !subnet.subnet.contains(block.network()) {
            continue;
        }
        taken.push(block);
        held += usize::from(found.value.node == *node && size(block) > 1);
    }
    let (reserved, seed) = (reserved(subnet), seed(node));
    // From what it should have down to the smallest, and then one address.
    let sizes = (SMALLEST..=block_bits(held)).rev().chain([0]);
    sizes
        .filter(|bits| *bits >= least)
        .find_map(|bits| choose_block(range, &taken, &reserved, bits, seed))
}

impl Decider {
    /// Gives a node the next block of a network, of IPv6 or IPv4 addresses. Where the network has
    /// several subnets of the family, of the first that has room. One that is claimed ahead of need
    /// is no single address: of those there are few left, and others may need them.
    ///
    /// # Errors
    /// [`Error::Exhausted`], which says who holds what; [`Error::NoNetwork`], [`Error::NoNode`],
    /// [`Error::Fenced`]; when the store is away.
    pub async fn claim_block(
        &self,
        node: &NodeId,
        epoch: u64,
        id: &NetworkId,
        ipv6: bool,
        ahead: bool,
    ) -> Result<IpNetwork> {
        let least = if ahead { SMALLEST } else { 0 };
        for _ in 0..ATTEMPTS {
            let (fence, _) = self.node_at(node, epoch).await?;
            let network = self.network(id).await?.network;
            let rests = self.rests(id).await?;
            let blocks = self.list::<rows::Block>(self.layout.blocks(id)).await?;
            let mut subnets = network.subnets.iter().filter(|s| s.subnet.is_ipv6() == ipv6);
            let chosen =
                subnets.find_map(|subnet| next_block(subnet, &blocks, &rests, node, least));
            let block = chosen.ok_or_else(|| exhausted(&network, &blocks, &rests, ipv6))?;
            if self.store.txn(self.claim(node, epoch, &fence, id, block, &rests)).await?.held {
                return Ok(block);
            }
        }
        Err(contended("claiming a block"))
    }

    /// The addresses of a network that were somebody's until a moment ago, and that nobody else gets
    /// yet: others may still take them for his.
    pub(super) async fn rests(&self, id: &NetworkId) -> Result<Rests> {
        self.list(self.layout.rests(id)).await
    }

    /// The transaction by which a node gets a block that nobody has, and of which `rests` is all
    /// that rests of its network.
    pub(super) fn claim(
        &self,
        node: &NodeId,
        epoch: u64,
        fence: &store::Row,
        id: &NetworkId,
        block: IpNetwork,
        rests: &Rests,
    ) -> Txn {
        let row = rows::Block::new(node.clone(), epoch);
        let whole: u8 = if block.is_ipv4() { 32 } else { 128 };
        let widest = whole - u8::try_from(LARGEST).expect("6 bits");
        let mut txn = Txn::new()
            .when(Compare::unchanged(fence))
            .when(Compare::present(self.layout.key(&Key::Network(id.clone()))))
            .when(unwritten_since(self.layout.rests(id), rests.revision))
            .then(self.put(&Key::Block(id.clone(), block), &row));
        for keys in self.layout.overlapping_blocks(id, block, widest) {
            txn = txn.when(Compare::absent(keys));
        }
        txn
    }

    /// Takes a block back that a node does not need any more. One that is not there is back.
    ///
    /// # Errors
    /// [`Error::Denied`] for another's block, and for one of which somebody else has an address;
    /// when the store is away.
    pub async fn release_block(
        &self,
        node: &NodeId,
        id: &NetworkId,
        block: IpNetwork,
    ) -> Result<()> {
        let key = Key::Block(id.clone(), block);
        for _ in 0..ATTEMPTS {
            let Some((row, found)) = self.find::<rows::Block>(&key).await? else { return Ok(()) };
            if found.node != *node || !found.is_whole() {
                let what = format!("release block {block}, of which others have addresses");
                return Err(Error::Denied { who: format!("node {node}"), what });
            }
            let txn =
                Txn::new().when(Compare::unchanged(&row)).then(store::Op::delete(row.key.as_str()));
            if self.store.txn(txn).await?.held {
                return Ok(());
            }
        }
        Err(contended("releasing a block"))
    }
}
