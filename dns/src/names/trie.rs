//! A map whose clones are snapshots: they share all that has not changed since. There is one for
//! each thing that an endpoint is looked up by, so what counts is bytes for an entry: entries lie
//! side by side in leaves, and a leaf that is full becomes two.

use std::{
    borrow::Borrow,
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hash},
    mem,
    sync::Arc,
};

/// How many entries a leaf has, unless their hashes begin alike for longer than is likely.
const MOST: usize = 16;

/// How few entries the leaves of a fork have together when they become one.
const FEW: usize = MOST / 2;

/// How many bits of a hash a fork tells apart. A change copies each fork on its way, and has to count
/// one more holder of each of its branches: with two bits there are half as many copies as with one,
/// and no more branches. With three it is slower again, and leaves are emptier, so that they take more
/// room.
const BITS: u32 = 2;

/// The branches of a fork.
const WAYS: usize = 1 << BITS;

/// The map.
#[derive(Debug)]
pub(crate) struct Trie<K, V> {
    root: Arc<Node<K, V>>,
    hasher: RandomState,
}

#[derive(Clone, Debug)]
enum Node<K, V> {
    /// By bits of the hash, the lowest ones at the root.
    Fork([Arc<Self>; WAYS]),
    Leaf(Vec<Entry<K, V>>),
}

#[derive(Clone, Debug)]
struct Entry<K, V> {
    hash: u32,
    key: K,
    value: V,
}

impl<K, V> Clone for Trie<K, V> {
    fn clone(&self) -> Self {
        Self { root: Arc::clone(&self.root), hasher: self.hasher.clone() }
    }
}

impl<K, V> Default for Trie<K, V> {
    fn default() -> Self {
        Self { root: Arc::new(Node::Leaf(Vec::new())), hasher: RandomState::new() }
    }
}

impl<K, V> Trie<K, V> {
    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        matches!(&*self.root, Node::Leaf(entries) if entries.is_empty())
    }

    /// All values, in no order.
    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.entries().map(|entry| &entry.value)
    }

    /// All of it, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.entries().map(|entry| (&entry.key, &entry.value))
    }

    /// All keys, in no order.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.entries().map(|entry| &entry.key)
    }

    /// How many there are.
    #[cfg(test)]
    pub(crate) fn size(&self) -> usize {
        self.entries().count()
    }

    fn entries(&self) -> impl Iterator<Item = &Entry<K, V>> {
        let mut open = vec![&*self.root];
        let leaves = std::iter::from_fn(move || {
            loop {
                match open.pop()? {
                    Node::Fork(ways) => open.extend(ways.iter().map(|way| &**way)),
                    Node::Leaf(entries) => return Some(entries),
                }
            }
        });
        leaves.flatten()
    }
}

impl<K: Hash + Eq, V> Trie<K, V> {
    /// What is there under a key.
    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        self.entry(key).map(|entry| &entry.value)
    }

    /// The key itself that is there and equals this one.
    pub(crate) fn get_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        self.entry(key).map(|entry| &entry.key)
    }

    fn entry<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&Entry<K, V>>
    where
        K: Borrow<Q>,
    {
        let hash = self.hash(key);
        let (mut node, mut bits) = (&*self.root, hash);
        loop {
            match node {
                Node::Fork(ways) => (node, bits) = (&ways[way(bits)], bits >> BITS),
                Node::Leaf(entries) => return place(entries, hash, key).map(|at| &entries[at]),
            }
        }
    }

    /// As many bits as tell enough entries apart, and no more: there is a hash in each.
    fn hash<Q: Hash + ?Sized>(&self, key: &Q) -> u32 {
        u32::try_from(self.hasher.hash_one(key) >> 32).expect("32 bits are left")
    }

    /// Whether something is there under a key.
    pub(crate) fn contains_key<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> bool
    where
        K: Borrow<Q>,
    {
        self.get(key).is_some()
    }
}

