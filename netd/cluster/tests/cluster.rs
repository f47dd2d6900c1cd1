//! A cluster on real etcd, with TLS and rights: how hosts come in, what each may do, who is turned
//! away, and how managers come and go.

use std::{
    net::IpAddr,
    path::Path,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use cluster::{
    Authority, ClusterId, Decider, Error, Identity, Key, Layout, NodeId, Role, Token,
    client::{self, Client, Newcomer},
    decide::Joining,
    etcd::{self, Began, Machine},
    identity::{Directory, Request, Subject, new_request},
    messages::{Decided, Decision, Joined},
    rows::{Config, Facts},
    server::{Manager, Server},
    token::{Refusal, Tokens},
};
use cnm::Kind;
use netd_tests::{World, run};
use store::{Change, EtcdOptions, Keys, Op, Store, Txn};
use tokio::net::TcpListener;

const PATIENCE: Duration = Duration::from_secs(20);

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs()
}

fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(test)
}

/// Waits until a store answers.
async fn ready(store: &Store, layout: &Layout) {
    let mut follow = store.follow(layout.all(), Vec::new());
    let synced =
        async { while !matches!(follow.next().await.expect("a change"), Change::Synced { .. }) {} };
    tokio::time::timeout(PATIENCE, synced).await.expect("it answers in time");
}

/// Tries until it goes, or until it is clear that it never will. Each try waits for an answer.
async fn soon<T, F>(what: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let deadline = Instant::now() + PATIENCE;
    loop {
        match what().await {
            Ok(given) => return given,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
    }
}

fn node(digit: char) -> NodeId {
    digit.to_string().repeat(25).parse().expect("a node")
}

fn facts(name: &str) -> Facts {
    Facts { name: name.to_owned(), mtu: 1500, ..Facts::default() }
}

/// A host's etcd and what it is known by.
struct Host {
    machine: Machine,
    identity: Identity,
}

impl Drop for Host {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.machine.run.join("etcd.log"));
            eprintln!("{}", log.unwrap_or_default());
        }
        if let Some(pid) = self.machine.running() {
            run(&format!("kill -9 {pid}"));
        }
    }
}

fn machine(node: &NodeId, address: IpAddr, initial_cluster: Option<String>) -> Machine {
    let at = |name: &str| Path::new("/run").join(format!("{name}-{address}"));
    Machine {
        program: "etcd".into(),
        data: at("etcd-data"),
        run: at("etcd-run"),
        node: node.clone(),
        address,
        client_port: 2379,
        peer_port: 2380,
        identity: Directory::new(at("identity")),
        initial_cluster,
        quota: None,
        systemd: false,
    }
}

/// A cluster with one manager.
struct Stage {
    host: Host,
    store: Store,
    decider: Decider,
    tokens: Tokens,
    server: Server,
    digest: [u8; 32],
    address: String,
}

async fn connect(urls: Vec<String>, identity: &Identity) -> Store {
    let options = EtcdOptions { endpoints: urls, tls: Some(identity.tls()) };
    Store::Etcd(store::Etcd::connect(options).await.expect("URLs"))
}

fn signed(authority: &Authority, node: &NodeId, role: Role, address: IpAddr) -> Identity {
    let (key, request) = new_request(node).expect("a key");
    let request = Request::from_pem(&request).expect("a request");
    let subject = Subject { node: node.clone(), role, addresses: vec![address] };
    let certificate = authority.sign(&request, &subject, SystemTime::now()).expect("signed");
    Identity { ca: authority.certificate().to_owned(), certificate, key }
}

