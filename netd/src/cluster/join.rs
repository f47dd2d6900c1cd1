//! Becoming a node of a cluster.

use std::{
    net::{IpAddr, SocketAddr},
    rc::Rc,
    time::{Duration, Instant, SystemTime},
};

use ::cluster::{
    Authority, ClusterId, Decider, Identity, Layout, NodeId, Role, Token,
    client::{self, Newcomer},
    decide::{self, Joining},
    etcd::{self, Machine},
    identity::{self, Request, Subject},
    rows::Config,
    token::Tokens,
};
use ::store::{Etcd, EtcdOptions, Store};
use cnm::{
    Error, Kind, Result,
    cluster::{CLUSTER_PORT, InitCluster, JoinCluster, Joined},
};
use tokio::{net::TcpListener, time::sleep};

use super::{
    Cluster, Decisions, Kept, Place, kept::Leaving, now, own_etcd::Over, peers::About, store_error,
    view::View,
};
use crate::{host::sockets, netd::Netd};

/// The ports of the host's own etcd: for clients, and for other members.
pub(super) const ETCD_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;

/// How long an own etcd may take to come up, how long one that is there may take to answer, and how
/// often it is asked.
const ETCD_START: Duration = Duration::from_secs(15);
const ETCD_ANSWER: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_millis(50);

impl Netd {
    /// Opens the membership that is kept, before the endpoints are read that are on its networks.
    pub(crate) async fn open_cluster(self: &Rc<Self>) -> Result<()> {
        let place = Place::new(&self.config.state_dir);
        let Some(kept) = place.read()? else {
            return self.stop_remnants(&place).await;
        };
        let cluster = Rc::new(Cluster::open(place, kept, &self.config).await?);
        *self.cluster.borrow_mut() = Some(cluster.clone());
        let known = self.recall(&cluster)?;
        self.known.replace(known);
        Ok(())
    }

    /// Those networks of the cluster are up that somebody is on.
    pub(crate) fn recall_networks(&self) {
        let mut registry = self.registry.borrow_mut();
        let used: Vec<_> = registry
            .networks()
            .filter(|entry| entry.shared.is_some() && !entry.endpoints.is_empty())
            .map(|entry| entry.network.id.clone())
            .collect();
        for id in used {
            let Some(entry) = registry.network_mut(&id) else { continue };
            if let Some(shared) = &mut entry.shared {
                shared.up = true;
                // Its driver's first sync brings it up with them.
                shared.up_with = entry.network.subnets.iter().map(|s| s.subnet).collect();
            }
        }
    }

    /// Begins what goes on in the background. Nothing waits for it.
    pub(crate) async fn start_cluster(self: &Rc<Self>) {
        let Some(cluster) = self.cluster() else { return };
        let kept = cluster.kept.borrow().clone();
        if kept.removed.is_some() {
            return self.stay_apart(&cluster);
        }
        if let Some(leaving) = kept.leaving {
            self.go_on_leaving(&cluster, leaving);
            if leaving == Leaving::Told {
                return;
            }
        }
        let machine = Cluster::machine(&cluster.place, &kept, &self.config);
        if kept.own_etcd
            && let Err(error) = cluster.etcd_is_over.ensure(&machine)
        {
            let error = Error::from(error);
            tracing::error!(%error, "the host's own etcd does not run");
            self.problems.borrow_mut().insert("etcd".to_owned(), error.to_string());
        }
        // The kernel knows the way to what was known.
        self.publish(&cluster, &About::All);
        self.start_tasks(&cluster, self.known.take());
        if let Err(error) = self.hear_others(&cluster).await {
            tracing::error!(%error, "other nodes are not heard");
            self.problems.borrow_mut().insert("managers".to_owned(), error.to_string());
        }
        if kept.own_etcd && kept.initial_cluster.is_some() {
            self.ask_for_a_vote(&cluster);
        }
    }