impl<K: Hash + Eq + Clone, V: Clone> Trie<K, V> {
    /// As [`Trie::get`], to be changed; clones keep what it is now.
    pub(crate) fn get_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
    {
        if !self.contains_key(key) {
            return None;
        }
        let hash = self.hash(key);
        let (mut node, mut bits) = (Arc::make_mut(&mut self.root), hash);
        loop {
            match node {
                Node::Fork(ways) => {
                    (node, bits) = (Arc::make_mut(&mut ways[way(bits)]), bits >> BITS);
                }
                Node::Leaf(entries) => {
                    let at = place(entries, hash, key)?;
                    return Some(&mut entries[at].value);
                }
            }
        }
    }

    /// Puts something there, in place of what was.
    pub(crate) fn insert_mut(&mut self, key: K, value: V) {
        let hash = self.hash(&key);
        insert(&mut self.root, hash, 0, Entry { hash, key, value });
    }

    /// Takes away what is there.
    pub(crate) fn remove_mut<Q: Hash + Eq + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        // What is not there is no reason to copy anything.
        if self.contains_key(key) {
            let hash = self.hash(key);
            remove(&mut self.root, hash, hash, key);
        }
    }
}

/// Which branch of a fork.
fn way(bits: u32) -> usize {
    bits as usize % WAYS
}

fn place<K: Borrow<Q>, V, Q: Eq + ?Sized>(
    entries: &[Entry<K, V>],
    hash: u32,
    key: &Q,
) -> Option<usize> {
    entries.iter().position(|entry| entry.hash == hash && entry.key.borrow() == key)
}

fn insert<K: Eq + Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    bits: u32,
    depth: u32,
    entry: Entry<K, V>,
) {
    let Node::Leaf(there) = &**node else {
        let Node::Fork(ways) = Arc::make_mut(node) else { return };
        return insert(&mut ways[way(bits)], bits >> BITS, depth + BITS, entry);
    };
    let at = place(there, entry.hash, &entry.key);
    let mut entries = taken(node, at, 1);
    entries.push(entry);
    let full = entries.len() > MOST && depth < u32::BITS;
    let next = if full { fork(entries, depth) } else { Node::Leaf(entries) };
    put(node, next);
}

/// As many leaves as a fork has branches, of one that is full.
fn fork<K, V>(entries: Vec<Entry<K, V>>, depth: u32) -> Node<K, V> {
    let mut leaves: [_; WAYS] = std::array::from_fn(|_| Vec::new());
    for entry in entries {
        leaves[way(entry.hash >> depth)].push(entry);
    }
    Node::Fork(leaves.map(|mut leaf| {
        leaf.shrink_to_fit();
        Arc::new(Node::Leaf(leaf))
    }))
}

fn remove<K: Borrow<Q> + Clone, V: Clone, Q: Eq + ?Sized>(
    node: &mut Arc<Node<K, V>>,
    bits: u32,
    hash: u32,
    key: &Q,
) {
    if let Node::Leaf(there) = &**node {
        let at = place(there, hash, key);
        let entries = taken(node, at, 0);
        return put(node, Node::Leaf(entries));
    }
    let whole = Arc::make_mut(node);
    let Node::Fork(ways) = whole else { return };
    remove(&mut ways[way(bits)], bits >> BITS, hash, key);
    let leaves = ways.each_ref().map(|way| match &**way {
        Node::Leaf(entries) => Some(entries),
        Node::Fork(_) => None,
    });
    let count = leaves.iter().try_fold(0, |sum, leaf| leaf.map(|leaf| sum + leaf.len()));
    if count.is_some_and(|count| count <= FEW) {
        *whole = Node::Leaf(leaves.into_iter().flatten().flatten().cloned().collect());
    }
}

/// The entries of a leaf but for one, with room for so many more: the leaf's own, where nobody else
/// has it, and copies otherwise.
fn taken<K: Clone, V: Clone>(
    node: &mut Arc<Node<K, V>>,
    but: Option<usize>,
    more: usize,
) -> Vec<Entry<K, V>> {
    if let Some(Node::Leaf(own)) = Arc::get_mut(node) {
        let mut entries = mem::take(own);
        if let Some(at) = but {
            entries.swap_remove(at);
        }
        if more == 0 {
            entries.shrink_to_fit();
        } else {
            entries.reserve_exact(more);
        }
        return entries;
    }
    let there: &[_] = if let Node::Leaf(there) = &**node { there } else { &[] };
    let (before, after) = but.map_or((there, &[][..]), |at| (&there[..at], &there[at + 1..]));
    let mut entries = Vec::with_capacity(before.len() + after.len() + more);
    entries.extend(before.iter().chain(after).cloned());
    entries
}

