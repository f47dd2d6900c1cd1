//! Sandboxes and endpoints as they are shown, and sandboxes that are made on their own.

use std::{os::fd::AsRawFd, process, rc::Rc};

use cnm::{
    ContainerId, Empty, Error, Result,
    driver::{CheckAttached, PlanEndpoint},
    endpoint::{
        CheckEndpoint, Checked, Endpoint, EndpointDetail, Endpoints, InspectEndpoint,
        ListEndpoints, NetnsId,
    },
    sandbox::{CreateSandbox, RemoveSandbox, Sandbox, Sandboxes},
};

use crate::{
    attach::{check_kind, open},
    clock,
    names::called::check_container,
    netd::Netd,
    processes,
    registry::SandboxRecord,
    server::Line,
};

impl Netd {
    /// `sandbox.create`.
    pub(crate) async fn create_sandbox(
        self: &Rc<Self>,
        params: CreateSandbox,
        line: &Line,
    ) -> Result<Sandbox> {
        let netns = open(&params.netns, &line.descriptors)?;
        check_kind(&netns, params.netns.path())?;
        check_container(&params.container, &[], "", &self.config.dns_domain)?;
        let _turn = self.turn(&params.container.id).await;
        let nsid = self.host.nsid(&netns).await?;
        let record = match self.with_endpoints_in(&params.container.id, nsid) {
            Some(known) => known,
            None => {
                self.registry.borrow().no_such_sandbox(&params.container)?;
                let process_start = params.container.pid.and_then(processes::started);
                let sandbox = Sandbox {
                    path: params.netns.path().map(str::to_owned),
                    // Which cookie it has the first driver will say.
                    netns: Some(NetnsId { cookie: 0, nsid: Some(nsid) }),
                    container: params.container,
                    kept: false,
                    created: clock::timestamp(),
                };
                SandboxRecord { sandbox, process_start }
            }
        };
        let record = SandboxRecord { sandbox: Sandbox { kept: true, ..record.sandbox }, ..record };
        self.stores.put_sandbox(&record)?;
        let sandbox = record.sandbox.clone();
        self.registry.borrow_mut().put_sandbox(record);
        self.watch_process(&sandbox.container.id);
        self.tell("sandbox", "create", sandbox.container.id.as_str(), &[]);
        Ok(sandbox)
    }

    /// The sandbox that came with its first endpoint, and would go with its last one, where it is the
    /// namespace of this id.
    fn with_endpoints_in(&self, container: &ContainerId, nsid: i32) -> Option<SandboxRecord> {
        let registry = self.registry.borrow();
        let record = &registry.sandbox(container)?.record;
        let same = record.sandbox.netns.is_some_and(|netns| netns.nsid == Some(nsid));
        (same && !record.sandbox.kept).then(|| record.clone())
    }

    /// Lets a sandbox whose process has ended go with its last endpoint, or at once where it has none:
    /// processes that this one has left may still be in there.
    pub(crate) async fn keep_no_longer(self: &Rc<Self>, container: &ContainerId) -> Result<()> {
        let _turn = self.turn(container).await;
        let mut registry = self.registry.borrow_mut();
        let Some(entry) = registry.sandbox(container) else { return Ok(()) };
        let (mut record, empty) = (entry.record.clone(), entry.endpoints.is_empty());
        self.stores.remove_sandbox(container)?;
        if empty {
            registry.drop_sandbox(container);
            drop(registry);
            self.tell("sandbox", "remove", container.as_str(), &[]);
        } else {
            record.sandbox.kept = false;
            registry.put_sandbox(record);
        }
        Ok(())
    }

    /// `sandbox.list`.
    pub(crate) fn list_sandboxes(&self) -> Sandboxes {
        let registry = self.registry.borrow();
        Sandboxes {
            sandboxes: registry.sandboxes().map(|entry| entry.record.sandbox.clone()).collect(),
        }
    }

