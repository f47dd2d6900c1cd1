//! What is asked of the cluster over netd's socket: how it is, its nodes, its tokens.

use std::rc::Rc;

use ::cluster::{
    NodeId, Role,
    liveness::State,
    messages::Decision,
    rows::{self, Availability},
    server::Manager,
    token::Tokens,
};
use cnm::{
    Empty, Error, Kind, Result,
    cluster::{
        self as protocol, ClusterStatus, CreateToken, NewToken, NodeInfo, NodeState, Nodes,
        RemoveNode, RemoveToken, Staying, TokenInfo, UpdateNode, UpdatedNode,
    },
};

use super::{Cluster, DECISION, Decisions, now, rfc3339};
use crate::netd::Netd;

/// How long a token may be good for, in seconds: dates far beyond cannot be written.
const LONGEST_TOKEN: u64 = 10 * 365 * 24 * 3600;

/// How long removing a node may take, which changes the members and the rights of etcd.
const REMOVAL: std::time::Duration = std::time::Duration::from_secs(20);

/// A role in the protocol's words.
pub(super) fn role(role: Role) -> protocol::Role {
    match role {
        Role::Manager => protocol::Role::Manager,
        Role::Worker => protocol::Role::Worker,
    }
}

/// Whether a node takes new endpoints, in the protocol's words.
fn availability(availability: Availability) -> &'static str {
    match availability {
        Availability::Active => "active",
        Availability::Pause => "pause",
        Availability::Drain => "drain",
    }
}

impl Netd {
    /// `cluster.status`.
    pub(crate) fn cluster_status(&self) -> ClusterStatus {
        let Some(cluster) = self.cluster() else { return ClusterStatus::default() };
        let view = cluster.view.borrow();
        let kept = cluster.kept.borrow();
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        ClusterStatus {
            cluster: Some(cluster.id.to_string()),
            node: Some(cluster.node.to_string()),
            role: Some(role(kept.role)),
            store: kept.etcd.clone(),
            removed_since: kept.removed.clone(),
            away_since: cluster.away.borrow().as_ref().map(|away| away.since.clone()),
            complete: view.complete,
            revision: view.revision,
            nodes: count(view.nodes.len()),
            networks: count(view.networks.len()),
            elsewhere: count(view.count_remotes()),
            unwritten: count(cluster.outbox.borrow().len()),
        }
    }

    /// `cluster.node_list`: as known here, so that it is answered while the store is away too.
    pub(crate) fn list_nodes(&self) -> Result<Nodes> {
        let cluster = self.member()?;
        let view = cluster.view.borrow();
        let liveness = cluster.liveness.borrow();
        let away_since = cluster.away.borrow().as_ref().map(|away| away.since.clone());
        // Who said that it lives said so in the store.
        let heard = |id: &NodeId| *id == cluster.node || (away_since.is_none() && view.complete);
        let mut endpoints = view.count_on_nodes();
        endpoints.insert(&cluster.node, view.written.len());
        let info = |node: &rows::Node| NodeInfo {
            id: node.id.to_string(),
            here: node.id == cluster.node,
            name: node.facts.name.clone(),
            role: role(node.role),
            state: match liveness.state(&node.id) {
                Some(State::Alive) if heard(&node.id) => NodeState::Ready,
                Some(State::Alive) => NodeState::Unknown,
                Some(State::Down) => NodeState::Down,
                Some(State::Fenced) => NodeState::Fenced,
                Some(State::Suspect) | None => NodeState::Suspect,
            },
            availability: availability(node.availability).to_owned(),
            version: node.facts.version.clone(),
            vtep: node.facts.vtep(),
            mtu: node.facts.mtu,
            address: node.ingress,
            joined: rfc3339(node.joined),
            endpoints: endpoints.get(&node.id).map_or(0, |n| u64::try_from(*n).unwrap_or(u64::MAX)),
        };
        let mut nodes: Vec<NodeInfo> = view.nodes.values().map(info).collect();
        nodes.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(Nodes { nodes, away_since })
    }

    /// `cluster.node_update`.
    pub(crate) async fn update_node(self: &Rc<Self>, params: &UpdateNode) -> Result<UpdatedNode> {
        let cluster = self.member()?;
        let node = cluster.find_node(&params.node)?;
        let availability = match params.availability {
            protocol::Availability::Active => Availability::Active,
            protocol::Availability::Pause => Availability::Pause,
            protocol::Availability::Drain => Availability::Drain,
        };
        let decision = Decision::SetAvailability { node: node.clone(), availability };
        cluster.decide(decision).await?;
        let is = |view: &super::View| {
            view.nodes.get(&node).is_some_and(|node| node.availability == availability)
        };
        cluster.until("the node's availability", is).await?;
        tracing::info!(%node, ?availability, "node changed");
        let left = match availability {
            Availability::Drain => self.staying_on(&cluster, &node),
            Availability::Active | Availability::Pause => Vec::new(),
        };
        Ok(UpdatedNode { left })
    }

