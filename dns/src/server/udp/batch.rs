//! Many datagrams with one call of the kernel each way (recvmmsg(2), sendmmsg(2)): most of what a
//! small one costs is the way there and back. Answers to one asker that are of one length go that way
//! as one, and come apart at its socket (`UDP_SEGMENT`, udp(7)): an asker of many has them for half of
//! what they cost one by one.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::ops::Range;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg,
    sendmmsg, sendmsg,
};

/// Datagrams that are read at a time.
pub(super) const BATCH: usize = 32;

/// The longest reply that goes with others, in bytes: 32 of them fit in a datagram, and each in the
/// packets of any link.
const SHORT: usize = 512;

/// The largest query that is read whole, in bytes. We ask senders to stay below a third of it.
const LARGEST: usize = 4096;

thread_local! {
    // One for all listeners of a family, which are on one thread.
    static FOUR: RefCell<Batch<SockaddrIn>> = RefCell::default();
    static SIX: RefCell<Batch<SockaddrIn6>> = RefCell::default();
}

/// Addresses of one family, as the kernel has them. Each has headers of its own: their room for an
/// address is as large as the last one that was put there.
pub(super) trait Family:
    SockaddrLike + Copy + PartialEq + Into<SocketAddr> + 'static
{
    /// Does something with this thread's batch.
    fn with_batch<R>(act: impl FnOnce(&mut Batch<Self>) -> R) -> R;
}

impl Family for SockaddrIn {
    fn with_batch<R>(act: impl FnOnce(&mut Batch<Self>) -> R) -> R {
        FOUR.with_borrow_mut(act)
    }
}

impl Family for SockaddrIn6 {
    fn with_batch<R>(act: impl FnOnce(&mut Batch<Self>) -> R) -> R {
        SIX.with_borrow_mut(act)
    }
}

/// Room for what is read, and what it is answered.
pub(super) struct Batch<F> {
    incoming: MultiHeaders<F>,
    outgoing: MultiHeaders<F>,
    room: Box<[u8]>,
    replies: Vec<Vec<u8>>,
    to: Vec<Option<F>>,
}

impl<F: Family> Default for Batch<F> {
    fn default() -> Self {
        Self {
            incoming: MultiHeaders::preallocate(BATCH, None),
            outgoing: MultiHeaders::preallocate(BATCH, None),
            room: vec![0; BATCH * LARGEST].into(),
            replies: Vec::with_capacity(BATCH),
            to: Vec::with_capacity(BATCH),
        }
    }
}

impl<F: Family> Batch<F> {
    /// Reads what waits, without waiting. Each is shown with whom it came from, and what is given
    /// for it is what that is to be sent. Says how many there were.
    pub(super) fn receive(
        &mut self,
        socket: &impl AsRawFd,
        mut each: impl FnMut(&[u8], SocketAddr) -> Option<Vec<u8>>,
    ) -> io::Result<usize> {
        let rooms = self.room.chunks_mut(LARGEST);
        let mut rooms: Vec<_> = rooms.map(|room| [IoSliceMut::new(room)]).collect();
        let (incoming, flags) = (&mut self.incoming, MsgFlags::MSG_DONTWAIT);
        let mut count = 0;
        for message in recvmmsg(socket.as_raw_fd(), incoming, rooms.iter_mut(), flags, None)? {
            count += 1;
            let Some(from) = message.address else { continue };
            if let Some(reply) = each(message.iovs().next().unwrap_or_default(), from.into()) {
                self.replies.push(reply);
                self.to.push(Some(from));
            }
        }
        Ok(count)
    }

    /// Sends what is to be sent; one that cannot be is told to `lost`. Gives what the socket has no
    /// room for.
    pub(super) fn send(
        &mut self,
        socket: &impl AsRawFd,
        mut lost: impl FnMut(SocketAddr, io::Error),
    ) -> Vec<(Vec<u8>, SocketAddr)> {
        let mut sent = 0;
        let mut together = true;
        while sent < self.replies.len() {
            let next = if together { self.next(sent) } else { Next::Each(self.replies.len()) };
            let outcome = match next {
                Next::Together(end) => self.send_as_one(socket.as_raw_fd(), sent..end),
                Next::Each(end) => self.send_each(socket.as_raw_fd(), sent..end),
            };
            match outcome {
                Ok(0) | Err(Errno::EAGAIN | Errno::ENOBUFS) => break,
                Ok(count) => sent += count,
                // The kernel before Linux 4.18, or a way whose links cannot.
                Err(_) if matches!(next, Next::Together(_)) => together = false,
                // That one's; the others are sent all the same.
                Err(error) => {
                    lost(self.to[sent].expect("each has one").into(), error.into());
                    sent += 1;
                }
            }
        }
        let to = self.to.drain(..).flatten().map(F::into).skip(sent);
        self.replies.drain(..).skip(sent).zip(to).collect()
    }

