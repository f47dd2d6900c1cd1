//! The etcd engine. Every call is over within a second: one that cannot be answered in that time
//! ends as [`Error::Unavailable`]. One client per endpoint, of which one is used until it fails.

use std::{
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use etcd_client::{Certificate, Client, ConnectOptions, Identity, TlsOptions};
use tokio::time::{Instant, sleep, timeout_at};

use crate::{Error, Keys, LeaseId, Outcome, Page, Read, Result, Txn};

pub(crate) mod admin;
mod failure;
pub(crate) mod watch;
mod wire;

use watch::EtcdWatch;

/// The time of a whole call, over all endpoints that it tries.
const PATIENCE: Duration = Duration::from_millis(900);

/// The time of a connection's making.
const CONNECT: Duration = Duration::from_millis(400);

/// How often an idle connection is looked at, and how long it may take to answer: what a partition
/// cut is made anew soon after it is healed.
const PROBE: Duration = Duration::from_secs(2);

/// How long at most to wait before a request is sent again that a change of rights overtook: some of
/// it, so that it does not come each time with the next change.
const PAUSE: Duration = Duration::from_millis(10);

/// Who the client is and whom it trusts, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// The certificate that every member's is signed with.
    pub ca: String,
    /// The client's certificate; etcd knows the client by its common name.
    pub certificate: String,
    /// The key to it.
    pub key: String,
    /// The name that every member's certificate has to bear, rather than the host of its URL.
    pub name: Option<String>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

/// How etcd is reached.
#[derive(Clone, Debug)]
pub struct EtcdOptions {
    /// The members' client URLs: `https://10.0.0.1:2379`.
    pub endpoints: Vec<String>,
    /// With TLS, which `https` needs.
    pub tls: Option<Tls>,
}

/// A store in etcd; clones are the same store.
#[derive(Clone)]
pub struct Etcd {
    way: Arc<RwLock<Way>>,
    /// The one of its endpoints that is used.
    current: Arc<AtomicUsize>,
}

/// How etcd is reached now.
struct Way {
    endpoints: Arc<[Endpoint]>,
    tls: Option<Tls>,
}

#[derive(Clone)]
struct Endpoint {
    url: String,
    client: Client,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.endpoints()).finish()
    }
}

/// Whether a request that may have been done can be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// As often as one likes.
    Yes,
    /// Only the caller knows.
    No,
}

impl Etcd {
    /// A store that is there when it is asked something: nothing is sent before.
    ///
    /// # Errors
    /// [`Error::Options`] for endpoints that are no URLs, and for none.
    pub async fn connect(options: EtcdOptions) -> Result<Self> {
        let way = Way::to(options, None).await?;
        let first = start(way.endpoints.len());
        Ok(Self { way: Arc::new(RwLock::new(way)), current: Arc::new(AtomicUsize::new(first)) })
    }

    /// From now on it is reached so, by all that are the same store; connections that stay what
    /// they were are kept.
    ///
    /// # Errors
    /// As [`Etcd::connect`]; it is reached as before then.
    pub async fn reconnect(&self, options: EtcdOptions) -> Result<()> {
        let before = {
            let way = self.way.read().unwrap_or_else(PoisonError::into_inner);
            Way { endpoints: Arc::clone(&way.endpoints), tls: way.tls.clone() }
        };
        let in_use = self.current().1.url;
        let way = Way::to(options, Some(before)).await?;
        let number = way.endpoints.iter().position(|endpoint| endpoint.url == in_use);
        self.current.store(number.unwrap_or(0), Ordering::Relaxed);
        *self.way.write().unwrap_or_else(PoisonError::into_inner) = way;
        Ok(())
    }

    /// The URLs by which it is reached.
    pub fn endpoints(&self) -> Vec<String> {
        self.all().iter().map(|endpoint| endpoint.url.clone()).collect()
    }

    fn all(&self) -> Arc<[Endpoint]> {
        Arc::clone(&self.way.read().unwrap_or_else(PoisonError::into_inner).endpoints)
    }

    /// The number and URL of the endpoint in use.
    fn current(&self) -> (usize, Endpoint) {
        let all = self.all();
        let number = self.current.load(Ordering::Relaxed) % all.len();
        (number, all[number].clone())
    }

    /// From now on another than number `failed`.
    fn leave(&self, failed: usize) {
        let next = (failed + 1) % self.all().len();
        // Unless another call has left it before.
        let (from, to) = (Ordering::Relaxed, Ordering::Relaxed);
        self.current.compare_exchange(failed, next, from, to).ok();
    }

