//! The part of Docker's `--format` that scripts use: `{{.Name}}` and its like in a text.

use cnm::{Error, Result, docker, network::Network};
use serde_json::json;

/// A text with fields in it.
#[derive(Debug)]
pub(crate) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    Field(Field),
    /// The value of one label.
    Label(String),
    /// All fields, as one JSON object.
    Json,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    CreatedAt,
    Driver,
    Id,
    IPv4,
    IPv6,
    Internal,
    Labels,
    Name,
    Scope,
}

impl Field {
    /// In the order of their names, which is that of Docker's JSON.
    const ALL: [(&str, Self); 9] = [
        ("CreatedAt", Self::CreatedAt),
        ("Driver", Self::Driver),
        ("ID", Self::Id),
        ("IPv4", Self::IPv4),
        ("IPv6", Self::IPv6),
        ("Internal", Self::Internal),
        ("Labels", Self::Labels),
        ("Name", Self::Name),
        ("Scope", Self::Scope),
    ];

    fn heading(self) -> &'static str {
        match self {
            Self::CreatedAt => "CREATED AT",
            Self::Driver => "DRIVER",
            Self::Id => "NETWORK ID",
            Self::IPv4 => "IPV4",
            Self::IPv6 => "IPV6",
            Self::Internal => "INTERNAL",
            Self::Labels => "LABELS",
            Self::Name => "NAME",
            Self::Scope => "SCOPE",
        }
    }

    fn value(self, network: &Network, whole_ids: bool) -> String {
        match self {
            Self::CreatedAt => created_at(&network.created),
            Self::Driver => docker::driver(network).to_owned(),
            Self::Id if whole_ids => network.id.to_string(),
            Self::Id => network.id.short().to_owned(),
            Self::IPv4 => docker::ipv4(network).to_string(),
            Self::IPv6 => docker::ipv6(network).to_string(),
            Self::Internal => network.internal.to_string(),
            Self::Labels => {
                let labels: Vec<_> =
                    network.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
                labels.join(",")
            }
            Self::Name => network.name.to_string(),
            Self::Scope => docker::scope(network).to_owned(),
        }
    }
}

/// `2026-01-02T03:04:05.6Z` as Go prints a time: `2026-01-02 03:04:05.6 +0000 UTC`.
fn created_at(rfc3339: &str) -> String {
    match rfc3339.strip_suffix('Z').and_then(|time| time.split_once('T')) {
        Some((day, time)) => format!("{day} {time} +0000 UTC"),
        None => rfc3339.to_owned(),
    }
}

impl Template {
    /// Reads a template. As Docker does, it takes `\t` and `\n` for what they stand for.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut pieces = Vec::new();
        let mut rest = text.as_str();
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((action, after)) = after.split_once("}}") else {
                return Err(Error::invalid(format_args!(
                    "invalid format: {{{{{after} is not closed"
                )));
            };
            pieces.push(Piece::Text(before.to_owned()));
            pieces.push(Piece::parse(action.trim())?);
            rest = after;
        }
        pieces.push(Piece::Text(rest.to_owned()));
        Ok(Self { pieces })
    }

    /// What stands above it in a table.
    pub(crate) fn heading(&self) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Field(field) => field.heading(),
                Piece::Label(key) => key.as_str(),
                Piece::Json => "",
            })
            .collect()
    }

    /// It filled in.
    pub(crate) fn fill(&self, network: &Network, whole_ids: bool) -> String {
        self.pieces
            .iter()
            .map(|piece| match piece {
                Piece::Text(text) => text.clone(),
                Piece::Field(field) => field.value(network, whole_ids),
                Piece::Label(key) => network.labels.get(key).cloned().unwrap_or_default(),
                Piece::Json => {
                    let fields = Field::ALL
                        .into_iter()
                        .map(|(name, field)| {
                            (name.to_owned(), json!(field.value(network, whole_ids)))
                        })
                        .collect();
                    serde_json::Value::Object(fields).to_string()
                }
            })
            .collect()
    }
}

impl Piece {
    fn parse(action: &str) -> Result<Self> {
        let words: Vec<&str> = action.split_whitespace().collect();
        let known = match words[..] {
            ["json", "."] => Some(Self::Json),
            [".Label", key] => {
                let key = key.strip_prefix('"').and_then(|key| key.strip_suffix('"'));
                key.map(|key| Self::Label(key.to_owned()))
            }
            [word] => word.strip_prefix('.').and_then(|name| {
                let found = Field::ALL.into_iter().find(|(known, _)| *known == name);
                found.map(|(_, field)| Self::Field(field))
            }),
            _ => None,
        };
        known.ok_or_else(|| {
            let names: Vec<_> = Field::ALL.iter().map(|(name, _)| format!(".{name}")).collect();
            Error::unsupported(format_args!(
                "cannot format {{{{{action}}}}}: there are {}, .Label \"KEY\" and json .",
                names.join(", ")
            ))
        })
    }
}
