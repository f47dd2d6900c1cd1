//! netctl's end of a process that waits to become a command.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::process::CommandExt as _,
    },
    process::{self, Child, Command, ExitStatus},
};

use cnm::Result;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::{
    init::{self, Isolation},
    place::Setting,
};
use crate::out;

/// The process. Once this is dropped it waits for nothing any more and ends.
#[derive(Debug)]
pub(crate) struct Held {
    child: Child,
    tell: PipeWriter,
    isolation: Isolation,
}

impl Held {
    /// Starts it and waits until it has its namespaces. One that could not get them has said why
    /// itself: then this is how it ended.
    pub(crate) fn start(
        isolation: Isolation,
        command: &[OsString],
    ) -> Result<std::result::Result<Self, ExitStatus>> {
        let failed = |error: io::Error| out::system("cannot start a process", &error);
        let (told, tell) = pipe().map_err(failed)?;
        let (mut hear, said): (PipeReader, PipeWriter) = pipe().map_err(failed)?;
        for end in [told.as_fd(), said.as_fd()] {
            fcntl(end, FcntlArg::F_SETFD(FdFlag::empty())).map_err(|errno| failed(errno.into()))?;
        }
        let mut child = Command::new("/proc/self/exe")
            .arg0("netctl")
            .arg(init::WORD)
            .arg(process::id().to_string())
            .arg(told.as_raw_fd().to_string())
            .arg(said.as_raw_fd().to_string())
            .arg(isolation.word())
            .args(command)
            .spawn()
            .map_err(failed)?;
        // Its ends are its own now, so that the pipes end when it does.
        drop((told, said));
        match hear.read_exact(&mut [0]) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Err(child.wait().map_err(failed)?));
            }
            Err(error) => return Err(failed(error)),
        }
        Ok(Ok(Self { child, tell, isolation }))
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The network namespace it is in.
    pub(crate) fn netns(&self) -> Result<File> {
        match self.isolation {
            Isolation::Own => {
                cnm::endpoint::open_netns(format!("/proc/{}/ns/net", self.pid()).as_ref())
            }
            Isolation::Host => cnm::endpoint::open_netns("/proc/self/ns/net".as_ref()),
        }
    }

    /// Tells it its names and lets it become the command.
    pub(crate) fn release(self, setting: &Setting) -> Result<Child> {
        let Self { child, mut tell, .. } = self;
        let text = serde_json::to_string(setting).expect("texts only");
        match tell.write_all(text.as_bytes()) {
            Ok(()) => {}
            // It was ended meanwhile; how, its status tells.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) => return Err(out::system("cannot tell the command its names", &error)),
        }
        Ok(child)
    }

    /// Ends it before it became anything.
    pub(crate) fn end(mut self) {
        // It is a child that was not waited for, so it is there.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
