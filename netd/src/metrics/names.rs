//! The resolver's figures that are told apart: by network, type, result and who answered, and by
//! the servers elsewhere.

use dns::At;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
};

use crate::netd::Netd;

/// As they are at the moment of the scrape.
#[derive(Debug)]
pub(super) struct Names {
    answers: Vec<([(&'static str, String); 4], u64)>,
    servers: Vec<dns::Standing>,
}

impl Names {
    pub(super) fn of(netd: &Netd) -> Self {
        let registry = netd.registry.borrow();
        let server = netd.resolver.server();
        let name = |at: &At| match at {
            At::Network(id) => {
                let mut networks = registry.networks();
                let found = networks.find(|entry| entry.network.id.as_str() == &**id);
                found.map_or_else(|| id.to_string(), |entry| entry.network.name.to_string())
            }
            At::Container(id) => format!("container {id}"),
            At::Host => "host".to_owned(),
            At::Shared | At::Guest => "link-local".to_owned(),
        };
        let mut answers = Vec::new();
        for (at, counts) in server.tallies() {
            let network = name(&at);
            answers.extend(counts.into_iter().map(|count| {
                let labels = [
                    ("network", network.clone()),
                    ("type", count.kind.to_owned()),
                    ("result", count.result.to_owned()),
                    ("by", count.by.name().to_owned()),
                ];
                (labels, count.count)
            }));
        }
        Self { answers, servers: server.standings() }
    }
}

impl Collector for Names {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let help = "Questions answered, by network, type, result and who answered";
        let mut family =
            encoder.encode_descriptor("dns_answers", help, None, MetricType::Counter)?;
        for (labels, count) in &self.answers {
            ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
        }
        for (name, help, answered) in [
            ("dns_upstream_answered", "Questions that a server elsewhere answered", true),
            ("dns_upstream_failed", "Questions that it did not answer in time, or at all", false),
        ] {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for server in &self.servers {
                let labels = [("upstream", server.server.to_string())];
                let count = if answered { server.answered } else { server.failed };
                ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        let help = "How long a server elsewhere takes, as far as is known";
        let name = "dns_upstream_latency_seconds";
        let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for server in &self.servers {
            let labels = [("upstream", server.server.to_string())];
            let gauge = ConstGauge::new(server.latency.as_secs_f64());
            gauge.encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
