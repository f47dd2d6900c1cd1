//! A manager's end of the one call between nodes: lets hosts join, renews certificates, decides.
//! What is refused is logged and counted.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cnm::{Call, Empty, Incoming, Kind, Reply, cluster::EtcdTls, fault, frame::MAX_LINE};
use rustls::ServerConfig;
use store::{Etcd, Store, Txn};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use crate::{
    Authority, ClusterId, Decider, Error, Identity, NodeId, Result, Role,
    decide::{Joining, Wanted},
    etcd,
    identity::{self, Request, Subject},
    messages::{
        Clock, Decide, Decided, Decision, Join, Joined, Promote, Renew, Renewed, Standing, Time,
    },
    rows,
    token::{Tokens, sha256},
};

mod unproven;

use unproven::{Place, Unproven};

/// How many callers are heard at the same time that have shown who they are.
const CALLERS: usize = 512;

/// How long a caller may take to show who it is, and how long it may then be silent.
const HANDSHAKE: Duration = Duration::from_secs(3);
const IDLE: Duration = Duration::from_secs(300);

/// How long it may take until etcd takes another member.
const MEMBER: Duration = Duration::from_secs(12);

/// How long it may take until etcd has another leader.
const ELECTION: Duration = Duration::from_secs(4);

/// How long to wait when the host cannot take another connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// What a manager decides with.
#[derive(Debug)]
pub struct Manager {
    /// Which cluster.
    pub cluster: ClusterId,
    /// The shared part of the store.
    pub decider: Decider,
    /// The cluster's CA.
    pub authority: Authority,
    /// etcd itself, where the cluster is on one of its own: for the rights of nodes and for members.
    pub etcd: Option<Etcd>,
    /// How an etcd is known that is not the cluster's own.
    pub etcd_tls: Option<EtcdTls>,
}

/// How often what was done.
#[derive(Debug, Default)]
pub struct Counts {
    /// Hosts that joined.
    pub joined: AtomicU64,
    /// Callers that showed no certificate of this cluster where one is needed, or a foreign one.
    pub strangers: AtomicU64,
    /// Connections that were given up before a certificate or a call came by them.
    pub unproven: AtomicU64,
    /// Tokens that let nobody in.
    pub tokens: AtomicU64,
    /// Decisions that the caller may not ask for.
    pub denied: AtomicU64,
}

/// The server; clones are the same server.
#[derive(Clone, Debug)]
pub struct Server {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    manager: Manager,
    tls: RwLock<Arc<ServerConfig>>,
    counts: Counts,
}

/// The way to a caller.
type Stream = BufReader<TlsStream<TcpStream>>;

/// A caller that has shown who it is: by a certificate, or by its first line alone.
type Shown = (Stream, Option<NodeId>, Vec<u8>);

/// Why a caller is heard no more.
struct Lost {
    /// Whether it had shown who it is.
    shown: bool,
    error: std::io::Error,
}

/// Reads a line; whether there was a whole one.
async fn read_line(stream: &mut Stream, line: &mut Vec<u8>) -> std::io::Result<bool> {
    line.clear();
    let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX) + 1;
    stream.take(most).read_until(b'\n', line).await?;
    Ok(line.ends_with(b"\n"))
}

/// Seconds since 1970. Only certificates and tokens go by the clock on the wall.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

impl Server {
    /// For a manager with this identity.
    ///
    /// # Errors
    /// When the identity is none.
    pub fn new(manager: Manager, identity: &Identity) -> Result<Self> {
        let tls = RwLock::new(Arc::new(identity::server_config(identity)?));
        Ok(Self { shared: Arc::new(Shared { manager, tls, counts: Counts::default() }) })
    }

    /// How often what was done.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }

    /// New callers are shown another certificate from now on.
    ///
    /// # Errors
    /// When the identity is none.
    pub fn renew(&self, identity: &Identity) -> Result<()> {
        let config = Arc::new(identity::server_config(identity)?);
        *self.shared.tls.write().unwrap_or_else(PoisonError::into_inner) = config;
        Ok(())
    }

