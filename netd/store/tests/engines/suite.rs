//! What every engine does alike.

use std::{collections::BTreeMap, time::Duration};

use store::{
    Batch, Change, Compare, Done, Error, Event, Keys, Op, Read, Relation, Row, Store, Test, Txn,
    Watch,
};

use crate::start::soon;

macro_rules! on_both {
    ($($name:ident),* $(,)?) => {
        mod embedded {
            $(#[test]
            fn $name() {
                crate::start::embedded(super::$name);
            })*
        }

        mod etcd {
            $(#[test]
            fn $name() {
                crate::start::etcd(super::$name);
            })*
        }
    };
}

on_both!(
    rows_count_their_versions,
    the_past_can_be_read,
    long_listings_come_in_pages,
    comparisons_decide,
    a_range_is_compared_as_a_whole,
    operations_see_those_before_them,
    impossible_transactions_change_nothing,
    a_counter_loses_nothing,
    a_watch_gives_past_and_present,
    a_watch_shows_that_it_lives,
    the_forgotten_is_an_error,
    a_lease_takes_its_rows_along,
    a_lease_is_kept_alive,
    a_follower_sees_everything,
    a_follower_is_told_what_it_missed,
    prefixes_end_where_they_end,
);

async fn value(store: &Store, key: &str) -> Option<String> {
    let row = store.get(key).await.expect("read");
    row.map(|row| text(&row))
}

fn text(row: &Row) -> String {
    String::from_utf8(row.value.clone()).expect("text")
}

async fn rows_count_their_versions(store: Store) {
    assert_eq!(store.get("a").await.expect("read"), None);
    let first = store.put("a", "1").await.expect("put");
    let second = store.put("a", "2").await.expect("put");
    assert!(second > first);
    let row = store.get("a").await.expect("read").expect("row");
    assert_eq!((row.created, row.modified, row.version), (first, second, 2));
    assert_eq!((row.value.as_slice(), row.lease), (&b"2"[..], None));
    assert_eq!(store.delete(Keys::one("a")).await.expect("deleted"), 1);
    assert_eq!(store.delete(Keys::one("a")).await.expect("deleted"), 0);
    let (_, after) = store.state(Keys::prefix("")).await.expect("state");
    assert_eq!(after, second + 1, "deleting nothing is no revision");
    store.put("a", "3").await.expect("put");
    let row = store.get("a").await.expect("read").expect("row");
    assert_eq!((row.created, row.version), (after + 1, 1), "a new life");
}

async fn the_past_can_be_read(store: Store) {
    let first = store.put("p/a", "1").await.expect("put");
    let second = store.put("p/b", "1").await.expect("put");
    store.put("p/a", "2").await.expect("put");
    store.delete(Keys::prefix("p/")).await.expect("deleted");
    let at = async |revision| {
        let page = store.read(Read::new(Keys::prefix("p/")).at(revision)).await.expect("read");
        page.rows.iter().map(|row| (row.key.clone(), row.value.clone())).collect::<Vec<_>>()
    };
    let pair = |key: &str, value: &str| (key.to_owned(), value.as_bytes().to_vec());
    assert_eq!(at(first).await, [pair("p/a", "1")]);
    assert_eq!(at(second).await, [pair("p/a", "1"), pair("p/b", "1")]);
    assert_eq!(at(second + 1).await, [pair("p/a", "2"), pair("p/b", "1")]);
    assert_eq!(at(second + 2).await, []);
    let future = store.read(Read::new(Keys::one("p/a")).at(second + 9)).await;
    assert!(matches!(future, Err(Error::Future { asked }) if asked == second + 9), "{future:?}");
}

async fn long_listings_come_in_pages(store: Store) {
    for chunk in 0..25 {
        let put = |n| Op::put(format!("p/{:05}", chunk * 100 + n), "x");
        let txn = Txn { then: (0..100).map(put).collect(), ..Txn::default() };
        store.txn(txn).await.expect("put");
    }
    store.put("q", "").await.expect("put");
    let page = store.read(Read::new(Keys::prefix("p/")).limit(10).bare()).await.expect("read");
    assert_eq!((page.rows.len(), page.count, page.more), (10, 2500, true));
    assert!(page.rows.iter().all(|row| row.value.is_empty()));
    let all = store.all(Keys::prefix("p/")).await.expect("read");
    assert_eq!(all.rows.len(), 2500);
    assert!(all.rows.windows(2).all(|pair| pair[0].key < pair[1].key));
    assert_eq!(store.all(Keys::prefix("")).await.expect("read").rows.len(), 2501);
}

