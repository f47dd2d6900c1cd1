//! The store's words as etcd's, and back.

use etcd_client::{
    self as etcd, CompareOp, DeleteOptions, EventType, GetOptions, GetResponse, KeyValue,
    PutOptions, ResponseHeader, TxnOp, TxnOpResponse, TxnResponse,
};

use crate::{
    Compare, Done, Era, Error, Event, Keys, LeaseId, Op, Outcome, Page, Read, Relation, Result,
    Row, Test, Txn,
};

/// etcd counts revisions from 1 with a sign.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

/// The first key and the end of the range; no end for one key.
pub(crate) fn range(keys: &Keys) -> (Vec<u8>, Option<Vec<u8>>) {
    if let Keys::One(key) = keys {
        return (key.clone().into_bytes(), None);
    }
    let (from, to) = keys.bounds();
    // No key is empty, and an end of one zero byte is no end.
    let from = if from.is_empty() { vec![0] } else { from.into_bytes() };
    (from, Some(to.map_or_else(|| vec![0], String::into_bytes)))
}

pub(crate) fn get(read: &Read) -> (Vec<u8>, GetOptions) {
    let (key, end) = range(&read.keys);
    let mut options = GetOptions::new().with_limit(i64::try_from(read.limit).unwrap_or(i64::MAX));
    if let Some(end) = end {
        options = options.with_range(end);
    }
    if let Some(at) = read.at {
        options = options.with_revision(signed(at));
    }
    if read.bare {
        options = options.with_keys_only();
    }
    (key, options)
}

pub(crate) fn era(header: Option<&ResponseHeader>) -> (Era, u64) {
    let era = |header: &ResponseHeader| {
        let era = Era { cluster: header.cluster_id(), term: header.raft_term() };
        (era, unsigned(header.revision()))
    };
    header.map(era).unwrap_or_default()
}

fn text(bytes: &[u8]) -> Result<String> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err(Error::Key { key: String::from_utf8_lossy(bytes).into_owned() }),
    }
}

fn row(found: &KeyValue) -> Result<Row> {
    Ok(Row {
        key: text(found.key())?,
        value: found.value().to_vec(),
        created: unsigned(found.create_revision()),
        modified: unsigned(found.mod_revision()),
        version: unsigned(found.version()),
        lease: (found.lease() != 0).then_some(LeaseId(found.lease())),
    })
}

pub(crate) fn page(answer: GetResponse) -> Result<Page> {
    let (era, revision) = era(answer.header());
    Ok(Page {
        rows: answer.kvs().iter().map(row).collect::<Result<_>>()?,
        revision,
        era,
        count: usize::try_from(answer.count()).unwrap_or(0),
        more: answer.more(),
    })
}

pub(crate) fn event(event: &etcd::Event) -> Result<Option<Event>> {
    let Some(found) = event.kv() else { return Ok(None) };
    Ok(Some(match event.event_type() {
        EventType::Put => Event::Put(row(found)?),
        EventType::Delete => {
            Event::Delete { key: text(found.key())?, revision: unsigned(found.mod_revision()) }
        }
    }))
}

fn compare(compare: Compare) -> etcd::Compare {
    let operator = |relation| match relation {
        Relation::Equal => CompareOp::Equal,
        Relation::NotEqual => CompareOp::NotEqual,
        Relation::Less => CompareOp::Less,
        Relation::Greater => CompareOp::Greater,
    };
    let (key, end) = range(&compare.keys);
    let compare = match compare.test {
        Test::Version(relation, n) => etcd::Compare::version(key, operator(relation), signed(n)),
        Test::Modified(relation, n) => {
            etcd::Compare::mod_revision(key, operator(relation), signed(n))
        }
        Test::Value(relation, value) => etcd::Compare::value(key, operator(relation), value),
    };
    match end {
        Some(end) => compare.with_range(end),
        None => compare,
    }
}

fn op(op: Op) -> TxnOp {
    match op {
        Op::Put { key, value, lease } => {
            let lease = lease.map(|lease| PutOptions::new().with_lease(lease.0));
            TxnOp::put(key, value, lease)
        }
        Op::Delete(keys) => {
            let (key, end) = range(&keys);
            TxnOp::delete(key, end.map(|end| DeleteOptions::new().with_range(end)))
        }
        Op::Get(read) => {
            let (key, options) = get(&Read { at: None, ..read });
            TxnOp::get(key, Some(options))
        }
    }
}

pub(crate) fn txn(txn: Txn) -> etcd::Txn {
    let ops = |ops: Vec<Op>| ops.into_iter().map(op).collect::<Vec<_>>();
    etcd::Txn::new()
        .when(txn.compares.into_iter().map(compare).collect::<Vec<_>>())
        .and_then(ops(txn.then))
        .or_else(ops(txn.otherwise))
}

pub(crate) fn outcome(answer: TxnResponse) -> Result<Outcome> {
    let (era, revision) = era(answer.header());
    let done = answer.op_responses().into_iter().map(|done| match done {
        TxnOpResponse::Delete(deleted) => {
            Ok(Done::Deleted(usize::try_from(deleted.deleted()).unwrap_or(0)))
        }
        // What is read inside a transaction has no header of its own.
        TxnOpResponse::Get(got) => Ok(Done::Got(Page { era, revision, ..page(got)? })),
        TxnOpResponse::Put(_) | TxnOpResponse::Txn(_) => Ok(Done::Put),
    });
    Ok(Outcome { held: answer.succeeded(), revision, done: done.collect::<Result<_>>()? })
}
