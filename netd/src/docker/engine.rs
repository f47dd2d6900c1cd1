//! The Engine API as far as networks go, versions 1.40 to 1.51: what the command line `docker network`
//! needs of a daemon. A container is a sandbox of netd's, by its name or id.

use std::{fmt, rc::Rc};

use cnm::{
    Error, Kind,
    decode::{ByName, sentence},
    docker::{Network, is_of_dockerd},
    endpoint::Detach,
    network::{InspectNetwork, ListNetworks, NetworkDetail, PruneNetworks, RemoveNetwork},
};
use hyper::{Method, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;

use super::http::{Answer, Dialect, Question};
use crate::{netd::Netd, server::Line};

mod events;
mod messages;
mod translate;
mod wording;

use events::Journal;
use messages::{Connect, Create, Created, Disconnect, Pruned};
use wording::Refusal;

/// The second numbers of the versions that are spoken; the first is 1.
const OLDEST: u32 = 40;
const NEWEST: u32 = 51;

/// The dialect.
pub(super) struct Engine {
    netd: Rc<Netd>,
    journal: Rc<Journal>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

impl Dialect for Engine {
    async fn answer(self: Rc<Self>, question: Question) -> Answer {
        let is_head = question.method == Method::HEAD;
        let mut answer = match self.route(&question).await {
            Ok(answer) => answer,
            Err(Refusal { status, message }) => self.refuse(status, &message),
        };
        if is_head {
            answer.body.clear();
        }
        answer
    }

    fn refuse(&self, status: StatusCode, why: &str) -> Answer {
        with_headers(status, json!({ "message": why }).to_string() + "\n")
    }
}

/// A document with what Docker's daemon says along with each.
fn with_headers(status: StatusCode, body: String) -> Answer {
    let headers = vec![
        ("api-version", format!("1.{NEWEST}")),
        ("ostype", "linux".to_owned()),
        ("server", format!("netd/{} (linux)", env!("CARGO_PKG_VERSION"))),
    ];
    Answer { status, content_type: "application/json", body, headers, flow: None }
}

fn document(status: StatusCode, reply: &impl Serialize) -> Result<Answer, Refusal> {
    let body = serde_json::to_string(reply).map_err(Error::internal)?;
    Ok(with_headers(status, body + "\n"))
}

fn empty(status: StatusCode) -> Answer {
    with_headers(status, String::new())
}

/// A path without its version, and the second number of that.
fn versioned(path: &str) -> Result<(&str, u32), Refusal> {
    let Some((version, rest)) = path.strip_prefix("/v").and_then(|rest| {
        let end = rest.find('/')?;
        Some((&rest[..end], &rest[end..]))
    }) else {
        return Ok((path, NEWEST));
    };
    let numbers = version
        .split_once('.')
        .and_then(|(major, minor)| Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?)));
    let Some((major, minor)) = numbers else { return Err(Refusal::page_not_found()) };
    let wrong = |how: &str, which: &str, limit: u32, what: &str| {
        Err(Refusal {
            status: StatusCode::BAD_REQUEST,
            message: format!(
                "client version {version} is too {how}. {which} supported API version is \
                 1.{limit}{what}"
            ),
        })
    };
    match (major, minor) {
        (0, _) | (1, ..OLDEST) => {
            wrong("old", "Minimum", OLDEST, ", please upgrade your client to a newer version")
        }
        (1, OLDEST..=NEWEST) => Ok((rest, minor)),
        _ => wrong("new", "Maximum", NEWEST, ""),
    }
}

impl Engine {
    pub(super) fn new(netd: Rc<Netd>) -> Rc<Self> {
        let journal = Journal::of(&netd);
        Rc::new(Self { netd, journal })
    }

    async fn route(&self, question: &Question) -> Result<Answer, Refusal> {
        let (path, minor) = versioned(&question.path)?;
        let steps: Vec<&str> = path.trim_end_matches('/').split('/').skip(1).collect();
        let is = |method: Method| question.method == method;
        let read = is(Method::GET) || is(Method::HEAD);
        match steps[..] {
            ["_ping"] if read => Ok(self.ping()),
            ["version"] if read => document(StatusCode::OK, &self.version()),
            ["events"] if is(Method::GET) => self.events(question),
            ["networks"] if read => self.list(question, minor),
            ["networks", "create"] if is(Method::POST) => self.create(question).await,
            ["networks", "prune"] if is(Method::POST) => self.prune(question).await,
            ["networks", network] if read => self.inspect(question, network, minor),
            ["networks", network] if is(Method::DELETE) => self.remove(network).await,
            ["networks", network, "connect"] if is(Method::POST) => {
                self.connect(network, decode(question)?).await
            }
            ["networks", network, "disconnect"] if is(Method::POST) => {
                self.disconnect(network, decode(question)?).await
            }
            [first, ..] if wording::ELSEWHERE.contains(&first) => {
                Err(wording::served_elsewhere(first, read, &self.netd.config.docker_socket))
            }
            _ => Err(Refusal::page_not_found()),
        }
    }

