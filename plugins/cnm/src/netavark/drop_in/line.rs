//! The command line of netavark.

use std::{ffi::OsString, path::PathBuf};

use crate::{Error, Result};

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// Where to read what standard input would have.
    pub(super) file: Option<PathBuf>,
    /// Where plugins are, the first that has one first.
    pub(super) plugin_dirs: Vec<PathBuf>,
    /// Where netavark itself keeps what it knows.
    pub(super) config: Option<PathBuf>,
    pub(super) verb: Verb,
}

/// The verbs of netavark, as far as they are asked of who answers for root's containers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// With the path of the container's namespace.
    Setup(String),
    /// The same.
    Teardown(String),
    /// Other servers for names that are nobody's here.
    Update {
        network: String,
        servers: String,
    },
    Create,
    Version,
}

/// Whether the container is one of somebody who is not root: looked for before anything else, since
/// whoever serves those may know more words.
pub(super) fn is_rootless(words: &[OsString]) -> bool {
    let is = |word: &OsString, text: &str| word.to_str() == Some(text);
    words.iter().any(|word| is(word, "--rootless=true") || is(word, "-r=true"))
        || words
            .windows(2)
            .any(|pair| (is(&pair[0], "--rootless") || is(&pair[0], "-r")) && is(&pair[1], "true"))
}

impl Line {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// `invalid`, with what should stand there.
    pub(super) fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Self> {
        let mut words = words.into_iter().map(|word| {
            word.into_string().map_err(|word| {
                Error::invalid(format_args!("the argument {} is no text", word.display()))
            })
        });
        let (mut file, mut config, mut plugin_dirs) = (None, None, Vec::new());
        let (mut plain, mut servers): (Vec<String>, _) = (Vec::new(), None);
        while let Some(word) = words.next().transpose()? {
            let (name, joined) = match word.split_once('=') {
                Some((name, value)) if name.starts_with('-') => (name, Some(value.to_owned())),
                _ => (word.as_str(), None),
            };
            if !name.starts_with('-') {
                plain.push(word);
                continue;
            }
            let value = match joined {
                Some(value) => value,
                None => words.next().transpose()?.ok_or_else(|| {
                    Error::invalid(format_args!("the option {name} wants a value"))
                })?,
            };
            match name {
                "-f" | "--file" => file = Some(PathBuf::from(value)),
                "--plugin-directory" => plugin_dirs.push(PathBuf::from(value)),
                "-n" | "--network-dns-servers" => servers = Some(value),
                "-c" | "--config" => config = Some(PathBuf::from(value)),
                // Where netavark's resolver is, and whose firewall it fills.
                "-a" | "--aardvark-binary" | "--firewall-driver" => {}
                "-r" | "--rootless" if value == "false" => {}
                _ => {
                    return Err(Error::invalid(format_args!("unexpected argument {name}={value}")));
                }
            }
        }
        let mut plain = plain.into_iter();
        let verb = plain.next().ok_or_else(|| {
            Error::invalid("a subcommand is missing: setup, teardown, update, create or version")
        })?;
        let mut operand = |what: &str| {
            plain
                .next()
                .ok_or_else(|| Error::invalid(format_args!("{what} is missing: it follows {verb}")))
        };
        let verb = match verb.as_str() {
            "setup" => Verb::Setup(operand("the path of the network namespace")?),
            "teardown" => Verb::Teardown(operand("the path of the network namespace")?),
            "update" => Verb::Update {
                network: operand("the name of the network")?,
                servers: servers.unwrap_or_default(),
            },
            "create" => Verb::Create,
            "version" => Verb::Version,
            other => {
                return Err(Error::invalid(format_args!(
                    "unknown subcommand {other:?}: it should be setup, teardown, update, create or \
                     version"
                )));
            }
        };
        Ok(Self { file, plugin_dirs, config, verb })
    }
}
