//! One execution of a plugin, as a runtime does it: what is in its environment and on its standard
//! input, and what it leaves.

use std::{
    collections::BTreeMap,
    env, io,
    io::Write as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

use super::rule::{Checked, Flaw, ensure};

/// An execution that is being put together.
#[derive(Clone, Debug)]
pub(super) struct Call {
    program: PathBuf,
    environment: BTreeMap<String, String>,
    stdin: String,
}

impl Call {
    /// An execution with nothing of CNI in its environment, and nothing on its standard input.
    pub(super) fn new(program: PathBuf) -> Self {
        Self { program, environment: BTreeMap::new(), stdin: String::new() }
    }

    /// Sets a variable.
    pub(super) fn set(mut self, name: &str, value: impl ToString) -> Self {
        self.environment.insert(name.to_owned(), value.to_string());
        self
    }

    /// Takes a variable away.
    pub(super) fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Puts a document on its standard input.
    pub(super) fn config(self, config: &Value) -> Self {
        self.stdin(config.to_string())
    }

    /// Puts a text on its standard input.
    pub(super) fn stdin(mut self, text: impl Into<String>) -> Self {
        self.stdin = text.into();
        self
    }

    /// Starts it and gives it its input.
    pub(super) fn start(&self) -> Checked<Child> {
        let program = self.program.display();
        let failed = |error: io::Error| Flaw::Broken(format!("cannot run {program}: {error}"));
        let mut command = Command::new(&self.program);
        for (name, _) in
            env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"CNI_"))
        {
            command.env_remove(name);
        }
        let mut child = command
            .envs(&self.environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        if let Some(mut stdin) = child.stdin.take() {
            match stdin.write_all(self.stdin.as_bytes()) {
                // It may have seen enough before it read all.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                    return Err(failed(error));
                }
                _ => {}
            }
        }
        Ok(child)
    }

    /// Executes it to its end.
    pub(super) fn run(&self) -> Checked<Reply> {
        let output = self.start()?.wait_with_output();
        output.map(Reply::from).map_err(|error| Flaw::Broken(format!("lost the plugin: {error}")))
    }
}

/// What an execution left.
#[derive(Clone, Debug)]
pub(super) struct Reply {
    code: Option<i32>,
    /// What it printed.
    pub(super) stdout: String,
    /// What it complained of.
    pub(super) stderr: String,
}

/// A failure as a plugin has told it.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// Its code.
    pub(super) code: i64,
    /// Everything that it says.
    pub(super) text: String,
}

impl From<Output> for Reply {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Reply {
    /// Whether it succeeded.
    pub(super) fn succeeded(&self) -> bool {
        self.code == Some(0)
    }

    /// That it succeeded in `what`.
    pub(super) fn success(&self, what: &str) -> Checked {
        let said = if self.stdout.trim().is_empty() { &self.stderr } else { &self.stdout };
        match (self.code, self.error()) {
            (Some(0), _) => Ok(()),
            (None, _) => Err(Flaw::Broken(format!("{what} is killed: {}", said.trim()))),
            (Some(code), Some(failure)) => {
                Err(Flaw::Broken(format!("{what} fails with {code}: {}", failure.text)))
            }
            (Some(code), None) => {
                Err(Flaw::Broken(format!("{what} fails with {code}: {}", said.trim())))
            }
        }
    }

    /// That it succeeded in `what` and printed one document.
    pub(super) fn document(&self, what: &str) -> Checked<Value> {
        self.success(what)?;
        serde_json::from_str(&self.stdout).map_err(|error| {
            Flaw::Broken(format!(
                "{what} prints no JSON document ({error}): {}",
                self.stdout.trim()
            ))
        })
    }

    /// That it succeeded in `what` and printed nothing.
    pub(super) fn silence(&self, what: &str) -> Checked {
        self.success(what)?;
        ensure!(self.stdout.trim().is_empty(), "{what} prints {:?}", self.stdout.trim());
        Ok(())
    }

    /// That it failed in `what`, and said so as the specification wants it.
    pub(super) fn failure(&self, what: &str) -> Checked<Failure> {
        ensure!(self.code.is_some(), "{what} dies of a signal: {}", self.stderr.trim());
        ensure!(!self.succeeded(), "{what} succeeds");
        self.error().ok_or_else(|| {
            Flaw::Broken(format!(
                "{what} fails without a JSON error with code and msg on standard output: {:?}",
                self.stdout.trim()
            ))
        })
    }

    /// That it failed in `what` with one code.
    pub(super) fn refusal(&self, what: &str, code: i64) -> Checked<Failure> {
        let failure = self.failure(what)?;
        let Failure { code: found, text } = &failure;
        ensure!(*found == code, "{what} fails with code {found} instead of {code}: {text}");
        Ok(failure)
    }

    fn error(&self) -> Option<Failure> {
        let error: Value = serde_json::from_str(&self.stdout).ok()?;
        let message = error["msg"].as_str().filter(|message| !message.is_empty())?;
        let details = error["details"].as_str().unwrap_or_default();
        Some(Failure { code: error["code"].as_i64()?, text: format!("{message} {details}") })
    }
}
