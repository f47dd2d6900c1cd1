//! Elements of nftables' sets and maps over a kept socket: many in one transaction, microseconds
//! each.
//!
//! Of tables only whose they are ([`tables`]); chains, rules and empty sets are laid down once by `nft`
//! itself (see [`crate::firewall`]). A process that deletes elements and ends waits 16 ms for the kernel to
//! let go of them; a kept socket does not. Message layouts are those of linux/netfilter/nf_tables.h
//! and nfnetlink.h.

use std::{collections::BTreeMap, fmt};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use netlink_sys::protocols::NETLINK_NETFILTER;
use nix::{errno::Errno, libc};

use crate::{
    Result,
    netlink::{Attributes, Batch, Received, Socket},
};

pub mod chains;
pub mod tables;

pub(crate) const SUBSYSTEM: u16 = 10;
pub(crate) const BATCH_BEGIN: u16 = 0x10;
pub(crate) const BATCH_END: u16 = 0x11;
pub(crate) const NEWTABLE: u16 = SUBSYSTEM << 8;
pub(crate) const DELTABLE: u16 = SUBSYSTEM << 8 | 2;
pub(crate) const NEWCHAIN: u16 = SUBSYSTEM << 8 | 3;
pub(crate) const NEWRULE: u16 = SUBSYSTEM << 8 | 6;
pub(crate) const GETRULE: u16 = SUBSYSTEM << 8 | 7;
const NEWSETELEM: u16 = SUBSYSTEM << 8 | 12;
const GETSETELEM: u16 = SUBSYSTEM << 8 | 13;
const DELSETELEM: u16 = SUBSYSTEM << 8 | 14;

const NEWOBJ: u16 = SUBSYSTEM << 8 | 18;
const GETOBJ: u16 = SUBSYSTEM << 8 | 19;

const NESTED: u16 = 0x8000;
const LIST_TABLE: u16 = 1;
const LIST_SET: u16 = 2;
const LIST_ELEMENTS: u16 = 3;
pub(crate) const LIST_ELEMENT: u16 = 1;
const ELEMENT_KEY: u16 = 1;
const ELEMENT_DATA: u16 = 2;
const ELEMENT_USERDATA: u16 = 6;
const ELEMENT_KEY_END: u16 = 10;
pub(crate) const DATA_VALUE: u16 = 1;
pub(crate) const TABLE_NAME: u16 = 1;
pub(crate) const CHAIN_TABLE: u16 = 1;
pub(crate) const CHAIN_NAME: u16 = 3;
pub(crate) const CHAIN_HOOK: u16 = 4;
pub(crate) const HOOK_NUMBER: u16 = 1;
pub(crate) const RULE_TABLE: u16 = 1;
pub(crate) const RULE_CHAIN: u16 = 2;
const OBJ_TABLE: u16 = 1;
const OBJ_NAME: u16 = 2;
const OBJ_TYPE: u16 = 3;
const OBJ_DATA: u16 = 4;
const OBJ_COUNTER: u32 = 1;
const COUNTER_PACKETS: u16 = 2;
/// `struct nfgenmsg` of `NFPROTO_UNSPEC`: a dump is of every family.
const ALL_FAMILIES: [u8; 4] = [0; 4];

/// `struct nfgenmsg` of the family `inet`, IPv4 and IPv6, of which netd's tables are
/// (linux/netfilter/nfnetlink.h).
const INET: [u8; 4] = [1, 0, 0, 0];
const _: () = assert!(libc::NFPROTO_INET == 1);

/// An element of a set or a map. Of a concatenation each field is padded to 4 bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Element {
    /// The set or map it is of.
    pub set: &'static str,
    /// Its key, or the first of its keys.
    pub key: Vec<u8>,
    /// The last of its keys, where the set is one of intervals.
    pub end: Option<Vec<u8>>,
    /// What a map holds under it.
    pub data: Option<Vec<u8>>,
}

impl Element {
    /// Appends it to a list of elements.
    fn write(&self, bytes: &mut Vec<u8>, with_data: bool, comment: Option<&str>) {
        nest(bytes, LIST_ELEMENT, |bytes| {
            let value = |bytes: &mut Vec<u8>, kind, value: &[u8]| {
                nest(bytes, kind, |bytes| attribute(bytes, DATA_VALUE, value));
            };
            value(bytes, ELEMENT_KEY, &self.key);
            if let Some(end) = &self.end {
                value(bytes, ELEMENT_KEY_END, end);
            }
            if let Some(data) = self.data.as_ref().filter(|_| with_data) {
                value(bytes, ELEMENT_DATA, data);
            }
            if let Some(comment) = comment {
                attribute(bytes, ELEMENT_USERDATA, &userdata(comment));
            }
        });
    }