async fn init() -> Stage {
    let (cluster, first) = (ClusterId::random().expect("random"), node('m'));
    let authority = Authority::new(&cluster, SystemTime::now()).expect("a CA");
    let address: IpAddr = "127.0.0.1".parse().expect("an address");
    let identity = signed(&authority, &first, Role::Manager, address);
    let machine = machine(&first, address, None);
    machine.identity.keep(&identity).expect("kept");
    // Which ends its etcd, however far this comes.
    let host = Host { machine, identity };
    let machine = &host.machine;
    let Began::Started(pid) = machine.ensure().expect("started") else { panic!("it ran before") };
    assert_eq!(machine.ensure().expect("adopted"), Began::Adopted(pid));
    let store = connect(vec![machine.client_url()], &host.identity).await;
    let Store::Etcd(etcd) = &store else { unreachable!("it is etcd") };
    let layout = Layout::new(&cluster);
    ready(&store, &layout).await;
    etcd::bootstrap(etcd, &layout, &first).await.expect("rights");
    let decider = Decider::new(store.clone(), layout.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let listens = listener.local_addr().expect("an address").to_string();
    let joining = Joining {
        node: first,
        role: Role::Manager,
        public_key: "first".to_owned(),
        joined_with: None,
        facts: Facts { listens: Some(listens.clone()), ..facts("m") },
        former: None,
    };
    decider.init(&cluster, &Config::default(), joining, now()).await.expect("a cluster");
    let digest = authority.digest().expect("digest");
    let manager = Manager {
        cluster,
        decider: decider.clone(),
        authority,
        etcd: Some(etcd.clone()),
        etcd_tls: None,
    };
    let server = Server::new(manager, &host.identity).expect("a server");
    let serving = server.clone();
    tokio::spawn(async move { serving.serve(listener).await });
    let tokens = Tokens::new(store.clone(), layout);
    Stage { host, store, decider, tokens, server, digest, address: listens }
}

fn newcomer(node: &NodeId) -> Newcomer {
    let address = "127.0.0.1".parse().expect("an address");
    Newcomer::new(node.clone(), vec![address], facts(node.as_str()), None).expect("a key")
}

impl Stage {
    async fn token(&self, role: Role) -> Token {
        let token = self.tokens.create(&self.digest, role, now(), Some(60), Some(1)).await;
        token.expect("a token")
    }

    fn layout(&self) -> &Layout {
        self.decider.layout()
    }

    async fn join(&self, node: &NodeId, token: &Token) -> cluster::Result<(Joined, Identity)> {
        let newcomer = newcomer(node);
        client::join(&self.address, token, &newcomer).await
    }

    async fn worker(&self, node: &NodeId) -> (Joined, Identity) {
        let token = self.token(Role::Worker).await;
        self.join(node, &token).await.expect("joined")
    }

    fn counted(&self, counter: impl Fn(&cluster::server::Counts) -> &AtomicU64) -> u64 {
        counter(self.server.counts()).load(Ordering::Relaxed)
    }
}

fn remote<T: std::fmt::Debug>(outcome: cluster::Result<T>) -> cnm::Error {
    match outcome {
        Err(Error::Remote(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_worker_joins_and_writes_its_own_and_nothing_else() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let token = stage.token(Role::Worker).await;
        let began = Instant::now();
        let (joined, identity) = stage.join(&node('w'), &token).await.expect("joined");
        let store = connect(joined.etcd.clone(), &identity).await;
        let layout = stage.layout();
        let own = layout.key(&Key::Live(node('w')));
        store.put(own.as_str(), "{}").await.expect("its own");
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        assert_eq!((joined.node.role, joined.ca_key), (Role::Worker, None));
        assert_eq!(joined.managers, vec![stage.address.clone()]);
        let lease = store.grant(Duration::from_secs(10)).await.expect("a lease");
        let leased = Txn::new().then(Op::put_leased(own.as_str(), "{}", lease));
        store.txn(leased).await.expect("its own");
        store.keep_alive(lease).await.expect("kept alive");
        // It reads all there is.
        let all = store.all(layout.all()).await.expect("read").rows;
        assert!(all.iter().any(|row| row.key == layout.key(&Key::Meta)));
        assert!(store.watch(layout.all(), 1).await.expect("asked").next().await.is_ok());
        // It writes nothing of others, alone or together with its own.
        stage.worker(&node('x')).await;
        for key in [Key::Live(node('x')), Key::Node(node('w')), Key::Config, Key::Vni(4096)] {
            let key = layout.key(&key);
            let put = Txn::new().then(Op::put(own.as_str(), "2")).then(Op::put(&*key, "{}"));
            let delete = Txn::new().then(Op::delete(key));
            for txn in [put, delete] {
                let refused = store.txn(txn).await;
                assert!(matches!(refused, Err(store::Error::Denied { .. })), "{refused:?}");
            }
        }
        let Store::Etcd(etcd) = &store else { unreachable!("it is etcd") };
        let refused = etcd.add_user("friend", &["root"]).await;
        assert!(matches!(refused, Err(store::Error::Denied { .. })), "{refused:?}");
        assert_eq!(store.get(own).await.expect("read").expect("row").value, b"{}");
    });
}

#[test]
fn what_is_asked_while_rights_change_is_answered() {
    World::bare();
    block_on(async {
        let stage = init().await;
        // Who comes and goes meanwhile.
        let changing = async |digit: char| -> cluster::Result<()> {
            loop {
                let token = stage.token(Role::Worker).await;
                let (joined, identity) = stage.join(&node(digit), &token).await?;
                let client = Client::new(&identity, joined.managers)?;
                client.decide(joined.node.epoch, Decision::Leave).await?;
            }
        };
        let (store, key) = (&stage.store, stage.layout().key(&Key::Live(node('m'))));
        let asking = async || -> cluster::Result<()> {
            for _ in 0..60 {
                store.put(&*key, "{}").await?;
                store.get(&*key).await?;
                store.watch(Keys::one(&*key), 1).await?.next().await?;
                let lease = store.grant(Duration::from_secs(10)).await?;
                store.txn(Txn::new().then(Op::put_leased(&*key, "{}", lease))).await?;
                store.revoke(lease).await?;
            }
            Ok(())
        };
        let answered = tokio::select! {
            answered = asking() => answered,
            ended = changing('v') => ended,
            ended = changing('w') => ended,
        };
        answered.expect("answered");
    });
}

#[test]
fn tokens_that_let_nobody_in_are_refused_and_counted() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let used = stage.token(Role::Worker).await;
        stage.join(&node('w'), &used).await.expect("joined");
        let error = remote(stage.join(&node('x'), &used).await);
        assert_eq!(error.kind, Kind::Denied);
        assert!(error.message.contains("used up"), "{error}");
        let past = now() - 100;
        let expired = stage.tokens.create(&stage.digest, Role::Worker, past, Some(50), None).await;
        let error = remote(stage.join(&node('x'), &expired.expect("a token")).await);
        assert!(error.message.contains("expired"), "{error}");
        let wrong = Token::random(&stage.digest).expect("random");
        let error = remote(stage.join(&node('x'), &wrong).await);
        assert!(error.message.contains("unknown"), "{error}");
        assert_eq!(stage.counted(|counts| &counts.tokens), 3);
        // Another cluster's token does not even get to say its secret.
        let foreign = Token::random(&[7; 32]).expect("random");
        let refused = stage.join(&node('x'), &foreign).await;
        assert!(matches!(refused, Err(Error::Token(Refusal::Elsewhere))), "{refused:?}");
        // A rotated one is unknown, and its successor is not.
        let old = stage.token(Role::Worker).await;
        let kept = stage.token(Role::Manager).await;
        let new = stage.tokens.rotate(&stage.digest, Role::Worker, now(), None, None).await;
        assert!(stage.join(&node('x'), &old).await.is_err());
        stage.join(&node('x'), &new.expect("a token")).await.expect("joined");
        let listed = stage.tokens.list().await.expect("tokens");
        assert_eq!(listed.len(), 2);
        assert!(stage.tokens.remove(&kept.digest()[..12]).await.expect("removed"));
        assert!(!stage.tokens.remove(&kept.digest()[..12]).await.expect("gone"));
        assert!(stage.decider.find_node(&node('y')).await.expect("read").is_none());
    });
}