    /// Hears callers for as long as it is polled.
    pub async fn serve(&self, listener: TcpListener) {
        let (callers, unproven) = (Arc::new(Semaphore::new(CALLERS)), Unproven::default());
        loop {
            let (stream, address) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot hear another node");
                    tokio::time::sleep(EXHAUSTED).await;
                    continue;
                }
            };
            let (place, another_gave_way) = unproven.enter(address.ip());
            if another_gave_way {
                self.shared.counts.unproven.fetch_add(1, Ordering::Relaxed);
            }
            let (server, callers) = (self.clone(), Arc::clone(&callers));
            tokio::spawn(async move {
                let heard = server.hear(stream, place, &callers).await;
                match heard {
                    Ok(()) => {}
                    // Who has been answered may hang up as it likes.
                    Err(Lost { shown: true, error })
                        if error.kind() == std::io::ErrorKind::UnexpectedEof =>
                    {
                        tracing::debug!(%address, %error, "a caller hung up");
                    }
                    Err(Lost { error, .. }) => {
                        tracing::warn!(%address, %error, "a caller was refused or lost");
                    }
                }
            });
        }
    }

    async fn hear(
        &self,
        stream: TcpStream,
        mut place: Place,
        callers: &Semaphore,
    ) -> Result<(), Lost> {
        let shown = tokio::select! {
            biased;
            shown = timeout(HANDSHAKE, self.shown(stream)) => shown,
            // Which has been said and counted.
            () = place.gives_way() => return Ok(()),
        };
        let (mut stream, caller, mut line) = match shown {
            Ok(Ok(shown)) => shown,
            Ok(Err(error)) => {
                self.shared.counts.strangers.fetch_add(1, Ordering::Relaxed);
                return Err(Lost { shown: false, error });
            }
            Err(_) => {
                self.shared.counts.unproven.fetch_add(1, Ordering::Relaxed);
                let error = std::io::ErrorKind::TimedOut.into();
                return Err(Lost { shown: false, error });
            }
        };
        drop(place);
        let Ok(_turn) = callers.acquire().await else { return Ok(()) };
        let talk = async {
            let Some(caller) = caller else {
                // One without a certificate has one call.
                self.reply_to(None, &line, &mut stream).await?;
                return stream.shutdown().await;
            };
            loop {
                let read = timeout(IDLE, read_line(&mut stream, &mut line)).await;
                if !read.unwrap_or(Ok(false))? {
                    return Ok(());
                }
                self.reply_to(Some(&caller), &line, &mut stream).await?;
            }
        };
        talk.await.map_err(|error| Lost { shown: true, error })
    }

    /// Waits until a caller has shown who it is, by a certificate, or else has called: what it calls for
    /// may be to join, with a token.
    async fn shown(&self, stream: TcpStream) -> std::io::Result<Shown> {
        let config = self.shared.tls.read().unwrap_or_else(PoisonError::into_inner).clone();
        stream.set_nodelay(true)?;
        let stream = TlsAcceptor::from(config).accept(stream).await?;
        let certificates = stream.get_ref().1.peer_certificates();
        let caller = identity::peer_node(certificates).map_err(std::io::Error::other)?;
        let (mut stream, mut line) = (BufReader::new(stream), Vec::new());
        if caller.is_none() && !read_line(&mut stream, &mut line).await? {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok((stream, caller, line))
    }

    async fn reply_to(
        &self,
        caller: Option<&NodeId>,
        line: &[u8],
        stream: &mut Stream,
    ) -> std::io::Result<()> {
        let reply = match std::str::from_utf8(line) {
            Ok(text) if text.trim().is_empty() => return Ok(()),
            Ok(text) => self.answer(caller, text).await,
            Err(_) => Reply::<Empty>::new(None, Err(cnm::frame::not_text())).to_text(),
        };
        stream.write_all(reply.as_bytes()).await?;
        stream.write_all(b"\n").await?;
        stream.flush().await
    }

    async fn answer(&self, caller: Option<&NodeId>, text: &str) -> String {
        let incoming = match Incoming::parse(text) {
            Ok(incoming) => incoming,
            Err(error) => return Reply::<Empty>::new(None, Err(error)).to_text(),
        };
        match incoming.method.as_ref() {
            Join::METHOD => {
                let outcome = match incoming.params::<Join>() {
                    Ok(join) => self.join(join).await,
                    Err(error) => Err(Error::Remote(error)),
                };
                self.reply(&incoming, caller, outcome)
            }
            Renew::METHOD => {
                let outcome = match incoming.params::<Renew>() {
                    Ok(renew) => self.renewed(caller, renew).await,
                    Err(error) => Err(Error::Remote(error)),
                };
                self.reply(&incoming, caller, outcome)
            }
            Promote::METHOD => {
                let outcome = self.promote(caller).await;
                self.reply(&incoming, caller, outcome)
            }
            Standing::METHOD => {
                let outcome = self.caller(caller, "ask").await.map(|_| Empty {});
                self.reply(&incoming, caller, outcome)
            }
            Clock::METHOD => self.reply(&incoming, caller, Ok(Time { now: now() })),
            Decide::METHOD => {
                let outcome = match incoming.params::<Decide>() {
                    Ok(decide) => self.decide(caller, decide).await,
                    Err(error) => Err(Error::Remote(error)),
                };
                self.reply(&incoming, caller, outcome)
            }
            method => {
                let error = cnm::Error::unsupported(format_args!("no method {method} here"));
                Reply::<Empty>::new(incoming.id, Err(error)).to_text()
            }
        }
    }

    fn reply<R: serde::Serialize>(
        &self,
        incoming: &Incoming<'_>,
        caller: Option<&NodeId>,
        outcome: Result<R>,
    ) -> String {
        let counts = &self.shared.counts;
        let outcome = outcome.map_err(|error| {
            let counter = match &error {
                Error::Token(_) => Some(&counts.tokens),
                Error::Denied { .. } | Error::Removed { .. } => Some(&counts.denied),
                _ => None,
            };
            if let Some(counter) = counter {
                counter.fetch_add(1, Ordering::Relaxed);
            }
            let caller = caller.map(ToString::to_string);
            tracing::warn!(caller, method = %incoming.method, %error, "a call was refused");
            cnm::Error::from(error)
        });
        Reply::new(incoming.id.clone(), outcome).to_text()
    }

    /// Who is asking, if it is a node still.
    async fn caller(&self, caller: Option<&NodeId>, what: &str) -> Result<rows::Node> {
        let denied = |who: String| Error::Denied { who, what: what.to_owned() };
        let caller = caller.ok_or_else(|| denied("a caller without a certificate".to_owned()))?;
        let node = self.shared.manager.decider.find_node(caller).await?;
        node.ok_or_else(|| Error::Removed { node: caller.clone() })
    }

    async fn join(&self, join: Join) -> Result<Joined> {
        let decider = &self.shared.manager.decider;
        let request = Request::from_pem(&join.request)?;
        let digest = sha256(join.secret.as_bytes());
        let before = decider.find_node(&join.node).await?;
        let again = match before {
            None => false,
            Some(node)
                if node.public_key == request.public_key
                    && node.joined_with.as_ref() == Some(&digest) =>
            {
                true
            }
            Some(node) => {
                let what = format!("take the id of node {}", node.id);
                return Err(Error::Denied { who: "a newcomer".to_owned(), what });
            }
        };
        if !again {
            let tokens = Tokens::new(decider.store().clone(), decider.layout().clone());
            let joining = |role| Joining {
                node: join.node.clone(),
                role,
                public_key: request.public_key.clone(),
                joined_with: Some(digest.clone()),
                facts: join.facts.clone(),
                former: None,
            };
            let now = now();
            let (manager, facts) = (&self.shared.manager, &join.facts);
            let join_as = |role, txn| {
                let joining = joining(role);
                async move {
                    // It has proved that it may join, and takes the place that it had if nothing else is in the way.
                    let former = decider.former(facts, role).await?;
                    if let Some(former) = &former {
                        let taking = Joining { former: Some(former.clone()), ..joining.clone() };
                        decider.join(Txn::new(), taking, now).await?;
                        tracing::info!(node = %former, name = facts.name, "a node joins anew");
                        manager.remove(former).await?;
                    }
                    decider.join(txn, joining, now).await
                }
            };
            tokens.redeem(&join.secret, now, join_as).await?;
        }
        let unknown = || Error::NoNode { node: join.node.to_string() };
        let node = decider.find_node(&join.node).await?.ok_or_else(unknown)?;
        let id = node.id.clone();
        let admitted = self.admitted(join, &request, node).await;
        if let Err(error) = &admitted
            && !again
            && let Err(left) = self.shared.manager.remove(&id).await
        {
            tracing::warn!(node = %id, %error, %left, "a node that did not join stays listed");
        }
        admitted
    }

    /// What a node that may join needs: rights, a member of etcd for a manager, a certificate.
    async fn admitted(&self, join: Join, request: &Request, node: rows::Node) -> Result<Joined> {
        let Manager { cluster, decider, authority, etcd, etcd_tls } = &self.shared.manager;
        let mut joined = Joined {
            cluster: cluster.clone(),
            ca: authority.certificate().to_owned(),
            certificate: String::new(),
            ca_key: (node.role == Role::Manager).then(|| authority.key().to_owned()),
            etcd: Vec::new(),
            etcd_tls: etcd_tls.clone(),
            initial_cluster: None,
            managers: Vec::new(),
            node,
        };
        if let Some(store) = etcd {
            etcd::admit(store, decider.layout(), &joined.node).await?;
            if let (Some(url), Role::Manager) = (&join.peer_url, joined.node.role) {
                let nodes = decider.nodes().await?;
                let add =
                    || etcd::add_member(store, decider.layout(), &joined.node.id, url, &nodes);
                let cluster = patiently(add).await?;
                joined.initial_cluster = Some(cluster);
            }
        }
        if let Store::Etcd(store) = decider.store() {
            joined.etcd = store.endpoints();
        }
        let nodes = decider.nodes().await?;
        joined.managers = nodes.into_iter().filter_map(|node| node.facts.listens).collect();
        let (node, role) = (joined.node.id.clone(), joined.node.role);
        let subject = Subject { node, role, addresses: join.addresses };
        joined.certificate = authority.sign(request, &subject, SystemTime::now())?;
        self.shared.counts.joined.fetch_add(1, Ordering::Relaxed);
        tracing::info!(node = %join.node, %role, name = join.facts.name, "a node joined");
        Ok(joined)
    }

    async fn renewed(&self, caller: Option<&NodeId>, renew: Renew) -> Result<Renewed> {
        let node = self.caller(caller, "have a certificate renewed").await?;
        let Manager { decider, authority, .. } = &self.shared.manager;
        let request = Request::from_pem(&renew.request)?;
        let subject =
            Subject { node: node.id.clone(), role: node.role, addresses: renew.addresses };
        let certificate = authority.sign(&request, &subject, SystemTime::now())?;
        decider.renew_node(&node.id, &request.public_key).await?;
        Ok(Renewed { ca: authority.certificate().to_owned(), certificate })
    }

    async fn promote(&self, caller: Option<&NodeId>) -> Result<Empty> {
        let what = "have a vote in etcd";
        let node = self.caller(caller, what).await?;
        match &self.shared.manager.etcd {
            Some(store) if node.role == Role::Manager => {
                etcd::promote(store, &node.id).await?;
                Ok(Empty {})
            }
            _ => Err(Error::Denied { who: format!("node {}", node.id), what: what.to_owned() }),
        }
    }

    async fn decide(&self, caller: Option<&NodeId>, decide: Decide) -> Result<Decided> {
        let Decide { epoch, decision } = decide;
        let node = self.caller(caller, decision.what()).await?;
        if decision.least_role() == Role::Manager && node.role != Role::Manager {
            let who = format!("node {}, a worker,", node.id);
            return Err(Error::Denied { who, what: decision.what().to_owned() });
        }
        self.shared.manager.decide(&node.id, epoch, decision).await
    }
}