    /// The comment of an element, in the form that `nft` gives it and shows.
    fn comment(bytes: &[u8]) -> Option<&str> {
        let [USERDATA_COMMENT, length, text @ ..] = Attributes(bytes).value(ELEMENT_USERDATA)?
        else {
            return None;
        };
        let text = text.get(..usize::from(*length))?;
        std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok()
    }

    fn parse(set: &'static str, bytes: &[u8]) -> Option<Self> {
        let element = Attributes(bytes);
        let value = |kind| {
            let nested = Attributes(element.value(kind)?);
            Some(nested.value(DATA_VALUE)?.to_vec())
        };
        Some(Self {
            set,
            key: value(ELEMENT_KEY)?,
            end: value(ELEMENT_KEY_END),
            data: value(ELEMENT_DATA),
        })
    }
}

/// `NFTNL_UDATA_SET_ELEM_COMMENT` (libnftnl/udata.h).
const USERDATA_COMMENT: u8 = 0;

fn userdata(comment: &str) -> Vec<u8> {
    let length = u8::try_from(comment.len() + 1).expect("an owner's name is short");
    let mut bytes = vec![USERDATA_COMMENT, length];
    bytes.extend_from_slice(comment.as_bytes());
    bytes.push(0);
    bytes
}

/// How long a message's list of elements grows at most, in bytes: its length is a number of 16 bits,
/// and no element is longer than what is left then.
const LIST: usize = 60 << 10;

/// Additions and deletions that take effect together or not at all.
#[derive(Debug)]
pub struct Transaction {
    table: &'static str,
    comment: Option<&'static str>,
    batch: Batch,
    /// The list of the last message, which the next element goes into where it is of the same kind.
    list: Option<List>,
}

/// A list of elements that a message ends with.
#[derive(Clone, Copy, Debug)]
struct List {
    /// What is done with them: the message's type.
    kind: u16,
    set: &'static str,
    /// Where it begins in the batch.
    start: usize,
}

impl Transaction {
    /// One of nothing, on the tables of a name.
    pub fn new(table: &'static str) -> Self {
        Self::of(table, None)
    }

    /// As [`Transaction::new`]; what it adds bears a comment.
    pub fn of(table: &'static str, comment: Option<&'static str>) -> Self {
        let mut batch = Batch::new();
        batch.frame(BATCH_BEGIN, 0, "begin", "a transaction".to_owned(), frame_header);
        Self { table, comment, batch, list: None }
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.batch.len() == 1
    }

    /// Adds an element. The same element again is a success, one of the same key with other data
    /// is `EBUSY` or `EEXIST`.
    pub fn add(&mut self, element: &Element, what: impl fmt::Display) {
        self.element(NEWSETELEM, NLM_F_CREATE, "add to the firewall", element, what);
    }

    /// Deletes an element; one that is not there is `ENOENT`.
    pub fn delete(&mut self, element: &Element, what: impl fmt::Display) {
        self.element(DELSETELEM, 0, "delete from the firewall", element, what);
    }

    fn element(
        &mut self,
        kind: u16,
        flags: u16,
        doing: &'static str,
        element: &Element,
        what: impl fmt::Display,
    ) {
        let comment = self.comment.filter(|_| kind == NEWSETELEM);
        let set = element.set;
        let write = |bytes: &mut Vec<u8>| element.write(bytes, kind == NEWSETELEM, comment);
        let goes_on = |list: &List| (list.kind, list.set) == (kind, set);
        if let Some(List { start, .. }) = self.list.filter(goes_on)
            && self.batch.bytes().len() - start < LIST
        {
            self.batch.extend(|bytes| {
                write(bytes);
                close(bytes, start, LIST_ELEMENTS);
            });
            return;
        }
        let mut start = 0;
        self.batch.frame(kind, flags, doing, what.to_string(), |bytes| {
            bytes.extend_from_slice(&INET);
            text(bytes, LIST_TABLE, self.table);
            text(bytes, LIST_SET, set);
            start = bytes.len();
            nest(bytes, LIST_ELEMENTS, write);
        });
        self.list = Some(List { kind, set, start });
    }

