//! The one error of the protocol: a kind to branch on, a sentence to read, and its operands.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser::SerializeStruct};
use serde_json::Value;

/// What went wrong, in the ten words that callers branch on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The request itself is wrong; the same request will never succeed.
    Invalid,
    /// A thing that it names does not exist.
    NotFound,
    /// A thing that it would make exists, or is held by somebody else.
    Exists,
    /// A pool, a bridge or a range has nothing left.
    Exhausted,
    /// The thing is in use or in the middle of something; try again later.
    Busy,
    /// The caller may not do this.
    Denied,
    /// Neither this version nor this driver can do this.
    Unsupported,
    /// netd, a driver or an upstream is not there, or did not answer in time.
    Unavailable,
    /// The kernel refused; the operands carry `errno` and its own text.
    Kernel,
    /// A fault of netd's own.
    Internal,
}

impl Kind {
    /// Every kind, in the order of the table in `docs/protocol.md`.
    pub const ALL: [Self; 10] = [
        Self::Invalid,
        Self::NotFound,
        Self::Exists,
        Self::Exhausted,
        Self::Busy,
        Self::Denied,
        Self::Unsupported,
        Self::Unavailable,
        Self::Kernel,
        Self::Internal,
    ];

    /// The code of a JSON-RPC error (section 5.1 of that specification).
    pub fn rpc_code(self) -> i32 {
        match self {
            Self::Invalid => -32602,
            Self::NotFound => -32001,
            Self::Exists => -32002,
            Self::Exhausted => -32003,
            Self::Busy => -32004,
            Self::Denied => -32005,
            Self::Unsupported => -32601,
            Self::Unavailable => -32006,
            Self::Kernel => -32007,
            Self::Internal => -32603,
        }
    }

    /// The exit code of a command that ends with this error.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Invalid => 2,
            Self::NotFound => 3,
            Self::Exists => 4,
            Self::Exhausted => 5,
            Self::Busy => 6,
            Self::Denied => 7,
            Self::Unsupported => 8,
            Self::Unavailable => 9,
            Self::Kernel => 10,
            Self::Internal => 1,
        }
    }
}

/// An error as it crosses a process boundary.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What to branch on.
    pub kind: Kind,
    /// The JSON-RPC code; [`Kind::rpc_code`] but for the two faults of framing.
    pub code: i32,
    /// One sentence that says what, which and, where there is something, what to do.
    pub message: String,
    /// What the sentence speaks of, each under its own name.
    pub operands: BTreeMap<String, Value>,
}

/// What a call gives.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error without operands.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Self {
        Self {
            kind,
            code: kind.rpc_code(),
            message: message.to_string(),
            operands: BTreeMap::new(),
        }
    }

    /// Adds what the sentence speaks of.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.operands.insert(name.to_owned(), value.into());
        self
    }

    /// As [`Kind::Invalid`].
    pub fn invalid(message: impl fmt::Display) -> Self {
        Self::new(Kind::Invalid, message)
    }

    /// As [`Kind::NotFound`].
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self::new(Kind::NotFound, message)
    }

    /// As [`Kind::Exists`].
    pub fn exists(message: impl fmt::Display) -> Self {
        Self::new(Kind::Exists, message)
    }

    /// As [`Kind::Unsupported`].
    pub fn unsupported(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unsupported, message)
    }

    /// As [`Kind::Unavailable`].
    pub fn unavailable(message: impl fmt::Display) -> Self {
        Self::new(Kind::Unavailable, message)
    }

    /// As [`Kind::Internal`].
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(Kind::Internal, message)
    }

    /// A line that is no JSON (JSON-RPC 2.0: -32700).
    pub fn parse(message: impl fmt::Display) -> Self {
        Self { code: -32700, ..Self::new(Kind::Invalid, message) }
    }

    /// JSON that is no request (JSON-RPC 2.0: -32600).
    pub fn request(message: impl fmt::Display) -> Self {
        Self { code: -32600, ..Self::new(Kind::Invalid, message) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl Serialize for Error {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Data<'a> {
            kind: Kind,
            #[serde(flatten)]
            operands: &'a BTreeMap<String, Value>,
        }
        let mut error = serializer.serialize_struct("Error", 3)?;
        error.serialize_field("code", &self.code)?;
        error.serialize_field("message", &self.message)?;
        error.serialize_field("data", &Data { kind: self.kind, operands: &self.operands })?;
        error.end()
    }
}

impl<'de> Deserialize<'de> for Error {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            code: i32,
            message: String,
            #[serde(default)]
            data: BTreeMap<String, Value>,
        }
        let Wire { code, message, mut data } = Wire::deserialize(deserializer)?;
        let kind = match data.remove("kind") {
            Some(kind) => serde_json::from_value(kind).map_err(de::Error::custom)?,
            None => {
                Kind::ALL.into_iter().find(|kind| kind.rpc_code() == code).unwrap_or(Kind::Internal)
            }
        };
        Ok(Self { kind, code, message, operands: data })
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Error {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Error".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        let kind = generator.subschema_for::<Kind>();
        schemars::json_schema!({
            "type": "object",
            "description": "A JSON-RPC error object.",
            "required": ["code", "message", "data"],
            "properties": {
                "code": {"type": "integer"},
                "message": {"type": "string"},
                "data": {"type": "object", "required": ["kind"], "properties": {"kind": kind}},
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_survives_the_wire() {
        let error = Error::not_found("network app not found").with("network", "app");
        let json = serde_json::to_string(&error).expect("serialises");
        assert_eq!(
            json,
            r#"{"code":-32001,"message":"network app not found","data":{"kind":"not_found","network":"app"}}"#
        );
        assert_eq!(serde_json::from_str::<Error>(&json).expect("parses"), error);
    }

    #[test]
    fn every_kind_has_codes_of_its_own() {
        for (i, a) in Kind::ALL.iter().enumerate() {
            for b in &Kind::ALL[i + 1..] {
                assert_ne!(a.rpc_code(), b.rpc_code());
                assert_ne!(a.exit_code(), b.exit_code());
            }
            let bare = format!(r#"{{"code":{},"message":"m"}}"#, a.rpc_code());
            assert_eq!(serde_json::from_str::<Error>(&bare).expect("parses").kind, *a);
        }
    }
}