impl Manager {
    /// Decides for a node whose right to it has been looked at.
    ///
    /// # Errors
    /// Those of the decision; see [`Decider`].
    pub async fn decide(&self, node: &NodeId, epoch: u64, decision: Decision) -> Result<Decided> {
        let decider = &self.decider;
        let of = |node: rows::Node| Decided::Node { node: Box::new(node) };
        let made = |network: rows::Network| Decided::Network { network: Box::new(network) };
        match decision {
            Decision::Start { facts } => decider.start_node(node, &facts).await.map(of),
            Decision::Update { facts } => decider.update_node(node, &facts).await.map(of),
            Decision::ClaimBlock { network, ipv6, ahead } => {
                let block = decider.claim_block(node, epoch, &network, ipv6, ahead).await?;
                Ok(Decided::Block { block })
            }
            Decision::BorrowAddress { network, ipv6, avoid } => {
                let asked = decider.borrow_address(node, epoch, &network, ipv6, &avoid).await?;
                Ok(Decided::Asked { asked })
            }
            Decision::ReleaseBlock { network, block } => {
                decider.release_block(node, &network, block).await.map(done)
            }
            Decision::ClaimAddress { network, address } => {
                let claimed = decider.claim_address(node, epoch, &network, address).await?;
                Ok(Decided::Address { claimed })
            }
            Decision::ReleaseAddress { network, address } => {
                decider.release_address(node, &network, address).await.map(done)
            }
            Decision::LendAddress { network, block, address, free } => {
                decider.lend_address(node, &network, block, address, free).await.map(done)
            }
            Decision::PublishPort { protocol, port, endpoint } => {
                decider.publish_port(node, epoch, &protocol, port, endpoint).await.map(done)
            }
            Decision::UnpublishPort { protocol, port } => {
                decider.unpublish_port(node, &protocol, port).await.map(done)
            }
            Decision::CreateNetwork { network, ipv4, ipv6 } => {
                let wanted = Wanted { ipv4, ipv6 };
                decider.create_network(*network, wanted).await.map(made)
            }
            Decision::ChangeNetwork { network, changes } => {
                decider.change_network(&network, *changes).await.map(made)
            }
            Decision::RemoveNetwork { network } => decider.remove_network(&network).await.map(done),
            Decision::PruneNetwork { network } => decider.prune_network(&network).await.map(done),
            Decision::RecallBlocks { network } => decider.recall_blocks(&network).await.map(done),
            Decision::SetAvailability { node, availability } => {
                decider.set_availability(&node, availability).await.map(of)
            }
            Decision::Leave => self.remove(node).await.map(done),
            Decision::RemoveNode { node } => self.remove(&node).await.map(done),
        }
    }

