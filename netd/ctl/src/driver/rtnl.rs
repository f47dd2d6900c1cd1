//! The two things that the trial of a driver asks of the kernel's links: setting one up, and taking
//! one away as if somebody else did.

use std::os::fd::AsRawFd as _;

use nix::{
    errno::Errno,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

/// linux/rtnetlink.h
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
/// net/if.h
const IFF_UP: u32 = 1;

/// Sets a link of the calling thread's namespace up.
pub(crate) fn set_up(index: u32) -> nix::Result<()> {
    request(RTM_NEWLINK, index, IFF_UP)
}

/// Takes a link of the calling thread's namespace away.
pub(crate) fn delete(index: u32) -> nix::Result<()> {
    request(RTM_DELLINK, index, 0)
}

/// A `struct ifinfomsg` without attributes, and its answer (linux/netlink.h).
fn request(kind: u16, index: u32, up: u32) -> nix::Result<()> {
    const LENGTH: u32 = 32;
    const REQUEST_AND_ACK: u16 = 5;
    let mut message = Vec::new();
    message.extend(LENGTH.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(REQUEST_AND_ACK.to_ne_bytes());
    message.extend([0; 8]);
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend(up.to_ne_bytes());
    message.extend(IFF_UP.to_ne_bytes());
    let (family, kind) = (AddressFamily::Netlink, SockType::Raw);
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 512];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    match answer.get(16..20).filter(|_| length >= 20).and_then(|code| code.try_into().ok()) {
        Some(code) => match i32::from_ne_bytes(code) {
            0 => Ok(()),
            code => Err(Errno::from_raw(-code)),
        },
        None => Err(Errno::EPROTO),
    }
}