/// Puts a node in another's place, in its room where nobody else has it.
fn put<K, V>(place: &mut Arc<Node<K, V>>, node: Node<K, V>) {
    match Arc::get_mut(place) {
        Some(own) => *own = node,
        None => *place = Arc::new(node),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    /// All of it, sorted.
    fn all(trie: &Trie<String, u32>) -> BTreeMap<String, u32> {
        trie.entries().map(|entry| (entry.key.clone(), entry.value)).collect()
    }

    /// Keys of which a third have the same hash, which no hasher is to be trusted never to give.
    #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Alike(u8);

    impl Hash for Alike {
        fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
            (self.0 % 3).hash(state);
        }
    }

    proptest! {
        #[test]
        fn it_is_a_map_and_its_clones_stay_as_they_were(
            steps in prop::collection::vec((0..400_u32, any::<bool>(), any::<bool>()), 0..800),
        ) {
            let mut trie = Trie::default();
            let mut model = BTreeMap::new();
            let mut kept = None;
            for (n, (key, put, keep)) in steps.into_iter().enumerate() {
                let key = format!("name-{key}");
                if keep {
                    kept = Some((trie.clone(), model.clone()));
                }
                let value = u32::try_from(n).expect("few");
                if put {
                    trie.insert_mut(key.clone(), value);
                    model.insert(key.clone(), value);
                } else if let Some(found) = trie.get_mut(key.as_str()) {
                    *found = value;
                    model.insert(key.clone(), value);
                }
                if !put && keep {
                    trie.remove_mut(key.as_str());
                    model.remove(&key);
                }
                prop_assert_eq!(trie.get(key.as_str()), model.get(&key));
            }
            prop_assert_eq!(&all(&trie), &model);
            prop_assert_eq!(trie.is_empty(), model.is_empty());
            prop_assert_eq!(trie.values().count(), model.len());
            if let Some((trie, model)) = kept {
                prop_assert_eq!(all(&trie), model);
            }
        }

        #[test]
        fn keys_of_one_hash_are_told_apart(
            steps in prop::collection::vec((any::<u8>(), any::<bool>()), 0..600),
        ) {
            let mut trie = Trie::default();
            let mut model = BTreeMap::new();
            for (key, put) in steps {
                if put {
                    trie.insert_mut(Alike(key), key);
                    model.insert(key, key);
                } else {
                    trie.remove_mut(&Alike(key));
                    model.remove(&key);
                }
            }
            for key in 0..=u8::MAX {
                prop_assert_eq!(trie.get(&Alike(key)), model.get(&key));
            }
            let mut values: Vec<_> = trie.values().copied().collect();
            values.sort_unstable();
            prop_assert_eq!(values, model.into_values().collect::<Vec<_>>());
        }
    }

    /// Where all nodes are.
    fn nodes(trie: &Trie<u32, u32>) -> std::collections::BTreeSet<*const Node<u32, u32>> {
        let (mut open, mut all) = (vec![&trie.root], Vec::new());
        while let Some(node) = open.pop() {
            all.push(Arc::as_ptr(node));
            if let Node::Fork(ways) = &**node {
                open.extend(ways);
            }
        }
        all.into_iter().collect()
    }

    #[test]
    fn a_change_copies_its_way_and_nothing_else() {
        let mut trie = Trie::default();
        (0..10_000).for_each(|n| trie.insert_mut(n, n));
        let before = trie.clone();
        trie.insert_mut(10_000, 0);
        let new = nodes(&trie).difference(&nodes(&before)).count();
        // Some more than log4(10,000 / 16), and a leaf that may have become four.
        assert!((2..=16).contains(&new), "{new}");
        let alone = nodes(&trie);
        drop(before);
        trie.insert_mut(10_000, 1);
        assert_eq!(nodes(&trie), alone, "whose it alone is, it changes in place");
    }

    #[test]
    fn what_is_emptied_becomes_small_again() {
        let mut trie = Trie::default();
        (0..1000).for_each(|n| trie.insert_mut(n, n));
        (0..1000).for_each(|n| trie.remove_mut(&n));
        assert!(trie.is_empty());
    }
}