    /// A manager hears those who join and those who ask for decisions.
    async fn hear_others(self: &Rc<Self>, cluster: &Rc<Cluster>) -> Result<()> {
        let Decisions::Here { server, .. } = &cluster.decisions else { return Ok(()) };
        let address = {
            let kept = cluster.kept.borrow();
            SocketAddr::new(kept.address, kept.port)
        };
        let listener = listen(address)?;
        let server = server.clone();
        let task = tokio::spawn(async move { server.serve(listener).await });
        cluster.tasks.borrow_mut().push(task.abort_handle());
        Ok(())
    }

    fn check_alone(&self) -> Result<()> {
        let Some(cluster) = self.cluster() else {
            // One that could not be opened is one, and none to be written over.
            let kept = Place::new(&self.config.state_dir).read()?;
            return kept.map_or(Ok(()), |kept| Err(Error::exists(format_args!(
                "this host is a node of cluster {}, which could not be opened: see netctl status, \
                 or leave it with netctl cluster leave --force",
                kept.cluster
            ))));
        };
        Err(Error::exists(format_args!(
            "this host is a node of cluster {} already: leave it first, with netctl cluster leave",
            cluster.id
        ))
        .with("cluster", cluster.id.as_str()))
    }

    /// `cluster.init`.
    pub(crate) async fn init_cluster(self: &Rc<Self>, params: InitCluster) -> Result<Joined> {
        let _turn = self.network_turn.lock().await;
        self.check_alone()?;
        check_etcd(&params)?;
        check_ports(&params)?;
        let address = params.advertise.map_or_else(|| self.host.source(None), Ok)?;
        self.host.check_advertised(address).await?;
        let place = Place::new(&self.config.state_dir);
        self.clear_remnants(&place).await?;
        let kept = Kept {
            cluster: ClusterId::random().map_err(Error::internal)?,
            node: NodeId::random().map_err(Error::internal)?,
            role: Role::Manager,
            address,
            port: params.port.unwrap_or(CLUSTER_PORT),
            own_etcd: params.etcd.is_empty(),
            etcd: if params.etcd.is_empty() {
                vec![format!("https://{}", SocketAddr::new(address, ETCD_PORT))]
            } else {
                params.etcd
            },
            etcd_tls: params.etcd_tls,
            managers: vec![
                SocketAddr::new(address, params.port.unwrap_or(CLUSTER_PORT)).to_string(),
            ],
            initial_cluster: None,
            leaving: None,
            removed: None,
        };
        // Somebody else at the port is found before anything is made.
        drop(listen(SocketAddr::new(address, kept.port))?);
        if kept.own_etcd {
            check_etcd_ports(address)?;
        }
        let made = self.begin(&place, &kept, params.vxlan_port).await;
        match made {
            Ok(token) => self.become_node(place, kept, Some(token.to_string())).await,
            Err(error) => {
                self.abandon(&place, &kept).await;
                Err(error)
            }
        }
    }

