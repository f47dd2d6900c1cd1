//! A certificate is renewed long before it ends, and with a new key. What is spoken from then on is
//! spoken with it; connections that are there stay as they are. The host's own etcd reads the files
//! anew for each connection.

use std::{
    net::IpAddr,
    rc::Rc,
    time::{Duration, SystemTime},
};

use ::cluster::{
    Identity, Result, Role,
    client::Client,
    identity::{self, Request, Subject},
};

use tokio::time::sleep;

use super::{Cluster, Decisions, now};

/// The longest time between two looks at the clock on the wall, which may have been set; and the
/// shortest, which grows while nobody signs.
const LOOK: Duration = Duration::from_secs(3600);
const AGAIN: Duration = Duration::from_secs(1);

impl Cluster {
    /// Renews this host's certificate whenever it is time, for as long as it is polled.
    pub(super) async fn keep_certificate(self: Rc<Self>) {
        let mut again = AGAIN;
        loop {
            let wait = match self.renew_if_due().await {
                Ok(due) => {
                    again = AGAIN;
                    Duration::from_secs(due.saturating_sub(now())).clamp(AGAIN, LOOK)
                }
                Err(error) => {
                    tracing::warn!(%error, "this host's certificate is not renewed yet");
                    again = (again * 2).min(LOOK);
                    again
                }
            };
            sleep(wait).await;
        }
    }

    /// Renews this host's certificate when it is time; when it will be, in seconds since 1970.
    ///
    /// # Errors
    /// When no manager answers, or the files cannot be written.
    async fn renew_if_due(self: &Rc<Self>) -> Result<u64> {
        let directory = self.place.identity();
        let Some(identity) = directory.identity()? else { return Ok(u64::MAX) };
        let due = identity.facts()?.renew_at();
        if now() < due {
            return Ok(due);
        }
        let addresses = vec![self.kept.borrow().address, IpAddr::from([127, 0, 0, 1])];
        let identity = match &self.decisions {
            Decisions::Here { manager, server } => {
                let (key, request) = identity::new_request(&self.node)?;
                let request = Request::from_pem(&request)?;
                let subject = Subject { node: self.node.clone(), role: Role::Manager, addresses };
                let certificate = manager.authority.sign(&request, &subject, SystemTime::now())?;
                manager.decider.renew_node(&self.node, &request.public_key).await?;
                let identity = Identity { ca: identity.ca, certificate, key };
                directory.keep(&identity)?;
                server.renew(&identity)?;
                identity
            }
            Decisions::There(client) => {
                let asked = client.borrow().clone();
                let identity = asked.renew(&self.node, addresses).await?;
                directory.keep(&identity)?;
                client.replace(Client::new(&identity, self.kept.borrow().managers.clone())?);
                identity
            }
        };
        self.reconnect().await;
        let facts = identity.facts()?;
        tracing::info!(until = facts.until, "this host's certificate was renewed");
        Ok(facts.renew_at())
    }
}