#[test]
fn a_join_that_was_not_answered_is_joined_again() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let token = stage.token(Role::Worker).await;
        let newcomer = newcomer(&node('w'));
        let (first, _) = client::join(&stage.address, &token, &newcomer).await.expect("joined");
        let (again, _) = client::join(&stage.address, &token, &newcomer).await.expect("joined");
        assert_eq!(first.node, again.node);
        assert_eq!(stage.decider.nodes().await.expect("nodes").len(), 2);
        // Another host, which has another key, is not let in by that.
        let token = stage.token(Role::Worker).await;
        let error = remote(stage.join(&node('w'), &token).await);
        assert!(error.message.contains("take the id"), "{error}");
        stage.join(&node('x'), &token).await.expect("the token is unused");
    });
}

#[test]
fn strangers_are_turned_away() {
    World::bare();
    block_on(async {
        let stage = init().await;
        stage.worker(&node('w')).await;
        let address = "127.0.0.1".parse().expect("an address");
        let cluster = ClusterId::random().expect("random");
        let other = Authority::new(&cluster, SystemTime::now()).expect("a CA");
        let stranger = signed(&other, &node('w'), Role::Manager, address);
        // It believes the manager, and is not believed itself.
        let mixed = Identity { ca: stage.host.identity.ca.clone(), ..stranger.clone() };
        let managers = vec![stage.address.clone()];
        let block = Decision::ClaimBlock {
            network: cnm::NetworkId::from_bytes([1; 32]),
            ipv6: false,
            ahead: false,
        };
        let asked = Client::new(&mixed, managers.clone()).expect("a client");
        let refused = asked.decide(1, block.clone()).await;
        assert!(matches!(refused, Err(Error::Unreachable { .. })), "{refused:?}");
        assert_eq!(stage.counted(|counts| &counts.strangers), 1);
        let url = stage.host.machine.client_url();
        let store = connect(vec![url.clone()], &mixed).await;
        let refused = store.get("k").await;
        assert!(refused.is_err(), "{refused:?}");
        // It does not believe the manager either.
        let asked = Client::new(&stranger, managers).expect("a client");
        assert!(asked.decide(1, block).await.is_err());
        let store = connect(vec![url.clone()], &stranger).await;
        let refused = store.get("k").await;
        assert!(matches!(refused, Err(store::Error::Denied { .. })), "{refused:?}");
        // Without a certificate there is no etcd at all.
        let open = EtcdOptions { endpoints: vec![url.replace("https", "http")], tls: None };
        let open = Store::Etcd(store::Etcd::connect(open).await.expect("a URL"));
        assert!(open.get("k").await.is_err());
    });
}

