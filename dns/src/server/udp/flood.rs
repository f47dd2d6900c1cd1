//! Keeping those out of a socket who ask without end. Whoever asks faster than questions are read
//! fills the room in which those of others wait: what is dropped then is dropped by the kernel, and
//! not by who is fair. So the kernel is told to drop theirs before that room.

use std::io::IoSliceMut;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use socket2::SockFilter;

/// Questions that are read without the socket having been empty once, at which somebody may have to be
/// kept out: more than there is room for, so that neither a burst nor what waited for a restart is
/// taken for it. Somebody has to be if the kernel had no room for others meanwhile: who asks much and
/// waits for answers does nobody harm.
const TOO_MANY: usize = 8_192;

/// For how long somebody is kept out; twice as long each time it goes on.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(8);

/// How many are kept out at a time.
const MOST: usize = 16;

/// Who is kept out of one socket.
#[derive(Debug, Default)]
pub(super) struct Flood {
    unbroken: usize,
    /// Since when they are read so.
    since: Option<Instant>,
    /// How many the kernel had no room for, in all, when this was last looked at.
    lost: u32,
    known: Vec<Known>,
}

/// Somebody who asked without end.
#[derive(Debug)]
struct Known {
    source: IpAddr,
    until: Instant,
    lasts: Duration,
    /// Whether the time is not over.
    out: bool,
}

impl Flood {
    /// After so many were read, and perhaps more wait; `lost` says how many the kernel has had no room
    /// for. Gives whom to keep out from now on, if so.
    pub(super) fn read(
        &mut self,
        count: usize,
        more: bool,
        lost: impl FnOnce() -> Option<u32>,
        loudest: impl FnOnce() -> Option<IpAddr>,
        now: Instant,
    ) -> Option<IpAddr> {
        let since = *self.since.get_or_insert(now);
        self.unbroken = if more { self.unbroken + count } else { 0 };
        self.since = more.then_some(since);
        if self.unbroken < TOO_MANY {
            return None;
        }
        (self.unbroken, self.since) = (0, None);
        let lost = lost()?;
        if std::mem::replace(&mut self.lost, lost) == lost {
            return None;
        }
        let source = loudest()?;
        // It is forgotten after as long a time as it was kept out for, in which it did not begin again:
        // how long it takes to find that out is not its merit.
        self.known.retain(|known| known.out || since < known.until + known.lasts);
        if let Some(known) = self.known.iter_mut().find(|known| known.source == source) {
            known.lasts = (known.lasts * 2).min(LONGEST);
            (known.until, known.out) = (now + known.lasts, true);
        } else if self.known.len() < MOST {
            self.known.push(Known { source, until: now + FIRST, lasts: FIRST, out: true });
        } else {
            return None;
        }
        Some(source)
    }

    /// When somebody's time is over.
    pub(super) fn next(&self) -> Option<Instant> {
        self.known.iter().filter(|known| known.out).map(|known| known.until).min()
    }

    /// Lets those in whose time is over.
    pub(super) fn let_in(&mut self, now: Instant) {
        for known in self.known.iter_mut().filter(|known| known.until <= now) {
            known.out = false;
        }
    }

    /// What the kernel is to do with each datagram (linux/filter.h): nothing where nobody is kept
    /// out.
    pub(super) fn filter(&self) -> Vec<SockFilter> {
        let out: Vec<_> = self.known.iter().filter(|known| known.out).collect();
        if out.is_empty() {
            return Vec::new();
        }
        let mut program: Vec<_> = out.iter().flat_map(|known| drop_from(known.source)).collect();
        program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
        program
    }
}

/// How many datagrams the kernel has had no room for (`SO_RXQ_OVFL`, socket(7)), as the next one that
/// waits has it; nothing where none does.
pub(super) fn lost(socket: &impl AsRawFd) -> Option<u32> {
    let (mut byte, mut space) = ([0; 1], cmsg_space!(u32));
    let (mut room, flags) =
        ([IoSliceMut::new(&mut byte)], MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT);
    let next = recvmsg::<()>(socket.as_raw_fd(), &mut room, Some(&mut space), flags).ok()?;
    let said = next.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::RxqOvfl(lost) => Some(lost),
        _ => None,
    });
    // Nothing is said of none.
    Some(said.unwrap_or_default())
}

/// `BPF_LD | BPF_W | BPF_ABS`, `BPF_JMP | BPF_JEQ | BPF_K`, `BPF_RET | BPF_K`.
const LOAD: u16 = 0x20;
const JUMP_IF_EQUAL: u16 = 0x15;
const RETURN: u16 = 0x06;

