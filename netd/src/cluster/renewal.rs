//! A certificate is renewed long before it ends, and with a new key. What is spoken from then on is
//! spoken with it; connections to the store that are there stay as they are, and the store is
//! opened with it at netd's next start.

use std::{net::IpAddr, rc::Rc, time::SystemTime};

use ::cluster::{
    Identity, Result, Role,
    client::Client,
    identity::{self, Request, Subject},
};

use super::{Cluster, Decisions, now};

impl Cluster {
    /// Renews this host's certificate when it is time.
    ///
    /// # Errors
    /// When no manager answers, or the files cannot be written.
    pub(super) async fn renew_if_due(self: &Rc<Self>) -> Result<()> {
        let directory = self.place.identity();
        let Some(identity) = directory.identity()? else { return Ok(()) };
        if now() < identity.facts()?.renew_at() {
            return Ok(());
        }
        let addresses = vec![self.kept.borrow().address, IpAddr::from([127, 0, 0, 1])];
        match &self.decisions {
            Decisions::Here { manager, server } => {
                let (key, request) = identity::new_request(&self.node)?;
                let request = Request::from_pem(&request)?;
                let subject = Subject { node: self.node.clone(), role: Role::Manager, addresses };
                let certificate = manager.authority.sign(&request, &subject, SystemTime::now())?;
                manager.decider.renew_node(&self.node, &request.public_key).await?;
                let identity = Identity { ca: identity.ca, certificate, key };
                directory.keep(&identity)?;
                server.renew(&identity)?;
            }
            Decisions::There(client) => {
                let asked = client.borrow().clone();
                let identity = asked.renew(&self.node, addresses).await?;
                directory.keep(&identity)?;
                client.replace(Client::new(&identity, self.kept.borrow().managers.clone())?);
            }
        }
        tracing::info!("this host's certificate was renewed");
        Ok(())
    }
}
