//! Containers that are on a network by the distribution's netavark: told by the other end of their
//! interface, which is on the host and none of netd's. netd may be away, and has no word for them.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    net::if_::if_indextoname,
    sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket},
};

use crate::endpoint::open_netns;

/// A question to the kernel (linux/rtnetlink.h): what it is called, what its answer is, and how long the
/// head of both is after that of every message.
struct Question {
    asks: u16,
    answers: u16,
    head: usize,
}

/// What number this namespace has for another.
const NSID: Question = Question { asks: 90, answers: 88, head: 4 };

/// What a link is.
const LINK: Question = Question { asks: 18, answers: 16, head: 16 };

/// That a message is a question, and how long the head of each is (linux/netlink.h).
const REQUEST: u16 = 1;
const HEAD: usize = 16;

/// Attributes of a namespace: its number here, and a descriptor (linux/net_namespace.h).
const NUMBER: u16 = 1;
const DESCRIPTOR: u16 = 3;

/// Attributes of a link: its name, its other end or what it hangs on, and the number of the namespace in
/// which it is (linux/if_link.h).
const NAME: u16 = 3;
const OTHER: u16 = 5;
const WHERE: u16 = 46;

/// Where netavark keeps who resolves what on a network: there is a file as long as it serves one.
const RESOLVED: &str = "aardvark-dns";

/// Whether an interface in a namespace is there, and not of netd's making.
pub(super) fn is_theirs(netns: &str, ifname: &str) -> bool {
    let name = other_end(Path::new(netns), ifname).and_then(|other| if_indextoname(other).ok());
    name.is_some_and(|name| !is_netds(name.to_bytes()))
}

/// Whether a link of the host has a name as those of netd's endpoints (`EndpointId::link_name`).
fn is_netds(name: &[u8]) -> bool {
    let id = name.strip_prefix(b"nd");
    id.is_some_and(|id| id.len() == 12 && id.iter().all(u8::is_ascii_hexdigit))
}

/// Whether netavark serves a network, as far as its files (`--config`) tell.
pub(super) fn serves(config: Option<&Path>, network: &str) -> bool {
    let files = [network.to_owned(), format!("{network}%int")];
    config.is_some_and(|config| files.iter().any(|name| config.join(RESOLVED).join(name).exists()))
}

/// The number of the other end of an interface; none where the namespace or the interface is gone, or has
/// nothing to do with this one.
fn other_end(netns: &Path, ifname: &str) -> Option<u32> {
    let netns = open_netns(netns).ok()?;
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    );
    let kernel = kernel.ok()?;
    let number = ask(&kernel, &NSID, &[(DESCRIPTOR, &netns.as_raw_fd().to_ne_bytes())], NUMBER)?;
    // It has none for who has no link here.
    i32::try_from(number).ok()?;
    let name = [ifname.as_bytes(), b"\0"].concat();
    ask(&kernel, &LINK, &[(WHERE, &number.to_ne_bytes()), (NAME, &name)], OTHER)
}

/// Asks the kernel, of an attribute of the answer.
fn ask(kernel: &OwnedFd, question: &Question, told: &[(u16, &[u8])], wanted: u16) -> Option<u32> {
    let message = message(question, told)?;
    send(kernel.as_raw_fd(), &message, MsgFlags::empty()).ok()?;
    let mut answer = vec![0; 16 << 10];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty()).ok()?;
    attribute(question, answer.get(..length)?, wanted)
}

fn message(question: &Question, told: &[(u16, &[u8])]) -> Option<Vec<u8>> {
    let mut message = vec![0; HEAD + question.head];
    message[4..6].copy_from_slice(&question.asks.to_ne_bytes());
    message[6..8].copy_from_slice(&REQUEST.to_ne_bytes());
    for (kind, value) in told {
        message.extend(u16::try_from(4 + value.len()).ok()?.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend(*value);
        message.resize(message.len().next_multiple_of(4), 0);
    }
    let length = u32::try_from(message.len()).ok()?;
    message[..4].copy_from_slice(&length.to_ne_bytes());
    Some(message)
}

/// The value of an attribute in an answer.
fn attribute(question: &Question, answer: &[u8], wanted: u16) -> Option<u32> {
    let half = |at: &[u8]| Some(u16::from_ne_bytes(at.get(..2)?.try_into().ok()?));
    if half(answer.get(4..)?)? != question.answers {
        return None;
    }
    let mut rest = answer.get(HEAD + question.head..)?;
    loop {
        let length = usize::from(half(rest)?);
        let value = rest.get(4..length)?;
        if half(rest.get(2..)?)? == wanted {
            return Some(u32::from_ne_bytes(value.try_into().ok()?));
        }
        rest = rest.get(length.next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_other_end_is_found_among_what_is_told_of_a_link() {
        let of = |told: &[(u16, &[u8])]| {
            let mut answer = message(&LINK, told).expect("a message");
            answer[4..6].copy_from_slice(&LINK.answers.to_ne_bytes());
            answer
        };
        let other = |answer: &[u8]| attribute(&LINK, answer, OTHER);
        let seven = 7_u32.to_ne_bytes();
        let whole = of(&[(NAME, b"eth0\0"), (OTHER, &seven)]);
        assert_eq!((whole.len() % 4, other(&whole)), (0, Some(7)));
        assert_eq!(other(&whole[..whole.len() - 2]), None, "half of it");
        assert_eq!(other(&of(&[(NAME, b"eth0\0")])), None);
        assert_eq!(other(&of(&[(OTHER, &[7])])), None, "no number");
        assert_eq!(other(&[whole[..HEAD + LINK.head].to_vec(), vec![0; 8]].concat()), None);
        assert_eq!(other(&message(&LINK, &[(OTHER, &seven)]).expect("a message")), None);
        assert_eq!(other(&[]), None);
    }

    #[test]
    fn netds_links_are_known_by_their_names() {
        let own = crate::EndpointId::from_bytes([7; 32]).link_name();
        assert!(is_netds(own.as_str().as_bytes()));
        for other in ["veth0", "nd", "nd0123456789a", "nd0123456789xy", "ne0123456789ab"] {
            assert!(!is_netds(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn what_is_alone_or_not_there_is_nobodys() {
        for ifname in ["lo", "none-such", ""] {
            assert!(!is_theirs("/proc/self/ns/net", ifname), "{ifname}");
        }
        assert!(!is_theirs("/proc/self/ns/none", "lo"));
    }
}
