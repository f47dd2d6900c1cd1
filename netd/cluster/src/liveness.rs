//! Which nodes live: pure, with the clock passed in. What is gone from the store is *suspect* at
//! once, *down* after a while and *fenced* after a longer one. When many go at the same time it is
//! the store that is at fault, and nothing is concluded until they are back.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use crate::{NodeId, rows::Config};

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Its row is there.
    Alive,
    /// Its row is gone: new connections go elsewhere, nothing else changes.
    Suspect,
    /// It has been gone for a while: its names stop resolving.
    Down,
    /// It has been gone for so long that its endpoints are deleted and its addresses given away.
    Fenced,
}

/// When one state becomes the next.
#[derive(Clone, Debug)]
pub struct Timing {
    /// From suspect to down.
    pub down_after: Duration,
    /// From down to fenced; never when there is none.
    pub fence_after: Option<Duration>,
    /// How much of the cluster may go within [`Timing::window`], in percent.
    pub most_lost: usize,
    /// How many may go however small the cluster is.
    pub always_lost: usize,
    /// The time in which losses count as one.
    pub window: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            down_after: Duration::from_secs(30),
            fence_after: Some(Duration::from_secs(900)),
            most_lost: 30,
            always_lost: 2,
            window: Duration::from_secs(30),
        }
    }
}

impl From<&Config> for Timing {
    fn from(config: &Config) -> Self {
        Self {
            down_after: Duration::from_secs(config.down_after),
            fence_after: config.fence_after.map(Duration::from_secs),
            ..Self::default()
        }
    }
}

/// What became of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A node is in another state.
    State(NodeId, State),
    /// Too many went at once: until they are back, or somebody releases the brake, no node becomes
    /// down or fenced.
    Braked {
        /// How many are gone.
        lost: usize,
        /// Of how many.
        of: usize,
    },
    /// Enough of them are back.
    Released,
}

#[derive(Clone, Copy, Debug)]
struct Watched {
    state: State,
    /// Since when it is gone.
    lost: Option<Instant>,
}

/// The nodes of a cluster and how they are.
#[derive(Debug)]
pub struct Liveness {
    timing: Timing,
    nodes: BTreeMap<NodeId, Watched>,
    /// When which node went, within the window.
    losses: VecDeque<(Instant, NodeId)>,
    braked: bool,
}

impl Liveness {
    /// Of no nodes yet.
    pub fn new(timing: Timing) -> Self {
        Self { timing, nodes: BTreeMap::new(), losses: VecDeque::new(), braked: false }
    }

    /// From now on one state becomes the next so.
    pub fn set_timing(&mut self, timing: Timing) {
        self.timing = timing;
    }

    /// How a node is; `None` when it is none of the cluster's.
    pub fn state(&self, node: &NodeId) -> Option<State> {
        self.nodes.get(node).map(|watched| watched.state)
    }

    /// All nodes and how they are.
    pub fn states(&self) -> impl Iterator<Item = (&NodeId, State)> {
        self.nodes.iter().map(|(node, watched)| (node, watched.state))
    }

    /// Whether conclusions are put off.
    pub fn is_braked(&self) -> bool {
        self.braked
    }

    /// A node belongs to the cluster. It is suspect until it is seen.
    pub fn added(&mut self, node: NodeId, now: Instant) {
        let new = Watched { state: State::Suspect, lost: Some(now) };
        self.nodes.entry(node).or_insert(new);
    }

    /// A node was removed from the cluster.
    pub fn removed(&mut self, node: &NodeId) {
        self.nodes.remove(node);
        self.losses.retain(|(_, lost)| lost != node);
    }

    /// A node's row is there.
    pub fn seen(&mut self, node: &NodeId) -> Vec<Change> {
        let Some(watched) = self.nodes.get_mut(node) else { return Vec::new() };
        watched.lost = None;
        let before = std::mem::replace(&mut watched.state, State::Alive);
        self.losses.retain(|(_, lost)| lost != node);
        let mut changes = Vec::new();
        if before != State::Alive {
            changes.push(Change::State(node.clone(), State::Alive));
        }
        changes.extend(self.ease());
        changes
    }