    /// Makes the CA, the store and its first rows.
    async fn begin(
        self: &Rc<Self>,
        place: &Place,
        kept: &Kept,
        vxlan_port: Option<u16>,
    ) -> Result<Token> {
        let facts = self.facts(kept.address, Some(kept)).await?;
        let clock = SystemTime::now();
        let authority = Authority::new(&kept.cluster, clock)?;
        let authority = authority.signing_for(self.config.certificate_life);
        let (key, request) = identity::new_request(&kept.node)?;
        let request = Request::from_pem(&request)?;
        let addresses = vec![kept.address, IpAddr::from([127, 0, 0, 1])];
        let subject = Subject { node: kept.node.clone(), role: Role::Manager, addresses };
        let certificate = authority.sign(&request, &subject, clock)?;
        let identity = Identity { ca: authority.certificate().to_owned(), certificate, key };
        place.identity().keep(&identity)?;
        place.identity().keep_authority(&authority)?;
        let own = kept.own_etcd.then(|| Cluster::machine(place, kept, &self.config));
        if let Some(machine) = &own {
            machine.ensure()?;
        }
        let tls = kept.tls(&identity);
        let etcd = connect(EtcdOptions { endpoints: kept.etcd.clone(), tls }, own).await?;
        let layout = Layout::new(&kept.cluster);
        if kept.own_etcd {
            etcd::bootstrap(&etcd, &layout, &kept.node).await?;
        }
        let store = Store::Etcd(etcd);
        let decider = Decider::new(store.clone(), layout.clone());
        let node_subnet6 = Some(decide::random_ula()?);
        let mut config = Config { node_subnet6, ..Config::default() };
        config.vxlan_port = vxlan_port.unwrap_or(config.vxlan_port);
        let first = Joining {
            node: kept.node.clone(),
            role: Role::Manager,
            public_key: request.public_key.clone(),
            joined_with: None,
            facts,
            former: None,
        };
        decider.init(&kept.cluster, &config, first, now()).await?;
        let tokens = Tokens::new(store, layout);
        Ok(tokens.create(&authority.digest()?, Role::Worker, now(), None, None).await?)
    }

    /// `cluster.join`.
    pub(crate) async fn join_cluster(self: &Rc<Self>, params: JoinCluster) -> Result<Joined> {
        let _turn = self.network_turn.lock().await;
        self.check_alone()?;
        let token: Token = params.token.parse().map_err(::cluster::Error::from)?;
        let source = || self.host.source(Some(params.manager));
        let address = params.advertise.map_or_else(source, Ok)?;
        self.host.check_advertised(address).await?;
        let place = Place::new(&self.config.state_dir);
        self.clear_remnants(&place).await?;
        let node = NodeId::random().map_err(Error::internal)?;
        let peer_url = format!("https://{}", SocketAddr::new(address, PEER_PORT));
        let addresses = vec![address, IpAddr::from([127, 0, 0, 1])];
        let facts = self.facts(address, None).await?;
        let newcomer = Newcomer::new(node, addresses, facts, Some(peer_url))?;
        let manager = params.manager.to_string();
        let (joined, identity) = client::join(&manager, &token, &newcomer).await?;
        let mut managers = joined.managers;
        if managers.is_empty() {
            managers.push(params.manager.to_string());
        }
        let kept = Kept {
            cluster: joined.cluster,
            node: joined.node.id.clone(),
            role: joined.node.role,
            address,
            port: CLUSTER_PORT,
            etcd: joined.etcd,
            etcd_tls: joined.etcd_tls,
            managers,
            own_etcd: joined.initial_cluster.is_some(),
            initial_cluster: joined.initial_cluster,
            leaving: None,
            removed: None,
        };
        place.identity().keep(&identity)?;
        if let Some(key) = joined.ca_key {
            let authority = Authority::from_pem(identity.ca.clone(), key)?;
            place.identity().keep_authority(&authority)?;
        }
        self.become_node(place, kept, None).await
    }

    /// The host's member of etcd only follows until it has caught up; then it gets its vote. It is
    /// asked for at each start: netd may have ended before there was one.
    fn ask_for_a_vote(&self, cluster: &Rc<Cluster>) {
        let Decisions::Here { manager, .. } = &cluster.decisions else { return };
        let (manager, node) = (manager.clone(), cluster.node.clone());
        let Some(etcd) = manager.etcd.clone() else { return };
        let task = tokio::task::spawn_local(async move {
            while let Err(error) = etcd::promote(&etcd, &node).await {
                tracing::debug!(%error, "no vote in etcd yet");
                sleep(AGAIN * 4).await;
            }
            tracing::info!("this host has a vote in etcd");
        });
        cluster.tasks.borrow_mut().push(task.abort_handle());
    }

