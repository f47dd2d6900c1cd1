//! [`Reservations`]: which address is kept for which owner, whoever comes first and however long the
//! owner stays away. An owner has one, whatever the case of its name, and an address is one owner's. It
//! knows nothing of leases.

use std::collections::BTreeMap;

#[derive(Clone, Default, Debug)]
pub(crate) struct Reservations {
    addresses: BTreeMap<String, u128>,
    owners: BTreeMap<u128, String>,
}

impl Reservations {
    pub(crate) fn of(&self, owner: &str) -> Option<u128> {
        self.addresses.get(&owner.to_ascii_lowercase()).copied()
    }

    /// For whom an address is kept, as it was spelled.
    pub(crate) fn owner(&self, address: u128) -> Option<&str> {
        self.owners.get(&address).map(String::as_str)
    }

    /// Keeps an address, which is nobody's, in place of the one that the owner had: that one is
    /// returned.
    pub(crate) fn insert(&mut self, owner: &str, address: u128) -> Option<u128> {
        let before = self.remove(owner);
        self.addresses.insert(owner.to_ascii_lowercase(), address);
        self.owners.insert(address, owner.to_owned());
        before.filter(|before| *before != address)
    }

    pub(crate) fn remove(&mut self, owner: &str) -> Option<u128> {
        let address = self.addresses.remove(&owner.to_ascii_lowercase())?;
        self.owners.remove(&address);
        Some(address)
    }

    /// The addresses, from the lowest to the highest.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = u128> {
        self.owners.keys().copied()
    }
}
