//! JSON that is not what was expected, said in one sentence: which member, and what it should be.

use serde::de::IgnoredAny;
use serde_json::{Error, error::Category};

mod address;
mod by_name;

pub use address::why;
pub use by_name::ByName;

/// What is wrong with a document of which the decoder said `error`.
pub fn sentence(json: &str, error: &Error) -> String {
    let said = error.to_string();
    if error.classify() != Category::Data {
        // So it says of what is no text where one of several words is wanted.
        let is_json = || serde_json::from_str::<IgnoredAny>(json).is_ok();
        if said.starts_with("expected value") && is_json() {
            return format!("{} should be a string", whole(&member(read(json, error)).0));
        }
        return said;
    }
    let said = said.rsplit_once(" at line ").map_or(said.as_str(), |(said, _)| said);
    let read = read(json, error);
    let (place, text) = member(read);
    let explained = why(text, said);
    if explained != said {
        // It may have been refused once what it stands in was read to its end.
        let (place, _) = member(read.strip_suffix(['}', ']']).unwrap_or(read));
        return format!("invalid {} {text:?}: {explained}", whole(&place));
    }
    worded(&place, said)
}

/// As much of a document as was read.
fn read<'a>(json: &'a str, error: &Error) -> &'a str {
    let Some(before) = error.line().checked_sub(1) else { return "" };
    let start: usize = json.split_inclusive('\n').take(before).map(str::len).sum();
    let end = start + error.column();
    (0..=end.min(json.len())).rev().find_map(|end| json.get(..end)).unwrap_or_default()
}

/// Where in a document one is: in an object, behind which key, or in a list, at which place.
enum Place {
    Object(Option<String>),
    List(usize),
}

/// The member that was read last, such as `ports[0].host_port`; empty for the whole document. Beside it
/// the last text.
fn member(read: &str) -> (String, &str) {
    let mut places = Vec::new();
    let mut rest = read.char_indices();
    let mut text = "";
    while let Some((at, letter)) = rest.next() {
        // What is refused as a whole is not gone into.
        let is_last = rest.as_str().is_empty();
        match (letter, places.last_mut()) {
            ('{', _) if !is_last => places.push(Place::Object(None)),
            ('[', _) if !is_last => places.push(Place::List(0)),
            ('}' | ']', _) => drop(places.pop()),
            (',', Some(Place::Object(key))) => *key = None,
            (',', Some(Place::List(place))) => *place += 1,
            (':', Some(Place::Object(key))) => *key = Some(text.to_owned()),
            ('"', _) => {
                while let Some((_, letter)) = rest.next()
                    && letter != '"'
                {
                    if letter == '\\' {
                        rest.next();
                    }
                }
                text = read.get(at + 1..rest.offset().saturating_sub(1)).unwrap_or_default();
            }
            _ => {}
        }
    }
    let mut member = String::new();
    for place in places {
        match place {
            Place::Object(Some(key)) => member = joined(&member, &key),
            Place::Object(None) => {}
            Place::List(place) => member += &format!("[{place}]"),
        }
    }
    (member, text)
}

fn whole(member: &str) -> &str {
    if member.is_empty() { "the document" } else { member }
}

fn joined(member: &str, key: &str) -> String {
    if member.is_empty() { key.to_owned() } else { format!("{member}.{key}") }
}

/// The decoder's words in those of who wrote the document.
fn worded(member: &str, said: &str) -> String {
    if let Some(key) = said.strip_prefix("missing field ") {
        return format!("{} is missing", joined(member, key.trim_matches('`')));
    }
    let whole = whole(member);
    if let Some((is, expected)) = said.split_once(", expected ") {
        let kinds = ["invalid type: ", "invalid value: ", "unknown variant "];
        let expected = kind(expected);
        if let Some(is) = kinds.iter().find_map(|kind| is.strip_prefix(kind)) {
            return format!("{whole} should be {expected}, not {}", value(is));
        }
        if is.starts_with("invalid length ") {
            return format!("{whole} should be {expected}");
        }
    }
    if member.is_empty() { said.to_owned() } else { format!("{member}: {said}") }
}

/// What was expected, by what the decoder calls it.
fn kind(expected: &str) -> String {
    let number = |most: &dyn std::fmt::Display| format!("a whole number from 0 to {most}");
    match expected.split(' ').next().unwrap_or_default() {
        "u8" => number(&u8::MAX),
        "u16" => number(&u16::MAX),
        "u32" => number(&u32::MAX),
        "u64" | "usize" => "a whole number from 0 up".to_owned(),
        "i8" | "i16" | "i32" | "i64" => "a whole number".to_owned(),
        "struct" | "map" => "an object".to_owned(),
        "sequence" | "tuple" => "a list".to_owned(),
        _ => match expected {
            "a nonzero u16" => format!("a whole number from 1 to {}", u16::MAX),
            "a map" => "an object".to_owned(),
            "a sequence" => "a list".to_owned(),
            "a boolean" => "true or false".to_owned(),
            other => other.replace('`', "\""),
        },
    }
}

