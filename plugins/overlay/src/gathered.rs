//! What netd says of other hosts and does not fit into one line: its parts, until it is whole.

use std::borrow::Cow;

use cnm::{
    Error, Result,
    peers::{ChangePeers, Elsewhere},
};

/// The parts that have come.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// The number of the next one.
    next: u32,
    there: Elsewhere,
}

impl Gathered {
    /// What is whole with this; none as long as more is to come.
    ///
    /// # Errors
    /// `invalid` for a part that does not follow the one before it, and for parts of a change. What
    /// has come is forgotten with it, so that nothing is taken for everything that is not.
    pub(crate) fn take<'a>(
        &mut self,
        said: &'a ChangePeers,
    ) -> Result<Option<Cow<'a, ChangePeers>>> {
        let Self { next, mut there } = std::mem::take(self);
        let in_parts = said.part > 0 || said.more;
        if in_parts && !said.complete {
            let message = "driver.peers comes in parts with complete alone";
            return Err(Error::invalid(message).with("part", said.part));
        }
        if said.part > 0 && said.part != next {
            return Err(Error::invalid(format_args!(
                "part {} of driver.peers came where part {next} would follow",
                said.part
            ))
            .with("part", said.part)
            .with("expected", next));
        }
        if !in_parts {
            return Ok(Some(Cow::Borrowed(said)));
        }
        if said.part == 0 {
            there = Elsewhere::default();
        }
        there.nodes.extend(said.there.nodes.iter().cloned());
        there.members.extend(said.there.members.iter().cloned());
        there.peers.extend(said.there.peers.iter().cloned());
        if said.more {
            *self = Self { next: said.part + 1, there };
            return Ok(None);
        }
        let whole = ChangePeers { complete: true, there, ..ChangePeers::default() };
        Ok(Some(Cow::Owned(whole)))
    }
}

#[cfg(test)]
mod tests {
    use cnm::{MacAddr, NetworkId, peers::Peer};

    use super::*;

    fn peer(n: u8) -> Peer {
        let network = NetworkId::from_bytes([1; 32]);
        Peer { network, node: 2, mac: MacAddr([2, 0, 0, 0, 0, n]), addresses: Vec::new() }
    }

    fn part(part: u32, more: bool, n: u8) -> ChangePeers {
        let there = Elsewhere { peers: vec![peer(n)], ..Elsewhere::default() };
        ChangePeers { complete: true, there, part, more, ..ChangePeers::default() }
    }

    #[test]
    fn parts_become_whole_with_the_last() {
        let mut gathered = Gathered::default();
        for n in 0..2 {
            let said = part(n, true, u8::try_from(n).expect("small"));
            assert_eq!(gathered.take(&said).expect("the next"), None);
        }
        let said = part(2, false, 2);
        let whole = gathered.take(&said).expect("the last").expect("whole");
        assert!(whole.complete);
        assert_eq!(whole.there.peers, [peer(0), peer(1), peer(2)]);
        let said = part(0, false, 7);
        let whole = gathered.take(&said).expect("the only one").expect("whole");
        assert_eq!(whole.there.peers, [peer(7)]);
    }

    #[test]
    fn the_first_part_begins_anew() {
        let mut gathered = Gathered::default();
        for n in [1, 2] {
            assert_eq!(gathered.take(&part(0, true, n)).expect("the first"), None);
        }
        let said = part(1, false, 3);
        let whole = gathered.take(&said).expect("the last").expect("whole");
        assert_eq!(whole.there.peers, [peer(2), peer(3)]);
    }

    #[test]
    fn what_does_not_follow_is_refused_and_makes_nothing_whole() {
        let mut gathered = Gathered::default();
        assert!(gathered.take(&part(1, false, 1)).is_err(), "without a first one");
        gathered.take(&part(0, true, 1)).expect("the first");
        assert!(gathered.take(&part(2, false, 1)).is_err(), "one is missing");
        assert!(gathered.take(&part(1, false, 1)).is_err(), "it is forgotten");
        gathered.take(&part(0, true, 1)).expect("the first");
        let change = ChangePeers::default();
        gathered.take(&change).expect("a change").expect("whole");
        assert!(gathered.take(&part(1, false, 1)).is_err(), "a change came between");
        let change = ChangePeers { more: true, ..ChangePeers::default() };
        assert!(gathered.take(&change).is_err(), "a change in parts");
    }
}
