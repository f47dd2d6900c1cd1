//! Where a command's words go: answers to standard output, faults to standard error, and what
//! becomes of the exit code.

use std::{
    fmt,
    io::{self, Write as _},
    process::ExitCode,
    sync::mpsc,
    thread,
    time::Duration,
};

use cnm::{Error, Kind};
use serde::Serialize;

/// The exit code of a program whose reader went away: 128 and the number of `SIGPIPE`.
pub(crate) const SIGPIPE: u8 = 141;

/// How long people wait without a word.
const QUICK: Duration = Duration::from_secs(1);

/// Why a command ended before its end.
#[derive(Debug)]
pub(crate) enum Stop {
    /// Something failed; it is still to be said.
    Failed(Error),
    /// Nobody reads the answer any more, so there is nobody to tell either.
    Unread,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// How a command ends.
pub(crate) type Outcome = Result<ExitCode, Stop>;

/// Writes `text` to standard output as it is.
pub(crate) fn print(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Unread,
            _ => Stop::Failed(system("cannot write to standard output", &error)),
        }
    })
}

/// Prints what netd said, as the protocol has it, indented.
pub(crate) fn json(value: &impl Serialize) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(value).expect("messages have text keys only");
    print(&(text + "\n"))
}

/// Says a fault on standard error. That nobody reads there either is not a fault.
pub(crate) fn complain(what: &impl fmt::Display) {
    writeln!(io::stderr(), "netctl: {what}").ok();
}

/// Does something, and says on standard error what is waited for when it takes longer than a second.
pub(crate) fn patiently<T>(what: impl fmt::Display + Send, work: impl FnOnce() -> T) -> T {
    let (done, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if ended.recv_timeout(QUICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                complain(&what);
            }
        });
        let outcome = work();
        drop(done);
        outcome
    })
}

/// A refusal of this host's system, of which `what` says what was tried.
pub(crate) fn system(what: impl fmt::Display, error: &io::Error) -> Error {
    let kind = match error.kind() {
        io::ErrorKind::PermissionDenied => Kind::Denied,
        io::ErrorKind::NotFound => Kind::NotFound,
        io::ErrorKind::AlreadyExists => Kind::Exists,
        _ => Kind::Kernel,
    };
    let fault = Error::new(kind, format_args!("{what}: {error}"));
    match error.raw_os_error() {
        Some(errno) => fault.with("errno", errno),
        None => fault,
    }
}

/// The exit code of a command that goes on after a fault: that of the first one.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    first: Option<Kind>,
}

impl Tally {
    /// Says a fault and remembers it.
    pub(crate) fn fault(&mut self, error: &Error) {
        complain(error);
        self.first.get_or_insert(error.kind);
    }

    /// Whether there was no fault.
    pub(crate) fn is_well(&self) -> bool {
        self.first.is_none()
    }

    /// What to end with.
    pub(crate) fn code(&self) -> ExitCode {
        self.first.map_or(ExitCode::SUCCESS, |kind| ExitCode::from(kind.exit_code()))
    }
}