    /// A node's row is gone.
    pub fn lost(&mut self, node: &NodeId, now: Instant) -> Vec<Change> {
        let Some(watched) = self.nodes.get_mut(node) else { return Vec::new() };
        if watched.state != State::Alive {
            return Vec::new();
        }
        *watched = Watched { state: State::Suspect, lost: Some(now) };
        let mut changes = vec![Change::State(node.clone(), State::Suspect)];
        self.losses.push_back((now, node.clone()));
        let window = self.timing.window;
        self.losses.retain(|(at, _)| now.saturating_duration_since(*at) <= window);
        let (lost, of) = (self.losses.len(), self.nodes.len());
        if !self.braked && self.too_many(lost) {
            self.braked = true;
            changes.push(Change::Braked { lost, of });
        }
        changes
    }

    /// Others have seen that a node is gone for so long at least.
    pub fn gone_for(&mut self, node: &NodeId, long: Duration, now: Instant) {
        let Some(lost) = self.nodes.get_mut(node).and_then(|node| node.lost.as_mut()) else {
            return;
        };
        if let Some(since) = now.checked_sub(long) {
            *lost = since.min(*lost);
        }
    }

    /// The nodes that are down and not given up, and for how long each has been gone.
    pub fn down(&self, now: Instant) -> impl Iterator<Item = (&NodeId, Duration)> {
        let down = self.nodes.iter().filter(|(_, watched)| watched.state == State::Down);
        down.filter_map(move |(node, watched)| {
            Some((node, now.saturating_duration_since(watched.lost?)))
        })
    }

    fn too_many(&self, lost: usize) -> bool {
        lost > self.timing.always_lost && lost * 100 > self.nodes.len() * self.timing.most_lost
    }

    /// Lets the brake go when so many are back that they would not have pulled it.
    fn ease(&mut self) -> Option<Change> {
        let gone = self.nodes.values().filter(|watched| watched.lost.is_some()).count();
        (self.braked && !self.too_many(gone)).then(|| {
            self.braked = false;
            self.losses.clear();
            Change::Released
        })
    }

    /// Lets the brake go: somebody has looked, and the nodes are gone indeed.
    pub fn release(&mut self) {
        self.braked = false;
        self.losses.clear();
    }

    /// What has become of the nodes by `now`.
    pub fn tick(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::from_iter(self.ease());
        if self.braked {
            return changes;
        }
        for (node, watched) in &mut self.nodes {
            let Some(lost) = watched.lost else { continue };
            let gone = now.saturating_duration_since(lost);
            let down = self.timing.down_after;
            let fence = self.timing.fence_after.map(|fence| down + fence);
            let state = if fence.is_some_and(|fence| gone >= fence) {
                State::Fenced
            } else if gone >= down {
                State::Down
            } else {
                State::Suspect
            };
            if state > watched.state {
                watched.state = state;
                changes.push(Change::State(node.clone(), state));
            }
        }
        changes
    }