    fn ping(&self) -> Answer {
        let mut answer = with_headers(StatusCode::OK, "OK".to_owned());
        answer.content_type = "text/plain; charset=utf-8";
        let more = [
            ("docker-experimental", "false"),
            ("builder-version", ""),
            ("swarm", "inactive"),
            ("cache-control", "no-cache, no-store, must-revalidate"),
            ("pragma", "no-cache"),
        ];
        answer.headers.extend(more.map(|(name, value)| (name, value.to_owned())));
        answer
    }

    fn version(&self) -> serde_json::Value {
        let version = env!("CARGO_PKG_VERSION");
        json!({
            "Platform": {"Name": "netd"},
            "Components": [{"Name": "netd", "Version": version, "Details": {}}],
            "Version": version,
            "ApiVersion": format!("1.{NEWEST}"),
            "MinAPIVersion": format!("1.{OLDEST}"),
            "Os": "linux",
            "Arch": architecture(),
            "KernelVersion": std::fs::read_to_string("/proc/sys/kernel/osrelease")
                .unwrap_or_default()
                .trim(),
            "GitCommit": "",
            "GoVersion": "",
            "BuildTime": "",
        })
    }

    /// What happened since a time, and what happens until another.
    fn events(&self, question: &Question) -> Result<Answer, Refusal> {
        let filters = translate::filters(&question.parameter("filters"))?;
        let since = question.parameter("since");
        let until = question.parameter("until");
        let asked = events::Asked::parse(filters, &since, &until)?;
        let (past, flow) = self.journal.tell(asked);
        let mut answer = with_headers(StatusCode::OK, past);
        answer.flow = Some(flow);
        Ok(answer)
    }

    fn list(&self, question: &Question, minor: u32) -> Result<Answer, Refusal> {
        let filters = translate::filters(&question.parameter("filters"))?;
        let networks = self.netd.list_networks(&ListNetworks { filters })?.networks;
        let bare = |network| NetworkDetail {
            network,
            endpoints: Vec::new(),
            pools: Vec::new(),
            notes: Vec::new(),
        };
        let details: Vec<_> = networks.into_iter().map(bare).collect();
        let shown: Vec<_> = details.iter().map(|detail| Network::of(detail).at(minor)).collect();
        document(StatusCode::OK, &shown)
    }

    fn inspect(&self, question: &Question, network: &str, minor: u32) -> Result<Answer, Refusal> {
        let verbose = question.parameter("verbose");
        if !matches!(
            verbose.as_str(),
            "" | "0"
                | "1"
                | "t"
                | "f"
                | "T"
                | "F"
                | "true"
                | "false"
                | "True"
                | "False"
                | "TRUE"
                | "FALSE"
        ) {
            return Err(
                Error::invalid(format_args!("invalid value for verbose: {verbose:?}")).into()
            );
        }
        let detail = self.detail(network)?;
        let scope = question.parameter("scope");
        if !scope.is_empty() && scope != cnm::docker::scope(&detail.network) {
            return Err(wording::no_network(network));
        }
        document(StatusCode::OK, &Network::of(&detail).at(minor))
    }

    fn detail(&self, network: &str) -> Result<NetworkDetail, Refusal> {
        Ok(self.netd.inspect_network(&InspectNetwork { network: network.to_owned() })?)
    }

    async fn create(&self, question: &Question) -> Result<Answer, Refusal> {
        let create = translate::create(decode::<Create>(question)?)?;
        let made = self.netd.create_network(create, None).await;
        let made = made.map_err(wording::of_create)?;
        let warning = self.netd.in_the_way_of(&made).await.join("; ");
        let created = Created { id: made.id.to_string(), warning };
        document(StatusCode::CREATED, &created)
    }

    async fn remove(&self, network: &str) -> Result<Answer, Refusal> {
        let remove = RemoveNetwork { network: network.to_owned() };
        let netd = self.netd.clone();
        let removed =
            tokio::task::spawn_local(async move { netd.remove_unless_dockers(&remove).await });
        removed.await.map_err(Error::internal)?.map_err(wording::of_remove)?;
        Ok(empty(StatusCode::NO_CONTENT))
    }

