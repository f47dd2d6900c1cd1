//! Variables in the values of a Compose file (Compose specification, "Interpolation"): from the
//! environment and from the `.env` beside it.

use std::{collections::HashMap, env};

/// Variables by name.
pub(super) type Variables = HashMap<String, String>;

/// Those of the environment.
pub(super) fn of_environment() -> Variables {
    let utf8 = |(key, value): (std::ffi::OsString, std::ffi::OsString)| {
        Some((key.into_string().ok()?, value.into_string().ok()?))
    };
    env::vars_os().filter_map(utf8).collect()
}

/// Adds those of a `.env` file, as far as the environment has none of their name.
pub(super) fn add_file(variables: &mut Variables, text: &str) {
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
        let line = line.strip_prefix("export ").unwrap_or(line);
        let Some((key, value)) = line.split_once('=') else { continue };
        let value = value.trim();
        let quoted = ['"', '\''].into_iter().find_map(|quote| {
            let rest = value.strip_prefix(quote)?;
            rest.split_once(quote).map(|(inner, _)| inner)
        });
        let value = quoted.unwrap_or_else(|| value.split(" #").next().unwrap_or_default().trim());
        variables.entry(key.trim().to_owned()).or_insert_with(|| value.to_owned());
    }
}

/// A value with what its variables stand for.
///
/// # Errors
/// Why it is none, in words.
pub(super) fn interpolate(text: &str, variables: &Variables) -> Result<String, String> {
    let mut whole = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        whole += before;
        rest = if let Some(after) = after.strip_prefix('$') {
            whole.push('$');
            after
        } else if let Some(inner) = after.strip_prefix('{') {
            let end = end_of(inner).ok_or_else(|| format!("{text:?} has no }} for its ${{"))?;
            whole += &expand(&inner[..end], variables)?;
            &inner[end + 1..]
        } else {
            let end = after.find(|c: char| !is_of_name(c)).unwrap_or(after.len());
            if end == 0 {
                return Err(format!("{text:?} has a $ without a name: write $$"));
            }
            whole += variables.get(&after[..end]).map_or("", String::as_str);
            &after[end..]
        };
    }
    whole += rest;
    Ok(whole)
}

fn is_of_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Where the brace is that closes what has begun.
fn end_of(text: &str) -> Option<usize> {
    let mut open = 0;
    for (at, c) in text.char_indices() {
        match c {
            '{' => open += 1,
            '}' if open == 0 => return Some(at),
            '}' => open -= 1,
            _ => {}
        }
    }
    None
}

fn expand(inner: &str, variables: &Variables) -> Result<String, String> {
    let end = inner.find(|c: char| !is_of_name(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    if name.is_empty() {
        return Err(format!("${{{inner}}} names no variable"));
    }
    let (colon, rest) = match rest.strip_prefix(':') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    // With a colon one that is empty counts as none.
    let value = variables.get(name).filter(|value| !colon || !value.is_empty());
    let mut operator = rest.chars();
    match (operator.next(), value) {
        (None, value) if !colon => Ok(value.cloned().unwrap_or_default()),
        (Some('-' | '?'), Some(value)) => Ok(value.clone()),
        (Some('-'), None) => interpolate(operator.as_str(), variables),
        (Some('?'), None) => {
            let why = operator.as_str();
            Err(format!("{name} is not set{}{why}", if why.is_empty() { "" } else { ": " }))
        }
        (Some('+'), Some(_)) => interpolate(operator.as_str(), variables),
        (Some('+'), None) => Ok(String::new()),
        _ => Err(format!("${{{inner}}} is not understood")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables() -> Variables {
        let mut variables: Variables =
            [("A".to_owned(), "a".to_owned()), ("EMPTY".to_owned(), String::new())].into();
        add_file(&mut variables, "# of the file\nA=b\nB = \"b c\" # d\nexport C=c # d\n\nD\n");
        variables
    }

    #[test]
    fn variables_stand_for_their_values() {
        for (text, value) in [
            ("plain", "plain"),
            ("$A-${A}$$A", "a-a$A"),
            ("${B}|$C|${NONE}|$NONE", "b c|c||"),
            ("${NONE-x}${NONE:-y}${EMPTY-x}${EMPTY:-y}", "xyy"),
            ("${NONE:-${A}}}", "a}"),
            ("${A:+x}${NONE+x}${A:?no}", "xa"),
        ] {
            assert_eq!(interpolate(text, &variables()).as_deref(), Ok(value), "{text}");
        }
        for (text, why) in [
            ("${A", "no }"),
            ("${}", "names no variable"),
            ("$", "without a name"),
            ("${NONE:?say it}", "NONE is not set: say it"),
            ("${A!x}", "not understood"),
        ] {
            let error = interpolate(text, &variables()).expect_err(text);
            assert!(error.contains(why), "{error}");
        }
    }
}