    /// The messages, closed.
    pub(crate) fn into_batch(mut self) -> Batch {
        self.batch.frame(BATCH_END, 0, "end", "a transaction".to_owned(), frame_header);
        self.batch.framed();
        self.batch
    }
}

/// A kept socket to nf_tables of the namespace that it was opened in.
#[derive(Debug)]
pub struct Nft {
    socket: Socket,
}

impl Nft {
    /// Opens it, in the calling thread's namespace.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        Ok(Self { socket: Socket::open(NETLINK_NETFILTER)? })
    }

    /// The same socket once more, for another use by the same thread: it is one to the kernel.
    pub fn share(&self) -> Self {
        Self { socket: self.socket.share() }
    }

    /// Has the kernel do it.
    ///
    /// # Errors
    /// The first change that the kernel refused; then none was made.
    pub fn commit(&mut self, transaction: Transaction) -> Result<()> {
        if transaction.is_empty() {
            return Ok(());
        }
        self.socket.run(transaction.into_batch())
    }

    /// The elements of a set or map; none when there is no such set.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn elements(&mut self, table: &str, set: &'static str) -> Result<Option<Vec<Element>>> {
        self.elements_of(table, set, |_| true)
    }

    /// As [`Nft::elements`], of those whose comment is wanted.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn elements_of(
        &mut self,
        table: &str,
        set: &'static str,
        wanted: impl Fn(Option<&str>) -> bool,
    ) -> Result<Option<Vec<Element>>> {
        let mut batch = Batch::new();
        let what = format!("{table} {set}");
        batch.frame(GETSETELEM, NLM_F_DUMP, "list the elements of", what, |bytes| {
            bytes.extend_from_slice(&INET);
            text(bytes, LIST_TABLE, table);
            text(bytes, LIST_SET, set);
        });
        let parse = |message: Received<'_>| {
            let attributes = Attributes(message.payload.get(4..)?);
            let list = (message.kind == NEWSETELEM).then(|| attributes.value(LIST_ELEMENTS))??;
            let elements = Attributes(list)
                .filter(|(kind, _)| *kind == LIST_ELEMENT)
                .filter(|(_, bytes)| wanted(Element::comment(bytes)));
            Some(elements.filter_map(|(_, bytes)| Element::parse(set, bytes)).collect::<Vec<_>>())
        };
        match self.socket.dump_frame(batch, parse) {
            Ok(chunks) => Ok(Some(chunks.into_iter().flatten().collect())),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The packets that each named counter of a table has counted.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn counters(&mut self, table: &str) -> Result<BTreeMap<String, u64>> {
        let mut batch = Batch::new();
        batch.frame(GETOBJ, NLM_F_DUMP, "list the counters of", table.to_owned(), |bytes| {
            bytes.extend_from_slice(&INET);
            text(bytes, OBJ_TABLE, table);
            attribute(bytes, OBJ_TYPE, &OBJ_COUNTER.to_be_bytes());
        });
        let counter = |message: Received<'_>| {
            let object = Attributes(message.payload.get(4..)?);
            let name = (message.kind == NEWOBJ).then(|| object.value(OBJ_NAME))??;
            let data = Attributes(object.value(OBJ_DATA)?);
            let packets = data.value(COUNTER_PACKETS)?.try_into().ok()?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            Some((name, u64::from_be_bytes(packets)))
        };
        match self.socket.dump_frame(batch, counter) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(BTreeMap::new()),
            counters => counters.map(BTreeMap::from_iter),
        }
    }

    /// How many rules the tables of a name have, of all families together; 0 when there is none.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn rules(&mut self, table: &str) -> Result<usize> {
        let mut batch = Batch::new();
        batch.frame(GETRULE, NLM_F_DUMP, "list the rules of", table.to_owned(), |bytes| {
            bytes.extend_from_slice(&ALL_FAMILIES);
            text(bytes, RULE_TABLE, table);
        });
        let rule = |message: Received<'_>| (message.kind == NEWRULE).then_some(());
        match self.socket.dump_frame(batch, rule) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(0),
            rules => rules.map(|rules| rules.len()),
        }
    }
}

/// `struct nfgenmsg` of a batch's ends: no family, and the subsystem as `res_id`, big-endian.
pub(crate) fn frame_header(bytes: &mut Vec<u8>) {
    let [high, low] = SUBSYSTEM.to_be_bytes();
    bytes.extend_from_slice(&[0, 0, high, low]);
}