async fn comparisons_decide(store: Store) {
    store.put("a", "1").await.expect("put");
    let revision = store.put("a", "2").await.expect("put");
    let holds = async |key: &str, test: Test| {
        let compare = Compare { keys: Keys::one(key), test };
        store.txn(Txn::new().when(compare)).await.expect("asked").held
    };
    use Relation::{Equal, Greater, Less, NotEqual};
    for (relation, number, held) in [
        (Equal, 2, true),
        (Equal, 1, false),
        (NotEqual, 1, true),
        (Less, 3, true),
        (Less, 2, false),
        (Greater, 1, true),
    ] {
        assert_eq!(
            holds("a", Test::Version(relation, number)).await,
            held,
            "{relation:?} {number}"
        );
        let modified = Test::Modified(relation, revision + number - 2);
        assert_eq!(holds("a", modified).await, held, "{relation:?} {number}");
    }
    assert!(holds("a", Test::Value(Equal, b"2".to_vec())).await);
    assert!(holds("a", Test::Value(Less, b"20".to_vec())).await);
    assert!(!holds("a", Test::Value(Greater, b"3".to_vec())).await);
    // What is not there has no version and no revision, and nothing to compare with.
    assert!(holds("none", Test::Version(Equal, 0)).await);
    assert!(holds("none", Test::Modified(Equal, 0)).await);
    assert!(!holds("none", Test::Value(Equal, Vec::new())).await);
    assert!(!holds("none", Test::Value(NotEqual, b"x".to_vec())).await);
    let txn = Txn::new()
        .when(Compare::absent(Keys::one("a")))
        .then(Op::put("b", "then"))
        .otherwise(Op::put("b", "otherwise"));
    assert!(!store.txn(txn).await.expect("done").held);
    assert_eq!(value(&store, "b").await.as_deref(), Some("otherwise"));
}

async fn a_range_is_compared_as_a_whole(store: Store) {
    let claim = |from: &str, to: &str, key: &str| {
        Txn::new()
            .when(Compare::absent(Keys::Between(from.to_owned(), to.to_owned())))
            .then(Op::put(key, "mine"))
    };
    assert!(store.txn(claim("s/10", "s/20", "s/15")).await.expect("done").held);
    assert!(!store.txn(claim("s/15", "s/16", "s/151")).await.expect("done").held);
    assert!(store.txn(claim("s/16", "s/20", "s/16")).await.expect("done").held);
    assert!(!store.txn(claim("s/00", "s/99", "s/99")).await.expect("done").held);
    assert_eq!(value(&store, "s/99").await, None);
}

async fn operations_see_those_before_them(store: Store) {
    store.put("a", "1").await.expect("put");
    let txn = Txn::new()
        .then(Op::get("a"))
        .then(Op::put("a", "2"))
        .then(Op::get("a"))
        .then(Op::Delete(Keys::prefix("b")))
        .then(Op::put("c", ""));
    let outcome = store.txn(txn).await.expect("done");
    assert_eq!(outcome.rows(0)[0].value, b"1");
    assert_eq!(outcome.rows(2)[0].value, b"2");
    assert_eq!(outcome.rows(2)[0].modified, outcome.revision);
    assert_eq!(outcome.done[3], Done::Deleted(0));
    let row = store.get("c").await.expect("read").expect("row");
    assert_eq!(row.modified, outcome.revision, "one revision for all");
}

async fn impossible_transactions_change_nothing(store: Store) {
    let twice = Txn::new().then(Op::put("a", "1")).then(Op::put("a", "2"));
    let both = Txn::new().then(Op::Delete(Keys::prefix("a"))).then(Op::put("a", "2"));
    let many = Txn { then: (0..129).map(|n| Op::put(format!("a{n}"), "")).collect(), ..Txn::new() };
    for txn in [twice, both, many] {
        let refused = store.txn(txn).await;
        assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    }
    let lease = store::LeaseId(4711);
    let leased = Txn::new().then(Op::put("a", "1")).then(Op::put_leased("b", "1", lease));
    let refused = store.txn(leased).await;
    assert!(matches!(refused, Err(Error::LeaseGone { lease: of }) if of == lease), "{refused:?}");
    assert_eq!(store.all(Keys::prefix("a")).await.expect("read").rows, []);
}

