//! A driver that runs: lines in, lines out, and no patience without end.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use cnm::{Error, driver::Disturbed, frame::MAX_TRUSTED_LINE};
use serde_json::{Value, json};

/// How long a driver may take for an answer, and for its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long nothing may be heard before nothing is to come.
const SILENCE: Duration = Duration::from_millis(200);

/// A driver's process.
#[derive(Debug)]
pub(crate) struct Session {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    last_id: u64,
}

impl Session {
    /// Starts the driver, in the calling thread's namespaces.
    pub(crate) fn start(executable: &Path) -> std::io::Result<Self> {
        let mut child =
            Command::new(executable).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (heard, lines) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                let mut line = Vec::new();
                while stdout.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                    let text = String::from_utf8_lossy(&line).into_owned();
                    if is_unasked(&text) {
                        line.clear();
                        continue;
                    }
                    // Nobody listens any more when the trial is over.
                    if line.len() > MAX_TRUSTED_LINE || heard.send(text).is_err() {
                        return;
                    }
                    line.clear();
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { child, stdin, lines, last_id: 0 })
    }

    /// Writes a line as it is.
    pub(crate) fn say(&mut self, line: &str) -> Result<(), String> {
        let stdin = self.stdin.as_mut().ok_or("its standard input was closed")?;
        let written = stdin.write_all(line.as_bytes()).and_then(|()| stdin.write_all(b"\n"));
        written
            .and_then(|()| stdin.flush())
            .map_err(|error| format!("it does not read its standard input: {error}"))
    }

    /// The next line, as JSON.
    pub(crate) fn hear(&mut self) -> Result<Value, String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => serde_json::from_str(&line)
                .map_err(|error| format!("it wrote a line that is no JSON: {line:?}: {error}")),
            Err(RecvTimeoutError::Timeout) => Err(format!("it gave no answer for {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => {
                Err("it closed its standard output instead of an answer".to_owned())
            }
        }
    }

    /// Makes sure that it has nothing to say.
    pub(crate) fn is_silent(&mut self) -> Result<(), String> {
        match self.lines.recv_timeout(SILENCE) {
            Ok(line) => Err(format!("it wrote {line:?} where there was nothing to answer")),
            Err(RecvTimeoutError::Timeout) => Ok(()),
            Err(RecvTimeoutError::Disconnected) => Err("it closed its standard output".to_owned()),
        }
    }

    /// Says one line and hears one.
    pub(crate) fn exchange(&mut self, line: &str) -> Result<Value, String> {
        self.say(line)?;
        self.hear()
    }

    /// Calls a method; what it answers, or refuses with.
    pub(crate) fn call(
        &mut self,
        method: &str,
        params: &Value,
    ) -> Result<Result<Value, Error>, String> {
        self.last_id += 1;
        let id = self.last_id;
        let request = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params});
        let reply = self.exchange(&request.to_string())?;
        if reply["id"] != id {
            return Err(format!("the answer to {method} has another id than {id}: {reply}"));
        }
        outcome(&reply)
    }

    /// Closes its standard input and waits for its end.
    pub(crate) fn end(&mut self) -> Result<ExitStatus, String> {
        drop(self.stdin.take());
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(Some(status)) => return Ok(status),
                Ok(None) => thread::park_timeout(Duration::from_millis(2)),
                Err(error) => return Err(format!("it cannot be waited for: {error}")),
            }
        }
        Err(format!("it did not end for {PATIENCE:?} after its standard input did"))
    }

    /// Ends it as nobody would like to.
    pub(crate) fn kill(&mut self) {
        // One that has ended cannot be killed, which is as well.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Whether a line is what a driver may say without being asked.
fn is_unasked(line: &str) -> bool {
    let said = serde_json::from_str::<Value>(line);
    said.is_ok_and(|said| said["method"] == Disturbed::METHOD && said.get("id").is_none())
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.end().is_err() {
            self.kill();
        }
    }
}

/// What a reply gives or refuses with.
pub(crate) fn outcome(reply: &Value) -> Result<Result<Value, Error>, String> {
    if reply["jsonrpc"] != "2.0" {
        return Err(format!("not a reply of JSON-RPC 2.0: {reply}"));
    }
    match (reply.get("result"), reply.get("error")) {
        (Some(result), None) => Ok(Ok(result.clone())),
        (None, Some(error)) => match serde_json::from_value::<Error>(error.clone()) {
            Ok(error) if error.message.trim().is_empty() => {
                Err(format!("an error without a word of why: {reply}"))
            }
            Ok(error) => Ok(Err(error)),
            Err(why) => Err(format!("an error that is not one of the protocol: {reply}: {why}")),
        },
        _ => Err(format!("a reply has either a result or an error: {reply}")),
    }
}
