//! Endpoints of Docker's containers: made on the host, and moved by dockerd.

use std::{net::IpAddr, rc::Rc};

use cnm::{
    Error, IfName, Kind, Result,
    docker::ENDPOINT,
    endpoint::{Attach, Container, Endpoint, UpdateEndpoint},
    network::Network,
    options::{DELIVER, IFNAME_PREFIX},
    split,
};

use super::{
    Plugin,
    messages::{CreateEndpoint, Created, Interface, Joined, OfEndpoint},
    translate, untold,
};
use crate::{networks::divided::left_out, server::Line};

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
        attach.options = translate::endpoint_options(request.options.as_ref());
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
        let attached = self.netd.attach(attach, &line, Some(request.endpoint)).await;
        let endpoint =
            attached.map_err(|error| self.of_dockers_part(&request.network, &network, error))?;
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
            Err(error) if error.kind == Kind::NotFound => Ok(()),
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

    /// A refusal of an address that Docker has chosen, since no driver could tell it who has it.
    fn of_dockers_part(&self, docker: &str, network: &Network, mut error: Error) -> Error {
        let address = error.operands.get("address").and_then(|address| address.as_str());
        let address = address.and_then(|address| address.parse::<IpAddr>().ok());
        let Some(address) = address.filter(|_| error.kind == Kind::Exists) else { return error };
        let parts: Vec<_> = split::dockers(network).collect();
        let mut taken = self.netd.registry.borrow().taken_from_docker(network, &parts);
        if taken.contains(&address) {
            let is_known = |address| split::is_left_out(network, docker, address);
            taken.retain(|other| *other == address || !is_known(*other));
            error.message = format!(
                "{}; Docker gives addresses of {} out itself: make its network again with {} as well, or \
                 with --ipam-driver netd",
                error.message,
                split::label(parts),
                left_out(&taken)
            );
        } else if let Some(hint) = untold::hint(network, address) {
            error.message = format!("{}; {hint}", error.message);
        }
        error
    }
}