async fn a_counter_loses_nothing(store: Store) {
    store.put("n", "0").await.expect("put");
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let store = store.clone();
            tokio::spawn(async move {
                for _ in 0..10 {
                    loop {
                        let row = store.get("n").await.expect("read").expect("row");
                        let n: u32 = text(&row).parse().expect("a number");
                        let txn = Txn::new()
                            .when(Compare::unchanged(&row))
                            .then(Op::put("n", (n + 1).to_string()));
                        if store.txn(txn).await.expect("done").held {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        soon(task).await.expect("counted");
    }
    assert_eq!(value(&store, "n").await.as_deref(), Some("80"));
}

/// Events of a watch until there are `count`, as text.
async fn events(watch: &mut Watch, count: usize) -> Vec<String> {
    let mut seen = Vec::new();
    while seen.len() < count {
        let Batch { events, .. } = soon(watch.next()).await.expect("a batch");
        seen.extend(events.iter().map(|event| match event {
            Event::Put(row) => format!("{}={}", row.key, String::from_utf8_lossy(&row.value)),
            Event::Delete { key, .. } => format!("-{key}"),
        }));
    }
    seen
}

async fn a_watch_gives_past_and_present(store: Store) {
    store.put("w/a", "0").await.expect("put");
    let from = store.put("w/a", "1").await.expect("put");
    store.put("x", "1").await.expect("put");
    let txn = Txn::new().then(Op::put("w/b", "1")).then(Op::delete("w/a"));
    let both = store.txn(txn).await.expect("done").revision;
    let mut watch = store.watch(Keys::prefix("w/"), from).await.expect("watch");
    assert_eq!(events(&mut watch, 3).await, ["w/a=1", "w/b=1", "-w/a"]);
    store.put("x", "2").await.expect("put");
    store.put("w/c", "1").await.expect("put");
    assert_eq!(events(&mut watch, 1).await, ["w/c=1"]);
    let mut one = store.watch(Keys::one("w/a"), both).await.expect("watch");
    let batch = soon(one.next()).await.expect("a batch");
    assert_eq!(batch.events, [Event::Delete { key: "w/a".into(), revision: both }]);
    // From a revision that is to come, only what comes.
    let next = store.put("w/d", "1").await.expect("put") + 1;
    let mut later = store.watch(Keys::prefix("w/"), next).await.expect("watch");
    store.put("w/d", "2").await.expect("put");
    assert_eq!(events(&mut later, 1).await, ["w/d=2"]);
}

async fn a_watch_shows_that_it_lives(store: Store) {
    let revision = store.put("w", "1").await.expect("put");
    let mut watch = store.watch(Keys::one("other"), revision).await.expect("watch");
    watch.request_progress().await.expect("asked");
    let batch = soon(watch.next()).await.expect("a batch");
    assert_eq!((batch.events.len(), batch.revision), (0, revision));
}

async fn the_forgotten_is_an_error(store: Store) {
    let first = store.put("a", "1").await.expect("put");
    store.put("a", "2").await.expect("put");
    let third = store.put("b", "1").await.expect("put");
    let last = store.put("a", "3").await.expect("put");
    store.compact(third).await.expect("compacted");
    let old = store.read(Read::new(Keys::one("a")).at(first)).await;
    assert!(matches!(old, Err(Error::Compacted { asked, .. }) if asked == first), "{old:?}");
    let page = store.read(Read::new(Keys::one("a")).at(third)).await.expect("still there");
    assert_eq!(page.rows[0].value, b"2");
    let again = store.compact(third).await;
    assert!(matches!(again, Err(Error::Compacted { .. })), "{again:?}");
    let future = store.compact(last + 7).await;
    assert!(matches!(future, Err(Error::Future { .. })), "{future:?}");
    let mut watch = store.watch(Keys::one("a"), first).await.expect("watch");
    let gone = soon(watch.next()).await;
    assert!(
        matches!(gone, Err(Error::Compacted { asked, oldest })
        if asked == first && oldest == third),
        "{gone:?}"
    );
    let mut watch = store.watch(Keys::one("a"), third).await.expect("watch");
    assert_eq!(events(&mut watch, 1).await, ["a=3"]);
}

async fn a_lease_takes_its_rows_along(store: Store) {
    let lease = store.grant(Duration::from_secs(60)).await.expect("lease");
    let txn = Txn::new()
        .then(Op::put_leased("l/a", "", lease))
        .then(Op::put_leased("l/b", "", lease))
        .then(Op::put_leased("l/c", "", lease));
    store.txn(txn).await.expect("put");
    let row = store.get("l/a").await.expect("read").expect("row");
    assert_eq!(row.lease, Some(lease));
    // A row that is written without it does not go with it any more.
    store.put("l/b", "kept").await.expect("put");
    store.delete(Keys::one("l/c")).await.expect("deleted");
    let revision = store.put("l/c", "kept").await.expect("put");
    let mut watch = store.watch(Keys::prefix("l/"), revision + 1).await.expect("watch");
    store.revoke(lease).await.expect("revoked");
    assert_eq!(events(&mut watch, 1).await, ["-l/a"]);
    let rows = store.all(Keys::prefix("l/")).await.expect("read").rows;
    assert_eq!(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>(), ["l/b", "l/c"]);
    for gone in [store.revoke(lease).await, store.keep_alive(lease).await] {
        assert!(matches!(gone, Err(Error::LeaseGone { lease: of }) if of == lease), "{gone:?}");
    }
}

async fn a_lease_is_kept_alive(store: Store) {
    let kept = store.grant(Duration::from_secs(2)).await.expect("lease");
    let left = store.grant(Duration::from_secs(2)).await.expect("lease");
    assert_ne!(kept, left);
    store.txn(Txn::new().then(Op::put_leased("kept", "", kept))).await.expect("put");
    let txn = Txn::new().then(Op::put_leased("left", "", left));
    let revision = store.txn(txn).await.expect("put").revision;
    let mut watch = store.watch(Keys::prefix(""), revision + 1).await.expect("watch");
    let mut tick = tokio::time::interval(Duration::from_millis(300));
    let ended = async {
        loop {
            tokio::select! {
                seen = events(&mut watch, 1) => return seen,
                _ = tick.tick() => store.keep_alive(kept).await.expect("kept alive"),
            }
        }
    };
    assert_eq!(soon(ended).await, ["-left"]);
    assert!(store.get("kept").await.expect("read").is_some());
}

/// What a follower knows, by what it was told.
#[derive(Debug, Default)]
struct Told(BTreeMap<String, String>);

impl Told {
    fn hear(&mut self, change: Change) {
        let (Change::Synced { events, .. } | Change::Changed { events, .. }) = change else {
            return;
        };
        for event in events {
            match event {
                Event::Put(row) => {
                    self.0.insert(row.key, String::from_utf8(row.value).expect("text"));
                }
                Event::Delete { key, .. } => {
                    assert!(self.0.remove(&key).is_some(), "{key} was not there");
                }
            }
        }
    }
}

async fn a_follower_sees_everything(store: Store) {
    store.put("f/a", "1").await.expect("put");
    store.put("g", "1").await.expect("put");
    let mut follow = store.follow(Keys::prefix("f/"), Vec::new());
    let mut told = Told::default();
    told.hear(soon(follow.next()).await.expect("synced"));
    assert_eq!(told.0, BTreeMap::from([("f/a".into(), "1".into())]));
    for n in 0..50 {
        store.put(format!("f/{n}"), "x").await.expect("put");
    }
    store.delete(Keys::prefix("f/1")).await.expect("deleted");
    store.put("f/end", "").await.expect("put");
    while !told.0.contains_key("f/end") {
        told.hear(soon(follow.next()).await.expect("a change"));
    }
    let rows = store.all(Keys::prefix("f/")).await.expect("read").rows;
    let wanted = rows.into_iter().map(|row| (row.key.clone(), text(&row)));
    assert_eq!(told.0, wanted.collect());
}

async fn a_follower_is_told_what_it_missed(store: Store) {
    for key in ["f/same", "f/other", "f/gone"] {
        store.put(key, "1").await.expect("put");
    }
    let known = store.all(Keys::prefix("f/")).await.expect("read").rows;
    store.put("f/other", "2").await.expect("put");
    store.put("f/new", "1").await.expect("put");
    store.delete(Keys::one("f/gone")).await.expect("deleted");
    let mut follow = store.follow(Keys::prefix("f/"), known);
    let Some(Change::Synced { events, .. }) = soon(follow.next()).await else { panic!("no sync") };
    let keys: Vec<_> = events.iter().map(Event::key).collect();
    assert_eq!(keys, ["f/gone", "f/new", "f/other"]);
    assert!(matches!(events[0], Event::Delete { .. }));
}

async fn prefixes_end_where_they_end(store: Store) {
    for key in ["a", "a/", "a/b", "a/\u{7f}", "a/ü", "a0", "b"] {
        store.put(key, "").await.expect("put");
    }
    let keys = async |keys: Keys| {
        let rows = store.all(keys).await.expect("read").rows;
        rows.into_iter().map(|row| row.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(Keys::prefix("a/")).await, ["a/", "a/b", "a/\u{7f}", "a/ü"]);
    assert_eq!(keys(Keys::prefix("a/\u{7f}")).await, ["a/\u{7f}"]);
    assert_eq!(keys(Keys::one("a")).await, ["a"]);
    assert_eq!(keys(Keys::Between("a0".into(), "c".into())).await, ["a0", "b"]);
}