    /// `sandbox.remove`.
    pub(crate) async fn remove_sandbox(self: &Rc<Self>, params: &RemoveSandbox) -> Result<Empty> {
        if let Some(container) = self.container_of(&params.container)? {
            self.drop_sandbox(&container, "detach").await?;
        }
        Ok(Empty {})
    }

    /// Takes a sandbox off all its networks and forgets it.
    pub(crate) async fn drop_sandbox(
        self: &Rc<Self>,
        container: &ContainerId,
        action: &str,
    ) -> Result<()> {
        self.detach_where(container, action, |_| true).await?;
        let _turn = self.turn(container).await;
        let left =
            self.registry.borrow().sandbox(container).is_some_and(|e| e.endpoints.is_empty());
        if left {
            self.stores.remove_sandbox(container)?;
            self.registry.borrow_mut().drop_sandbox(container);
            self.tell("sandbox", "remove", container.as_str(), &[]);
        }
        Ok(())
    }

    /// `endpoint.list`.
    pub(crate) fn list_endpoints(&self, params: &ListEndpoints) -> Result<Endpoints> {
        let registry = self.registry.borrow();
        let network = match &params.network {
            Some(given) => Some(registry.resolve_network(given)?.network.id.clone()),
            None => None,
        };
        let container = match &params.container {
            Some(given) => {
                Some(registry.resolve_sandbox(given)?.record.sandbox.container.id.clone())
            }
            None => None,
        };
        let mut endpoints: Vec<Endpoint> = registry
            .endpoints()
            .filter(|e| network.as_ref().is_none_or(|id| e.network == *id))
            .filter(|e| container.as_ref().is_none_or(|id| e.container.id == *id))
            .cloned()
            .collect();
        endpoints.sort_by(|a, b| {
            (&a.network_name, a.container.label(), &a.ifname).cmp(&(
                &b.network_name,
                b.container.label(),
                &b.ifname,
            ))
        });
        Ok(Endpoints { endpoints })
    }

    /// `endpoint.inspect`.
    pub(crate) async fn inspect_endpoint(
        self: &Rc<Self>,
        params: &InspectEndpoint,
    ) -> Result<EndpointDetail> {
        let endpoint = self.registry.borrow().resolve_endpoint(&params.endpoint)?.clone();
        let plan = if params.plan {
            let network = self.network_of(&endpoint)?;
            let driver = self.driver(&network.driver)?;
            Some(driver.call(&PlanEndpoint { network, endpoint: endpoint.clone() }).await?)
        } else {
            None
        };
        let elected = self.registry.borrow().elected(&endpoint);
        Ok(EndpointDetail { endpoint, elected, plan })
    }

    /// `endpoint.check`.
    pub(crate) async fn check_endpoint(
        self: &Rc<Self>,
        params: &CheckEndpoint,
        line: &Line,
    ) -> Result<Checked> {
        let inside = match &params.netns {
            Some(netns) => Some(open(netns, &line.descriptors)?),
            None => None,
        };
        let id = self.registry.borrow().resolve_endpoint(&params.endpoint)?.id.clone();
        // Who was given it may have put it into its container, or called it otherwise, since.
        if let Err(error) = self.find_delivered(&id).await {
            tracing::warn!(endpoint = id.short(), %error, "not found where it was put");
        }
        let mut endpoint = self.registry.borrow().resolve_endpoint(id.as_str())?.clone();
        endpoint.mac = params.mac.or(endpoint.mac);
        endpoint = self.registry.borrow().published(&endpoint);
        let network = self.network_of(&endpoint)?;
        let driver = self.driver(&network.driver)?;
        // Good until the driver has answered.
        let netns =
            inside.as_ref().map(|file| format!("/proc/{}/fd/{}", process::id(), file.as_raw_fd()));
        driver.call(&CheckAttached { network, endpoint, netns }).await
    }

    fn network_of(&self, endpoint: &Endpoint) -> Result<cnm::network::Network> {
        let registry = self.registry.borrow();
        let entry = registry.network(&endpoint.network);
        entry.map(|entry| entry.network.clone()).ok_or_else(|| {
            Error::not_found(format_args!("network {} not found", endpoint.network_name))
        })
    }
}
