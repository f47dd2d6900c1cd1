//! One connection: lines in, with the descriptors that come along, and answers out, in order.

use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    rc::Rc,
    sync::Arc,
    thread,
};

use cnm::{
    Batch, Call, Empty, Error, Incoming, Reply, Result,
    endpoint::Endpoint,
    events::Subscribe,
    frame::{self, MAX_LINE},
};
use futures_util::future::join_all;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::Interest,
    net::UnixStream,
    sync::broadcast::{self, error::RecvError},
};

use super::{Line, Peer};
use crate::{
    attach::{Descriptors, Done},
    netd::Netd,
};

/// How many descriptors one read takes; more than anybody sends with one line.
const DESCRIPTORS: usize = 64;

/// How many descriptors may wait for their line to end; who sends more is let go.
const WAITING_DESCRIPTORS: usize = 1024;

/// Serves a connection until it ends.
pub(super) async fn serve(netd: Rc<Netd>, stream: UnixStream, peer: Peer) {
    let mut lines = Lines::new(&stream);
    let mut events: Option<broadcast::Receiver<Arc<str>>> = None;
    let mut turns = Vec::new();
    loop {
        let line = tokio::select! {
            line = lines.next() => line,
            event = next_event(&mut events) => {
                match event {
                    Ok(event) if write(&stream, event.as_bytes()).await.is_ok() => continue,
                    // It fell behind, or went away.
                    _ => return,
                }
            }
        };
        let Ok(Some(line)) = line else { return };
        let context = Line { descriptors: lines.descriptors.take().into(), ..Line::default() };
        let answer = match &line {
            Ok(line) => answer_line(&netd, line, &context, &peer, &mut events).await,
            Err(error) => Some(failure(error.clone())),
        };
        if let Some(mut text) = answer {
            text.push('\n');
            if write(&stream, text.as_bytes()).await.is_err() {
                // Nobody will ever know of what was attached just now.
                undo(&netd, context.attached.into_inner()).await;
                return;
            }
            // Who was answered goes first: it may have been woken on this very processor, where it
            // would wait for what is left to do here.
            thread::yield_now();
        }
        drop(context.awake);
        turns.extend(context.turns.into_inner());
        context.attached.into_inner().iter().for_each(|done| netd.attached(done));
    }
}

fn failure(error: Error) -> String {
    Reply::<Empty>::new(None, Err(error)).to_text()
}

async fn undo(netd: &Rc<Netd>, attached: Vec<Done>) {
    for Done { endpoint, .. } in attached {
        tracing::info!(endpoint = endpoint.id.short(), "caller went away, attach undone");
        // Who attached the container anew meanwhile, or asked again for this, keeps what is theirs.
        let this = |other: &Endpoint| {
            other.id == endpoint.id && !netd.registry.borrow().is_claimed(&other.id)
        };
        if let Err(error) = netd.detach_where(&endpoint.container.id, "detach", this).await {
            tracing::error!(endpoint = endpoint.id.short(), %error, "not undone");
        }
    }
}

/// The answer to a line, unless it asks for none.
async fn answer_line(
    netd: &Rc<Netd>,
    text: &str,
    line: &Line,
    peer: &Peer,
    events: &mut Option<broadcast::Receiver<Arc<str>>>,
) -> Option<String> {
    match Incoming::split(text) {
        Err(error) => Some(failure(error)),
        Ok(Batch::One(text)) => answer_one(netd, text, line, peer, Some(events)).await,
        Ok(Batch::Many(texts)) => {
            let answers = texts.into_iter().map(|text| answer_one(netd, text, line, peer, None));
            let answers: Vec<String> = join_all(answers).await.into_iter().flatten().collect();
            (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
        }
    }
}

/// The answer to one document, unless it is a notification.
async fn answer_one(
    netd: &Rc<Netd>,
    text: &str,
    line: &Line,
    peer: &Peer,
    events: Option<&mut Option<broadcast::Receiver<Arc<str>>>>,
) -> Option<String> {
    let request = match Incoming::parse(text) {
        Ok(request) => request,
        Err(error) => return Some(failure(error)),
    };
    let id = request.id.clone();
    if request.method == Subscribe::METHOD {
        let outcome = match events {
            Some(events) => {
                *events = Some(netd.events.subscribe());
                Ok(Empty {})
            }
            None => Err(Error::invalid("events.subscribe cannot be part of a batch")),
        };
        return id.map(|id| Reply::new(Some(id), outcome).to_text());
    }
    let outcome = netd.answer(&request, line, peer).await;
    id.map(|id| Reply::new(Some(id), outcome).to_text())
}

async fn next_event(
    events: &mut Option<broadcast::Receiver<Arc<str>>>,
) -> std::result::Result<Arc<str>, RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn write(stream: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Lines of a stream, and the descriptors that came with them.
struct Lines<'a> {
    stream: &'a UnixStream,
    buffer: Vec<u8>,
    /// Where in the buffer no newline has been looked for yet.
    searched: usize,
    /// The line is too long and passed over to its end.
    dropping: bool,
    descriptors: Descriptors,
}

impl<'a> Lines<'a> {
    fn new(stream: &'a UnixStream) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
            searched: 0,
            dropping: false,
            descriptors: Descriptors::default(),
        }
    }

    /// The next line that is not empty; `None` at the end. May be dropped and called again.
    async fn next(&mut self) -> io::Result<Option<Result<String>>> {
        loop {
            let fresh = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|b| *b == b'\n') {
                let end = self.searched + at;
                let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
                line.pop();
                self.searched = 0;
                if std::mem::take(&mut self.dropping) || line.len() > MAX_LINE {
                    return Ok(Some(Err(frame::too_long())));
                }
                if !line.trim_ascii().is_empty() {
                    return Ok(Some(String::from_utf8(line).map_err(|_| frame::not_text())));
                }
                continue;
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE {
                self.dropping = true;
                self.buffer.clear();
                self.searched = 0;
            }
            if self.fill().await? == 0 {
                // A last line without its newline is a line too.
                let rest = std::mem::take(&mut self.buffer);
                self.searched = 0;
                if self.dropping || rest.trim_ascii().is_empty() {
                    return Ok(None);
                }
                return Ok(Some(String::from_utf8(rest).map_err(|_| frame::not_text())));
            }
        }
    }

    async fn fill(&mut self) -> io::Result<usize> {
        let (buffer, descriptors) = (&mut self.buffer, &self.descriptors);
        self.stream
            .async_io(Interest::READABLE, || {
                let mut bytes = [0; 16 << 10];
                let mut space =
                    [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS))];
                let mut ancillary = RecvAncillaryBuffer::new(&mut space);
                let received = recvmsg(
                    self.stream,
                    &mut [IoSliceMut::new(&mut bytes)],
                    &mut ancillary,
                    RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
                )?;
                for message in ancillary.drain() {
                    if let RecvAncillaryMessage::ScmRights(fds) = message {
                        descriptors.borrow_mut().extend(fds);
                    }
                }
                if descriptors.borrow().len() > WAITING_DESCRIPTORS {
                    return Err(io::Error::other("more descriptors than any line can use"));
                }
                buffer.extend_from_slice(bytes.get(..received.bytes).unwrap_or_default());
                Ok(received.bytes)
            })
            .await
    }
}
