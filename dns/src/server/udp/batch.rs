//! Many datagrams with one call of the kernel each way (recvmmsg(2), sendmmsg(2)): most of what a
//! small one costs is the way there and back.

use std::cell::RefCell;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{
    ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, SockaddrIn6, SockaddrLike, recvmmsg,
    sendmmsg,
};

/// Datagrams that are read at a time.
pub(super) const BATCH: usize = 32;

/// The largest query that is read whole, in bytes. We ask senders to stay below a third of it.
const LARGEST: usize = 4096;

thread_local! {
    // One for all listeners of a family, which are on one thread.
    static FOUR: RefCell<Batch<SockaddrIn>> = RefCell::default();
    static SIX: RefCell<Batch<SockaddrIn6>> = RefCell::default();
}

/// Addresses of one family, as the kernel has them. Each has headers of its own: their room for an
/// address is as large as the last one that was put there.
pub(super) trait Family: SockaddrLike + Copy + Into<SocketAddr> + 'static {
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
        while sent < self.replies.len() {
            match self.send_from(socket.as_raw_fd(), sent) {
                Ok(0) | Err(Errno::EAGAIN | Errno::ENOBUFS) => break,
                Ok(count) => sent += count,
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

    fn send_from(&mut self, socket: RawFd, first: usize) -> nix::Result<usize> {
        let replies = &self.replies[first..];
        if let ([reply], [Some(to)]) = (replies, &self.to[first..]) {
            // One alone needs no headers for many.
            return nix::sys::socket::sendto(socket, reply, to, MsgFlags::MSG_DONTWAIT).map(|_| 1);
        }
        let slices: Vec<_> = replies.iter().map(|reply| [IoSlice::new(reply)]).collect();
        let (to, none) = (&self.to[first..], [] as [ControlMessage<'_>; 0]);
        let flags = MsgFlags::MSG_DONTWAIT;
        Ok(sendmmsg(socket, &mut self.outgoing, slices.iter(), to, none, flags)?.count())
    }
}