/// Drops what comes from an address, and goes on behind itself with all else.
fn drop_from(source: IpAddr) -> Vec<SockFilter> {
    /// Where the IP header begins (`SKF_NET_OFF`), and where it has the source's address.
    const HEADER: u32 = 0xfff0_0000;
    let (at, bytes) = match source {
        IpAddr::V4(source) => (12, source.octets().to_vec()),
        IpAddr::V6(source) => (8, source.octets().to_vec()),
    };
    let words = bytes.chunks_exact(4).map(|word| <[u8; 4]>::try_from(word).unwrap_or_default());
    let words: Vec<u32> = words.map(u32::from_be_bytes).collect();
    let mut program = Vec::new();
    for ((offset, word), left) in (HEADER + at..).step_by(4).zip(&words).zip((0..words.len()).rev())
    {
        let behind = u8::try_from(2 * left + 1).expect("an address has four words at most");
        program.push(SockFilter::new(LOAD, 0, 0, offset));
        program.push(SockFilter::new(JUMP_IF_EQUAL, 0, behind, *word));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use socket2::SockRef;

    use super::*;

    const ONE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 2));

    #[test]
    fn a_burst_is_no_flood_and_what_does_not_end_is() {
        let start = Instant::now();
        let mut flood = Flood::default();
        for _ in 0..10 {
            assert_eq!(flood.read(TOO_MANY - 1, true, || Some(7), || Some(ONE), start), None);
            assert_eq!(flood.read(1, false, || Some(8), || Some(ONE), start), None);
        }
        assert_eq!(flood.read(TOO_MANY, true, || Some(9), || Some(ONE), start), Some(ONE));
        // Nobody else is in want of room.
        assert_eq!(flood.read(TOO_MANY, true, || Some(9), || Some(ONE), start), None);
        assert_eq!(flood.next(), Some(start + FIRST));
        assert!(!flood.filter().is_empty());
        flood.let_in(start + FIRST);
        assert_eq!((flood.next(), flood.filter().len()), (None, 0));
        // It goes on as soon as it may.
        let again = start + FIRST;
        assert_eq!(flood.read(TOO_MANY, true, || Some(10), || Some(ONE), again), Some(ONE));
        assert_eq!(flood.next(), Some(again + FIRST * 2));
        flood.let_in(again + FIRST * 2);
        // However long it takes to read as much.
        assert_eq!(flood.read(1, true, || Some(11), || Some(ONE), again + FIRST * 2), None);
        let slowly = again + FIRST * 6;
        assert_eq!(flood.read(TOO_MANY, true, || Some(12), || Some(ONE), slowly), Some(ONE));
        assert_eq!(flood.next(), Some(slowly + FIRST * 4));
        flood.let_in(slowly + FIRST * 4);
        // Much later it is somebody like others.
        let later = slowly + FIRST * 9;
        assert_eq!(flood.read(TOO_MANY, true, || Some(13), || Some(ONE), later), Some(ONE));
        assert_eq!(flood.next(), Some(later + FIRST));
    }

    #[test]
    fn the_kernel_drops_what_comes_from_them_and_nothing_else() {
        let now = Instant::now();
        for (own, out, other) in
            [("127.0.0.1", "127.0.0.2", "127.0.0.3"), ("::1", "::ffff:ffff:ffff:fff1", "::1")]
        {
            let server = UdpSocket::bind((own, 0)).unwrap();
            server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let mut flood = Flood::default();
            for (lost, source) in (1..).zip([out, "192.0.2.1", "2001:db8::1"]) {
                let source: IpAddr = source.parse().unwrap();
                if source.is_ipv4() == server.local_addr().unwrap().is_ipv4() {
                    flood.read(TOO_MANY, true, || Some(lost), || Some(source), now).unwrap();
                }
            }
            SockRef::from(&server).attach_filter(&flood.filter()).unwrap();
            if own != other {
                let kept_out = UdpSocket::bind((out, 0)).unwrap();
                kept_out.send_to(b"out", server.local_addr().unwrap()).unwrap();
            }
            let client = UdpSocket::bind((other, 0)).unwrap();
            client.send_to(b"in", server.local_addr().unwrap()).unwrap();
            let mut bytes = [0; 8];
            assert_eq!(server.recv(&mut bytes).unwrap(), 2, "{own}");
            // IPv6 has one address on loopback: the same once more, with that kept out.
            if own == other {
                let own = own.parse().unwrap();
                flood.read(TOO_MANY, true, || Some(9), || Some(own), now).unwrap();
                SockRef::from(&server).attach_filter(&flood.filter()).unwrap();
                client.send_to(b"out", server.local_addr().unwrap()).unwrap();
                SockRef::from(&server).detach_filter().unwrap();
                client.send_to(b"in", server.local_addr().unwrap()).unwrap();
                assert_eq!(server.recv(&mut bytes).unwrap(), 2, "{own}");
            }
        }
    }
}
