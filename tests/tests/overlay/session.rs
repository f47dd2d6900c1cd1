//! A driver's process, spoken to as netd does.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Stdio},
};

use cnm::{
    Call, Reply, Request, Result,
    driver::{Disturbed, GetInfo},
};
use netd_tests::Namespace;

/// A session.
pub(crate) struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: Lines<BufReader<ChildStdout>>,
}

impl Session {
    /// Starts a driver on a host.
    pub(crate) fn start(host: &Namespace, programs: &Path, driver: &str) -> Self {
        let program = programs.join(format!("netd-{driver}")).display().to_string();
        let mut command = host.command([program]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut session = Self { child, input, output };
        assert_eq!(session.call(&GetInfo {}).unwrap().name, driver);
        session
    }

    /// Asks, and waits for the answer.
    pub(crate) fn call<P: Call>(&mut self, params: &P) -> Result<P::Reply> {
        self.tell(params);
        // What it says unasked is not for this.
        let unasked = |line: &String| line.contains(Disturbed::METHOD);
        let mut lines = self.output.by_ref().map(|line| line.expect("a pipe can be read"));
        let line = lines.find(|line| !unasked(line)).expect("the driver answers");
        let reply: Reply<P::Reply> = serde_json::from_str(&line).unwrap();
        reply.outcome()
    }

    /// Asks, and does not wait.
    pub(crate) fn tell<P: Call>(&mut self, params: &P) {
        let line = Request::new(1, params).to_line();
        self.input.as_mut().expect("it was not ended").write_all(line.as_bytes()).unwrap();
    }

    /// The driver's process: that of `nsenter`, which it became.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        // It may have been killed before.
        drop(self.child.wait());
    }
}