    /// What a node has on networks of the cluster, by network and container.
    fn staying_on(&self, cluster: &Cluster, node: &NodeId) -> Vec<Staying> {
        let (registry, view) = (self.registry.borrow(), cluster.view.borrow());
        let mut left: Vec<Staying> = if *node == cluster.node {
            let shared = registry.networks().filter(|entry| entry.shared.is_some());
            let endpoints = shared.flat_map(|entry| registry.endpoints_on(&entry.network.id));
            let here = endpoints.map(|endpoint| Staying {
                endpoint: endpoint.id.to_string(),
                network: endpoint.network_name.to_string(),
                container: endpoint.container.label().to_owned(),
                addresses: endpoint.addresses.iter().map(|address| address.ip()).collect(),
            });
            here.collect()
        } else {
            let there = view.on_node(node).into_iter().filter_map(|(network, id)| {
                let remote = view.remote_of(&network, &id)?;
                let name = view.networks.get(&network).map(|row| row.network.name.to_string());
                Some(Staying {
                    endpoint: id.to_string(),
                    network: name.unwrap_or_else(|| network.short().to_owned()),
                    container: remote
                        .member
                        .names
                        .first()
                        .map_or_else(String::new, ToString::to_string),
                    addresses: remote.member.addresses.to_vec(),
                })
            });
            there.collect()
        };
        left.sort_by(|a, b| (&a.network, &a.container).cmp(&(&b.network, &b.container)));
        left
    }

    /// `cluster.node_remove`.
    pub(crate) async fn remove_node(self: &Rc<Self>, params: &RemoveNode) -> Result<Empty> {
        let cluster = self.member()?;
        let node = cluster.find_node(&params.node)?;
        let state = cluster.liveness.borrow().state(&node);
        if node == cluster.node {
            return Err(Error::invalid(
                "this is the host itself: it leaves with netctl cluster leave",
            ));
        }
        if let Decisions::There(_) = &cluster.decisions {
            return Err(Error::new(
                Kind::Denied,
                format_args!(
                    "this host is a worker of its cluster, and nodes are removed by managers: ask \
                     on one{}",
                    cluster.such_as()
                ),
            ));
        }
        if state.is_some_and(|state| state < State::Down) && !params.force {
            if let Some(problem) = cluster.problem() {
                return Err(Error::unavailable(format_args!(
                    "node {} cannot be removed now: {problem}",
                    params.node
                ))
                .with("node", node.as_str()));
            }
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "node {} is not down: have it leave (netctl cluster leave there), or remove \
                     it with --force",
                    params.node
                ),
            )
            .with("node", node.as_str()));
        }
        cluster.decide_within(Decision::RemoveNode { node }, REMOVAL).await?;
        Ok(Empty {})
    }

    /// `cluster.token_create`, and `cluster.token_rotate` with `instead`.
    pub(crate) async fn create_token(
        self: &Rc<Self>,
        params: CreateToken,
        instead: bool,
    ) -> Result<NewToken> {
        let cluster = self.member()?;
        let (manager, tokens) = cluster.tokens()?;
        let role = match params.role {
            protocol::Role::Manager => Role::Manager,
            protocol::Role::Worker => Role::Worker,
        };
        if role == Role::Manager && !cluster.kept.borrow().own_etcd {
            return Err(Error::new(
                Kind::Unsupported,
                "in a cluster whose etcd is not its own more managers cannot join",
            ));
        }
        let digest = manager.authority.digest()?;
        let CreateToken { ttl, uses, .. } = params;
        if let Some(ttl) = ttl.filter(|ttl| *ttl > LONGEST_TOKEN) {
            return Err(Error::invalid(format_args!(
                "a token cannot be good for {ttl} seconds: ten years are the most ({LONGEST_TOKEN}); \
                 leave the time out for one without an end"
            ))
            .with("ttl", ttl));
        }
        let made = async {
            if instead {
                tokens.rotate(&digest, role, now(), ttl, uses).await
            } else {
                tokens.create(&digest, role, now(), ttl, uses).await
            }
        };
        let token = in_time(made).await?;
        let managers = cluster.kept.borrow().managers.clone();
        Ok(NewToken { id: token.id(), token: token.to_string(), managers })
    }

    /// `cluster.token_list`.
    pub(crate) async fn list_tokens(self: &Rc<Self>) -> Result<protocol::Tokens> {
        let cluster = self.member()?;
        let (_, tokens) = cluster.tokens()?;
        let listed = in_time(tokens.list()).await?;
        let info = |listed: ::cluster::token::Listed| TokenInfo {
            id: listed.id,
            role: role(listed.token.role),
            created: rfc3339(listed.token.created),
            expires: listed.token.expires.map(rfc3339),
            uses: listed.token.uses,
        };
        Ok(protocol::Tokens { tokens: listed.into_iter().map(info).collect() })
    }

    /// `cluster.token_remove`.
    pub(crate) async fn remove_token(self: &Rc<Self>, params: &RemoveToken) -> Result<Empty> {
        let cluster = self.member()?;
        let (_, tokens) = cluster.tokens()?;
        if params.token.is_empty() {
            return Err(Error::invalid(
                "the id of a token is missing: netctl cluster token ls shows them",
            ));
        }
        if in_time(tokens.remove(&params.token)).await? {
            return Ok(Empty {});
        }
        Err(Error::not_found(format_args!("token {} not found", params.token))
            .with("token", params.token.as_str()))
    }
}