    /// How what there is from `first` on goes.
    fn next(&self, first: usize) -> Next {
        let end = self.end_of_run(first);
        if end - first > 1 {
            return Next::Together(end);
        }
        let mut end = end;
        while end < self.replies.len() && self.end_of_run(end) - end == 1 {
            end += 1;
        }
        Next::Each(end)
    }

    /// Where those end that can go as one with the first: to the same asker and as long, but for the
    /// last, which may be shorter.
    fn end_of_run(&self, first: usize) -> usize {
        let (length, to) = (self.replies[first].len(), self.to[first]);
        let others = self.replies.iter().zip(&self.to).enumerate().skip(first + 1);
        let mut end = first + 1;
        if length <= SHORT {
            for (n, (reply, asker)) in others {
                if *asker != to || reply.len() > length {
                    break;
                }
                end = n + 1;
                if reply.len() < length {
                    break;
                }
            }
        }
        end
    }

    fn send_as_one(&self, socket: RawFd, which: Range<usize>) -> nix::Result<usize> {
        let slices: Vec<_> = self.replies[which.clone()].iter().map(|r| IoSlice::new(r)).collect();
        let length = self.replies[which.start].len();
        let length = u16::try_from(length).map_err(|_| Errno::EMSGSIZE)?;
        let apart = [ControlMessage::UdpGsoSegments(&length)];
        let to = self.to[which.start].as_ref();
        sendmsg(socket, &slices, &apart, MsgFlags::MSG_DONTWAIT, to).map(|_| which.len())
    }

    fn send_each(&mut self, socket: RawFd, which: Range<usize>) -> nix::Result<usize> {
        let replies = &self.replies[which.clone()];
        if let ([reply], [Some(to)]) = (replies, &self.to[which.clone()]) {
            // One alone needs no headers for many.
            return nix::sys::socket::sendto(socket, reply, to, MsgFlags::MSG_DONTWAIT).map(|_| 1);
        }
        let slices: Vec<_> = replies.iter().map(|reply| [IoSlice::new(reply)]).collect();
        let (to, none) = (&self.to[which], [] as [ControlMessage<'_>; 0]);
        let flags = MsgFlags::MSG_DONTWAIT;
        Ok(sendmmsg(socket, &mut self.outgoing, slices.iter(), to, none, flags)?.count())
    }
}

/// How the next replies go, and which is the first after them.
#[derive(Clone, Copy)]
enum Next {
    /// As one.
    Together(usize),
    /// Each for itself, with one call.
    Each(usize),
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket, time::Duration};

    use proptest::prelude::*;

    use super::*;

    fn asker() -> UdpSocket {
        let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
        asker.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        asker
    }

    fn address(socket: &UdpSocket) -> SockaddrIn {
        match socket.local_addr().unwrap() {
            SocketAddr::V4(address) => address.into(),
            SocketAddr::V6(_) => unreachable!(),
        }
    }

    #[test]
    fn what_is_of_one_length_goes_to_its_asker_as_one() {
        let (one, other) = (asker(), asker());
        let (one, other) = (address(&one), address(&other));
        let mut batch = Batch::default();
        for (length, to) in
            [(9, one), (9, one), (7, one), (7, one), (7, other), (600, one), (600, one)]
        {
            batch.replies.push(vec![0; length]);
            batch.to.push(Some(to));
        }
        let ends: Vec<_> = (0..7).map(|first| batch.end_of_run(first)).collect();
        assert_eq!(ends, [3, 3, 4, 4, 5, 6, 7]);
    }

    proptest! {
        #[test]
        fn each_asker_gets_each_of_its_answers(
            answers in prop::collection::vec((0_usize..3, 1_usize..5, 0_u8..255), 1..BATCH),
        ) {
            let server = UdpSocket::bind("127.0.0.1:0").unwrap();
            let askers = [asker(), asker(), asker()];
            let mut batch = Batch::default();
            for (n, length, byte) in &answers {
                batch.replies.push(vec![*byte; length * 200]);
                batch.to.push(Some(address(&askers[*n])));
            }
            let unsent = batch.send(&server, |to, error| panic!("{to}: {error}"));
            prop_assert!(unsent.is_empty());
            let mut room = [0; LARGEST];
            for (n, length, byte) in &answers {
                let count = askers[*n].recv(&mut room).unwrap();
                prop_assert_eq!(&room[..count], &vec![*byte; length * 200][..]);
            }
            for asker in &askers {
                asker.set_nonblocking(true).unwrap();
                prop_assert!(asker.recv(&mut room).is_err());
            }
        }
    }
}
