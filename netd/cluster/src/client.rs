//! A node's end of the one call: joining a cluster, and asking its managers.

use std::{
    io::ErrorKind,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cnm::{Call, Reply, Request, frame::MAX_LINE};
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    Error, Identity, NodeId, Result, Token,
    identity::{self, MANAGER_NAME, Shown, digest_of, new_request},
    messages::{Clock, Decide, Decided, Decision, Join, Joined, Promote, Renew, Standing},
    rows::Facts,
    server::is_final,
    token::Refusal,
};

mod heard;

use heard::Heard;

/// How long a manager may take to take the call, to show who it is, and to answer.
const CONNECT: Duration = Duration::from_millis(400);
const HANDSHAKE: Duration = Duration::from_millis(800);
const ANSWER: Duration = Duration::from_secs(3);

/// How long joining may take, which changes rights and members of etcd.
const JOIN: Duration = Duration::from_secs(20);

/// How far clocks may be apart that are the same, in seconds.
const SAME: u64 = 60;

/// Who joins. Kept for another attempt, it is the same joining: the token is used once.
#[derive(Clone)]
pub struct Newcomer {
    node: NodeId,
    key: String,
    call: Join,
}

impl std::fmt::Debug for Newcomer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Newcomer").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Newcomer {
    /// A host with a new key, which is reached at `addresses`; `peer_url` is that of its member of
    /// etcd, if it is to run one.
    ///
    /// # Errors
    /// When the kernel gives no random bytes.
    pub fn new(
        node: NodeId,
        addresses: Vec<IpAddr>,
        facts: Facts,
        peer_url: Option<String>,
    ) -> Result<Self> {
        let (key, request) = new_request(&node)?;
        let secret = String::new();
        let call = Join { node: node.clone(), secret, request, addresses, facts, peer_url };
        Ok(Self { node, key, call })
    }

    /// The id that it will have.
    pub fn node(&self) -> &NodeId {
        &self.node
    }
}

/// Joins the cluster that `token` is of, by one of its managers at `address`.
///
/// # Errors
/// [`Error::Unreachable`] when nobody is there, [`Error::NoManager`] when who is there is something else,
/// [`Error::Token`] when it is a manager of another cluster than the token's, [`Error::Clocks`] when a wrong clock is in the way, [`Error::Remote`] with what the manager says of the token.
pub async fn join(address: &str, token: &Token, newcomer: &Newcomer) -> Result<(Joined, Identity)> {
    let config = identity::pinned_client_config(token)?;
    let call = Join { secret: token.secret().to_owned(), ..newcomer.call.clone() };
    let mut stream = match connect(address, Arc::new(config)).await {
        Err(Error::Untimely { .. }) => {
            return Err(untimely(address, identity::timeless_pinned_client_config(token)?).await);
        }
        connected => connected?,
    };
    let joined = ask(&mut stream, address, &call, JOIN).await?;
    // What was pinned is what is kept.
    if !token.is_of(&digest_of(&joined.ca)?) {
        return Err(Refusal::Elsewhere.into());
    }
    let key = newcomer.key.clone();
    let identity = Identity { ca: joined.ca.clone(), certificate: joined.certificate.clone(), key };
    Ok((joined, identity))
}

type Stream = BufReader<TlsStream<Heard>>;

async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Stream> {
    let failed = |why: String| Error::Unreachable { address: address.to_owned(), why };
    let none = |why: String| Error::NoManager { address: address.to_owned(), why };
    let late = |_| failed("it does not answer".to_owned());
    let stream = timeout(CONNECT, TcpStream::connect(address)).await.map_err(late)?;
    let stream = stream.map_err(|error| failed(error.to_string()))?;
    stream.set_nodelay(true).map_err(|error| failed(error.to_string()))?;
    let name = ServerName::try_from(MANAGER_NAME).expect("it is a name");
    let shaking = TlsConnector::from(config).connect(name, Heard::on(stream)).into_fallible();
    let shaken = timeout(HANDSHAKE, shaking).await;
    let silent = |_| failed("it takes the connection and says nothing".to_owned());
    let shaken = shaken.map_err(silent)?;
    let stream = shaken.map_err(|(error, heard)| {
        if let Some(what) = heard.is_no_tls() {
            return none(what);
        }
        match error.get_ref() {
            Some(_) if is_untimely(&error) => {
                Error::Untimely { address: address.to_owned(), here: now() }
            }
            Some(tls) => match shown(tls) {
                Some(Shown::AnotherCluster) => Refusal::Elsewhere.into(),
                Some(what) => none(what.to_string()),
                None if is_certificate(tls) => Error::Stranger { address: address.to_owned() },
                None if error.kind() == ErrorKind::UnexpectedEof => failed("it hung up".to_owned()),
                None => failed(error.to_string()),
            },
            None => failed(error.to_string()),
        }
    })?;
    Ok(BufReader::new(stream))
}

/// What was shown to who joins, where it was no manager's certificate of the token's cluster.
fn shown(error: &(dyn std::error::Error + Send + Sync + 'static)) -> Option<Shown> {
    use rustls::{CertificateError as Wrong, Error as Tls};
    match error.downcast_ref() {
        Some(Tls::InvalidCertificate(Wrong::Other(other))) => other.0.downcast_ref().copied(),
        _ => None,
    }
}

/// Whether TLS ended for the certificate that the other side showed.
fn is_certificate(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(_)))
}