    async fn prune(&self, question: &Question) -> Result<Answer, Refusal> {
        let filters = translate::filters(&question.parameter("filters"))?;
        let netd = self.netd.clone();
        let pruned = tokio::task::spawn_local(async move {
            netd.prune_networks(&PruneNetworks { filters }).await
        });
        let pruned = pruned.await.map_err(Error::internal)??;
        self.journal.pruned();
        let names: Vec<_> = pruned.removed.iter().map(ToString::to_string).collect();
        let networks_deleted = (!names.is_empty()).then_some(names);
        document(StatusCode::OK, &Pruned { networks_deleted })
    }

    async fn connect(&self, network: &str, given: Connect) -> Result<Answer, Refusal> {
        wording::check_container(&given.container)?;
        let detail = self.detail(network)?;
        let container = {
            let registry = self.netd.registry.borrow();
            let entry = registry.resolve_sandbox(&given.container);
            let entry = entry.map_err(|error| wording::of_container(error, &given.container))?;
            entry.record.sandbox.container.clone()
        };
        if detail.endpoints.iter().any(|endpoint| endpoint.container.id == container.id) {
            return Err(wording::already_there(container.label(), detail.network.name.as_str()));
        }
        let exactly = format!("={}", detail.network.id);
        let attach = translate::attach(&exactly, container, &given)?;
        let line = Line::default();
        self.netd.attach(attach, &line, None).await?;
        line.attached.into_inner().iter().for_each(|done| self.netd.attached(done));
        Ok(empty(StatusCode::OK))
    }

    async fn disconnect(&self, network: &str, given: Disconnect) -> Result<Answer, Refusal> {
        wording::check_container(&given.container)?;
        let container = {
            let registry = self.netd.registry.borrow();
            match registry.resolve_sandbox(&given.container) {
                Ok(entry) => Some(entry.record.sandbox.container.id.clone()),
                Err(error) if error.kind == Kind::NotFound && given.force => None,
                Err(error) => return Err(wording::of_container(error, &given.container)),
            }
        };
        let (detail, container) = match (self.detail(network), container) {
            (Err(error), Some(id)) if given.force && error.status == StatusCode::NOT_FOUND => {
                return Err(wording::never_there(id.as_str(), network));
            }
            (detail, Some(id)) => (detail?, id),
            // Docker looks for an endpoint of that name then, and each of netd's has its container.
            (detail, None) => {
                return Err(
                    detail.map_or_else(|error| error, |_| wording::no_endpoint(&given.container))
                );
            }
        };
        let found = {
            let registry = self.netd.registry.borrow();
            let mut own = registry.endpoints_of(&container);
            own.find(|endpoint| endpoint.network == detail.network.id).cloned()
        };
        let Some(endpoint) = found else {
            return Err(wording::not_there(container.as_str(), detail.network.name.as_str()));
        };
        // Dockerd would go on as if the container were there.
        if is_of_dockerd(&endpoint) && !given.force {
            let (name, container) = (&detail.network.name, endpoint.container.label());
            return Err(Error::new(
                Kind::Busy,
                format_args!(
                    "dockerd has container {container} on network {name}: say docker network disconnect \
                     to dockerd itself, or -f where there is no Docker any more"
                ),
            )
            .into());
        }
        let detach = Detach {
            network: Some(format!("={}", detail.network.id)),
            container: format!("={container}"),
            ifname: None,
        };
        let netd = self.netd.clone();
        let gone = tokio::task::spawn_local(async move { netd.detach(&detach).await });
        gone.await.map_err(Error::internal)??;
        Ok(empty(StatusCode::OK))
    }
}

/// The processor's kind, in the words of Docker's language.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// The body of a request, which has to say that it is JSON.
fn decode<T: DeserializeOwned>(question: &Question) -> Result<T, Refusal> {
    let kind = question.content_type.split(';').next().unwrap_or_default().trim();
    if !question.body.is_empty() && !kind.eq_ignore_ascii_case("application/json") {
        let message = format!(
            "unsupported Content-Type header ({}): must be 'application/json'",
            question.content_type
        );
        return Err(Refusal { status: StatusCode::BAD_REQUEST, message });
    }
    let mut documents = serde_json::Deserializer::from_slice(&question.body).into_iter();
    let refuse = |message: String| Refusal { status: StatusCode::BAD_REQUEST, message };
    let document = match documents.next() {
        Some(Ok(ByName(document))) => document,
        Some(Err(error)) => {
            let text = String::from_utf8_lossy(&question.body);
            return Err(refuse(format!("invalid JSON: {}", sentence(&text, &error))));
        }
        None => return Err(refuse("invalid JSON: got EOF while reading request body".to_owned())),
    };
    let rest = question.body.get(documents.byte_offset()..).unwrap_or_default();
    if rest.iter().any(|byte| !byte.is_ascii_whitespace()) {
        return Err(refuse("unexpected content after JSON".to_owned()));
    }
    Ok(document)
}

#[cfg(test)]
mod tests;