    /// Keeps the membership, and lives it.
    async fn become_node(
        self: &Rc<Self>,
        place: Place,
        kept: Kept,
        token: Option<String>,
    ) -> Result<Joined> {
        self.stores.forget_cached()?;
        // Of a membership that was not followed any more.
        self.known.take();
        place.write(&kept)?;
        let cluster = Rc::new(Cluster::open(place, kept.clone(), &self.config).await?);
        *self.cluster.borrow_mut() = Some(cluster.clone());
        self.start_cluster().await;
        // Who asks next finds everything; a store that is slow is none of its business.
        let known = |view: &View| view.complete && view.live.contains(&kept.node);
        drop(cluster.until("joining", known).await);
        tracing::info!(cluster = %kept.cluster, node = %kept.node, role = %kept.role, "joined");
        self.tell("cluster", "join", kept.cluster.as_str(), &[("node", kept.node.as_str())]);
        Ok(Joined {
            cluster: kept.cluster.to_string(),
            node: kept.node.to_string(),
            role: super::calls::role(kept.role),
            managers: cluster.kept.borrow().managers.clone(),
            token,
        })
    }

    /// Undoes a beginning that failed.
    pub(super) async fn abandon(&self, place: &Place, kept: &Kept) {
        if kept.own_etcd {
            self.stop_etcd(place, kept, &Over::default()).await;
        }
        if let Err(error) = place.forget() {
            tracing::warn!(%error, "left behind");
        }
    }
}

/// Refuses ports at which nobody could be reached, or etcd is.
fn check_ports(params: &InitCluster) -> Result<()> {
    let none =
        |what: &str| Error::invalid(format_args!("{what} cannot be 0: others have to know it"));
    if params.port == Some(0) {
        return Err(none("the port for joining"));
    }
    if params.vxlan_port == Some(0) {
        return Err(none("the port of VXLAN"));
    }
    match params.port.filter(|port| [ETCD_PORT, PEER_PORT].contains(port)) {
        Some(port) if params.etcd.is_empty() => Err(Error::invalid(format_args!(
            "port {port} cannot be the one for joining: it is etcd's"
        ))
        .with("port", port)),
        _ => Ok(()),
    }
}

/// Refuses an etcd that cannot be spoken to as is said.
fn check_etcd(params: &InitCluster) -> Result<()> {
    let secure = |url: &&String| url.starts_with("https://");
    let plain = |url: &&String| url.starts_with("http://");
    if let Some((url, fault)) = params.etcd.iter().find_map(|url| Some((url, url_fault(url)?))) {
        return Err(Error::invalid(format_args!("etcd at {url} cannot be used: {fault}"))
            .with("etcd", url.as_str()));
    }
    match (&params.etcd_tls, params.etcd.iter().find(secure), params.etcd.iter().find(plain)) {
        (None, Some(url), _) => Err(Error::invalid(format_args!(
            "etcd at {url} needs its CA and a certificate that it knows: name them with \
             --etcd-ca, --etcd-cert and --etcd-key"
        ))
        .with("etcd", url.as_str())),
        (Some(_), _, Some(url)) => Err(Error::invalid(format_args!(
            "etcd at {url} has no use for certificates: its URL should begin with https://"
        ))
        .with("etcd", url.as_str())),
        (Some(_), None, None) => Err(Error::invalid(
            "certificates for an etcd are given and no etcd: name its URL with --etcd",
        )),
        _ => Ok(()),
    }
}

/// What is wrong with a URL of etcd's, if anything is.
fn url_fault(url: &str) -> Option<&'static str> {
    let place = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(place) = place else {
        return Some("its URL should begin with https:// or http://");
    };
    let place = place.strip_suffix('/').unwrap_or(place);
    let (host, port) = match place.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port),
        _ => return Some("its URL should end with a port, as in http://10.0.0.9:2379"),
    };
    let wrong = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '?' | '#');
    if host.is_empty() || host.contains(wrong) || host.contains(':') != host.starts_with('[') {
        return Some(
            "its URL should be http or https, ://, a host, : and a port, and nothing else",
        );
    }
    match port.parse::<u16>() {
        Ok(1..) => None,
        _ => Some("its port should be a number from 1 to 65535"),
    }
}

