//! HTTP/1.1 on a unix socket, as little of it as the dialects need: a request is read whole, and an
//! answer is a status and a document, or what comes as it comes.

use std::{
    convert::Infallible,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Body, Bytes, Frame, Incoming, SizeHint},
    header::{CONTENT_TYPE, HeaderName, HeaderValue},
    server::conn::http1,
    service,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
};

use crate::server::Peer;

/// The largest body that is read.
const MAX_BODY: usize = 1 << 20;

/// A request.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) method: Method,
    pub(super) path: String,
    /// What follows the path, still encoded.
    pub(super) query: String,
    /// What the body is said to be.
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

impl Question {
    /// A parameter of the query, decoded; empty where there is none.
    pub(super) fn parameter(&self, name: &str) -> String {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        let found = pairs.find(|(key, _)| *key == name);
        found.map(|(_, value)| decoded(value)).unwrap_or_default()
    }
}

/// A text of a query without its percents and pluses (application/x-www-form-urlencoded).
fn decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let escaped = || u8::from_str_radix(std::str::from_utf8(after.get(..2)?).ok()?, 16).ok();
        bytes.push(match (first, escaped()) {
            (b'%', Some(byte)) => {
                rest = &after[2..];
                byte
            }
            (b'+', _) => b' ',
            _ => *first,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// An answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) content_type: &'static str,
    pub(super) body: String,
    /// What is said besides.
    pub(super) headers: Vec<(&'static str, String)>,
    /// What follows the body, for as long as somebody has more to say.
    pub(super) flow: Option<mpsc::Receiver<String>>,
}

/// Who answers.
pub(super) trait Dialect: 'static {
    /// What a request of somebody who may ask gives.
    fn answer(self: Rc<Self>, question: Question) -> impl Future<Output = Answer>;

    /// What who may not ask is told, and who sends too much.
    fn refuse(&self, status: StatusCode, why: &str) -> Answer;
}

/// Answers everybody, for as long as netd runs.
pub(super) async fn serve<D: Dialect>(listener: UnixListener, dialect: Rc<D>) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::task::spawn_local(converse(stream, dialect.clone()));
            }
            Err(error) => {
                // Out of descriptors: those who are connected go on, and free some.
                tracing::error!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn converse<D: Dialect>(stream: UnixStream, dialect: Rc<D>) {
    let peer = Peer::of(&stream);
    let answer = service::service_fn(move |request: Request<Incoming>| {
        let dialect = dialect.clone();
        async move {
            let answer = match peer.allow(request.uri().path()) {
                Ok(()) => ask(dialect, request).await,
                Err(error) => dialect.refuse(StatusCode::FORBIDDEN, &error.message),
            };
            Ok::<_, Infallible>(response(answer))
        }
    });
    if let Err(error) = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await {
        tracing::debug!(%error, "a conversation ended early");
    }
}

async fn ask<D: Dialect>(dialect: Rc<D>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => {
            let said = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
            let question = Question {
                method: parts.method,
                path: parts.uri.path().to_owned(),
                query: parts.uri.query().unwrap_or_default().to_owned(),
                content_type: said.unwrap_or_default().to_owned(),
                body: body.to_bytes(),
            };
            dialect.answer(question).await
        }
        Err(error) => dialect.refuse(StatusCode::PAYLOAD_TOO_LARGE, &error.to_string()),
    }
}

/// The body of an answer on its way: what is there, and then what comes.
struct Content {
    there: Option<Bytes>,
    flow: Option<mpsc::Receiver<String>>,
}

impl Body for Content {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(there) = self.there.take() {
            return Poll::Ready(Some(Ok(Frame::data(there))));
        }
        let Some(flow) = &mut self.flow else { return Poll::Ready(None) };
        let more = ready!(flow.poll_recv(context));
        Poll::Ready(more.map(|text| Ok(Frame::data(text.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.there.is_none() && self.flow.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        let there = self.there.as_ref().map_or(0, |there| there.len() as u64);
        match self.flow {
            None => SizeHint::with_exact(there),
            Some(_) => SizeHint::default(),
        }
    }
}

fn response(answer: Answer) -> Response<Content> {
    let has_document = !answer.body.is_empty() || answer.flow.is_some();
    let there = Some(answer.body).filter(|body| !body.is_empty()).map(Bytes::from);
    let mut response = Response::new(Content { there, flow: answer.flow });
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    if has_document {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(answer.content_type));
    }
    for (name, value) in answer.headers {
        if let Ok(value) = value.try_into() {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_decoded() {
        let question = Question {
            method: Method::GET,
            path: "/networks".into(),
            query: "filters=%7B%22name%22%3A%7B%22a+b%22%3Atrue%7D%7D&scope=&odd=%zz%4".into(),
            content_type: String::new(),
            body: Bytes::new(),
        };
        assert_eq!(question.parameter("filters"), r#"{"name":{"a b":true}}"#);
        assert_eq!((question.parameter("scope"), question.parameter("none")), Default::default());
        assert_eq!(question.parameter("odd"), "%zz%4");
    }
}