    /// When to call [`Liveness::tick`] next; never as long as nothing changes when there is none.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        if self.braked {
            return None;
        }
        let (down, fence) = (self.timing.down_after, self.timing.fence_after);
        let due = self.nodes.values().filter_map(|watched| {
            let lost = watched.lost?;
            match watched.state {
                State::Alive | State::Suspect => Some(lost + down),
                State::Down => fence.map(|fence| lost + down + fence),
                State::Fenced => None,
            }
        });
        due.min().map(|due| due.max(now))
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn node(n: usize) -> NodeId {
        format!("{n:025}").parse().expect("a node")
    }

    fn alive(count: usize) -> (Liveness, Instant) {
        let start = Instant::now();
        let mut liveness = Liveness::new(Timing::default());
        for n in 0..count {
            liveness.added(node(n), start);
            liveness.seen(&node(n));
        }
        (liveness, start)
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lost_node_goes_down_and_is_fenced_and_comes_back() {
        let (mut liveness, start) = alive(3);
        let state = |state| vec![Change::State(node(1), state)];
        assert_eq!(liveness.lost(&node(1), start), state(State::Suspect));
        assert_eq!(liveness.lost(&node(1), after(start, 9)), []);
        assert_eq!(liveness.next(start), Some(after(start, 30)));
        assert_eq!(liveness.tick(after(start, 29)), []);
        assert_eq!(liveness.tick(after(start, 30)), state(State::Down));
        assert_eq!(liveness.tick(after(start, 31)), []);
        assert_eq!(liveness.next(start), Some(after(start, 930)));
        assert_eq!(liveness.tick(after(start, 930)), state(State::Fenced));
        assert_eq!(liveness.next(start), None);
        assert_eq!(liveness.seen(&node(1)), state(State::Alive));
    }

    #[test]
    fn who_watches_anew_goes_on_from_what_was_seen() {
        let (mut liveness, start) = alive(2);
        liveness.added(node(2), start);
        assert_eq!(liveness.down(start).count(), 0);
        for (n, long) in [(0, 500), (2, 40), (2, 10)] {
            liveness.gone_for(&node(n), Duration::from_secs(long), start);
        }
        let down = vec![Change::State(node(2), State::Down)];
        assert_eq!(liveness.tick(start), down, "one that lives is not gone");
        let seen: Vec<_> = liveness.down(after(start, 5)).collect();
        assert_eq!(seen, [(&node(2), Duration::from_secs(45))]);
        assert_eq!(liveness.next(start), Some(after(start, 890)));
    }

    #[test]
    fn many_at_once_are_the_stores_fault() {
        let (mut liveness, start) = alive(8);
        liveness.lost(&node(0), start);
        liveness.lost(&node(1), after(start, 1));
        let changes = liveness.lost(&node(2), after(start, 2));
        assert_eq!(changes[1], Change::Braked { lost: 3, of: 8 });
        assert_eq!(liveness.tick(after(start, 5000)), []);
        assert_eq!(liveness.next(start), None);
        // One that is back makes it two, which may happen.
        let changes = liveness.seen(&node(2));
        assert_eq!(changes[1], Change::Released);
        let down = liveness.tick(after(start, 60));
        assert_eq!(down.len(), 2);
    }

    #[test]
    fn a_slow_loss_and_a_small_one_are_believed() {
        let (mut liveness, start) = alive(4);
        for n in 0..3 {
            liveness.lost(&node(n), after(start, 31 * n as u64));
        }
        assert!(!liveness.is_braked());
        let (mut liveness, start) = alive(20);
        for n in 0..6 {
            liveness.lost(&node(n), start);
        }
        assert!(!liveness.is_braked(), "6 of 20 are 30 %");
        liveness.lost(&node(6), start);
        assert!(liveness.is_braked());
        liveness.release();
        assert_eq!(liveness.tick(after(start, 30)).len(), 7);
    }

    proptest! {
        #[test]
        fn a_living_node_is_never_given_up(steps in vec((0..6_usize, 0..3_u8, 0..40_u64), 1..80)) {
            let (mut liveness, mut now) = alive(6);
            let mut present = [true; 6];
            for (n, what, seconds) in steps {
                now += Duration::from_secs(seconds);
                let braked = liveness.is_braked();
                let changes = match what {
                    0 => {
                        present[n] = false;
                        liveness.lost(&node(n), now)
                    }
                    1 => {
                        present[n] = true;
                        liveness.seen(&node(n))
                    }
                    _ => liveness.tick(now),
                };
                let released = changes.contains(&Change::Released);
                for change in changes {
                    if let Change::State(of, state @ (State::Down | State::Fenced)) = change {
                        let of = (0..6).find(|n| node(*n) == of).expect("one of them");
                        prop_assert!(!present[of], "{} became {:?}", of, state);
                        prop_assert!(!braked || released, "in spite of the brake");
                    }
                }
                for (n, present) in present.iter().enumerate() {
                    let state = liveness.state(&node(n));
                    prop_assert_eq!(state == Some(State::Alive), *present);
                }
            }
        }
    }
}
