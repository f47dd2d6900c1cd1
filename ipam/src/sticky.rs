//! [`Sticky`]: which owner had which address last. An owner remembers one address; an address may
//! be remembered by several owners, after one had to take another's, and then whoever asks first
//! gets it. An owner is one whatever the case of its name. It knows nothing of leases.

use std::collections::BTreeMap;

#[derive(Clone, Default, Debug)]
pub(crate) struct Sticky {
    owners: BTreeMap<String, u128>,
    claims: BTreeMap<u128, usize>,
}

impl Sticky {
    pub(crate) fn get(&self, owner: &str) -> Option<u128> {
        self.owners.get(&owner.to_ascii_lowercase()).copied()
    }

    /// Whether anybody remembers this address.
    pub(crate) fn claimed(&self, address: u128) -> bool {
        self.claims.contains_key(&address)
    }

    /// Remembers an address for an owner, in place of the one it had: that one is returned.
    pub(crate) fn remember(&mut self, owner: &str, address: u128) -> Option<u128> {
        *self.claims.entry(address).or_default() += 1;
        let before = self.owners.insert(owner.to_ascii_lowercase(), address);
        before.inspect(|&before| self.unclaim(before))
    }

    /// Forgets an owner; the address it remembered.
    pub(crate) fn forget(&mut self, owner: &str) -> Option<u128> {
        self.owners.remove(&owner.to_ascii_lowercase()).inspect(|&before| self.unclaim(before))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, u128)> {
        self.owners.iter().map(|(owner, &address)| (owner.as_str(), address))
    }

    fn unclaim(&mut self, address: u128) {
        let claims = self.claims.get_mut(&address).expect("what an owner remembers is claimed");
        *claims -= 1;
        if *claims == 0 {
            self.claims.remove(&address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_claimed_until_its_last_owner_forgets_it() {
        let mut sticky = Sticky::default();
        assert_eq!(sticky.remember("a", 1), None);
        assert_eq!(sticky.remember("b", 1), None);
        assert_eq!(sticky.remember("b", 1), Some(1));
        assert_eq!(sticky.forget("a"), Some(1));
        assert!(sticky.claimed(1));
        assert_eq!(sticky.remember("b", 2), Some(1));
        assert!(!sticky.claimed(1) && sticky.claimed(2));
        assert_eq!(sticky.iter().collect::<Vec<_>>(), [("b", 2)]);
        assert_eq!(sticky.forget("a"), None);
    }

    #[test]
    fn an_owner_is_one_whatever_the_case_of_its_name() {
        let mut sticky = Sticky::default();
        sticky.remember("Web", 1);
        assert_eq!(sticky.get("wEB"), Some(1));
        assert_eq!(sticky.remember("WEB", 2), Some(1));
        assert_eq!(sticky.iter().collect::<Vec<_>>(), [("web", 2)]);
        assert_eq!(sticky.forget("web"), Some(2));
    }
}
