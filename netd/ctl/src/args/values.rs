//! The values of options that are more than a text.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr, ToSocketAddrs as _},
    path::PathBuf,
    str::FromStr,
};

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

/// Reads a time such as `90s`, `10m`, `24h` or `7d`, as seconds.
pub(crate) fn duration(text: &str) -> Result<u64, Error> {
    let wrong = || {
        Error::invalid(format_args!("invalid time {text:?}: it should be like 90s, 10m, 24h or 7d"))
    };
    let unit = match text.chars().last() {
        Some('s') => 1,
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        _ => return Err(wrong()),
    };
    let number = text.get(..text.len() - 1).and_then(|number| number.parse::<u64>().ok());
    number.filter(|n| *n > 0).and_then(|n| n.checked_mul(unit)).ok_or_else(wrong)
}

/// Reads a number that is not 0.
pub(crate) fn count(text: &str) -> Result<u32, Error> {
    let number = text.parse().ok().filter(|n| *n > 0);
    number.ok_or_else(|| {
        Error::invalid(format_args!("invalid number {text:?}: it should be 1 or more"))
    })
}

/// Reads an address or a name, and a port.
pub(crate) fn place(text: &str) -> Result<SocketAddr, Error> {
    let found = text.to_socket_addrs().map_err(|error| no_place(text, &error));
    found?.next().ok_or_else(|| Error::invalid(format_args!("{text} has no address")))
}

/// Why this is no address and port.
pub(super) fn no_place(text: &str, error: &std::io::Error) -> Error {
    let parts = text.rsplit_once(':').filter(|(host, port)| {
        let is_host = !host.is_empty() && !host.contains([':', '[', ']']);
        is_host && port.parse::<u16>().is_ok()
    });
    match parts {
        Some((host, port)) => Error::invalid(format_args!(
            "no address is known of the host {host}: see whether its name is right and this host resolves it \
             (getent hosts {host}), or name it by its address, as in 10.0.0.1:{port}"
        )),
        None => Error::invalid(format_args!(
            "invalid address {text:?}: {error}; it should be like 10.0.0.1:2377"
        )),
    }
}

/// A name that stands in a container's `/etc/hosts` besides its own, as on Docker's command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExtraHost {
    /// The name.
    pub(crate) name: String,
    /// Where it is; this host itself where it says nothing.
    pub(crate) address: Option<IpAddr>,
}

impl FromStr for ExtraHost {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::invalid(format_args!(
                "invalid host {text:?}: it should be NAME:ADDRESS, or NAME:host-gateway for this host"
            ))
        };
        // With `=`, as Docker has it, too, an address of IPv6 is told apart better.
        let at = text.find([':', '=']).ok_or_else(wrong)?;
        let (name, address) = (&text[..at], &text[at + 1..]);
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && c != '#';
        if name.is_empty() || !name.chars().all(plain) {
            return Err(wrong());
        }
        let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        let address = match address {
            "host-gateway" => None,
            other => Some(bare.unwrap_or(other).parse().map_err(|_| wrong())?),
        };
        Ok(Self { name: name.to_owned(), address })
    }
}

/// Reads an option of resolv.conf(5), which is one word.
pub(crate) fn resolver_option(text: &str) -> Result<String, Error> {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !['#', ';'].contains(&c);
    if text.is_empty() || !text.chars().all(plain) {
        return Err(Error::invalid(format_args!(
            "invalid option {text:?} of resolv.conf: it should be one word, such as ndots:1"
        )));
    }
    Ok(text.to_owned())
}
