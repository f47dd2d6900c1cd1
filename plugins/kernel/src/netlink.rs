//! A blocking netlink socket that takes batches: many messages in one `send`, one answer awaited.
//!
//! The kernel reports a failing message whether or not it was asked to, so only the last message
//! asks for an acknowledgement (`netlink_rcv_skb`, net/netlink/af_netlink.c). Nobody moves a link
//! or looks one up in between: what a message made comes back as its echo (`NLM_F_ECHO`).

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkSerializable,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket as RawSocket, protocols::NETLINK_ROUTE};
use nix::{
    errno::Errno,
    sys::socket::{setsockopt, sockopt},
};

use crate::{Error, Result, netns};

pub mod monitor;
mod wire;

pub(crate) use wire::{Attributes, append, ip, read_u16, read_u32};

/// Who made a route or neighbour (`rtm_protocol`, linux/rtnetlink.h): a number that no
/// routing daemon has, by which `ip` shows netd's ("n" in ASCII).
pub const PROTOCOL: u8 = b'n';

/// Length of `struct nlmsghdr` (linux/netlink.h).
const HEADER: usize = 16;
/// What a socket may hold in either direction, in bytes: a dump's worth, or 10,000 elements.
const BUFFER: usize = 8 << 20;
/// How much is read at once, in bytes; the kernel fills at most 32 KiB of a dump per message.
const CHUNK: usize = 32 << 10;
/// How often a dump that others changed meanwhile is begun anew before it is taken as it is.
const DUMP_ATTEMPTS: usize = 4;

/// A run of messages that goes to the kernel in one `send`.
#[derive(Debug, Default)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: Vec<Sent>,
    framed: bool,
}

#[derive(Debug)]
struct Sent {
    start: usize,
    doing: &'static str,
    what: String,
    /// How many things it speaks of besides.
    more: usize,
}

impl Sent {
    /// What it speaks of, for the sentence in case it is refused.
    fn what(&self) -> String {
        match self.more {
            0 => self.what.clone(),
            more => format!("{} and {more} more", self.what),
        }
    }
}

impl Batch {
    /// One without messages.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.messages.len()
    }

    /// The bytes as they will be sent, but for the sequence numbers and the wish for an answer.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Appends a message. `doing` and `what` are for the sentence in case it is refused.
    pub fn push(
        &mut self,
        message: &RouteNetlinkMessage,
        flags: u16,
        doing: &'static str,
        what: impl Into<String>,
    ) {
        let length = message.buffer_len();
        self.frame(message.message_type(), flags, doing, what.into(), |bytes| {
            let start = bytes.len();
            bytes.resize(start + length, 0);
            message.serialize(&mut bytes[start..]);
        });
    }

    /// Appends a message whose body `write` appends.
    pub(crate) fn frame(
        &mut self,
        kind: u16,
        flags: u16,
        doing: &'static str,
        what: String,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        let start = self.bytes.len();
        self.messages.push(Sent { start, doing, what, more: 0 });
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(&(flags | NLM_F_REQUEST).to_ne_bytes());
        self.bytes.extend_from_slice(&[0; 8]);
        write(&mut self.bytes);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is under 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Has the last message speak of one thing more: `write` appends it to the whole batch, whose last
    /// message ends where that does.
    pub(crate) fn extend(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        let last = self.messages.last_mut().expect("there is a message to go on with");
        last.more += 1;
        let start = last.start;
        write(&mut self.bytes);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        let length = u32::try_from(self.bytes.len() - start).expect("a message is under 4 GiB");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
    }

    /// Marks the first and the last message as the frame of an nfnetlink batch: the answer is then
    /// asked of the last but one, since the end of a batch is never acknowledged.
    pub(crate) fn framed(&mut self) {
        self.framed = true;
    }

    /// The message that is asked for an answer.
    fn asked(&self) -> usize {
        self.messages.len() - if self.framed { 2 } else { 1 }
    }

    fn seal(&mut self, first_sequence: u32) {
        let mut sequence = first_sequence;
        for message in &self.messages {
            let at = message.start + 8;
            self.bytes[at..at + 4].copy_from_slice(&sequence.to_ne_bytes());
            sequence = sequence.wrapping_add(1);
        }
        let at = self.messages[self.asked()].start + 6;
        let flags = read_u16(&self.bytes[at..]).unwrap_or(0) | NLM_F_ACK;
        self.bytes[at..at + 2].copy_from_slice(&flags.to_ne_bytes());
    }
}

/// A message that came from the kernel.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// Its type, such as `RTM_NEWLINK`.
    pub kind: u16,
    /// What follows the header.
    pub payload: &'a [u8],
}

/// A netlink socket, bound to the network namespace that it was opened in.
#[derive(Debug)]
pub struct Socket {
    raw: Arc<RawSocket>,
    sequence: u32,
    chunk: Vec<u8>,
}

