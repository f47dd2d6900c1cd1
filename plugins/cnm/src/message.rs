//! The envelope: JSON-RPC 2.0 with two members of our own, `deadline_ms` and `idempotency_key`.

use std::borrow::Cow;

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::RawValue;

use crate::{
    Error, Result,
    decode::{self, ByName},
};

/// A request's parameters, which know their method and what it answers.
pub trait Call: Serialize + DeserializeOwned {
    /// The name on the wire, such as `network.create`.
    const METHOD: &'static str;
    /// What a successful call gives.
    type Reply: Serialize + DeserializeOwned;
}

/// A reply or parameters without content: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Empty {}

/// What ties a reply to its request: a number or a text.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(untagged, expecting = "it should be a whole number from 0 up, or a string")]
pub enum RequestId {
    /// As netd and its clients count.
    Number(u64),
    /// As others may.
    Text(String),
}

impl From<u64> for RequestId {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

/// One call, on its way out.
#[derive(Clone, Debug, Serialize)]
pub struct Request<'a, P> {
    jsonrpc: &'static str,
    /// Ties the reply to it.
    pub id: RequestId,
    method: &'static str,
    /// The method's parameters.
    pub params: &'a P,
    /// Milliseconds after which the caller no longer wants the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u64>,
    /// The same key makes a repeated request the same request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<&'a str>,
}

impl<'a, P: Call> Request<'a, P> {
    /// A request without deadline and key.
    pub fn new(id: impl Into<RequestId>, params: &'a P) -> Self {
        Self {
            jsonrpc: "2.0",
            id: id.into(),
            method: P::METHOD,
            params,
            deadline_ms: None,
            idempotency_key: None,
        }
    }

    /// The document as one line, with its newline.
    pub fn to_line(&self) -> String {
        line(self)
    }
}

/// One call as it comes in; what it asks is still text, so that each method decodes its own.
#[derive(Debug, Deserialize)]
pub struct Incoming<'a> {
    #[serde(borrow)]
    jsonrpc: Cow<'a, str>,
    /// Absent in a notification.
    #[serde(default)]
    pub id: Option<RequestId>,
    /// The name of the method.
    #[serde(borrow)]
    pub method: Cow<'a, str>,
    /// The parameters, as they were written.
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    /// Milliseconds after which the caller no longer wants the answer.
    #[serde(default)]
    pub deadline_ms: Option<u64>,
    /// The same key makes a repeated request the same request.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

impl<'a> Incoming<'a> {
    /// One document: a request. Text that is no JSON is a `-32700`, JSON that is none a `-32600`.
    pub fn parse(text: &'a str) -> Result<Self> {
        let ByName(request): ByName<Self> =
            serde_json::from_str(text).map_err(|error| match error.classify() {
                serde_json::error::Category::Data => {
                    let why = decode::sentence(text, &error);
                    Error::request(format_args!("not a JSON-RPC request: {why}"))
                }
                _ => Error::parse(format_args!("not a JSON document: {error}")),
            })?;
        if request.jsonrpc != "2.0" {
            return Err(Error::request(format_args!(
                "jsonrpc is {:?}: it should be \"2.0\"",
                request.jsonrpc
            )));
        }
        Ok(request)
    }

