//! What dockerd asks of a remote network and IPAM driver: a method in the path, a document in the
//! body, and one in the answer.
//!
//! Networks that dockerd made are known by a label, since it never tells of them again; so are its
//! endpoints. It moves links itself: endpoints are delivered on the host, under the id that dockerd
//! has for them until it tells, over its own socket, which container that is.

use std::{
    cell::{Cell, RefCell},
    fmt,
    rc::Rc,
    time::Duration,
};

use cnm::{
    Error,
    decode::{ByName, sentence},
};
use hyper::{Method, StatusCode, body::Bytes};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use super::http::{Answer, Dialect, Question};
use crate::netd::Netd;

mod endpoints;
mod forgotten;
mod messages;
mod names;
mod networks;
mod pools;
mod translate;
mod untold;
mod wording;

pub(super) use endpoints::is_unnamed;
use messages::{
    CreateEndpoint, CreateNetwork, OfAddress, OfEndpoint, OfNetwork, OfPool, RequestPool,
};
pub(super) use networks::{dockers_ids, ids_here, is_dockers};
pub(super) use translate::label;

/// How long a call may take: dockerd waits for as long as there is no answer, and with it whoever asks
/// it anything about the container.
const DEADLINE: Duration = Duration::from_secs(20);

/// The dialect, and what it knows between calls.
pub(super) struct Plugin {
    netd: Rc<Netd>,
    offers: RefCell<pools::Offers>,
    /// Whether it is followed what happens at dockerd.
    follows: Cell<bool>,
    doubts: forgotten::Doubts,
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("offers", &self.offers).finish_non_exhaustive()
    }
}

/// What was refused, and how.
#[derive(Debug)]
struct Refusal {
    status: StatusCode,
    error: Error,
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self { status: StatusCode::INTERNAL_SERVER_ERROR, error }
    }
}

impl Dialect for Plugin {
    async fn answer(self: Rc<Self>, question: Question) -> Answer {
        let Question { method, path, body, .. } = question;
        if method != Method::POST {
            return self.refuse(StatusCode::METHOD_NOT_ALLOWED, "every method is a POST");
        }
        let asked = path.trim_start_matches('/');
        let outcome =
            match tokio::time::timeout(DEADLINE, self.clone().dispatch(asked, &body)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(Error::unavailable(format_args!(
                    "{asked} was not done within {} s",
                    DEADLINE.as_secs()
                ))
                .into()),
            };
        match outcome {
            Ok(body) => document(StatusCode::OK, &body),
            Err(Refusal { status, error }) => {
                tracing::info!(method = asked, kind = ?error.kind, %error, "dockerd's call failed");
                self.refuse(status, &self.in_their_words(&error.message, &body).await)
            }
        }
    }

    fn refuse(&self, status: StatusCode, why: &str) -> Answer {
        document(status, &json!({ "Err": why }))
    }
}

fn document(status: StatusCode, body: &Value) -> Answer {
    Answer {
        status,
        content_type: "application/vnd.docker.plugins.v1.1+json",
        body: body.to_string(),
        headers: Vec::new(),
        flow: None,
    }
}

fn value(reply: &impl Serialize) -> Result<Value, Refusal> {
    Ok(serde_json::to_value(reply).map_err(Error::internal)?)
}

fn decode<T: DeserializeOwned>(method: &str, body: &Bytes) -> Result<T, Refusal> {
    if body.is_empty() {
        // dockerd sends again what was not answered, and has said it all the first time.
        let error = Error::unavailable(format_args!(
            "netd ended before it answered {method}, and dockerd asked the next one without saying what: \
             say it to Docker once more"
        ));
        return Err(Refusal { status: StatusCode::BAD_REQUEST, error });
    }
    let ByName(document) = serde_json::from_slice(body).map_err(|error| {
        let why = sentence(&String::from_utf8_lossy(body), &error);
        Refusal {
            status: StatusCode::BAD_REQUEST,
            error: Error::parse(format_args!("cannot decode the body of {method}: {why}")),
        }
    })?;
    Ok(document)
}

impl Plugin {
    pub(super) fn new(netd: Rc<Netd>) -> Rc<Self> {
        Rc::new(Self {
            netd,
            offers: RefCell::default(),
            follows: Cell::default(),
            doubts: forgotten::Doubts::default(),
        })
    }

    async fn dispatch(self: Rc<Self>, method: &str, body: &Bytes) -> Result<Value, Refusal> {
        let nothing = json!({});
        match method {
            "Plugin.Activate" => {
                self.forget_offers();
                self.look_for_forgotten();
                Ok(json!({ "Implements": ["NetworkDriver", "IpamDriver"] }))
            }
            "NetworkDriver.GetCapabilities" => {
                Ok(json!({ "Scope": "local", "ConnectivityScope": "local" }))
            }
            "NetworkDriver.AllocateNetwork" => Ok(json!({ "Options": {} })),
            "NetworkDriver.FreeNetwork"
            | "NetworkDriver.Leave"
            | "NetworkDriver.DiscoverNew"
            | "NetworkDriver.DiscoverDelete" => Ok(nothing),
            "NetworkDriver.EndpointOperInfo" => Ok(json!({ "Value": {} })),
            "NetworkDriver.CreateNetwork" => {
                self.create_network(decode::<CreateNetwork>(method, body)?).await?;
                self.follow();
                Ok(nothing)
            }
            "NetworkDriver.DeleteNetwork" => {
                self.delete_network(&decode::<OfNetwork>(method, body)?.network).await?;
                Ok(nothing)
            }
            "NetworkDriver.CreateEndpoint" => {
                value(&self.create_endpoint(decode::<CreateEndpoint>(method, body)?).await?)
            }
            "NetworkDriver.DeleteEndpoint" => {
                self.delete_endpoint(&decode::<OfEndpoint>(method, body)?).await?;
                Ok(nothing)
            }
            "NetworkDriver.Join" => value(&self.join(&decode::<OfEndpoint>(method, body)?)?),
            "NetworkDriver.ProgramExternalConnectivity" => {
                self.publish(&decode::<OfEndpoint>(method, body)?).await?;
                Ok(nothing)
            }
            "NetworkDriver.RevokeExternalConnectivity" => {
                self.withdraw(&decode::<OfEndpoint>(method, body)?).await?;
                Ok(nothing)
            }
            "IpamDriver.GetCapabilities" => {
                Ok(json!({ "RequiresMACAddress": false, "RequiresRequestReplay": false }))
            }
            "IpamDriver.GetDefaultAddressSpaces" => Ok(json!({
                "LocalDefaultAddressSpace": translate::SPACE,
                "GlobalDefaultAddressSpace": translate::SPACE,
            })),
            "IpamDriver.RequestPool" => {
                Ok(self.request_pool(decode::<RequestPool>(method, body)?).await?)
            }
            "IpamDriver.ReleasePool" => {
                self.release_pool(&decode::<OfPool>(method, body)?.pool);
                Ok(nothing)
            }
            "IpamDriver.RequestAddress" => {
                Ok(self.request_address(&decode::<OfAddress>(method, body)?).await?)
            }
            "IpamDriver.ReleaseAddress" => {
                self.release_address(&decode::<OfAddress>(method, body)?);
                Ok(nothing)
            }
            _ => Err(Refusal {
                status: StatusCode::NOT_FOUND,
                error: Error::unsupported(format_args!("netd has no method {method}")),
            }),
        }
    }
}
