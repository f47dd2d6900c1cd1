//! The resolver, asked by whoever asks netd: what it answers to somebody, and why.

use std::{
    net::{IpAddr, Ipv4Addr},
    rc::Rc,
};

use cnm::{
    Empty, Error, Result,
    dns::{Answered, LogQueries, QueryName},
};
use dns::{Asker, At};

use crate::netd::Netd;

impl Netd {
    /// `dns.query`.
    pub(crate) async fn query_name(self: &Rc<Self>, params: &QueryName) -> Result<Answered> {
        let asker = match &params.from {
            None => Asker { at: At::Host, source: Ipv4Addr::LOCALHOST.into() },
            Some(given) => self.asker(given)?,
        };
        let packet = dns::packet(&params.name, params.kind.as_deref())
            .map_err(|error| Error::invalid(error).with("name", params.name.as_str()))?;
        let explained = self.resolver.server().explain(asker, packet).await;
        let explained = explained.ok_or_else(|| Error::internal("the resolver does not answer"))?;
        let dns::Explained { result, answers, mut why } = explained;
        if params.from.is_none() && answers.is_empty() {
            let domain = &self.config.dns_domain;
            why.push(format!(
                "asked as the host, which knows whole names alone (NAME.NETWORK.{domain}): say one, \
                 or ask as a container does, with --from CONTAINER"
            ));
        }
        Ok(Answered { result, answers, why })
    }

    fn asker(&self, given: &str) -> Result<Asker> {
        let registry = self.registry.borrow();
        let container = &registry.resolve_sandbox(given)?.record.sandbox.container;
        let mut addresses = registry.endpoints_of(&container.id).flat_map(|e| &e.addresses);
        let source = addresses.next().map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |it| it.ip());
        Ok(Asker { at: At::Container(container.id.as_str().into()), source })
    }

    /// `dns.log`.
    pub(crate) fn log_queries(&self, params: LogQueries) -> Empty {
        self.resolver.server().log(params.each);
        Empty {}
    }
}