#[test]
fn managers_decide_for_workers_what_workers_may_ask() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let (joined, identity) = stage.worker(&node('w')).await;
        let worker = Client::new(&identity, joined.managers.clone()).expect("a client");
        let manager = Client::new(&stage.host.identity, joined.managers).expect("a client");
        let network: cnm::network::Network = serde_json::from_value(serde_json::json!({
            "id": "1".repeat(64), "name": "shop", "driver": "overlay", "created": "now",
        }))
        .expect("a network");
        let id = network.id.clone();
        let create = Decision::CreateNetwork { network: network.into(), ipv4: true, ipv6: true };
        let error = remote(worker.decide(1, create.clone()).await);
        assert_eq!(error.kind, Kind::Denied, "{error}");
        assert_eq!(stage.counted(|counts| &counts.denied), 1);
        let made = manager.decide(1, create.clone()).await.expect("made");
        let Decided::Network { network } = made else { panic!("{made:?}") };
        assert_eq!(network.network.subnets.len(), 2);
        assert_eq!(remote(manager.decide(1, create).await).kind, Kind::Exists);
        for ipv6 in [false, true] {
            let claim = Decision::ClaimBlock { network: id.clone(), ipv6, ahead: false };
            let claimed = worker.decide(1, claim).await.expect("claimed");
            let Decided::Block { block } = claimed else { panic!("{claimed:?}") };
            assert_eq!(block.is_ipv6(), ipv6);
            assert_eq!(block.prefix(), if ipv6 { 124 } else { 28 });
        }
        let started = worker.decide(1, Decision::Start { facts: facts("again") }).await;
        let Decided::Node { node: started } = started.expect("started") else { panic!("no node") };
        assert_eq!((started.epoch, started.facts.name.as_str()), (2, "again"));
        let old = Decision::ClaimBlock { network: id, ipv6: false, ahead: false };
        assert_eq!(remote(worker.decide(1, old).await).kind, Kind::Busy);
    });
}

#[test]
fn a_certificate_is_renewed_and_a_removed_node_is_nobody() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let (joined, identity) = stage.worker(&node('w')).await;
        let client = Client::new(&identity, joined.managers.clone()).expect("a client");
        let renewed = client.renew(&node('w'), Vec::new()).await.expect("renewed");
        assert_ne!(renewed.key, identity.key);
        assert_eq!(renewed.facts().expect("facts").node, node('w'));
        let client = Client::new(&renewed, joined.managers.clone()).expect("a client");
        client.decide(1, Decision::Update { facts: facts("w") }).await.expect("it is it still");
        let store = connect(joined.etcd, &renewed).await;
        let own = stage.layout().key(&Key::Live(node('w')));
        store.put(own.as_str(), "{}").await.expect("its own");
        let manager = Client::new(&stage.host.identity, joined.managers).expect("a client");
        let remove = Decision::RemoveNode { node: node('w') };
        manager.decide(1, remove.clone()).await.expect("removed");
        manager.decide(1, remove).await.expect("removed already");
        let refused = client.decide(1, Decision::Update { facts: facts("w") }).await;
        let error = remote(refused);
        assert!(cluster::says_removed(&error), "{error}");
        assert!(store.put(own, "{}").await.is_err());
        assert!(store.get("k").await.is_err());
        let left = stage.store.all(stage.layout().own(&node('w'))).await.expect("read").rows;
        assert_eq!(left, []);
    });
}

