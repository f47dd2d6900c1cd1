//! One life of a driver's executable: the pipes that are its standard input and output, and the
//! calls that wait for its answers. Pipes, not a socket: whoever reads from a socket wakes the
//! other end up each time, to say that there is room again.

use std::{
    cell::{Cell, RefCell},
    path::Path,
    process::{ExitStatus, Stdio},
    rc::Rc,
    time::Duration,
};

use cnm::{Call, Error, Reply, Request, RequestId, Result, driver::Disturbed, frame};
use serde::Deserialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    sync::{Mutex, Notify, oneshot},
    time::{Instant, sleep_until},
};

use super::waiting::Waiting;

/// The longest line of a driver's log that is one in netd's.
const LONGEST_LINE: u64 = 8 << 10;

/// A running driver.
pub(super) struct Process {
    name: String,
    pid: u32,
    input: Mutex<ChildStdin>,
    next: Cell<u64>,
    waiting: RefCell<Waiting>,
    /// When calls are next looked at for one to give up. One clock for all of them, and not set back
    /// when one is answered: a timer for each would wake netd twice in every attach.
    look: Cell<Option<Instant>>,
    look_earlier: Notify,
    ended: Cell<bool>,
    stuck: Notify,
    disturbed: Notify,
    noticed: RefCell<Vec<String>>,
}

impl Process {
    /// Starts the executable. The child is for the caller to wait for.
    pub(super) fn spawn(name: &str, path: &Path) -> std::io::Result<(Rc<Self>, Child)> {
        let mut child = Command::new(path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // What a terminal sends to netd is not for it.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let input = child.stdin.take().expect("it is piped");
        let output = child.stdout.take().expect("it is piped");
        tokio::task::spawn_local(take_down(name.to_owned(), child.stderr.take()));
        let process = Rc::new(Self {
            name: name.to_owned(),
            pid: child.id().unwrap_or_default(),
            input: Mutex::new(input),
            next: Cell::new(1),
            waiting: RefCell::new(Waiting::new()),
            look: Cell::new(None),
            look_earlier: Notify::new(),
            ended: Cell::new(false),
            stuck: Notify::new(),
            disturbed: Notify::new(),
            noticed: RefCell::default(),
        });
        tokio::task::spawn_local(process.clone().read(output));
        tokio::task::spawn_local(process.clone().give_up());
        Ok((process, child))
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it answers no more.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Comes when a call was given up.
    pub(super) async fn stuck(&self) {
        self.stuck.notified().await;
    }

    /// Comes when it has noticed that its part of the kernel is not as it left it, with what it
    /// noticed.
    pub(super) async fn disturbed(&self) -> Vec<String> {
        self.disturbed.notified().await;
        self.noticed.take()
    }

    /// Calls a method; gives up `deadline` after the calls before it are answered, or when the process
    /// ends.
    pub(super) async fn call<P: Call>(&self, params: &P, deadline: Duration) -> Result<P::Reply> {
        let id = self.next.get();
        self.next.set(id + 1);
        let line = Request::new(id, params).to_line();
        let (sender, mut receiver) = oneshot::channel();
        if self.ended.get() {
            return Err(self.lost(P::METHOD));
        }
        self.waiting.borrow_mut().put(id, sender, deadline, Instant::now());
        let until = self.waiting.borrow().until();
        if self.look.get().is_none_or(|look| until.is_some_and(|until| until < look)) {
            self.look_earlier.notify_one();
        }
        let answer = match self.input.lock().await.write_all(line.as_bytes()).await {
            Ok(()) => receiver.await.ok(),
            // It may have been ended because it did not read, and who gave it up said so.
            Err(_) => receiver.try_recv().ok(),
        };
        let text = answer.ok_or_else(|| self.lost(P::METHOD))?.ok_or_else(|| {
            Error::unavailable(format_args!(
                "driver {} did not answer {} within {deadline:?}",
                self.name,
                P::METHOD
            ))
            .with("driver", self.name.as_str())
        })?;
        let reply: Reply<P::Reply> = serde_json::from_str(&text).map_err(|error| {
            Error::internal(format_args!(
                "driver {} answered {} with what is no such answer: {error}",
                self.name,
                P::METHOD
            ))
        })?;
        reply.outcome()
    }

    fn lost(&self, method: &str) -> Error {
        Error::unavailable(format_args!("driver {} ended before it answered {method}", self.name))
            .with("driver", self.name.as_str())
    }

    /// Gives a call up that is not answered in time, and with it the process: it hangs, or will answer
    /// what nobody waits for, and its successor is told everything.
    async fn give_up(self: Rc<Self>) {
        while !self.ended.get() {
            let next = self.waiting.borrow().until();
            self.look.set(next);
            match next {
                None => self.look_earlier.notified().await,
                Some(next) => tokio::select! {
                    () = sleep_until(next) => {}
                    () = self.look_earlier.notified() => continue,
                },
            }
            if let Some(answer) = self.waiting.borrow_mut().late(Instant::now()) {
                self.ended.set(true);
                self.stuck.notify_one();
                drop(answer.send(None));
            }
        }
    }

    /// Hands each answer to who waits for it, until there are no more.
    async fn read(self: Rc<Self>, mut output: ChildStdout) {
        let mut buffer = Vec::with_capacity(16 << 10);
        loop {
            let searched = buffer.len();
            buffer.reserve(16 << 10);
            if !matches!(output.read_buf(&mut buffer).await, Ok(1..)) {
                break;
            }
            let mut start = 0;
            let mut from = searched;
            while let Some(at) = buffer.get(from..).and_then(|b| b.iter().position(|b| *b == b'\n'))
            {
                let end = from + at;
                self.deliver(buffer.get(start..end).unwrap_or_default());
                start = end + 1;
                from = start;
            }
            buffer.drain(..start);
            if buffer.len() > frame::MAX_LINE * 64 {
                tracing::error!(driver = self.name, "a driver's answer has no end");
                break;
            }
        }
        self.ended.set(true);
        self.waiting.borrow_mut().clear();
        self.look_earlier.notify_one();
    }

    fn deliver(&self, line: &[u8]) {
        #[derive(Deserialize)]
        struct Id {
            id: Option<RequestId>,
        }
        #[derive(Deserialize)]
        struct Said {
            method: String,
            params: Disturbed,
        }
        let Ok(Id { id: Some(RequestId::Number(id)) }) = serde_json::from_slice(line) else {
            if let Ok(said) = serde_json::from_slice::<Said>(line)
                && said.method == Disturbed::METHOD
            {
                self.noticed.borrow_mut().extend(said.params.what);
                self.disturbed.notify_one();
                return;
            }
            let line = String::from_utf8_lossy(line);
            tracing::warn!(driver = self.name, %line, "a driver said what nobody asked");
            return;
        };
        // Who gave up has taken the sender away.
        if let Some(answer) = self.waiting.borrow_mut().take(id, Instant::now())
            && let Ok(text) = String::from_utf8(line.to_vec())
        {
            drop(answer.send(Some(text)));
        }
    }
}

/// Writes a driver's log, line by line, into netd's, which is JSON.
async fn take_down(driver: String, log: Option<ChildStderr>) {
    let Some(log) = log else { return };
    let mut lines = BufReader::new(log);
    let mut line = Vec::new();
    // One without an end is told in pieces.
    while let Ok(1..) = (&mut lines).take(LONGEST_LINE).read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line);
        tracing::warn!(driver, "{}", text.trim_end());
        line.clear();
    }
}

/// How a process ended, in words.
pub(super) fn how(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => status.to_string(),
        Err(error) => format!("cannot tell: {error}"),
    }
}
