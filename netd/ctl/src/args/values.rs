//! The values of options that are more than a text.

use std::{collections::BTreeMap, path::PathBuf};

use cnm::Error;
use ipnetwork::IpNetwork;

/// `K=V`, or `K` alone for one without a value.
pub(crate) type Pair = (String, String);

/// Reads a [`Pair`].
pub(crate) fn pair(text: &str) -> Result<Pair, Error> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err(Error::invalid("the name before '=' is empty"));
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// Reads a filter, which always has a value.
pub(crate) fn filter(text: &str) -> Result<Pair, Error> {
    match text.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_lowercase(), value.trim().to_owned())),
        None => Err(Error::invalid("bad format of filter (expected name=value)")),
    }
}

/// Filters by key, as the protocol has them.
pub(crate) fn filters(pairs: Vec<Pair>) -> BTreeMap<String, Vec<String>> {
    let mut by_key = BTreeMap::<_, Vec<_>>::new();
    for (key, value) in pairs {
        by_key.entry(key).or_default().push(value);
    }
    by_key
}

/// Reads addresses with a prefix length; a single address is none.
pub(crate) fn cidr(text: &str) -> Result<IpNetwork, Error> {
    let parsed = if text.contains('/') { text.parse().ok() } else { None };
    parsed.ok_or_else(|| {
        Error::invalid(format_args!("invalid CIDR address {text:?}: it should be like 10.1.0.0/24"))
    })
}

/// Where a network namespace is: a path, or `PID:N` for that of a process.
pub(crate) fn netns(text: &str) -> Result<PathBuf, Error> {
    match text.strip_prefix("PID:").or_else(|| text.strip_prefix("pid:")) {
        Some(pid) => {
            let pid: u32 = pid.parse().map_err(|_| {
                Error::invalid(format_args!("invalid process {pid:?}: it should be a number"))
            })?;
            Ok(format!("/proc/{pid}/ns/net").into())
        }
        None => Ok(text.into()),
    }
}