    /// Asks the endpoint in use, and the others while that is harmless and there is time.
    pub(crate) async fn call<T, F>(&self, again: Again, ask: impl Fn(Client) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, etcd_client::Error>> + Send,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut turns = self.all().len();
        loop {
            let (number, member) = self.current();
            let now = Instant::now();
            let left = deadline.saturating_duration_since(now);
            let share = match again {
                Again::Yes => left / u32::try_from(turns.max(1)).unwrap_or(1),
                Again::No => left,
            };
            let error = match timeout_at(now + share, ask(member.client.clone())).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => failure::of(&member.url, &error),
                Err(_) => Error::Unavailable {
                    endpoint: member.url.clone(),
                    why: format!("no answer within {} ms", share.as_millis()),
                    sent: true,
                },
            };
            if was_overtaken(&error, deadline).await {
                continue;
            }
            let Error::Unavailable { sent, .. } = error else { return Err(error) };
            self.leave(number);
            turns = turns.saturating_sub(1);
            if turns == 0 || (sent && again == Again::No) || Instant::now() >= deadline {
                return Err(error);
            }
        }
    }

    pub(crate) async fn read(&self, read: Read) -> Result<Page> {
        let asked = read.at;
        let (key, options) = wire::get(&read);
        let answer = self
            .call(Again::Yes, |client| {
                let (key, options) = (key.clone(), options.clone());
                async move { client.kv_client().get(key, Some(options)).await }
            })
            .await;
        match answer {
            Ok(answer) => wire::page(answer),
            Err(error) => Err(failure::at(error, asked)),
        }
    }

    pub(crate) async fn txn(&self, txn: Txn) -> Result<Outcome> {
        let reads = |ops: &[crate::Op]| ops.iter().all(|op| matches!(op, crate::Op::Get(_)));
        let again = if reads(&txn.then) && reads(&txn.otherwise) { Again::Yes } else { Again::No };
        let lease = txn.then.iter().chain(&txn.otherwise).find_map(|op| match op {
            crate::Op::Put { lease, .. } => *lease,
            _ => None,
        });
        let request = wire::txn(txn);
        let answer = self
            .call(again, |client| {
                let request = request.clone();
                async move { client.kv_client().txn(request).await }
            })
            .await;
        wire::outcome(answer.map_err(|error| failure::leased(error, lease))?)
    }

    pub(crate) async fn watch(&self, keys: &Keys, from: u64) -> Result<EtcdWatch> {
        EtcdWatch::open(self, keys, from).await
    }

    pub(crate) async fn grant(&self, seconds: u64) -> Result<LeaseId> {
        let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
        // A lease that nobody came to know ends by itself.
        let answer =
            self.call(Again::Yes, |client| async move {
                client.lease_client().grant(seconds, None).await
            })
            .await?;
        Ok(LeaseId(answer.id()))
    }

    pub(crate) async fn keep_alive(&self, lease: LeaseId) -> Result<()> {
        let kept = self
            // Opening the stream sends one, and waits for the answer.
            .call(
                Again::Yes,
                |client| async move { client.lease_client().keep_alive(lease.0).await },
            )
            .await;
        match kept {
            Ok(_) => Ok(()),
            Err(error) => Err(failure::leased(error, Some(lease))),
        }
    }

    pub(crate) async fn revoke(&self, lease: LeaseId) -> Result<()> {
        let revoked = self
            .call(Again::No, |client| async move { client.lease_client().revoke(lease.0).await })
            .await;
        match revoked {
            Ok(_) => Ok(()),
            Err(error) => Err(failure::leased(error, Some(lease))),
        }
    }

    pub(crate) async fn compact(&self, revision: u64) -> Result<()> {
        let to = wire::signed(revision);
        let compacted = self
            .call(Again::Yes, |client| async move { client.kv_client().compact(to, None).await })
            .await;
        match compacted {
            Ok(_) => Ok(()),
            Err(error) => Err(failure::at(error, Some(revision))),
        }
    }
}

/// Whether a request is to be sent again that a change of rights overtook: nothing of it was done.
/// Waits for a moment before it says so, and does not where that would be after `deadline`.
async fn was_overtaken(error: &Error, deadline: Instant) -> bool {
    let again = matches!(error, Error::Overtaken { .. }) && Instant::now() + PAUSE < deadline;
    if again {
        let some = getrandom::u32().map_or(0.5, |random| f64::from(random) / f64::from(u32::MAX));
        sleep(PAUSE.mul_f64(some)).await;
    }
    again
}

impl Way {
    /// With the clients of `before` where they are as they should be.
    async fn to(options: EtcdOptions, before: Option<Self>) -> Result<Self> {
        let EtcdOptions { endpoints: urls, tls } = options;
        let mut endpoints = Vec::new();
        for url in urls {
            let known = before.as_ref().filter(|before| before.tls == tls).and_then(|before| {
                before.endpoints.iter().find(|endpoint| endpoint.url == url).cloned()
            });
            let endpoint = match known {
                Some(endpoint) => endpoint,
                None => {
                    let client = client(&url, tls.as_ref()).await.map_err(|error| {
                        Error::Options { endpoint: url.clone(), why: failure::words(&error) }
                    })?;
                    Endpoint { url, client }
                }
            };
            endpoints.push(endpoint);
        }
        if endpoints.is_empty() {
            let why = "no endpoint is given".to_owned();
            return Err(Error::Options { endpoint: "etcd".to_owned(), why });
        }
        Ok(Self { endpoints: endpoints.into(), tls })
    }
}

/// Clients begin at different members.
fn start(members: usize) -> usize {
    getrandom::u32().map_or(0, |random| random as usize % members)
}

async fn client(url: &str, tls: Option<&Tls>) -> Result<Client, etcd_client::Error> {
    let mut options = ConnectOptions::new()
        .with_require_leader(true)
        .with_connect_timeout(CONNECT)
        .with_keep_alive(PROBE, PROBE)
        .with_keep_alive_while_idle(true);
    if let Some(tls) = tls.filter(|_| url.starts_with("https://")) {
        let mut with = TlsOptions::new()
            .ca_certificate(Certificate::from_pem(&tls.ca))
            .identity(Identity::from_pem(&tls.certificate, &tls.key));
        if let Some(name) = &tls.name {
            with = with.domain_name(name);
        }
        options = options.with_tls(with);
    }
    Client::connect([url], Some(options)).await
}
