//! Endpoints of Docker's containers: made on the host, moved by dockerd, and known by the container's
//! name as soon as dockerd tells it.

use std::{rc::Rc, time::Duration};

use cnm::{
    Error, IfName, Name, Result,
    endpoint::{Attach, Container, Endpoint, UpdateEndpoint},
    options::{DELIVER, IFNAME_PREFIX},
};

use super::{
    Plugin,
    messages::{CreateEndpoint, Created, Interface, Joined, OfEndpoint},
    translate::{self, ENDPOINT},
};
use crate::{docker::daemon, server::Line};

/// How often dockerd is asked whose an endpoint is, and how long after each other: it tells when the
/// container has started.
const QUESTIONS: u32 = 40;
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Whether it is one of dockerd's, of which it has not yet told whose it is.
pub(in crate::docker) fn is_unnamed(endpoint: &Endpoint) -> bool {
    endpoint.labels.get(ENDPOINT).is_some_and(|id| id == endpoint.container.id.as_str())
}

impl Plugin {
    /// The endpoint that dockerd knows by this id.
    pub(super) fn endpoint(&self, network: &str, id: &str) -> Result<Endpoint> {
        let network = self.network(network)?;
        let registry = self.netd.registry.borrow();
        let found = registry
            .endpoints_on(&network.id)
            .find(|endpoint| endpoint.labels.get(ENDPOINT).is_some_and(|own| own == id));
        found.cloned().ok_or_else(|| {
            let short = id.get(..12).unwrap_or(id);
            Error::not_found(format_args!("netd has no endpoint for Docker's {short}"))
                .with("endpoint", id)
        })
    }

    /// Makes an endpoint. One that was made for the same id is there already.
    pub(super) async fn create_endpoint(&self, request: CreateEndpoint) -> Result<Created> {
        let network = self.network(&request.network)?;
        let given = request.interface.unwrap_or_default();
        let container = Container::new(request.endpoint.parse().map_err(Error::invalid)?);
        let mut attach = Attach::new(&format!("={}", network.id), container, None);
        attach.ifname = Some(IfName::eth0());
        attach.options.insert(DELIVER.names[0].to_owned(), "host".to_owned());
        attach.labels.insert(ENDPOINT.to_owned(), request.endpoint.clone());
        for (key, address) in [("Address", &given.address), ("AddressIPv6", &given.address_v6)] {
            if !address.is_empty() {
                attach
                    .addresses
                    .push(translate::parsed::<ipnetwork::IpNetwork>(key, address)?.ip());
            }
        }
        if !given.mac.is_empty() {
            attach.mac = Some(translate::parsed("MacAddress", &given.mac)?);
        }
        self.hand_in(&network, &attach.addresses);
        let line = Line::default();
        let endpoint = self.netd.attach(attach, &line, Some(request.endpoint)).await?;
        line.attached.into_inner().iter().for_each(|done| self.netd.attached(done));
        let chosen = endpoint.mac.filter(|_| given.mac.is_empty());
        let mac = chosen.map(|mac| mac.to_string()).unwrap_or_default();
        Ok(Created { interface: Interface { mac, ..Interface::default() } })
    }

    /// What dockerd is to move, and what to set up with it.
    pub(super) fn join(self: &Rc<Self>, request: &OfEndpoint) -> Result<Joined> {
        let endpoint = self.endpoint(&request.network, &request.endpoint)?;
        let network = self.network(&request.network)?;
        let prefix = IFNAME_PREFIX.given(&network.options).map_or("eth", |(_, prefix)| prefix);
        let joined = translate::joined(&network, &endpoint, prefix);
        self.learn(request.network.clone(), request.endpoint.clone());
        Ok(joined)
    }

    /// Publishes a container's ports: it leaves through this network.
    pub(super) async fn publish(&self, request: &OfEndpoint) -> Result<()> {
        self.set_ports(request, translate::ports(request.options.as_ref())?).await
    }

    /// Publishes them no more: it leaves through another one, or not at all.
    pub(super) async fn withdraw(&self, request: &OfEndpoint) -> Result<()> {
        match self.set_ports(request, Vec::new()).await {
            Err(error) if error.kind == cnm::Kind::NotFound => Ok(()),
            outcome => outcome,
        }
    }

    async fn set_ports(&self, request: &OfEndpoint, ports: Vec<cnm::endpoint::Port>) -> Result<()> {
        let endpoint = self.endpoint(&request.network, &request.endpoint)?;
        let update = UpdateEndpoint {
            endpoint: endpoint.id.to_string(),
            container: None,
            ports: Some(ports),
        };
        self.netd.update_endpoint(update).await.map(drop)
    }

    /// Takes an endpoint away. One that is not there is away already.
    pub(super) async fn delete_endpoint(&self, request: &OfEndpoint) -> Result<()> {
        let Ok(endpoint) = self.endpoint(&request.network, &request.endpoint) else {
            return Ok(());
        };
        self.take_away(endpoint).await
    }

    /// Takes an endpoint away to the end, whatever becomes of who asked.
    pub(super) async fn take_away(&self, endpoint: Endpoint) -> Result<()> {
        let netd = self.netd.clone();
        let gone = tokio::task::spawn_local(async move {
            let container = &endpoint.container.id;
            netd.detach_where(container, "detach", |other| other.id == endpoint.id).await
        });
        gone.await.map_err(Error::internal)?.map(drop)
    }

    /// Asks dockerd whose an endpoint is until it tells, and gives it to that container.
    pub(super) fn learn(self: &Rc<Self>, network: String, id: String) {
        let plugin = self.clone();
        tokio::task::spawn_local(async move {
            let mut pause = FIRST_PAUSE;
            for _ in 0..QUESTIONS {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                let Ok(endpoint) = plugin.endpoint(&network, &id) else { return };
                if endpoint.container.id.as_str() != id {
                    return;
                }
                let socket = &plugin.netd.config.docker_socket;
                let Ok(Some(told)) = daemon::network(socket, &network).await else { continue };
                let mut members = told.containers.iter();
                let own = members.find(|(key, m)| m.endpoint == id && !key.starts_with("ep-"));
                let Some((container, member)) = own else { continue };
                plugin.hand_over(&endpoint, container, &member.name).await;
                return;
            }
        });
    }

    /// Gives an endpoint to its container: under its name, unless somebody else on the network has
    /// it.
    async fn hand_over(&self, endpoint: &Endpoint, container: &str, name: &str) {
        let Ok(id) = container.parse() else { return };
        let mut whose = Container::new(id);
        whose.name = name.trim_start_matches('/').parse::<Name>().ok();
        loop {
            let update = UpdateEndpoint {
                endpoint: endpoint.id.to_string(),
                container: Some(whose.clone()),
                ports: None,
            };
            match self.netd.update_endpoint(update).await {
                Err(error) if error.kind == cnm::Kind::Exists && whose.name.is_some() => {
                    tracing::warn!(container, name, %error, "Docker's container goes without name");
                    whose.name = None;
                }
                Err(error) => {
                    tracing::warn!(container, name, %error, "Docker's container stays unnamed");
                    return;
                }
                Ok(_) => return,
            }
        }
    }
}