    /// The member of etcd goes first, if that leaves a majority; then the rows; then the rights.
    /// Asked for again it finishes what was left.
    async fn remove(&self, node: &NodeId) -> Result<()> {
        if let Some(store) = &self.etcd {
            let row = steadily(|| self.decider.find_node(node)).await?;
            if row.as_ref().is_none_or(|row| row.role == Role::Manager) {
                let address = row.and_then(|row| row.facts.vtep());
                let layout = self.decider.layout();
                steadily(|| etcd::remove_member(store, layout, node, address)).await?;
                fault::point("cluster.leave.after-member");
            }
        }
        steadily(|| self.decider.remove_node(node)).await?;
        fault::point("cluster.leave.after-rows");
        if let Some(store) = &self.etcd {
            steadily(|| etcd::dismiss(store, node)).await?;
        }
        Ok(())
    }
}

/// etcd takes another member once all have been in touch for five seconds, and one at a time.
async fn patiently<F>(ask: impl Fn() -> F) -> Result<String>
where
    F: Future<Output = Result<String>>,
{
    let deadline = tokio::time::Instant::now() + MEMBER;
    loop {
        match ask().await {
            Err(error @ (Error::Store(_) | Error::Learner { .. }))
                if tokio::time::Instant::now() < deadline =>
            {
                tracing::debug!(%error, "etcd takes no member yet");
                tokio::time::sleep(EXHAUSTED).await;
            }
            answered => return answered,
        }
    }
}

/// Asks again for a while where etcd is about to elect another leader, as it does when one goes.
async fn steadily<T, F>(ask: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = tokio::time::Instant::now() + ELECTION;
    loop {
        match ask().await {
            Err(Error::Store(error))
                if error.is_away() && tokio::time::Instant::now() < deadline =>
            {
                tracing::debug!(%error, "etcd does not answer now");
                tokio::time::sleep(EXHAUSTED).await;
            }
            answered => return answered,
        }
    }
}

fn done((): ()) -> Decided {
    Decided::Done
}

/// Whether a refusal is for good: another attempt, at this or another manager, will end the same.
pub(crate) fn is_final(error: &cnm::Error) -> bool {
    error.kind != Kind::Unavailable
}
