//! Docker's statuses and sentences, where netd's own say the same in other words.

use std::path::Path;

use cnm::{Error, Kind};
use hyper::StatusCode;

/// What was refused, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Refusal {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    /// What is at no path.
    pub(super) fn page_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "page not found")
    }
}

/// What else there is in Docker's API (version 1.51), by the first step of its path.
pub(super) const ELSEWHERE: [&str; 20] = [
    "auth",
    "build",
    "commit",
    "configs",
    "containers",
    "debug",
    "distribution",
    "exec",
    "grpc",
    "images",
    "info",
    "nodes",
    "plugins",
    "secrets",
    "services",
    "session",
    "swarm",
    "system",
    "tasks",
    "volumes",
];

/// Of what is dockerd's alone. Who looks for one is told that there is none here, so that `docker inspect`
/// looks on among the networks; to whoever would change something, "not found" means that it is done, or
/// that an image has to be pulled.
pub(super) fn served_elsewhere(what: &str, read: bool, socket: &Path) -> Refusal {
    let status = if read { StatusCode::NOT_FOUND } else { StatusCode::NOT_IMPLEMENTED };
    let message = format!(
        "netd serves networks at this socket, and no {what}: ask dockerd (docker -H unix://{}, or without -H)",
        socket.display()
    );
    Refusal::new(status, message)
}

/// The table of `docs/protocol.md`.
impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        let status = match error.kind {
            Kind::Invalid => StatusCode::BAD_REQUEST,
            Kind::NotFound => StatusCode::NOT_FOUND,
            Kind::Exists => StatusCode::CONFLICT,
            Kind::Exhausted | Kind::Busy | Kind::Denied => StatusCode::FORBIDDEN,
            Kind::Unsupported => StatusCode::NOT_IMPLEMENTED,
            Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Kind::Kernel | Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self { status, message: error.message }
    }
}

/// Of a network that was not made.
pub(super) fn of_create(error: Error) -> Refusal {
    let (kind, message) = (error.kind, error.message.as_str());
    if kind == Kind::Exists && message.starts_with("invalid pool request") {
        return Refusal::new(StatusCode::FORBIDDEN, message);
    }
    if kind == Kind::Exhausted {
        let message = "all predefined address pools have been fully subnetted";
        return Refusal::new(StatusCode::BAD_REQUEST, message);
    }
    if kind == Kind::Denied && message.starts_with("operation is not permitted on predefined") {
        // Docker has a blank at the end of it.
        return Refusal::new(StatusCode::FORBIDDEN, format!("{message} "));
    }
    error.into()
}

/// Of a network that was not removed.
pub(super) fn of_remove(error: Error) -> Refusal {
    match error.message.split_once(": detach them first") {
        Some((message, _)) if error.kind == Kind::Busy => {
            let message = format!("error while removing network: {message}");
            Refusal::new(StatusCode::FORBIDDEN, message)
        }
        _ => error.into(),
    }
}

/// Of a container that is not known.
pub(super) fn of_container(error: Error, given: &str) -> Refusal {
    match error.kind {
        Kind::NotFound => {
            Refusal::new(StatusCode::NOT_FOUND, format!("No such container: {given}"))
        }
        _ => error.into(),
    }
}

/// Refuses to look for a container of which nothing was said.
pub(super) fn check_container(given: &str) -> Result<(), Refusal> {
    if !given.is_empty() {
        return Ok(());
    }
    Err(Refusal::new(StatusCode::BAD_REQUEST, "Container is missing: say a container's name or id"))
}

/// Of a network that is not known in a scope.
pub(super) fn no_network(given: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("network {given} not found"))
}

/// Of a container that is on the network.
pub(super) fn already_there(container: &str, network: &str) -> Refusal {
    let message = format!("endpoint with name {container} already exists in network {network}");
    Refusal::new(StatusCode::FORBIDDEN, message)
}

/// Of a container that is to leave what is no network, by force.
pub(super) fn never_there(container: &str, network: &str) -> Refusal {
    let message = format!("container {container} is not connected to the network {network}");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}

/// Of a container that is not known, nor to be looked for.
pub(super) fn no_endpoint(container: &str) -> Refusal {
    Refusal::new(StatusCode::NOT_FOUND, format!("endpoint {container} not found"))
}

/// Of a container that is not on the network.
pub(super) fn not_there(container: &str, network: &str) -> Refusal {
    let message = format!("container {container} is not connected to network {network}");
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, message)
}
