//! Others that are executed in turn: plugins of drivers that netd does not have, and what the
//! distribution has under the program's own name, for whoever is not root, and for who was its before
//! netd was in its place.

use std::{
    env,
    ffi::{OsStr, OsString},
    io::{self, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::{Error, Result};

/// netavark's resolver, which it is told where to find.
const RESOLVER: &str = "aardvark-dns";

/// What a plugin prints. What goes wrong there is told in its own words.
pub(super) fn plugin(
    directories: &[PathBuf],
    driver: &str,
    words: &[&str],
    document: &str,
) -> Result<String> {
    // A driver's name is a file's, not a path's.
    let places = directories.iter().filter(|_| !driver.contains('/'));
    let program = places.map(|directory| directory.join(driver)).find(|place| is_program(place));
    let program = program.ok_or_else(|| {
        Error::unsupported(format_args!(
            "unknown network driver {driver:?}: it should be bridge or macvlan, or a plugin in \
             netavark_plugin_dirs"
        ))
        .with("driver", driver)
    })?;
    let failed = |why: &dyn std::fmt::Display| {
        Error::unavailable(format_args!("the plugin {} failed: {why}", program.display()))
    };
    let output =
        Command::new(&program).args(words).told(document).map_err(|error| failed(&error))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|error| failed(&error));
    }
    Err(match said(&output) {
        Some(message) => failed(&message),
        None => failed(&output.status),
    })
}

/// Executing something to its end.
trait Told {
    /// With a document on its standard input.
    fn told(&mut self, document: &str) -> io::Result<Output>;
}

impl Told for Command {
    fn told(&mut self, document: &str) -> io::Result<Output> {
        let mut child = self.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read to the end says by itself whether that was a fault.
            drop(stdin.write_all(document.as_bytes()));
        }
        child.wait_with_output()
    }
}

/// The sentence in which a program of Podman's says what went wrong.
fn said(output: &Output) -> Option<String> {
    let said: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(said["error"].as_str()?.to_owned())
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Becomes the distribution's program of that name, as `netctl podman install` has left it beside
/// this one; returns only when there is none.
pub(super) fn distribution(name: &str, words: &[OsString]) -> Error {
    let program = distributions(name);
    let why = Command::new(&program).args(distributions_words(words)).exec();
    Error::unavailable(format_args!(
        "netd serves root's containers, and {} cannot be executed for others: {why}; install the \
         distribution's {name}, and say netctl podman install again",
        program.display()
    ))
}

/// Has the distribution's program of that name do what this one was asked for, in the same words: what
/// it was asked about is its own, from before. What goes wrong there is told in its own words.
pub(super) fn hand_over(name: &str, about: &str, document: &str) -> Result<()> {
    let program = distributions(name);
    let words: Vec<_> = env::args_os().skip(1).collect();
    let words = distributions_words(&words);
    let output = Command::new(&program).args(words).told(document).map_err(|error| {
        Error::unavailable(format_args!(
            "{about} is the distribution's {name}'s, from before netd was in its place, and {} cannot be \
             executed: {error}; what it has in the kernel stays: install the distribution's {name}, and \
             say netctl podman install again",
            program.display()
        ))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(Error::unavailable(match said(&output) {
        Some(message) => message,
        None => format!("{about}: {} failed: {}", program.display(), output.status),
    }))
}

/// Where `netctl podman install` has left the distribution's program of a name.
fn distributions(name: &str) -> PathBuf {
    let own = env::args_os().next().unwrap_or_default();
    Path::new(&own).with_file_name(format!("{name}.distribution"))
}

/// The words that Podman would have for the distribution's netavark: the resolver that it found beside
/// this program is the distribution's, and none where there is none, without which netavark has no names.
fn distributions_words(words: &[OsString]) -> Vec<OsString> {
    let (own, theirs) = (distributions(RESOLVER).with_file_name(RESOLVER), distributions(RESOLVER));
    let theirs = if theirs.exists() { theirs.into_os_string() } else { OsString::new() };
    words.iter().map(|word| in_place_of(word, own.as_os_str(), &theirs)).collect()
}

/// A word, or the value after its `=`, with another in its place where it is `own`.
fn in_place_of(word: &OsStr, own: &OsStr, theirs: &OsStr) -> OsString {
    if word == own {
        return theirs.to_owned();
    }
    match word.to_str().and_then(|word| word.split_once('=')) {
        Some((name, value)) if OsStr::new(value) == own => {
            let mut word = OsString::from(format!("{name}="));
            word.push(theirs);
            word
        }
        _ => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resolver_of_ours_is_the_distributions_for_its_netavark() {
        let put = |word: &str, theirs: &str| {
            in_place_of(word.as_ref(), "/n/aardvark-dns".as_ref(), theirs.as_ref())
        };
        for (word, there, none) in [
            ("--aardvark-binary=/n/aardvark-dns", "--aardvark-binary=/d", "--aardvark-binary="),
            ("/n/aardvark-dns", "/d", ""),
            ("--aardvark-binary=/usr/aardvark-dns", "--aardvark-binary=/usr/aardvark-dns", "-"),
            ("teardown", "teardown", "-"),
        ] {
            assert_eq!(put(word, "/d"), there);
            assert_eq!(put(word, ""), if none == "-" { there } else { none });
        }
    }
}
