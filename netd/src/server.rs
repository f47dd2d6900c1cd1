//! The CNM socket: who may connect, what they may ask, and who answers.

use std::{
    cell::RefCell,
    fs,
    os::unix::{fs::PermissionsExt, net::UnixListener as StdListener},
    path::Path,
    rc::Rc,
    time::Duration,
};

use cnm::{
    Call, Empty, Error, Incoming, Kind, Result,
    cluster::{
        CreateToken, GetCluster, InitCluster, JoinCluster, LeaveCluster, ListNodes, ListTokens,
        RemoveNode, RemoveToken, RotateToken, UpdateNode,
    },
    dns::{LogQueries, QueryName},
    endpoint::{Attach, CheckEndpoint, Detach, InspectEndpoint, ListEndpoints, UpdateEndpoint},
    ipam::{ListPools, Reserve, Unreserve},
    network::{
        CheckNetwork, CreateNetwork, InspectNetwork, ListNetworks, PruneNetworks, RemoveNetwork,
        UpdateNetwork,
    },
    sandbox::{CreateSandbox, ListSandboxes, RemoveSandbox},
    system::{CollectGarbage, GetStatus, GetVersion, Reconcile, TakeTurn},
};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{net::UnixListener, sync::OwnedMutexGuard};

use crate::{
    attach::{Descriptors, Done},
    awake::Held,
    netd::Netd,
    reconcile::version,
};

mod connection;
mod peer;
mod turns;

pub(crate) use peer::Peer;
pub(crate) use turns::Turns;

/// What belongs to one line of a connection.
#[derive(Debug, Default)]
pub(crate) struct Line {
    /// The descriptors that came with it and are not used yet.
    pub(crate) descriptors: Descriptors,
    /// What it attached; undone when its caller goes away before it is answered.
    pub(crate) attached: RefCell<Vec<Done>>,
    /// Until it is answered, where somebody waits for a driver.
    pub(crate) awake: RefCell<Option<Held>>,
    /// What it is this connection's turn at from now on.
    pub(crate) turns: RefCell<Vec<OwnedMutexGuard<()>>>,
}

/// The group whose members may do everything here.
const GROUP: &str = "netd";

/// Listens at `path`, for root and the group netd where there is one.
pub(crate) fn listen(path: &Path) -> std::io::Result<UnixListener> {
    if path.exists() {
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(std::io::Error::new(
                std::io::ErrorKind::AddrInUse,
                format!("another netd listens at {}: is this its --run-dir?", path.display()),
            ));
        }
        fs::remove_file(path)?;
    }
    // Whoever connects before the mode is set waits for an accept that checks its credentials.
    let listener = StdListener::bind(path)?;
    std::os::unix::fs::chown(path, None, peer::group(GROUP))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}