/// A store that answers.
async fn connect(options: EtcdOptions, own: Option<Machine>) -> Result<Etcd> {
    let etcd = Etcd::connect(options).await.map_err(store_error)?;
    let deadline = Instant::now() + if own.is_some() { ETCD_START } else { ETCD_ANSWER };
    loop {
        match etcd.members().await {
            Ok(_) => return Ok(etcd),
            Err(error) if own.is_none() && !error.is_away() => return Err(store_error(error)),
            Err(error) if Instant::now() >= deadline => {
                tracing::debug!(%error, "etcd does not answer");
                break;
            }
            Err(error) => {
                tracing::debug!(%error, "etcd does not answer yet");
                check_runs(own.as_ref()).await?;
                sleep(AGAIN).await;
            }
        }
    }
    let whys = etcd.statuses().await.into_iter().map(|(url, status)| match status {
        Err(::store::Error::Unavailable { why, .. } | ::store::Error::Denied { why, .. }) => {
            format!("{url} ({why})")
        }
        _ => format!("{url} (it has no leader)"),
    });
    let whys = whys.collect::<Vec<_>>().join(", ");
    Err(Error::unavailable(match own.is_some() {
        true => format!(
            "the etcd that netd started runs and does not answer at {whys}: netd's and its own log \
             may say why"
        ),
        false => {
            format!("no etcd can be reached at {whys}: see whether --etcd names the right one")
        }
    }))
}

/// Refuses to wait for the host's own etcd where that has ended.
async fn check_runs(own: Option<&Machine>) -> Result<()> {
    let Some(machine) = own.cloned() else { return Ok(()) };
    let ended = move || machine.running().is_none().then(|| machine.last_words());
    match tokio::task::spawn_blocking(ended).await {
        Ok(Some(said)) => {
            Err(Error::unavailable(format_args!("the etcd that netd started ended: {said}")))
        }
        _ => Ok(()),
    }
}

/// Refuses to begin where others have the ports of the host's own etcd, and says who.
fn check_etcd_ports(address: IpAddr) -> Result<()> {
    for port in [ETCD_PORT, PEER_PORT] {
        let there = SocketAddr::new(address, port);
        // What cannot be looked up etcd says itself.
        if let Some(whose) = sockets::listener(there).ok().flatten() {
            return Err(Error::exists(format_args!(
                "etcd, which netd is to start, cannot listen at {there}: {whose} does; end that, \
                 or if it is an etcd to be used name it with --etcd"
            ))
            .with("port", port));
        }
    }
    Ok(())
}

/// The socket of a manager.
fn listen(address: SocketAddr) -> Result<TcpListener> {
    let bind = || {
        let domain = socket2::Domain::for_address(address);
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(1024)?;
        TcpListener::from_std(socket.into())
    };
    bind().map_err(|error: std::io::Error| {
        let kind = match error.kind() {
            std::io::ErrorKind::AddrInUse => Kind::Exists,
            _ => Kind::Invalid,
        };
        Error::new(kind, format_args!("cannot listen at {address} for other nodes: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::url_fault;

    #[test]
    fn urls_of_etcd_have_a_host_and_a_port() {
        for good in ["http://10.0.0.9:2379", "https://etcd.example:2379/", "http://[fd00::9]:1"] {
            assert_eq!(url_fault(good), None, "{good}");
        }
        for bad in [
            "10.0.0.9:2379",
            "http://10.0.0.9",
            "http://10.0.0.9:",
            "http://10.0.0.9:99999",
            "http://10.0.0.9:0",
            "http://:2379",
            "http://[fd00::9]",
            "http://fd00::9:2379",
            "http://a b:2379",
            "http://me@host:2379",
            "http://host:2379/v3",
            "ftp://host:2379",
        ] {
            assert!(url_fault(bad).is_some(), "{bad}");
        }
    }
}
