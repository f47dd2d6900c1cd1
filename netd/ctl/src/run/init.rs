//! The process that becomes the command of `netctl run`: it takes namespaces of its own, says so,
//! waits to be told its names, puts them in place and executes the command.
//!
//! It is netctl executed anew, since only a process that has one thread and nothing else to lose
//! may do this without `unsafe`. What it is told comes through a pipe: a [`Setting`] and the end.

use std::{
    env,
    ffi::OsString,
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::RawFd,
    process::ExitCode,
};

use cnm::{Error, Result};
use nix::{
    sched::{CloneFlags, unshare},
    sys::{prctl::set_pdeathsig, signal::Signal},
    unistd::{close, getppid},
};

use super::place::{self, Setting};
use crate::out;

/// The word that makes netctl this process. It is no command: nobody else may use it.
pub(crate) const WORD: &str = "__init";

/// Whose namespaces the command is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Its own.
    Own,
    /// The host's.
    Host,
}

impl Isolation {
    /// The word for it on the command line.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Host => "host",
        }
    }
}

/// Becomes the command. Gives an exit code only where that fails.
pub(crate) fn main() -> ExitCode {
    match begin() {
        Ok(command) => place::execute(&command),
        Err(error) => {
            out::complain(&error);
            ExitCode::from(error.kind.exit_code())
        }
    }
}

/// All there is to do before the command.
fn begin() -> Result<Vec<OsString>> {
    let mut words = env::args_os().skip(2);
    let mut word = || {
        words
            .next()
            .and_then(|word| word.into_string().ok())
            .ok_or_else(|| Error::invalid(format_args!("{WORD} is for netctl itself")))
    };
    let (parent, told, said) = (number(&word()?)?, number(&word()?)?, number(&word()?)?);
    let own = word()? == Isolation::Own.word();
    let command = words.collect();

    set_pdeathsig(Signal::SIGKILL)
        .map_err(|errno| out::system("cannot tie the command to netctl", &errno.into()))?;
    if getppid().as_raw() != parent {
        return Err(Error::unavailable("netctl is gone"));
    }
    let mut told = inherited(told, File::options().read(true))?;
    let mut said = inherited(said, File::options().write(true))?;
    if own {
        let flags = CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
        unshare(flags).map_err(|errno| {
            out::system("cannot make a network namespace, for which you need root", &errno.into())
        })?;
    }

    let lost = |error: io::Error| out::system("lost netctl", &error);
    said.write_all(b"\n").map_err(lost)?;
    let mut setting = String::new();
    told.read_to_string(&mut setting).map_err(lost)?;
    let setting: Setting = serde_json::from_str(&setting)
        .map_err(|error| Error::unavailable(format_args!("lost netctl: {error}")))?;
    if own {
        place::settle(&setting)?;
    }
    Ok(command)
}

fn number(word: &str) -> Result<i32> {
    word.parse().map_err(|_| Error::invalid(format_args!("{WORD}: {word:?} is no number")))
}

/// An end of a pipe that came with this process, as one that the command does not get.
fn inherited(fd: RawFd, mode: &std::fs::OpenOptions) -> Result<File> {
    let path = format!("/proc/self/fd/{fd}");
    let file = mode
        .open(&path)
        .map_err(|error| out::system(format_args!("cannot open {path}, a pipe"), &error))?;
    close(fd).map_err(|errno| out::system("cannot close a pipe", &errno.into()))?;
    Ok(file)
}
