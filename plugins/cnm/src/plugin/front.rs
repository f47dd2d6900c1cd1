//! The front: what a runtime says, handed to netd, with the namespace as a descriptor.

use std::{
    env,
    fs::{self, File},
    io::Write,
    os::fd::{AsFd, BorrowedFd},
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU64, Ordering},
};

use serde_json::value::RawValue;

use crate::{
    Call, DEFAULT_SOCKET, Empty, Error, Incoming, Kind, Reply, Request, RequestId, Result,
    client::Client,
    endpoint::{Attach, CheckEndpoint, Detach, Detached, Netns, of_netns, open_netns},
    events::Subscribe,
    fault,
};

/// Where requests are handed on to.
#[derive(Debug)]
pub(super) struct Front {
    socket: PathBuf,
    client: Option<Client>,
}

impl Front {
    /// netd's socket is `NETD_SOCKET`, or the default.
    pub(super) fn from_environment() -> Self {
        Self { socket: socket(), client: None }
    }

    /// What netd answers to `request`, which stands in `text`.
    pub(super) fn forward(&mut self, text: &str, request: &Incoming<'_>) -> Result<Box<RawValue>> {
        match request.method.as_ref() {
            Attach::METHOD => self.attach(request),
            Detach::METHOD => self.detach(text, request),
            CheckEndpoint::METHOD => self.check(request),
            Subscribe::METHOD => Err(Error::unsupported(
                "a plugin cannot follow events: subscribe at netd's own socket",
            )),
            _ => self.hand_on(text, request),
        }
    }

    /// Opens the namespace here, since its path may mean nothing where netd runs.
    fn attach(&mut self, request: &Incoming<'_>) -> Result<Box<RawValue>> {
        let mut params: Attach = request.params()?;
        let path = path_of(params.netns.as_ref());
        let netns = take_netns(&mut params.netns)?;
        if netns.is_some() {
            params = params.opened_at(Path::new(&path));
        }
        let fds: Vec<_> = netns.iter().map(AsFd::as_fd).collect();
        fault::point("front.attach.before-call");
        let outcome = self.exchange(request, &outgoing(request, &params), &fds);
        let outcome = outcome.map_err(|error| of_netns(error, &path));
        fault::point("front.attach.before-answer");
        outcome
    }

    /// As an attach.
    fn check(&mut self, request: &Incoming<'_>) -> Result<Box<RawValue>> {
        let mut params: CheckEndpoint = request.params()?;
        let path = path_of(params.netns.as_ref());
        let netns = take_netns(&mut params.netns)?;
        let fds: Vec<_> = netns.iter().map(AsFd::as_fd).collect();
        let outcome = self.exchange(request, &outgoing(request, &params), &fds);
        outcome.map_err(|error| of_netns(error, &path))
    }

    /// A detach always succeeds: when netd is not there it is written down for its next start.
    fn detach(&mut self, text: &str, request: &Incoming<'_>) -> Result<Box<RawValue>> {
        let params: Detach = request.params()?;
        fault::point("front.detach.before-call");
        let outcome = match self.hand_on(text, request) {
            Err(error) if error.kind == Kind::Unavailable => {
                let spool = self.socket.with_file_name("spool");
                spool_detach(&spool, &params).map_err(|io| {
                    Error::unavailable(format_args!(
                        "{error}; and the detach cannot be kept in {}: {io}",
                        spool.display()
                    ))
                })?;
                super::raw(&Detached::default())
            }
            outcome => outcome,
        };
        fault::point("front.detach.before-answer");
        outcome
    }

    fn hand_on(&mut self, text: &str, request: &Incoming<'_>) -> Result<Box<RawValue>> {
        self.exchange(request, &format!("{text}\n"), &[])
    }

    /// Sends a line; what was no notification is answered.
    fn exchange(
        &mut self,
        request: &Incoming<'_>,
        line: &str,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Box<RawValue>> {
        let client = self.connected()?;
        if request.id.is_none() && request.method != Attach::METHOD {
            client.notify(line, fds)?;
            return super::raw(&Empty {});
        }
        let answer = client.exchange(line, fds);
        self.read(answer)
    }

    fn connected(&mut self) -> Result<&mut Client> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::connect(&self.socket)?,
        };
        Ok(self.client.insert(client))
    }

    fn read(&mut self, answer: Result<String>) -> Result<Box<RawValue>> {
        // A connection that failed once is not used again.
        let answer = answer.inspect_err(|_| self.client = None)?;
        let reply: Reply<Box<RawValue>> = serde_json::from_str(&answer).map_err(|error| {
            Error::internal(format_args!("netd's answer is not understood: {error}"))
        })?;
        reply.outcome()
    }
}

/// The path by which whoever asks knows the namespace.
fn path_of(netns: Option<&Netns>) -> String {
    netns.and_then(Netns::path).unwrap_or_default().to_owned()
}

/// Opens the namespace of a request, which then stands for a descriptor.
fn take_netns(netns: &mut Option<Netns>) -> Result<Option<File>> {
    match netns.take() {
        Some(Netns::Path(path)) => {
            let file = open_netns(Path::new(&path))?;
            *netns = Some(Netns::Fd);
            Ok(Some(file))
        }
        Some(Netns::Fd) => Err(Error::invalid(
            "a plugin takes no descriptors: name the network namespace by its path",
        )),
        None => Ok(None),
    }
}

/// A request with other parameters, as it goes to netd.
fn outgoing<P: Call>(request: &Incoming<'_>, params: &P) -> String {
    let mut outgoing = Request::new(request.id.clone().unwrap_or(RequestId::Number(0)), params);
    outgoing.deadline_ms = request.deadline_ms;
    outgoing.idempotency_key = request.idempotency_key.as_deref();
    outgoing.to_line()
}

/// Where netd listens: `NETD_SOCKET`, or the default.
pub(crate) fn socket() -> PathBuf {
    env::var_os("NETD_SOCKET").map_or_else(|| DEFAULT_SOCKET.into(), Into::into)
}

/// Keeps a detach for netd's next start: a file that appears whole or not at all.
pub(crate) fn spool_detach(spool: &Path, params: &Detach) -> std::io::Result<()> {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(spool)?;
    let name = format!("{}-{}", process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let unfinished = spool.join(format!(".{name}"));
    let mut file = File::create(&unfinished)?;
    file.write_all(crate::message::line(params).as_bytes())?;
    fs::rename(&unfinished, spool.join(format!("{name}.json")))
}
