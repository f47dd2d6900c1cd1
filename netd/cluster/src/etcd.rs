//! etcd as a cluster uses it: whose rights are which, who is a member, and keeping house.

use store::{Access, Etcd, Grant, Keys};

use crate::{Layout, NodeId, Result, Role, rows};

mod machine;
mod members;
mod turn;
mod words;

pub use machine::{Began, Machine};
pub use members::{add_member, promote, remove_member};
pub use turn::Turn;

/// The role that may read everything of the cluster.
const READER: &str = "netd-reader";

/// etcd's own: may do everything.
const ROOT: &str = "root";

/// Makes rights count, on a new etcd, and `first` a manager. From then on every caller is who its
/// certificate names.
///
/// # Errors
/// When etcd is away or refuses.
pub async fn bootstrap(etcd: &Etcd, layout: &Layout, first: &NodeId) -> Result<()> {
    etcd.add_role(ROOT, &[]).await?;
    // Nobody has a certificate of this name.
    etcd.add_user(ROOT, &[ROOT]).await?;
    etcd.add_role(READER, &[Grant { access: Access::Read, keys: layout.all() }]).await?;
    etcd.add_user(first.as_str(), &[ROOT]).await?;
    etcd.enable_auth().await?;
    Ok(())
}

/// Gives a node its rights: a manager all of them; a worker may read everything and write its own.
///
/// # Errors
/// When etcd is away or refuses.
pub async fn admit(etcd: &Etcd, layout: &Layout, node: &rows::Node) -> Result<()> {
    let name = node.id.as_str();
    if node.role == Role::Manager {
        return Ok(etcd.add_user(name, &[ROOT]).await?);
    }
    let own = Grant { access: Access::ReadWrite, keys: layout.own(&node.id) };
    etcd.add_role(name, &[own]).await?;
    Ok(etcd.add_user(name, &[READER, name]).await?)
}

/// Takes all rights from a node: etcd does not know it any more.
///
/// # Errors
/// When etcd is away or refuses.
pub async fn dismiss(etcd: &Etcd, node: &NodeId) -> Result<()> {
    // A node that dismisses itself may do nothing more once its user is gone.
    etcd.remove_role(node.as_str()).await?;
    Ok(etcd.remove_user(node.as_str()).await?)
}

/// What keeping house found.
#[derive(Clone, Debug, Default)]
pub struct Housekeeping {
    /// The revision before which everything is forgotten now.
    pub compacted: Option<u64>,
    /// The members of the cluster's own etcd that were out of room; room was made.
    pub full: Vec<u64>,
    /// Each endpoint and how it is.
    pub members: Vec<(String, Result<store::Status, store::Error>)>,
}

/// Keeps house, every five minutes: etcd forgets nothing by itself. What was current the last time
/// is forgotten, so that whoever was away for less finds its place.
#[derive(Clone, Copy, Debug, Default)]
pub struct Housekeeper {
    last: Option<u64>,
}

impl Housekeeper {
    /// Once round. Several managers may do so at the same time. An etcd that is the cluster's `own`
    /// is given room when it is full; another's is its owner's to look after.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn round(&mut self, etcd: &Etcd, keys: Keys, own: bool) -> Result<Housekeeping> {
        let store = store::Store::Etcd(etcd.clone());
        let (_, revision) = store.state(keys).await?;
        let mut found = Housekeeping { members: etcd.statuses().await, ..Default::default() };
        if own {
            found.full = etcd.full_members().await?;
        }
        if !found.full.is_empty() {
            etcd.make_room(revision).await?;
            found.compacted = Some(revision);
        } else if let Some(last) = self.last.filter(|last| *last < revision) {
            match store.compact(last).await {
                Ok(()) => found.compacted = Some(last),
                // Another manager did, or the store was restored from an older snapshot.
                Err(store::Error::Compacted { .. } | store::Error::Future { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.last = Some(revision);
        Ok(found)
    }
}
