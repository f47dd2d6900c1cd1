//! Another plugin that gives the addresses: found in `CNI_PATH` and executed as a runtime would.

use std::{
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::{Map, Value};

use super::{
    environment::Verb,
    keys::Keys,
    outcome::Outcome,
    refusal::{Refusal, Result},
    version::Version,
};

/// A plugin that gives addresses, and the configuration that it gets, which is this plugin's own.
#[derive(Debug)]
pub(super) struct Delegate<'a> {
    kind: &'a str,
    program: PathBuf,
    config: &'a [u8],
}

impl<'a> Delegate<'a> {
    /// Finds it.
    ///
    /// # Errors
    /// When it is in none of the directories.
    pub(super) fn find(kind: &'a str, path: &[PathBuf], config: &'a [u8]) -> Result<Self> {
        let program = path.iter().map(|directory| directory.join(kind)).find(|p| is_program(p));
        let program = program.ok_or_else(|| {
            let places: Vec<_> = path.iter().map(|place| place.display().to_string()).collect();
            let (code, msg) = if places.is_empty() {
                (Refusal::ENVIRONMENT, format!("ipam.type is {kind:?}, and CNI_PATH is not set"))
            } else {
                let places = places.join(":");
                (
                    Refusal::CONFIG,
                    format!("ipam.type is {kind:?}, which is not in CNI_PATH {places}"),
                )
            };
            Refusal::new(code, msg)
        })?;
        Ok(Self { kind, program, config })
    }

    /// What its ADD gives.
    pub(super) fn add(&self) -> Result<Outcome> {
        let printed = self.run(Verb::Add)?;
        let document: Map<String, Value> = serde_json::from_slice(&printed)
            .map_err(|error| self.failed(format_args!("its result is not understood: {error}")))?;
        let keys = Keys::root(&document);
        let outcome = Outcome::parse(&keys).map_err(|error| {
            self.failed(format_args!("its result is not understood: {}", error.msg))
        })?;
        if let Some(version) = keys.text("cniVersion")?.filter(|v| Version::parse(v).is_none()) {
            return Err(self.failed(format_args!("its result is of version {version}")));
        }
        if outcome.ips.is_empty() {
            return Err(self.failed("its result has no address"));
        }
        Ok(outcome)
    }

    /// Does something that gives nothing.
    pub(super) fn run(&self, verb: Verb) -> Result<Vec<u8>> {
        let mut child = Command::new(&self.program)
            .env("CNI_COMMAND", verb.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| self.failed(&error))?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read to the end says by itself whether that was a fault.
            drop(stdin.write_all(self.config));
        }
        let output = child.wait_with_output().map_err(|error| self.failed(&error))?;
        if output.status.success() {
            return Ok(output.stdout);
        }
        let said: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        let code = said.as_ref().and_then(|said| u32::try_from(said["code"].as_u64()?).ok());
        let msg = said.as_ref().and_then(|said| said["msg"].as_str());
        match (code, msg) {
            (Some(code), Some(msg)) => {
                let details = said.as_ref().and_then(|said| said["details"].as_str());
                Err(Refusal::new(code, format_args!("{}: {msg}", self.kind))
                    .with(details.unwrap_or_default()))
            }
            _ => {
                let complained = String::from_utf8_lossy(&output.stderr);
                Err(self.failed(format_args!("{}: {}", output.status, complained.trim())))
            }
        }
    }

    fn failed(&self, why: impl std::fmt::Display) -> Refusal {
        Refusal::new(
            Refusal::DELEGATE,
            format_args!("the plugin {} that gives the addresses failed: {why}", self.kind),
        )
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