impl Socket {
    /// A socket for links, addresses and routes, in the calling thread's namespace.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn route() -> Result<Self> {
        Self::open(NETLINK_ROUTE)
    }

    pub(crate) fn open(protocol: isize) -> Result<Self> {
        let socket = Self::small(protocol)?;
        // Only the initial user namespace may go beyond the system's limit; the limit does too.
        setsockopt(&*socket.raw, sockopt::RcvBufForce, &BUFFER)
            .or_else(|_| setsockopt(&*socket.raw, sockopt::RcvBuf, &BUFFER))
            .map_err(|errno| Error::call("enlarge", "a netlink socket's buffer", errno))?;
        setsockopt(&*socket.raw, sockopt::SndBufForce, &BUFFER)
            .or_else(|_| setsockopt(&*socket.raw, sockopt::SndBuf, &BUFFER))
            .map_err(|errno| Error::call("enlarge", "a netlink socket's buffer", errno))?;
        Ok(socket)
    }

    /// As [`Socket::route`], for a few messages: with the system's buffers.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn route_small() -> Result<Self> {
        Self::small(NETLINK_ROUTE)
    }

    pub(crate) fn small(protocol: isize) -> Result<Self> {
        let opened = |error| Error::io("open", "a netlink socket", &error);
        let raw = RawSocket::new(protocol).map_err(opened)?;
        raw.set_cap_ack(true).map_err(opened)?;
        raw.set_ext_ack(true).map_err(opened)?;
        raw.set_netlink_get_strict_chk(true).map_err(opened)?;
        Ok(Self { raw: Arc::new(raw), sequence: 1, chunk: Vec::new() })
    }

    /// The same socket once more: one to the kernel, which owns what the other owns. Who asks by one
    /// has to have the answer before the other is used.
    pub(crate) fn share(&self) -> Self {
        let sequence = self.sequence.wrapping_add(1 << 31);
        Self { raw: Arc::clone(&self.raw), sequence, chunk: Vec::new() }
    }

    /// The cookie of the namespace that the socket is bound to (`SO_NETNS_COOKIE`, socket(7)):
    /// unique until the host restarts.
    ///
    /// # Errors
    /// What `getsockopt(2)` refuses.
    pub fn cookie(&self) -> Result<u64> {
        netns::cookie(self.as_fd())
    }

    /// Sends all messages at once and waits until the kernel is done with them.
    ///
    /// # Errors
    /// The first message that was refused. Those after it were tried nevertheless.
    pub fn run(&mut self, batch: Batch) -> Result<()> {
        self.run_with(batch, |_| ())
    }

    /// As [`Socket::run`]; `on` sees what the kernel echoes or answers.
    ///
    /// # Errors
    /// As [`Socket::run`].
    pub fn run_with(&mut self, batch: Batch, on: impl FnMut(Received<'_>)) -> Result<()> {
        self.run_but(&[], batch, on).map(drop)
    }

    /// As [`Socket::run_with`], where some refusals are none: to delete what is not there, say. How
    /// many messages were not refused.
    ///
    /// # Errors
    /// The first message that was refused for another reason.
    pub fn run_but(
        &mut self,
        but: &[Errno],
        batch: Batch,
        on: impl FnMut(Received<'_>),
    ) -> Result<usize> {
        let mut first = None;
        let done = self.run_each(but, batch, on, |error| {
            first.get_or_insert(error);
        })?;
        first.map_or(Ok(done), Err)
    }

    /// As [`Socket::run_but`]; `refused` is given every message that was refused for another reason.
    ///
    /// # Errors
    /// When the kernel cannot be asked, or its answer not be read.
    pub fn run_each(
        &mut self,
        but: &[Errno],
        mut batch: Batch,
        mut on: impl FnMut(Received<'_>),
        mut refused: impl FnMut(Error),
    ) -> Result<usize> {
        if batch.is_empty() {
            return Ok(0);
        }
        let mut done = batch.len();
        let first = self.sequence;
        batch.seal(first);
        let count = u32::try_from(batch.len()).expect("a batch has under 2^32 messages");
        self.sequence = first.wrapping_add(count);
        let (asked, first_message) = (batch.asked(), &batch.messages[0]);
        self.send(&batch.bytes, first_message.doing, &first_message.what)?;
        loop {
            self.receive(first_message.doing, &first_message.what)?;
            for message in Messages(&self.chunk) {
                let Ok(index) = usize::try_from(message.sequence.wrapping_sub(first)) else {
                    continue;
                };
                let Some(sent) = batch.messages.get(index) else { continue };
                if message.kind != NLMSG_ERROR {
                    on(Received { kind: message.kind, payload: message.payload });
                    continue;
                }
                if let Some((errno, text)) = message.refusal() {
                    done -= 1;
                    if !but.contains(&errno) {
                        let (doing, what) = (sent.doing, sent.what());
                        refused(Error::Refused { doing, what, index, errno, text });
                    }
                }
                // A batch that is refused as such is answered once, under its first message.
                if index == asked || (batch.framed && index == 0) {
                    return Ok(done);
                }
            }
        }
    }

    /// Asks for all of something; `parse` makes of each message what is wanted of it.
    ///
    /// # Errors
    /// When the kernel refuses to tell.
    pub fn dump<T>(
        &mut self,
        message: &RouteNetlinkMessage,
        doing: &'static str,
        what: &str,
        parse: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut batch = Batch::new();
        batch.push(message, NLM_F_DUMP, doing, what);
        self.dump_frame(batch, parse)
    }

    pub(crate) fn dump_frame<T>(
        &mut self,
        mut batch: Batch,
        mut parse: impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<Vec<T>> {
        let mut found = Vec::new();
        for _ in 0..DUMP_ATTEMPTS {
            found.clear();
            let sequence = self.sequence;
            self.sequence = sequence.wrapping_add(1);
            batch.bytes[8..12].copy_from_slice(&sequence.to_ne_bytes());
            let asked = &batch.messages[0];
            self.send(&batch.bytes, asked.doing, &asked.what)?;
            if self.collect(sequence, asked, &mut found, &mut parse)? {
                break;
            }
        }
        Ok(found)
    }

    /// Whether the dump is of one moment.
    fn collect<T>(
        &mut self,
        sequence: u32,
        asked: &Sent,
        found: &mut Vec<T>,
        parse: &mut impl FnMut(Received<'_>) -> Option<T>,
    ) -> Result<bool> {
        let mut steady = true;
        loop {
            self.receive(asked.doing, &asked.what)?;
            for message in Messages(&self.chunk).filter(|m| m.sequence == sequence) {
                steady &= message.flags & NLM_F_DUMP_INTR == 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        let Some((errno, text)) = message.refusal() else { return Ok(steady) };
                        let (doing, what) = (asked.doing, asked.what.clone());
                        return Err(Error::Refused { doing, what, index: 0, errno, text });
                    }
                    kind => found.extend(parse(Received { kind, payload: message.payload })),
                }
            }
        }
    }

    fn send(&self, bytes: &[u8], doing: &'static str, what: &str) -> Result<()> {
        loop {
            match self.raw.send(bytes, 0) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(doing, what, &error)),
            }
        }
    }

    fn receive(&mut self, doing: &'static str, what: &str) -> Result<()> {
        self.chunk.clear();
        self.chunk.reserve(CHUNK);
        loop {
            match self.raw.recv(&mut self.chunk, 0) {
                Ok(0) => return Err(Error::Garbled { doing, what: what.to_owned() }),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io(doing, what, &error)),
            }
        }
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.raw.as_fd()
    }
}

