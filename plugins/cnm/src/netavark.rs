//! The dialect of netavark's plugins, API version 1.0.0: Podman (4.5 to 5) and netavark execute a
//! driver with a verb as its first argument and a document on standard input, and read a document
//! from standard output.
//!
//! netd knows nothing of it. A network of this dialect is a network of netd's, made by the first
//! `setup` on it unless it is there: nobody tells a plugin that its network is removed, so one that
//! was made again under the same name replaces what is left of the earlier one. In netavark's own
//! place (`drop_in`) it is told of all of a container's networks at once.

use std::{
    env,
    io::{self, Read},
    process::ExitCode,
};

use serde::de::DeserializeOwned;
use serde_json::json;

mod create;
mod document;
pub(crate) mod drop_in;
mod setup;
mod status;
mod teardown;
mod there;
mod translate;
mod words;

use crate::{
    Error, Kind, Result,
    client::Client,
    decode::{ByName, sentence},
    driver::{Driver, Info},
    plugin::{answer, front},
};
use document::{Network, Setup, Teardown};

/// The version of the API, which nobody checks.
const API_VERSION: &str = "1.0.0";

/// The verb that the program was executed with: its first argument, unless that is a flag.
pub(crate) fn verb() -> Option<String> {
    let argument = env::args_os().nth(1)?;
    let verb = argument.to_string_lossy().into_owned();
    (!verb.starts_with('-')).then_some(verb)
}

/// Does what a verb asks for. The exit code is 0 or 1, and an error is a document on standard
/// output.
pub(crate) fn main(driver: impl Driver, verb: &str) -> ExitCode {
    let netns = env::args_os().nth(2).map(|path| path.to_string_lossy().into_owned());
    match run(&driver.info(), verb, netns.as_deref()) {
        Ok(text) => answer(&text, ExitCode::SUCCESS),
        Err(error) => answer(&refusal(&error), ExitCode::FAILURE),
    }
}

/// What a verb prints.
fn run(info: &Info, verb: &str, netns: Option<&str>) -> Result<String> {
    match verb {
        "info" => Ok(self::info(info)),
        "create" => create::create(info, read::<Network>(verb)?),
        "setup" => {
            let setup = read::<Setup>(verb)?;
            let netns = netns.ok_or_else(|| {
                Error::invalid("the path of the network namespace is missing: it follows setup")
            })?;
            setup::setup(info, &setup, netns)
        }
        "teardown" => {
            teardown::teardown(info, &read::<Teardown>(verb)?)?;
            Ok(String::new())
        }
        _ => Err(Error::invalid(format_args!(
            "unknown subcommand {verb:?}: it should be info, create, setup or teardown"
        ))),
    }
}

/// Who the plugin is.
fn info(info: &Info) -> String {
    // Objects of serde_json are sorted by key.
    let version = json!(info.version);
    format!(r#"{{"version":{version},"api_version":"{API_VERSION}"}}"#)
}

/// The document on standard input.
fn read<T: DeserializeOwned>(verb: &str) -> Result<T> {
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .read_to_end(&mut text)
        .map_err(|error| Error::invalid(format_args!("cannot read standard input: {error}")))?;
    decode(verb, &text)
}

fn decode<T: DeserializeOwned>(verb: &str, text: &[u8]) -> Result<T> {
    let ByName(document) = serde_json::from_slice(text).map_err(|error| {
        let why = sentence(&String::from_utf8_lossy(text), &error);
        Error::invalid(format_args!("cannot decode what {verb} is given on standard input: {why}"))
    })?;
    Ok(document)
}

/// An error as a document: whoever reads it takes no other keys.
fn refusal(error: &Error) -> String {
    json!({ "error": error.message }).to_string()
}

/// A connection to netd.
fn connect() -> Result<Client> {
    Client::connect(&front::socket())
}

/// Whether netd is not there.
fn is_away(error: &Error) -> bool {
    error.kind == Kind::Unavailable
}

#[cfg(test)]
mod tests;
