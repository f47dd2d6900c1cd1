//! etcd as a cluster uses it: whose rights are which, who is a member, and keeping house.

use std::collections::BTreeSet;

use store::{Access, Etcd, Grant, Keys, Member};

use crate::{Error, Layout, NodeId, Result, Role, rows};

mod machine;

pub use machine::{Began, Machine};

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
    etcd.remove_user(node.as_str()).await?;
    Ok(etcd.remove_role(node.as_str()).await?)
}

/// What `--initial-cluster` is for `node`, which is to be the member at `peer_url`.
fn initial_cluster(members: &[Member], node: &NodeId, peer_url: &str) -> String {
    let named = |member: &Member| {
        let known = if member.peer_urls.iter().any(|url| url == peer_url) {
            node.to_string()
        } else if member.name.is_empty() {
            format!("{:x}", member.id)
        } else {
            member.name.clone()
        };
        let urls = member.peer_urls.iter().map(|url| format!("{known}={url}"));
        urls.collect::<Vec<_>>().join(",")
    };
    members.iter().map(named).collect::<Vec<_>>().join(",")
}

/// Adds a learner for a node, unless it is there, and gives its `--initial-cluster`.
///
/// # Errors
/// `Refused` while there is another learner; when etcd is away or refuses.
pub async fn add_member(etcd: &Etcd, node: &NodeId, peer_url: &str) -> Result<String> {
    let mut members = etcd.members().await?;
    if !members.iter().any(|member| member.peer_urls.iter().any(|url| url == peer_url)) {
        etcd.add_learner(peer_url).await?;
        members = etcd.members().await?;
    }
    Ok(initial_cluster(&members, node, peer_url))
}

/// Gives a node's member its vote; one that has it keeps it.
///
/// # Errors
/// `busy` until it has started and caught up; when etcd is away or refuses.
pub async fn promote(etcd: &Etcd, node: &NodeId) -> Result<()> {
    let members = etcd.members().await?;
    let member = members.iter().find(|member| member.name == node.as_str());
    let busy = |why: &str| {
        let what = format!("the etcd member of node {node} {why}: try again");
        Error::Remote(cnm::Error::new(cnm::Kind::Busy, what))
    };
    match member {
        None => Err(busy("has not started")),
        Some(member) if !member.learner => Ok(()),
        Some(member) => match etcd.promote(member.id).await {
            Err(store::Error::Refused { .. }) => Err(busy("has not caught up")),
            promoted => Ok(promoted?),
        },
    }
}

/// Whether the cluster keeps a majority without one member.
///
/// # Errors
/// [`Error::Quorum`].
fn may_remove(members: &[Member], healthy: &BTreeSet<u64>, out: u64, node: &NodeId) -> Result<()> {
    let voters = members.iter().filter(|member| !member.learner && member.id != out);
    let voters: Vec<_> = voters.collect();
    let needed = voters.len() / 2 + 1;
    let left = voters.iter().filter(|member| healthy.contains(&member.id)).count();
    let learner = members.iter().any(|member| member.id == out && member.learner);
    if learner || left >= needed {
        return Ok(());
    }
    Err(Error::Quorum { node: node.clone(), left, needed })
}

/// Removes a node's member, if it has one.
///
/// # Errors
/// [`Error::Quorum`] when the others would have no majority; when etcd is away or refuses.
pub async fn remove_member(etcd: &Etcd, node: &NodeId) -> Result<()> {
    let members = etcd.members().await?;
    let Some(member) = members.iter().find(|member| member.name == node.as_str()) else {
        return Ok(());
    };
    let statuses = etcd.statuses().await;
    let healthy = statuses.into_iter().filter_map(|(_, status)| status.ok());
    let healthy = healthy.filter(|status| status.leader != 0).map(|status| status.member);
    may_remove(&members, &healthy.collect(), member.id, node)?;
    Ok(etcd.remove_member(member.id).await?)
}

/// What keeping house found.
#[derive(Clone, Debug, Default)]
pub struct Housekeeping {
    /// The revision before which everything is forgotten now.
    pub compacted: Option<u64>,
    /// The members that were out of room; room was made.
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
    /// Once round. Several managers may do so at the same time.
    ///
    /// # Errors
    /// When etcd is away or refuses.
    pub async fn round(&mut self, etcd: &Etcd, keys: Keys) -> Result<Housekeeping> {
        let store = store::Store::Etcd(etcd.clone());
        let (_, revision) = store.state(keys).await?;
        let mut found = Housekeeping { members: etcd.statuses().await, ..Default::default() };
        found.full = etcd.full_members().await?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn node(digit: char) -> NodeId {
        digit.to_string().repeat(25).parse().expect("a node")
    }

    fn member(id: u64, learner: bool) -> Member {
        let name = if id == 9 { String::new() } else { format!("m{id}") };
        let peer_urls = vec![format!("https://10.0.0.{id}:2380")];
        Member { id, name, peer_urls, client_urls: Vec::new(), learner }
    }

    #[test]
    fn a_newcomer_is_told_of_all_members() {
        let members = [member(1, false), member(9, true)];
        let told = initial_cluster(&members, &node('n'), "https://10.0.0.9:2380");
        let wanted = format!("m1=https://10.0.0.1:2380,{}=https://10.0.0.9:2380", node('n'));
        assert_eq!(told, wanted);
    }

    #[test]
    fn a_majority_stays() {
        let members: Vec<_> = (1..=3).map(|id| member(id, false)).collect();
        let may = |healthy: &[u64], out| {
            may_remove(&members, &healthy.iter().copied().collect(), out, &node('n')).is_ok()
        };
        assert!(may(&[1, 2, 3], 3));
        assert!(may(&[1, 2], 3), "the broken one may go");
        assert!(!may(&[1, 2], 1), "of two, one would be left");
        let two = [member(1, false), member(2, false)];
        assert!(may_remove(&two, &BTreeSet::from([1]), 2, &node('n')).is_ok());
        assert!(may_remove(&two, &BTreeSet::from([2]), 2, &node('n')).is_err());
        let alone = [member(1, false)];
        assert!(may_remove(&alone, &BTreeSet::from([1]), 1, &node('n')).is_err());
        let learner = [member(1, false), member(2, true)];
        assert!(may_remove(&learner, &BTreeSet::new(), 2, &node('n')).is_ok());
    }
}