/// What was there, as it was written.
fn value(is: &str) -> String {
    let bare = |word: &str| {
        let rest = is.strip_prefix(word)?.strip_prefix(' ')?;
        Some(rest.trim_matches('`').to_owned())
    };
    match is {
        "map" => "an object".to_owned(),
        "sequence" => "a list".to_owned(),
        _ => ["integer", "floating point", "boolean", "string", "character"]
            .into_iter()
            .find_map(bare)
            .unwrap_or_else(|| is.replace('`', "\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{endpoint::Attach, network::CreateNetwork};

    fn of<T: serde::de::DeserializeOwned>(json: &str) -> String {
        sentence(json, &serde_json::from_str::<ByName<T>>(json).err().expect("it is wrong"))
    }

    #[test]
    fn the_member_and_what_it_should_be_are_named() {
        let attach = |rest: &str| {
            of::<Attach>(&format!(r#"{{"network":"app","container":{{"id":"c"}},{rest}}}"#))
        };
        let cases = [
            (of::<CreateNetwork>("{}"), "name is missing"),
            (of::<CreateNetwork>("[]"), "the document should be an object, not a list"),
            (of::<CreateNetwork>(r#"["posi"]"#), "the document should be an object, not a list"),
            (
                of::<CreateNetwork>(r#"{"name":"a","subnets":[["10.9.0.0/24"]]}"#),
                "subnets[0] should be an object, not a list",
            ),
            (
                of::<Attach>(r#"{"network":"app","container":["x"]}"#),
                "container should be an object, not a list",
            ),
            (attach(r#""ports":[[80,80]]"#), "ports[0] should be an object, not a list"),
            (
                attach(r#""ports":[{"container_port":80,"protocol":80}]"#),
                "ports[0].protocol should be a string",
            ),
            (of::<CreateNetwork>("7"), "the document should be an object, not 7"),
            (of::<CreateNetwork>(r#"{"name":7}"#), "name should be a string, not 7"),
            (of::<CreateNetwork>(r#"{"name":{}}"#), "name should be a string, not an object"),
            (of::<CreateNetwork>(r#"{"name":[1]}"#), "name should be a string, not a list"),
            (of::<CreateNetwork>(r#"{"name":null}"#), "name should be a string, not null"),
            (
                of::<CreateNetwork>("{\n \"name\": \"a\\\"b{\",\n\"internal\" : \"yes\"\n}"),
                "internal should be true or false, not \"yes\"",
            ),
            (
                of::<CreateNetwork>(r#"{"name":"a","options":{"é":"x","mtu":1500}}"#),
                "options.mtu should be a string, not 1500",
            ),
            (
                of::<CreateNetwork>(r#"{"name":"a","subnets":{}}"#),
                "subnets should be a list, not an object",
            ),
            (of::<CreateNetwork>(r#"{"name":"a","subnets":[{}]}"#), "subnets[0].subnet is missing"),
            (
                attach(r#""ports":[{"container_port":1},{"container_port":99999}]"#),
                "ports[1].container_port should be a whole number from 1 to 65535, not 99999",
            ),
            (
                attach(r#""ports":[{"container_port":80,"protocol":"ip"}]"#),
                "ports[0].protocol should be one of \"tcp\", \"udp\", \"sctp\", not \"ip\"",
            ),
            (attach(r#""ports":[1.5]"#), "ports[0] should be an object, not 1.5"),
            (
                attach(r#""addresses":["10.9.0.2","10.1.1.1.1"]"#),
                "invalid addresses[1] \"10.1.1.1.1\": it should be an IP address, such as 10.9.0.2",
            ),
            (
                of::<CreateNetwork>(r#"{"name":"a","subnets":[{"subnet":"10.9.0.0/33"}]}"#),
                "invalid subnets[0].subnet \"10.9.0.0/33\": the prefix length \"33\" should be from 0 to 32",
            ),
            (
                attach(r#""assigned":{"addresses":["10.9.0.2/24", "10.9.0.2/x"]}"#),
                "invalid assigned.addresses[1] \"10.9.0.2/x\": the prefix length \"x\" should be from 0 to 32",
            ),
            (
                of::<CreateNetwork>(
                    r#"{"name":"a","subnets":[{"subnet":"fd00::/129","gateway":"fd00::1"}]}"#,
                ),
                "invalid subnets[0].subnet \"fd00::/129\": the prefix length \"129\" should be from 0 to 128",
            ),
            (
                of::<CreateNetwork>(r#"{"name":"a","subnets":[{"subnet":"10.9.0/24"}]}"#),
                "invalid subnets[0].subnet \"10.9.0/24\": \"10.9.0\" is no IP address",
            ),
            (
                of::<CreateNetwork>(r#"{"name":"a","subnets":[{"subnet":""}]}"#),
                "invalid subnets[0].subnet \"\": it should be an address and a prefix length, such as \
                 10.9.0.0/24",
            ),
            (of::<Attach>(r#"{"network":"app","container":{}}"#), "container.id is missing"),
        ];
        for (said, expected) in cases {
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn what_is_no_json_is_said_with_its_place() {
        assert_eq!(of::<CreateNetwork>("{x}"), "key must be a string at line 1 column 2");
    }
}
