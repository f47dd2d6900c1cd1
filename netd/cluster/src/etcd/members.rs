//! The members of the cluster's own etcd: one comes in as a learner, gets its vote when it has
//! caught up, and goes only when a majority stays. Each step may be taken again after a crash.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use store::{Etcd, Member};
use tokio::time::{Instant, sleep};

use super::Turn;
use crate::{Error, Layout, NodeId, Result, rows};

/// How long the other members may take to become the majority that a removal leaves behind: etcd
/// itself takes nobody out before all have been in touch for five seconds.
const MAJORITY: Duration = Duration::from_secs(15);

/// How soon the members are looked at again meanwhile.
const AGAIN: Duration = Duration::from_millis(200);

/// What `--initial-cluster` is for `node`, which is to be the member at `peer_url`.
fn initial_cluster(members: &[Member], node: &NodeId, peer_url: &str) -> String {
    let named = |member: &Member| {
        let known = if is_at(member, peer_url) {
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

fn is_at(member: &Member, peer_url: &str) -> bool {
    member.peer_urls.iter().any(|url| url == peer_url)
}

/// Whether others reach a member at an address, whatever the port.
fn is_reached_at(member: &Member, address: IpAddr) -> bool {
    let at = |url: &String| url.rsplit_once("//")?.1.parse::<SocketAddr>().ok();
    member.peer_urls.iter().filter_map(at).any(|place| place.ip() == address)
}

/// Whether a member is a node's: it bears the node's name; before its first start it has none, and
/// is known by the node's address.
fn is_of(member: &Member, node: &NodeId, address: Option<IpAddr>) -> bool {
    match member.name.as_str() {
        "" => address.is_some_and(|address| is_reached_at(member, address)),
        name => name == node.as_str(),
    }
}

/// The node that a member is of, if it is of one.
fn owner<'a>(member: &Member, nodes: &'a [rows::Node]) -> Option<&'a rows::Node> {
    nodes.iter().find(|node| is_of(member, &node.id, node.facts.vtep()))
}

/// Adds a learner for a node, unless it is there, and gives its `--initial-cluster`. What is left of
/// nodes that are none of `nodes` any more goes.
///
/// # Errors
/// [`Error::MemberTaken`] while another node has the URL; [`Error::Learner`] while another learner
/// has not got its vote; when etcd is away or refuses.
pub async fn add_member(
    etcd: &Etcd,
    layout: &Layout,
    node: &NodeId,
    peer_url: &str,
    nodes: &[rows::Node],
) -> Result<String> {
    let mut members = etcd.members().await?;
    let there = members.iter().find(|member| is_at(member, peer_url));
    let foreign = there.filter(|member| !member.name.is_empty() && member.name != node.as_str());
    if let Some(foreign) = foreign {
        if let Some(owner) = owner(foreign, nodes) {
            let (peer_url, node) = (peer_url.to_owned(), owner.id.clone());
            return Err(Error::MemberTaken { peer_url, node });
        }
        take_out(etcd, layout, foreign.id, node).await?;
    }
    if there.is_none() || foreign.is_some() {
        let learner = members.iter().find(|m| m.learner && !is_at(m, peer_url));
        match learner.map(|learner| (learner.id, owner(learner, nodes))) {
            Some((_, Some(owner))) => return Err(Error::Learner { node: owner.id.clone() }),
            Some((left, None)) => take_out(etcd, layout, left, node).await?,
            None => {}
        }
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

/// Removes a node's member, if it has one; `address` is where the node is reached. Members that are
/// about to get well, or to get their votes, are waited for; so is whoever takes another one out.
///
/// # Errors
/// [`Error::Quorum`] when the others would have no majority; when etcd is away or refuses.
pub async fn remove_member(
    etcd: &Etcd,
    layout: &Layout,
    node: &NodeId,
    address: Option<IpAddr>,
) -> Result<()> {
    let members = etcd.members().await?;
    match members.iter().find(|member| is_of(member, node, address)) {
        Some(member) => take_out(etcd, layout, member.id, node).await,
        None => Ok(()),
    }
}

async fn take_out(etcd: &Etcd, layout: &Layout, out: u64, node: &NodeId) -> Result<()> {
    let deadline = Instant::now() + MAJORITY;
    loop {
        let error = match try_to_take_out(etcd, layout, out, node).await {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        let hopeless = match &error {
            Error::Quorum { left, .. } => *left == 0 && etcd.members().await?.len() < 2,
            Error::Store(store::Error::Denied { .. }) => true,
            _ => false,
        };
        if hopeless || Instant::now() >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, "a member stays for now");
        sleep(AGAIN).await;
    }
}

async fn try_to_take_out(etcd: &Etcd, layout: &Layout, out: u64, node: &NodeId) -> Result<()> {
    let members = etcd.members().await?;
    if !members.iter().any(|member| member.id == out) {
        return Ok(());
    }
    if let Err(error) = check(etcd, &members, out, node).await {
        let started = |member: &&Member| member.learner && !member.name.is_empty();
        for learner in members.iter().filter(started).filter(|member| member.id != out) {
            match etcd.promote(learner.id).await {
                Ok(()) => tracing::info!(member = learner.name, "it got its vote"),
                Err(error) => tracing::debug!(member = learner.name, %error, "no vote yet"),
            }
        }
        return Err(error);
    }
    // Another one may have gone since, or be about to: of two that could each be spared, both may be
    // one too many.
    let turn = Turn::take(etcd, layout).await?;
    let outcome = take_out_in_turn(etcd, out, node).await;
    turn.end().await;
    outcome
}

async fn take_out_in_turn(etcd: &Etcd, out: u64, node: &NodeId) -> Result<()> {
    let members = etcd.members().await?;
    if !members.iter().any(|member| member.id == out) {
        return Ok(());
    }
    check(etcd, &members, out, node).await?;
    // Who goes ends before it has answered: another one is asked.
    etcd.reach(&members, Some(out)).await?;
    Ok(etcd.remove_member(out).await?)
}

/// Whether the cluster keeps a majority without one of these members, as they are now.
async fn check(etcd: &Etcd, members: &[Member], out: u64, node: &NodeId) -> Result<()> {
    etcd.reach(members, None).await?;
    let statuses = etcd.statuses().await;
    let healthy = statuses.into_iter().filter_map(|(_, status)| status.ok());
    let healthy = healthy.filter(|status| status.leader != 0).map(|status| status.member);
    may_remove(members, &healthy.collect(), out, node)
}

#[cfg(test)]
mod tests {
    use netd_tests::World;
    use store::EtcdOptions;

    use super::*;
    use crate::ClusterId;

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
    fn a_member_without_a_name_is_known_by_its_address() {
        let at = |text: &str| Some(text.parse().expect("an address"));
        assert!(is_of(&member(9, true), &node('n'), at("10.0.0.9")));
        assert!(!is_of(&member(9, true), &node('n'), at("10.0.0.1")));
        assert!(!is_of(&member(9, true), &node('n'), None));
        assert!(!is_of(&member(1, false), &node('n'), at("10.0.0.1")), "it has another's name");
        let named = Member { name: node('n').to_string(), ..member(1, false) };
        assert!(is_of(&named, &node('n'), None));
        let six = Member { peer_urls: vec!["https://[fd00::9]:2380".into()], ..member(9, true) };
        assert!(is_of(&six, &node('n'), at("fd00::9")));
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
    /// Tries until it goes, or until it is clear that it never will.
    async fn soon<T>(what: impl AsyncFn() -> Result<T>) -> T {
        let deadline = Instant::now() + MAJORITY;
        loop {
            match what().await {
                Ok(given) => return given,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }

    #[test]
    fn of_two_that_go_at_once_the_second_is_looked_at_when_the_first_is_gone() {
        World::bare();
        let mut servers = netd_tests::Etcd::cluster(2379, 4);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let urls: Vec<_> = servers.iter().map(netd_tests::Etcd::url).collect();
            let options = EtcdOptions { endpoints: urls.clone(), tls: None };
            let etcd = Etcd::connect(options).await.expect("URLs");
            let layout = Layout::new(&ClusterId::random().expect("random"));
            let members = soon(async || {
                let members = etcd.members().await?;
                let started = members.iter().filter(|member| !member.client_urls.is_empty());
                let left = started.count();
                let (node, needed) = (node('o'), urls.len());
                if left < needed { Err(Error::Quorum { node, left, needed }) } else { Ok(members) }
            })
            .await;
            let id = |n: usize| {
                let at = |member: &&Member| member.client_urls.contains(&urls[n]);
                members.iter().find(at).expect("a member").id
            };
            servers[3].kill();
            // Three of four are well: without one of them there is a majority, without two none.
            let turn = soon(async || Turn::take(&etcd, &layout).await).await;
            let second = async || try_to_take_out(&etcd, &layout, id(1), &node('o')).await;
            let early = second().await;
            assert!(matches!(early, Err(Error::Contended { .. })), "{early:?}");
            etcd.reach(&members, Some(id(0))).await.expect("URLs");
            soon(async || Ok(etcd.remove_member(id(0)).await?)).await;
            turn.end().await;
            let refused = soon(async || match second().await {
                Err(Error::Store(error)) => Err(error.into()),
                other => Ok(other),
            });
            let refused = refused.await;
            assert!(
                matches!(refused, Err(Error::Quorum { left: 1, needed: 2, .. })),
                "{refused:?}"
            );
            let store = store::Store::Etcd(etcd.clone());
            soon(async || Ok(store.put("k", "").await?)).await;
        });
    }
}