impl Netd {
    /// Answers everybody, for as long as netd runs.
    pub(crate) async fn serve(self: Rc<Self>, listener: UnixListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    let peer = Peer::of(&stream);
                    tokio::task::spawn_local(connection::serve(self.clone(), stream, peer));
                }
                Err(error) => {
                    // Out of descriptors: those who are connected go on, and free some.
                    tracing::error!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// What one request gives.
    pub(crate) async fn answer(
        self: &Rc<Self>,
        request: &Incoming<'_>,
        line: &Line,
        peer: &Peer,
    ) -> Result<Box<RawValue>> {
        let late = || {
            Error::unavailable(format_args!(
                "{} was not done within {} ms: an attach or a new network is undone, anything else \
                 that was begun goes on to its end",
                request.method,
                request.deadline_ms.unwrap_or_default()
            ))
            .with("deadline_ms", request.deadline_ms)
        };
        let outcome = match request.deadline_ms.map(Duration::from_millis) {
            None => self.dispatch(request, line, peer).await,
            // A timer has a grain of a millisecond, in which much can be done.
            Some(Duration::ZERO) => Err(late()),
            Some(deadline) => {
                let dispatched = self.dispatch(request, line, peer);
                tokio::time::timeout(deadline, dispatched).await.unwrap_or_else(|_| Err(late()))
            }
        };
        if let Err(error) = &outcome {
            let method: &str = &request.method;
            self.metrics.failed(if error.kind == Kind::Unsupported { "unknown" } else { method });
            tracing::info!(method, kind = ?error.kind, %error, "request failed");
        }
        outcome
    }

    /// Does what is not to stop halfway, whatever becomes of who waits for it.
    async fn to_the_end<T, F>(
        self: &Rc<Self>,
        work: impl FnOnce(Rc<Self>) -> F,
    ) -> Result<Box<RawValue>>
    where
        T: Serialize + 'static,
        F: Future<Output = Result<T>> + 'static,
    {
        let done = tokio::task::spawn_local(work(self.clone())).await;
        raw(&done.map_err(Error::internal)??)
    }

    async fn dispatch(
        self: &Rc<Self>,
        request: &Incoming<'_>,
        line: &Line,
        peer: &Peer,
    ) -> Result<Box<RawValue>> {
        let key = request.idempotency_key.clone();
        let method = request.method.as_ref();
        // What follows reads.
        match method {
            GetVersion::METHOD => return raw(&version()),
            GetStatus::METHOD => return raw(&self.status_now().await),
            ListNetworks::METHOD => return raw(&self.list_networks(&request.params()?)?),
            InspectNetwork::METHOD => return raw(&self.inspect_network(&request.params()?)?),
            ListEndpoints::METHOD => return raw(&self.list_endpoints(&request.params()?)?),
            InspectEndpoint::METHOD => {
                return raw(&self.inspect_endpoint(&request.params()?).await?);
            }
            CheckEndpoint::METHOD => {
                return raw(&self.check_endpoint(&request.params()?, line).await?);
            }
            ListSandboxes::METHOD => return raw(&self.list_sandboxes()),
            ListPools::METHOD => return raw(&self.list_pools()),
            QueryName::METHOD => return raw(&self.query_name(&request.params()?).await?),
            GetCluster::METHOD => return raw(&self.cluster_status()),
            ListNodes::METHOD => return raw(&self.list_nodes()?),
            ListTokens::METHOD => return raw(&self.list_tokens().await?),
            _ => {}
        }
        // What follows changes something.
        peer.allow(method)?;
        if matches!(method, Attach::METHOD | Detach::METHOD) {
            line.awake.borrow_mut().get_or_insert_with(|| self.awake.hold());
        }
        match method {
            // A deadline that passes undoes these.
            Attach::METHOD => raw(&*self.attach(request.params()?, line, key).await?),
            CheckNetwork::METHOD => raw(&self.check_network(request.params()?).await?),
            CreateNetwork::METHOD => raw(&self.create_network(request.params()?, key).await?),
            CreateSandbox::METHOD => raw(&self.create_sandbox(request.params()?, line).await?),
            // These go on when it passes: half of them would be worse than either.
            UpdateEndpoint::METHOD => {
                let params = request.params::<UpdateEndpoint>()?;
                self.to_the_end(|netd| async move {
                    netd.update_endpoint(params).await.map(|endpoint| (*endpoint).clone())
                })
                .await
            }
            Detach::METHOD => {
                let params = request.params::<Detach>()?;
                self.to_the_end(|netd| async move { netd.detach(&params).await }).await
            }
            UpdateNetwork::METHOD => {
                let params = request.params::<UpdateNetwork>()?;
                self.to_the_end(|netd| async move { netd.update_network(params).await }).await
            }
            Reserve::METHOD => {
                let params = request.params::<Reserve>()?;
                self.to_the_end(|netd| async move { netd.reserve_addresses(&params).await }).await
            }
            Unreserve::METHOD => {
                let params = request.params::<Unreserve>()?;
                self.to_the_end(|netd| async move { netd.unreserve_addresses(&params).await }).await
            }
            RemoveNetwork::METHOD => {
                let params = request.params::<RemoveNetwork>()?;
                self.to_the_end(|netd| async move { netd.remove_unless_dockers(&params).await })
                    .await
            }
            PruneNetworks::METHOD => {
                let params = request.params::<PruneNetworks>()?;
                self.to_the_end(|netd| async move { netd.prune_networks(&params).await }).await
            }
            RemoveSandbox::METHOD => {
                let params = request.params::<RemoveSandbox>()?;
                self.to_the_end(|netd| async move { netd.remove_sandbox(&params).await }).await
            }
            InitCluster::METHOD => {
                let params = request.params::<InitCluster>()?;
                self.to_the_end(|netd| async move { netd.init_cluster(params).await }).await
            }
            JoinCluster::METHOD => {
                let params = request.params::<JoinCluster>()?;
                self.to_the_end(|netd| async move { netd.join_cluster(params).await }).await
            }
            LeaveCluster::METHOD => {
                let params = request.params::<LeaveCluster>()?;
                self.to_the_end(|netd| async move { netd.leave_cluster(params).await }).await
            }
            UpdateNode::METHOD => {
                let params = request.params::<UpdateNode>()?;
                self.to_the_end(|netd| async move { netd.update_node(&params).await }).await
            }
            RemoveNode::METHOD => {
                let params = request.params::<RemoveNode>()?;
                self.to_the_end(|netd| async move { netd.remove_node(&params).await }).await
            }
            CreateToken::METHOD => raw(&self.create_token(request.params()?, false).await?),
            RotateToken::METHOD => {
                let RotateToken { token } = request.params()?;
                raw(&self.create_token(token, true).await?)
            }
            RemoveToken::METHOD => raw(&self.remove_token(&request.params()?).await?),
            LogQueries::METHOD => raw(&self.log_queries(request.params()?)),
            TakeTurn::METHOD => {
                let turn = self.named_turns.take(&request.params::<TakeTurn>()?.at).await;
                line.turns.borrow_mut().push(turn);
                raw(&Empty {})
            }
            Reconcile::METHOD => {
                self.to_the_end(|netd| async move { netd.reconcile().await }).await
            }
            CollectGarbage::METHOD => {
                self.to_the_end(|netd| async move { netd.collect_garbage().await }).await
            }
            _ => Err(Error::unsupported(format_args!("netd has no method {method}"))
                .with("method", method)),
        }
    }
}

/// A reply as text, encoded once.
fn raw(reply: &impl Serialize) -> Result<Box<RawValue>> {
    serde_json::value::to_raw_value(reply).map_err(Error::internal)
}