/// Whether TLS ended since a certificate, of whichever side, is not good at this time.
fn is_untimely(error: &std::io::Error) -> bool {
    use rustls::{AlertDescription, CertificateError as Wrong, Error as Tls};
    match error.get_ref().and_then(|tls| tls.downcast_ref()) {
        Some(Tls::InvalidCertificate(wrong)) => matches!(
            wrong,
            Wrong::Expired
                | Wrong::ExpiredContext { .. }
                | Wrong::NotValidYet
                | Wrong::NotValidYetContext { .. }
        ),
        Some(Tls::AlertReceived(alert)) => *alert == AlertDescription::CertificateExpired,
        _ => false,
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Why a certificate is not good at this time: asks the manager at `address`, of whom `timeless`
/// wants to know who he is and not since when, what time it is there.
async fn untimely(address: &str, timeless: ClientConfig) -> Error {
    let asked = async {
        let mut stream = connect(address, Arc::new(timeless)).await?;
        ask(&mut stream, address, &Clock {}, ANSWER).await
    };
    let (address, here) = (address.to_owned(), now());
    match asked.await {
        Ok(time) if time.now.abs_diff(here) > SAME => {
            Error::Clocks { address, here, there: time.now }
        }
        Err(Error::Stranger { address }) => Error::Stranger { address },
        _ => Error::Untimely { address, here },
    }
}

async fn ask<P: Call>(
    stream: &mut Stream,
    address: &str,
    call: &P,
    patience: Duration,
) -> Result<P::Reply> {
    let failed = |why: String| Error::Unreachable { address: address.to_owned(), why };
    let talk = async {
        stream.write_all(Request::new(1, call).to_line().as_bytes()).await?;
        stream.flush().await?;
        let mut line = Vec::new();
        let most = u64::try_from(MAX_LINE).unwrap_or(u64::MAX);
        stream.take(most).read_until(b'\n', &mut line).await?;
        std::io::Result::Ok(line)
    };
    let line = timeout(patience, talk).await.map_err(|_| failed("no answer in time".to_owned()))?;
    let line = line.map_err(|error| match is_untimely(&error) {
        true => Error::Untimely { address: address.to_owned(), here: now() },
        false => failed(error.to_string()),
    })?;
    if line.is_empty() {
        return Err(failed("it hung up".to_owned()));
    }
    let reply: Reply<P::Reply> =
        serde_json::from_slice(&line).map_err(|error| failed(error.to_string()))?;
    reply.outcome().map_err(Error::Remote)
}

/// A node that asks the cluster's managers, one after the other.
#[derive(Clone, Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    /// The CA's certificate, as PEM.
    ca: Arc<str>,
    managers: Vec<String>,
}

impl Client {
    /// For the node of this identity; `managers` as `10.0.0.1:2377`.
    ///
    /// # Errors
    /// When the identity is none.
    pub fn new(identity: &Identity, managers: Vec<String>) -> Result<Self> {
        let config = Arc::new(identity::client_config(identity)?);
        Ok(Self { config, ca: identity.ca.as_str().into(), managers })
    }

    /// Asks for a decision.
    ///
    /// # Errors
    /// [`Error::Remote`] with what a manager says; [`Error::Unreachable`] when none is there. A
    /// decision that nobody answered may have been taken; asked for again it is the same, but for
    /// blocks, of which there may be one more.
    pub async fn decide(&self, epoch: u64, decision: Decision) -> Result<Decided> {
        self.call(&Decide { epoch, decision }).await
    }

    /// Has a new key signed, and gives who the node is from then on.
    ///
    /// # Errors
    /// As [`Client::decide`].
    pub async fn renew(&self, node: &NodeId, addresses: Vec<IpAddr>) -> Result<Identity> {
        let (key, request) = new_request(node)?;
        let renewed = self.call(&Renew { request, addresses }).await?;
        Ok(Identity { ca: renewed.ca, certificate: renewed.certificate, key })
    }

    /// Gives this node's member of etcd its vote; `busy` until it has caught up.
    ///
    /// # Errors
    /// As [`Client::decide`].
    pub async fn promote(&self) -> Result<()> {
        self.call(&Promote {}).await.map(drop)
    }

    /// Asks whether this node is one of the cluster still.
    ///
    /// # Errors
    /// [`Error::Remote`] of which [`says_removed`](crate::says_removed) holds when it is not;
    /// [`Error::Clocks`] when a wrong clock is in the way; else as [`Client::decide`].
    pub async fn standing(&self) -> Result<()> {
        self.call(&Standing {}).await.map(drop)
    }

    async fn call<P: Call>(&self, call: &P) -> Result<P::Reply> {
        let mut last = Error::Unreachable {
            address: "the cluster".to_owned(),
            why: "no manager is known".to_owned(),
        };
        for address in &self.managers {
            let asked = async {
                let mut stream = connect(address, Arc::clone(&self.config)).await?;
                ask(&mut stream, address, call, ANSWER).await
            };
            match asked.await {
                Err(Error::Remote(error)) if is_final(&error) => return Err(Error::Remote(error)),
                Err(Error::Untimely { .. }) => {
                    last = untimely(address, identity::timeless_client_config(&self.ca)?).await;
                }
                Err(error) => last = error,
                answered => return answered,
            }
        }
        Err(last)
    }
}
