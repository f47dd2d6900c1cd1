//! What is counted, in Prometheus' words, and the unix socket where it is read.

use std::{convert::Infallible, path::Path, rc::Rc, time::Duration};

use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, body::Bytes, server::conn::http1, service};
use hyper_util::rt::TokioIo;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text},
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::ConstGauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::Registry,
};
use tokio::net::UnixListener;

use crate::netd::Netd;

mod names;

type Labels = [(&'static str, String); 1];
type Histograms = Family<Labels, Histogram, fn() -> Histogram>;

/// Everything that is counted.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    attach: Histograms,
    detach: Histograms,
    errors: Family<Labels, Counter>,
    restarts: Family<Labels, Counter>,
}

/// From a fifth of a millisecond up to three seconds.
fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0002, 2.0, 14))
}

impl Metrics {
    /// Everything at zero.
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("netd");
        let new = || Histograms::new_with_constructor(histogram);
        let (attach, detach) = (new(), new());
        let (errors, restarts) = (Family::default(), Family::default());
        registry.register("attach_seconds", "Attaches that succeeded, by driver", attach.clone());
        registry.register("detach_seconds", "Detaches, by driver", detach.clone());
        registry.register("errors", "Requests that failed, by method", errors.clone());
        registry.register("driver_restarts", "Ends of a driver's process", restarts.clone());
        Self { registry, attach, detach, errors, restarts }
    }

    /// An attach succeeded.
    pub(crate) fn attached(&self, driver: &str, took: Duration) {
        let labels = [("driver", driver.to_owned())];
        self.attach.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A detach was done.
    pub(crate) fn detached(&self, driver: &str, took: Duration) {
        let labels = [("driver", driver.to_owned())];
        self.detach.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// A request failed.
    pub(crate) fn failed(&self, method: &str) {
        self.errors.get_or_create(&[("method", method.to_owned())]).inc();
    }

    /// A driver ended.
    pub(crate) fn driver_restarts(&self, driver: &str) {
        self.restarts.get_or_create(&[("driver", driver.to_owned())]).inc();
    }
}

impl Netd {
    /// All figures as text (the OpenMetrics exposition format).
    fn exposition(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let mut now = Registry::with_prefix("netd");
        now.register_collector(Box::new(Now::of(self)));
        now.register_collector(Box::new(names::Names::of(self)));
        text::encode(&mut out, &self.metrics.registry)?;
        let end = out.len() - "# EOF\n".len();
        out.truncate(end);
        text::encode(&mut out, &now)?;
        Ok(out)
    }

    /// Answers `GET /metrics` on a unix socket for as long as netd runs.
    pub(crate) async fn serve_metrics(self: Rc<Self>, path: &Path) -> std::io::Result<()> {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path)?;
        loop {
            let (stream, _) = listener.accept().await?;
            let netd = self.clone();
            let answer = service::service_fn(move |request: Request<_>| {
                let reply = netd.scrape(&request);
                async move { Ok::<_, Infallible>(reply) }
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            tokio::task::spawn_local(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a scrape ended early");
                }
            });
        }
    }

    fn scrape(&self, request: &Request<hyper::body::Incoming>) -> Response<Full<Bytes>> {
        let body = match (request.method(), request.uri().path()) {
            (&Method::GET, "/metrics") => self.exposition().ok(),
            _ => None,
        };
        let status = if body.is_some() { StatusCode::OK } else { StatusCode::NOT_FOUND };
        let mut response = Response::new(Full::from(body.unwrap_or_default()));
        *response.status_mut() = status;
        response.headers_mut().insert(
            hyper::header::CONTENT_TYPE,
            hyper::header::HeaderValue::from_static(
                "application/openmetrics-text; version=1.0.0; charset=utf-8",
            ),
        );
        response
    }
}

/// What is read off netd at the moment of the scrape.
#[derive(Debug)]
struct Now {
    gauges: Vec<(&'static str, &'static str, i64)>,
    counters: Vec<(&'static str, &'static str, u64)>,
}

impl Now {
    fn of(netd: &Netd) -> Self {
        let registry = netd.registry.borrow();
        let count = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        let dns = netd.resolver.server().counters();
        let pressure = netd.resolver.server().pressure();
        let mut now = Self {
            gauges: vec![
                ("networks", "Networks", count(registry.networks().count())),
                ("sandboxes", "Sandboxes", count(registry.sandboxes().count())),
                ("endpoints", "Endpoints", count(registry.endpoints().count())),
                ("dns_kept", "Answers in the cache", count(netd.resolver.server().kept())),
                ("dns_out", "Questions that are out to other servers", count(pressure.out)),
            ],
            counters: vec![
                ("dns_queries", "Questions asked of the resolver", dns.queries),
                ("dns_local", "Questions answered from netd's own names", dns.local),
                ("dns_forwarded", "Questions handed to an upstream", dns.forwarded),
                ("dns_servfail", "Questions that no upstream answered", dns.servfail),
                ("dns_cached", "Questions answered from the cache", dns.cached),
                ("dns_stale", "Questions answered with something past its time", dns.stale),
                ("dns_refused", "Questions refused", dns.refused),
                ("dns_dropped", "Packets that were not answered", dns.dropped),
                ("dns_loops", "Questions that came back from who was asked them", dns.loops),
                ("dns_waited", "Questions that waited, as too many were out", pressure.waited),
                ("dns_crowded", "Questions of who had too many out already", pressure.crowded),
            ],
        };
        let status = netd.cluster_status();
        if status.cluster.is_some() {
            let figure = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
            let connected = i64::from(status.complete && status.away_since.is_none());
            now.gauges.extend([
                ("cluster_connected", "Whether the cluster's store is there", connected),
                ("cluster_revision", "The store's revision as known here", figure(status.revision)),
                ("cluster_nodes", "Nodes of the cluster", figure(status.nodes)),
                ("cluster_elsewhere", "Endpoints on other nodes", figure(status.elsewhere)),
                ("cluster_unwritten", "Changes not yet in the store", figure(status.unwritten)),
            ]);
            let refused = netd.cluster().map(|cluster| cluster.refused()).unwrap_or_default();
            now.counters.extend(refused);
        }
        now
    }
}

impl Collector for Now {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        for (name, help, value) in &self.gauges {
            let gauge = ConstGauge::new(*value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)?;
        }
        for (name, help, value) in &self.counters {
            let counter = ConstCounter::new(*value);
            counter.encode(encoder.encode_descriptor(
                name,
                help,
                None,
                counter.metric_type(),
            )?)?;
        }
        Ok(())
    }
}