/// The messages in what one `recv` gave.
struct Messages<'a>(&'a [u8]);

struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    payload: &'a [u8],
}

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Message<'a>> {
        let length = usize::try_from(read_u32(self.0)?).ok()?;
        let message = Message {
            kind: read_u16(self.0.get(4..)?)?,
            flags: read_u16(self.0.get(6..)?)?,
            sequence: read_u32(self.0.get(8..)?)?,
            payload: self.0.get(HEADER..length)?,
        };
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

impl Message<'_> {
    /// The number and the text of an error, or of the end of a dump; none where all went well.
    fn refusal(&self) -> Option<(Errno, Option<String>)> {
        /// `NLM_F_CAPPED`, `NLM_F_ACK_TLVS` and `NLMSGERR_ATTR_MSG` (linux/netlink.h).
        const CAPPED: u16 = 0x100;
        const ACK_TLVS: u16 = 0x200;
        const TEXT: u16 = 1;

        let code = read_u32(self.payload)?.cast_signed();
        if code >= 0 {
            return None;
        }
        let attributes = match self.kind {
            NLMSG_ERROR => {
                let request = self.payload.get(4..)?;
                let skip = if self.flags & CAPPED != 0 {
                    HEADER
                } else {
                    usize::try_from(read_u32(request)?).ok()?.next_multiple_of(4)
                };
                request.get(skip..).unwrap_or_default()
            }
            _ => self.payload.get(4..).unwrap_or_default(),
        };
        let text = (self.flags & ACK_TLVS != 0)
            .then(|| Attributes(attributes).find(|(kind, _)| *kind == TEXT))
            .flatten()
            .map(|(_, text)| String::from_utf8_lossy(text).trim_end_matches('\0').to_owned());
        Some((Errno::from_raw(-code), text))
    }
}

#[cfg(test)]
mod tests;
