//! What a runtime says in the environment. An empty variable is none: libcni empties those that a
//! verb does not use.

use std::{collections::BTreeMap, ffi::OsString, path::PathBuf};

use super::refusal::{Refusal, Result};
use crate::{ContainerId, IfName};

/// What a runtime wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Verb {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// Whether it is about one attachment.
    fn is_about_one(self) -> bool {
        matches!(self, Self::Add | Self::Del | Self::Check)
    }
}

/// An attachment, as the environment names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Attachment {
    /// `CNI_CONTAINERID`.
    pub(super) container: ContainerId,
    /// `CNI_IFNAME`.
    pub(super) ifname: IfName,
    /// `CNI_NETNS`; a DEL may have none.
    pub(super) netns: Option<String>,
    /// `CNI_ARGS`.
    pub(super) args: BTreeMap<String, String>,
    /// `CNI_NETNS_OVERRIDE`: the namespace may be the plugin's own.
    pub(super) own_netns: bool,
}

/// What the environment says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Environment {
    pub(super) verb: Verb,
    /// Of an ADD, DEL or CHECK.
    pub(super) attachment: Option<Attachment>,
    /// `CNI_PATH`: where other plugins are.
    pub(super) path: Vec<PathBuf>,
}

/// The keys of `CNI_ARGS` that are understood; others are refused unless `IgnoreUnknown` is among
/// them.
const ARGS: [&str; 4] = ["IgnoreUnknown", "IP", "MAC", "GATEWAY"];

/// Keys that begin like this are Kubernetes' and Podman's.
const POD: &str = "K8S_POD_";

impl Environment {
    /// Reads it. `get` gives a variable.
    ///
    /// # Errors
    /// One that names every variable that is missing, otherwise the first that is wrong.
    pub(super) fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Self> {
        let variable = |name: &str| -> Result<Option<String>> {
            match get(name).filter(|value| !value.is_empty()) {
                None => Ok(None),
                Some(value) => value.into_string().map(Some).map_err(|value| {
                    wrong(format_args!("invalid {name} {}: it is no text", value.display()))
                }),
            }
        };
        let command = variable("CNI_COMMAND")?.unwrap_or_default();
        let verb = Verb::parse(&command).ok_or_else(|| {
            wrong(format_args!(
                "invalid CNI_COMMAND {command:?}: it should be ADD, DEL, CHECK, GC, STATUS or VERSION"
            ))
        })?;
        let path = variable("CNI_PATH")?.unwrap_or_default();
        let path = path.split(':').filter(|part| !part.is_empty()).map(PathBuf::from).collect();
        let attachment = verb.is_about_one().then(|| attachment(verb, &variable)).transpose()?;
        Ok(Self { verb, attachment, path })
    }
}

fn wrong(msg: impl std::fmt::Display) -> Refusal {
    Refusal::new(Refusal::ENVIRONMENT, msg)
}

fn attachment(
    verb: Verb,
    variable: &impl Fn(&str) -> Result<Option<String>>,
) -> Result<Attachment> {
    let container = variable("CNI_CONTAINERID")?;
    let ifname = variable("CNI_IFNAME")?;
    let netns = variable("CNI_NETNS")?;
    let missing: Vec<_> = [
        ("CNI_CONTAINERID", container.is_none()),
        ("CNI_NETNS", netns.is_none() && verb != Verb::Del),
        ("CNI_IFNAME", ifname.is_none()),
    ]
    .into_iter()
    .filter_map(|(name, missing)| missing.then_some(name))
    .collect();
    let (Some(container), Some(ifname), true) = (container, ifname, missing.is_empty()) else {
        return Err(wrong(format_args!(
            "{} needs the environment variable{} {}",
            verb.as_str(),
            if missing.len() == 1 { "" } else { "s" },
            missing.join(", ")
        )));
    };
    let named = |name: &str, error: &dyn std::fmt::Display| wrong(format_args!("{name}: {error}"));
    let own_netns = variable("CNI_NETNS_OVERRIDE")?;
    Ok(Attachment {
        container: container.parse().map_err(|error| named("CNI_CONTAINERID", &error))?,
        ifname: ifname.parse().map_err(|error| named("CNI_IFNAME", &error))?,
        netns,
        // A DEL succeeds whatever else was asked for.
        args: match variable("CNI_ARGS")? {
            Some(text) if verb != Verb::Del => args(&text)?,
            _ => BTreeMap::new(),
        },
        own_netns: own_netns.is_some_and(|text| text == "1" || text.eq_ignore_ascii_case("true")),
    })
}

/// `KEY=VALUE;KEY=VALUE`.
fn args(text: &str) -> Result<BTreeMap<String, String>> {
    let mut args = BTreeMap::new();
    for pair in text.split(';') {
        let (key, value) = pair.split_once('=').ok_or_else(|| {
            wrong(format_args!("invalid CNI_ARGS {text:?}: {pair:?} is no KEY=VALUE"))
        })?;
        args.insert(key.to_owned(), value.to_owned());
    }
    let lenient = match args.get("IgnoreUnknown").map(String::as_str) {
        None | Some("0" | "false" | "False" | "FALSE") => false,
        Some("1" | "true" | "True" | "TRUE") => true,
        Some(other) => {
            return Err(wrong(format_args!(
                "invalid CNI_ARGS {text:?}: IgnoreUnknown={other} should be 1 or 0"
            )));
        }
    };
    let known = |key: &str| ARGS.contains(&key) || key.starts_with(POD);
    match args.keys().find(|key| !lenient && !known(key)) {
        None => Ok(args),
        Some(key) => Err(wrong(format_args!(
            "invalid CNI_ARGS {text:?}: {key} is not known; IgnoreUnknown=1 has it passed over"
        ))),
    }
}

#[cfg(test)]
mod tests;
