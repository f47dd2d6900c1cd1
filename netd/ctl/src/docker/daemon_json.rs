//! dockerd's `daemon.json`, of which one address in one list is ours. The text around it is somebody
//! else's, comments of their editor and all, so it is changed where it has to be and nowhere else; what
//! was put in is taken out again to the byte.

use std::{collections::BTreeMap, net::IpAddr, ops::Range};

use serde_json::value::RawValue;

/// The list.
const KEY: &str = "dns";

/// What a file of nobody else's holds.
fn alone(server: IpAddr) -> String {
    format!("{{\n    \"{KEY}\": [\"{server}\"]\n}}\n")
}

/// The rest of the file that an empty one has become.
fn after_alone(text: &str, server: IpAddr) -> Option<&str> {
    text.strip_prefix(&alone(server)).filter(|rest| rest.trim().is_empty())
}

/// What had to be made for a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    /// The file.
    File,
    /// The list, in a file that was there.
    List,
    /// Nothing but the server's place in a list that was there.
    Place,
}

/// The text with a server in front of those that are there, and what that took; none when it is there
/// already.
///
/// # Errors
/// Why the text is none that dockerd would read.
pub(super) fn with(text: Option<&str>, server: IpAddr) -> Result<Option<(String, Made)>, String> {
    let Some(text) = text else { return Ok(Some((alone(server), Made::File))) };
    if text.trim().is_empty() {
        return Ok(Some((alone(server) + text, Made::List)));
    }
    let members = members(text)?;
    let entry = format!("\"{server}\"");
    let Some(list) = members.get(KEY) else {
        let member = format!("\"{KEY}\": [{entry}]");
        let at = text.find('{').map_or(0, |brace| brace + 1);
        let put = if members.is_empty() { member } else { format!("\n    {member},") };
        return Ok(Some((spliced(text, at..at, &put), Made::List)));
    };
    let servers = servers(list)?;
    if servers.iter().any(|own| is(own, server)) {
        return Ok(None);
    }
    let at = place(text, list).start + 1;
    let put = if servers.is_empty() { entry } else { entry + "," };
    Ok(Some((spliced(text, at..at, &put), Made::Place)))
}

/// The text without the server and what was made for it; as it is when the server is not there, and
/// none when nothing of anybody's is left of a file that was made.
///
/// # Errors
/// As [`with`].
pub(super) fn without(text: &str, server: IpAddr, made: Made) -> Result<Option<String>, String> {
    if let Some(rest) = after_alone(text, server) {
        return Ok(Some(rest.to_owned()).filter(|_| made != Made::File));
    }
    if text.trim().is_empty() {
        return Ok(Some(text.to_owned()));
    }
    let members = members(text)?;
    let Some(list) = members.get(KEY) else { return Ok(Some(text.to_owned())) };
    let servers = servers(list)?;
    let Some(own) = servers.iter().find(|own| is(own, server)) else {
        return Ok(Some(text.to_owned()));
    };
    let cut = if servers.len() > 1 || made == Made::Place {
        with_its_comma(text, place(text, own))
    } else {
        let value = place(text, list);
        let key = text[..value.start].rfind(&format!("\"{KEY}\""));
        let start = key.ok_or_else(|| format!("{KEY:?} is written in a way that is not known"))?;
        with_its_comma(text, start..value.end)
    };
    Ok(Some(spliced(text, cut, "")))
}

/// The bridge that dockerd is told to take for its own, if it is told one.
///
/// # Errors
/// As [`with`].
pub(super) fn bridge(text: &str) -> Result<Option<String>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let given = members(text)?.get("bridge").map(|value| serde_json::from_str(value.get()));
    given.transpose().map_err(|_| "\"bridge\" is no text".to_owned())
}

fn members(text: &str) -> Result<BTreeMap<String, &RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
}

fn servers(list: &RawValue) -> Result<Vec<&RawValue>, String> {
    let servers: Vec<&RawValue> =
        serde_json::from_str(list.get()).map_err(|_| format!("{KEY:?} is no list"))?;
    match servers.iter().find(|server| address(server).is_none()) {
        Some(bad) => Err(format!("{bad} among its {KEY:?} is no address")),
        None => Ok(servers),
    }
}

fn address(value: &RawValue) -> Option<IpAddr> {
    let text: Option<String> = serde_json::from_str(value.get()).ok();
    text.and_then(|text| text.parse().ok())
}

fn is(value: &RawValue, server: IpAddr) -> bool {
    address(value) == Some(server)
}

/// Where in a text a value of it stands.
fn place(text: &str, value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr() as usize - text.as_ptr() as usize;
    start..start + value.get().len()
}

/// A member or an element, with the comma after it or, where it is the last of several, before.
fn with_its_comma(text: &str, own: Range<usize>) -> Range<usize> {
    let before = text[..own.start].trim_end();
    let after = &text[own.end..];
    match after.trim_start().strip_prefix(',') {
        Some(rest) => before.len()..text.len() - rest.len(),
        None if before.ends_with(',') => before.len() - 1..own.end,
        None => before.len()..own.end,
    }
}

fn spliced(text: &str, at: Range<usize>, put: &str) -> String {
    format!("{}{put}{}", &text[..at.start], &text[at.end..])
}

#[cfg(test)]
mod tests;