    /// One line: a request, or a batch of them (JSON-RPC 2.0, section 6) as its raw members.
    ///
    /// # Errors
    /// A line that is no JSON, and an empty batch.
    pub fn split(line: &'a str) -> Result<Batch<'a>> {
        let line = line.trim_ascii();
        if !line.starts_with('[') {
            return Ok(Batch::One(line));
        }
        let members: Vec<&RawValue> = serde_json::from_str(line)
            .map_err(|error| Error::parse(format_args!("not a JSON document: {error}")))?;
        if members.is_empty() {
            return Err(Error::request("an empty batch asks nothing"));
        }
        Ok(Batch::Many(members.into_iter().map(RawValue::get).collect()))
    }

    /// The parameters of method `P`; missing ones are `{}`.
    pub fn params<P: Call>(&self) -> Result<P> {
        let text = self.params.map_or("{}", RawValue::get);
        if !text.starts_with('{') {
            return Err(Error::invalid(format_args!(
                "{}: the parameters should be an object",
                self.method
            )));
        }
        let ByName(params) = serde_json::from_str(text).map_err(|error| {
            Error::invalid(format_args!("{}: {}", self.method, decode::sentence(text, &error)))
        })?;
        Ok(params)
    }
}

/// What a line holds.
#[derive(Debug)]
pub enum Batch<'a> {
    /// One document.
    One(&'a str),
    /// The documents of a batch, in order.
    Many(Vec<&'a str>),
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Reply<R> {
    jsonrpc: Cow<'static, str>,
    /// The request's; `null` when it had none that could be read.
    pub id: Option<RequestId>,
    /// What the call gave.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub result: Option<R>,
    /// Why it gave nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Error>,
}

fn none<R>() -> Option<R> {
    None
}

impl<R> Reply<R> {
    /// The answer to request `id`.
    pub fn new(id: Option<RequestId>, outcome: Result<R>) -> Self {
        let (result, error) = match outcome {
            Ok(result) => (Some(result), None),
            Err(error) => (None, Some(error)),
        };
        Self { jsonrpc: Cow::Borrowed("2.0"), id, result, error }
    }

    /// What the call gave, or why not.
    pub fn outcome(self) -> Result<R> {
        match (self.result, self.error) {
            (_, Some(error)) => Err(error),
            (Some(result), None) => Ok(result),
            (None, None) => Err(Error::request("a reply with neither result nor error")),
        }
    }
}

impl<R: Serialize> Reply<R> {
    /// The document, without a newline.
    pub fn to_text(&self) -> String {
        let mut text = line(self);
        text.pop();
        text
    }
}

/// Any message as one line, with its newline.
pub(crate) fn line(message: &impl Serialize) -> String {
    let mut text = serde_json::to_string(message).expect("maps with text keys only");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::InspectNetwork;

    #[test]
    fn a_request_survives_the_wire() {
        let params = InspectNetwork { network: "app".into() };
        let mut request = Request::new(7, &params);
        request.deadline_ms = Some(250);
        request.idempotency_key = Some("k");
        let line = request.to_line();
        let incoming = Incoming::parse(&line).expect("a request");
        assert_eq!(incoming.id, Some(RequestId::Number(7)));
        assert_eq!(incoming.method, "network.inspect");
        assert_eq!(incoming.deadline_ms, Some(250));
        assert_eq!(incoming.idempotency_key.as_deref(), Some("k"));
        assert_eq!(incoming.params::<InspectNetwork>().expect("params").network, "app");
    }

    #[test]
    fn what_is_no_request_says_so() {
        for (text, code) in [
            ("", -32700),
            ("{", -32700),
            ("\u{0}", -32700),
            ("1", -32600),
            ("{}", -32600),
            (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":{},"method":"x"}"#, -32600),
            (r#"{"jsonrpc":"2.0","id":1,"method":3}"#, -32600),
        ] {
            assert_eq!(Incoming::parse(text).expect_err(text).code, code, "{text}");
        }
        let wrong = r#"{"jsonrpc":"2.0","id":1,"method":"network.inspect","params":{"network":1}}"#;
        let error =
            Incoming::parse(wrong).expect("ok").params::<InspectNetwork>().expect_err("wrong type");
        assert_eq!(error.code, -32602);
        assert_eq!(error.message, "network.inspect: network should be a string, not 1");
    }

    #[test]
    fn an_id_that_is_none_is_named_with_what_it_should_be() {
        for id in ["-1", "{}", "1.5", "true"] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"x"}}"#);
            let error = Incoming::parse(&text).expect_err(id);
            let why = "id: it should be a whole number from 0 up, or a string";
            assert_eq!(error.message, format!("not a JSON-RPC request: {why}"));
        }
    }

    #[test]
    fn a_batch_is_split_and_an_empty_one_refused() {
        assert!(matches!(Incoming::split(" {} "), Ok(Batch::One("{}"))));
        assert!(matches!(Incoming::split("[1, {}]"), Ok(Batch::Many(m)) if m == ["1", "{}"]));
        assert_eq!(Incoming::split("[]").expect_err("empty").code, -32600);
        assert_eq!(Incoming::split("[1").expect_err("torn").code, -32700);
    }
}