pub(crate) fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("a key or name is short");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

pub(crate) fn text(bytes: &mut Vec<u8>, kind: u16, text: &str) {
    let length = u16::try_from(5 + text.len()).expect("a name is short");
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

pub(crate) fn nest(bytes: &mut Vec<u8>, kind: u16, write: impl FnOnce(&mut Vec<u8>)) {
    let start = bytes.len();
    bytes.extend_from_slice(&[0; 4]);
    write(bytes);
    close(bytes, start, kind);
}

/// Has what was nested from `start` on end here.
fn close(bytes: &mut [u8], start: usize, kind: u16) {
    let length = u16::try_from(bytes.len() - start).expect("a list is ended before it is long");
    bytes[start..start + 2].copy_from_slice(&length.to_ne_bytes());
    bytes[start + 2..start + 4].copy_from_slice(&(kind | NESTED).to_ne_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_is_framed_and_its_element_nested() {
        let element = Element {
            set: "ports",
            key: vec![6, 0, 0, 0, 0, 80, 0, 0],
            end: None,
            data: Some(vec![10, 0, 0, 2, 31, 144, 0, 0]),
        };
        let mut transaction = Transaction::new("netd");
        assert!(transaction.is_empty());
        transaction.add(&element, "80");
        let batch = transaction.into_batch();
        #[rustfmt::skip]
        let expected = [
            // begin: length 20, type 0x10, request; nfgenmsg with res_id 10
            &[20, 0, 0, 0, 0x10, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10][..],
            // new element: type 0x0a0c, create and request; inet
            &[84, 0, 0, 0, 12, 10, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
            &[9, 0, 1, 0, b'n', b'e', b't', b'd', 0, 0, 0, 0],
            &[10, 0, 2, 0, b'p', b'o', b'r', b't', b's', 0, 0, 0],
            &[40, 0, 3, 0x80, 36, 0, 1, 0x80],
            &[16, 0, 1, 0x80, 12, 0, 1, 0, 6, 0, 0, 0, 0, 80, 0, 0],
            &[16, 0, 2, 0x80, 12, 0, 1, 0, 10, 0, 0, 2, 31, 144, 0, 0],
            &[20, 0, 0, 0, 0x11, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 10],
        ]
        .concat();
        if cfg!(target_endian = "little") {
            assert_eq!(batch.bytes(), expected);
        }
    }

    #[test]
    fn elements_of_one_set_are_one_message_as_long_as_its_list_may_be() {
        let element = |n: u32, set| {
            let (key, data) = (n.to_be_bytes().to_vec(), Some(vec![0; 8]));
            Element { set, key, end: None, data }
        };
        let mut transaction = Transaction::new("netd");
        for n in 0..10 {
            transaction.add(&element(n, "ports"), n);
        }
        transaction.add(&element(10, "others"), 10);
        transaction.delete(&element(11, "others"), 11);
        let framed = 2;
        assert_eq!(transaction.into_batch().len(), 3 + framed);
        let mut transaction = Transaction::new("netd");
        (0..3000).for_each(|n| transaction.add(&element(n, "ports"), n));
        let batch = transaction.into_batch();
        assert_eq!(batch.len(), 2 + framed, "32 bytes each");
        let lengths = (0..4).scan(batch.bytes(), |rest, _| {
            let length = u32::from_ne_bytes(*rest.first_chunk()?);
            *rest = rest.get(usize::try_from(length).ok()?..)?;
            Some(length)
        });
        let whole = u32::try_from(batch.bytes().len()).expect("short");
        assert_eq!(lengths.sum::<u32>(), whole);
    }

    #[test]
    fn an_element_reads_as_it_was_written() {
        let (key, end, data) = (vec![1; 20], Some(vec![2; 20]), Some(vec![3; 8]));
        let element = Element { set: "s", key, end, data };
        let mut bytes = Vec::new();
        nest(&mut bytes, LIST_ELEMENTS, |bytes| element.write(bytes, true, Some("overlay")));
        let list = Attributes(&bytes).value(LIST_ELEMENTS).expect("a list");
        let one = Attributes(list).value(LIST_ELEMENT).expect("an element");
        assert_eq!(Element::comment(one), Some("overlay"));
        assert_eq!(Element::parse("s", one), Some(element));
    }
}
