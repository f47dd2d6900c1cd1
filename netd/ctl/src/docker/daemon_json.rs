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

/// The text with a server in front of those that are there; none when it is there already.
///
/// # Errors
/// Why the text is none that dockerd would read.
pub(super) fn with(text: Option<&str>, server: IpAddr) -> Result<Option<String>, String> {
    let Some(text) = text.filter(|text| !text.trim().is_empty()) else {
        return Ok(Some(alone(server)));
    };
    let members = members(text)?;
    let entry = format!("\"{server}\"");
    let Some(list) = members.get(KEY) else {
        let member = format!("\"{KEY}\": [{entry}]");
        let at = text.find('{').map_or(0, |brace| brace + 1);
        let put = if members.is_empty() { member } else { format!("\n    {member},") };
        return Ok(Some(spliced(text, at..at, &put)));
    };
    let servers = servers(list)?;
    if servers.iter().any(|own| is(own, server)) {
        return Ok(None);
    }
    let at = place(text, list).start + 1;
    let put = if servers.is_empty() { entry } else { entry + "," };
    Ok(Some(spliced(text, at..at, &put)))
}

/// The text without the server; none when it is not there.
///
/// # Errors
/// As [`with`].
pub(super) fn without(text: &str, server: IpAddr) -> Result<Option<Left>, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    if text == alone(server) {
        return Ok(Some(Left::Nothing));
    }
    let members = members(text)?;
    let Some(list) = members.get(KEY) else { return Ok(None) };
    let servers = servers(list)?;
    let Some(own) = servers.iter().find(|own| is(own, server)) else { return Ok(None) };
    let cut = if servers.len() > 1 {
        with_its_comma(text, place(text, own))
    } else {
        let value = place(text, list);
        let key = text[..value.start].rfind(&format!("\"{KEY}\""));
        let start = key.ok_or_else(|| format!("{KEY:?} is written in a way that is not known"))?;
        with_its_comma(text, start..value.end)
    };
    Ok(Some(Left::Text(spliced(text, cut, ""))))
}

/// What is left of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Nothing of anybody's.
    Nothing,
    /// What is others'.
    Text(String),
}

fn members(text: &str) -> Result<BTreeMap<String, &RawValue>, String> {
    serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))
}

fn servers(list: &RawValue) -> Result<Vec<&RawValue>, String> {
    serde_json::from_str(list.get()).map_err(|_| format!("{KEY:?} is no list"))
}

fn is(value: &RawValue, server: IpAddr) -> bool {
    let text: Option<String> = serde_json::from_str(value.get()).ok();
    text.and_then(|text| text.parse().ok()) == Some(server)
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