#[test]
fn a_manager_joins_as_a_learner_and_leaves() {
    World::bare();
    run("ip address add 127.0.0.2/8 dev lo");
    block_on(async {
        let stage = init().await;
        let second = node('n');
        let address: IpAddr = "127.0.0.2".parse().expect("an address");
        let token = stage.token(Role::Manager).await;
        let facts = Facts { listens: Some("127.0.0.2:2377".to_owned()), ..facts("n") };
        let peer_url = machine(&second, address, None).peer_url();
        let newcomer = Newcomer::new(second.clone(), vec![address], facts, Some(peer_url));
        let newcomer = newcomer.expect("a key");
        let (joined, identity) =
            client::join(&stage.address, &token, &newcomer).await.expect("joined");
        let key = joined.ca_key.expect("a manager's");
        let authority = Authority::from_pem(joined.ca, key).expect("a CA");
        assert_eq!(authority.digest().expect("digest"), stage.digest);
        let machine = machine(&second, address, joined.initial_cluster);
        machine.identity.keep(&identity).expect("kept");
        let Store::Etcd(admin) = &stage.store else { unreachable!("it is etcd") };
        assert!(admin.members().await.expect("members").iter().any(|member| member.learner));
        let host = Host { machine, identity };
        host.machine.ensure().expect("started");
        let client = Client::new(&host.identity, joined.managers).expect("a client");
        soon(|| async { client.promote().await.map_err(|error| error.to_string()) }).await;
        client.promote().await.expect("it has its vote");
        let members = admin.members().await.expect("members");
        assert!(members.iter().all(|member| !member.learner), "{members:?}");
        // It answers for itself, with everything that is there.
        let store = connect(vec![host.machine.client_url()], &host.identity).await;
        let layout = stage.layout().clone();
        ready(&store, &layout).await;
        store.get(layout.key(&Key::Meta)).await.expect("read").expect("the cluster");
        // The last but one may go while both are well; the rest is a cluster still. etcd may take
        // longer to find them well than the client waits: it was heard all the same.
        soon(|| async {
            match client.decide(1, Decision::Leave).await {
                Err(Error::Remote(said)) if cluster::says_removed(&said) => Ok(()),
                left => left.map(drop).map_err(|error| error.to_string()),
            }
        })
        .await;
        assert_eq!(admin.members().await.expect("members").len(), 1);
        let alone = etcd::remove_member(admin, &layout, &node('m'), None).await;
        assert!(matches!(alone, Err(Error::Quorum { .. })), "{alone:?}");
        stage.store.put(layout.key(&Key::Config), "{}").await.expect("it goes on");
    });
}

#[test]
fn house_is_kept() {
    World::bare();
    block_on(async {
        let stage = init().await;
        let Store::Etcd(etcd) = &stage.store else { unreachable!("it is etcd") };
        let keys = stage.layout().all();
        let mut keeper = etcd::Housekeeper::default();
        let first = keeper.round(etcd, keys.clone(), true).await.expect("a round");
        assert_eq!(first.compacted, None);
        let status = first.members[0].1.as_ref().expect("status");
        assert!(status.leader != 0 && status.errors.is_empty(), "{status:?}");
        let before = stage.store.state(keys.clone()).await.expect("state").1;
        stage.store.put(stage.layout().key(&Key::Live(node('m'))), "{}").await.expect("put");
        let second = keeper.round(etcd, keys.clone(), true).await.expect("a round");
        assert_eq!(second.compacted, Some(before));
        let read = store::Read::new(keys).at(before - 1);
        let gone = stage.store.read(read).await;
        assert!(matches!(gone, Err(store::Error::Compacted { .. })), "{gone:?}");
        let rows = stage.store.all(Keys::prefix("")).await.expect("read").rows;
        assert!(rows.iter().all(|row| row.key.starts_with("/netd/")), "{rows:?}");
    });
}