/// An answer of the store, within a second.
async fn in_time<T>(asked: impl Future<Output = ::cluster::Result<T>>) -> Result<T> {
    match tokio::time::timeout(DECISION, asked).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Error::unavailable("the cluster's store did not answer in time")),
    }
}

impl Cluster {
    /// Refuses new endpoints on the cluster's networks where this host is to have none.
    pub(super) fn takes_endpoints(&self) -> Result<()> {
        if self.leaving.get() || self.kept.borrow().leaving.is_some() {
            return Err(Error::new(
                Kind::Busy,
                "this host is leaving its cluster, and takes no new endpoints on its networks",
            ));
        }
        let view = self.view.borrow();
        let Some(here) = view.here().filter(|here| here.availability != Availability::Active)
        else {
            return Ok(());
        };
        let (name, word) = (&here.facts.name, availability(here.availability));
        Err(Error::new(
            Kind::Denied,
            format_args!(
                "node {name} takes no new endpoints on networks of the cluster (its availability \
                 is {word}): use another node, or on a manager netctl node update --availability \
                 active {name}"
            ),
        )
        .with("node", here.id.as_str())
        .with("availability", word))
    }

    /// The tokens, which managers have to do with alone.
    fn tokens(&self) -> Result<(Rc<Manager>, Tokens)> {
        match &self.decisions {
            Decisions::Here { manager, .. } => {
                let tokens = Tokens::new(self.store.clone(), self.layout.clone());
                Ok((manager.clone(), tokens))
            }
            Decisions::There(_) => Err(Error::new(
                Kind::Denied,
                format_args!(
                    "this host is a worker of its cluster, and tokens are for managers: ask on one{}",
                    self.such_as()
                ),
            )),
        }
    }

    /// A manager to ask, with its address: the end of a sentence.
    fn such_as(&self) -> String {
        let view = self.view.borrow();
        let mut managers = view.nodes.values().filter(|node| node.role == Role::Manager);
        let named = managers.find_map(|node| {
            Some(format!(", such as {} ({})", node.facts.name, node.facts.vtep()?))
        });
        named.unwrap_or_default()
    }

    /// The node that a user means: by its id, its name, or the beginning of its id.
    fn find_node(&self, given: &str) -> Result<NodeId> {
        if given.is_empty() {
            return Err(Error::invalid("the name of a node is missing: netctl node ls shows them"));
        }
        let view = self.view.borrow();
        let exact = view.nodes.values().filter(|n| n.id.as_str() == given || n.facts.name == given);
        let mut found: Vec<NodeId> = exact.map(|node| node.id.clone()).collect();
        if found.is_empty() {
            let beginning = view.nodes.keys().filter(|id| id.as_str().starts_with(given));
            found = beginning.cloned().collect();
        }
        match found.as_slice() {
            [node] => Ok(node.clone()),
            [] => Err(Error::not_found(format_args!("node {given} not found")).with("node", given)),
            _ => Err(Error::invalid(format_args!(
                "node {given} is ambiguous ({} nodes match): name it by its id",
                found.len()
            ))
            .with("node", given)),
        }
    }
}
