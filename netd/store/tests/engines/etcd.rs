//! What becomes of callers and followers when etcd fails in each of its ways.

use std::{collections::BTreeMap, time::Duration};

use netd_tests::{Etcd, World};
use store::{Change, Error, Event, Follow, Keys, Store};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::Instant,
};

use crate::start::{block_on, client, ready, soon};

/// What a follower knows, and whether the store was away.
#[derive(Debug, Default)]
struct Known {
    rows: BTreeMap<String, String>,
    away: usize,
    synced: usize,
    deleted: Vec<String>,
}

impl Known {
    fn hear(&mut self, change: Change) {
        let events = match change {
            Change::Synced { events, .. } => {
                self.synced += 1;
                events
            }
            Change::Changed { events, .. } => events,
            Change::Away(_) => {
                self.away += 1;
                return;
            }
            Change::Back => return,
        };
        for event in events {
            match event {
                Event::Put(row) => {
                    self.rows.insert(row.key, String::from_utf8(row.value).expect("text"));
                }
                Event::Delete { key, .. } => {
                    self.rows.remove(&key);
                    self.deleted.push(key);
                }
            }
        }
    }

    async fn until(&mut self, follow: &mut Follow, met: impl Fn(&Self) -> bool) {
        let wait = async {
            while !met(self) {
                self.hear(follow.next().await.expect("a change"));
            }
        };
        soon(wait).await;
    }
}

async fn put(store: &Store, key: &str, value: &str) -> u64 {
    store.put(key, value).await.expect("put")
}

#[test]
fn a_crash_is_survived() {
    World::bare();
    let mut etcd = Etcd::start(2379, &[]);
    block_on(async {
        let store = client(&[etcd.url()]).await;
        ready(&store).await;
        put(&store, "k/a", "1").await;
        let mut follow = store.follow(Keys::prefix("k/"), Vec::new());
        let mut known = Known::default();
        known.until(&mut follow, |known| known.rows.len() == 1).await;
        etcd.kill();
        known.until(&mut follow, |known| known.away == 1).await;
        let asked = Instant::now();
        let refused = store.put("k/b", "1").await;
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        let sent = matches!(refused, Err(Error::Unavailable { sent: false, .. }));
        assert!(sent, "nobody was there to take it: {refused:?}");
        etcd.run();
        ready(&store).await;
        put(&store, "k/b", "2").await;
        known.until(&mut follow, |known| known.rows.contains_key("k/b")).await;
        assert_eq!((known.rows.len(), known.synced), (2, 1), "{known:?}");
        assert_eq!(known.deleted, [""; 0]);
    });
}

#[test]
fn a_stopped_member_is_away_within_a_second() {
    World::bare();
    let etcd = Etcd::start(2379, &[]);
    block_on(async {
        let store = client(&[etcd.url()]).await;
        ready(&store).await;
        put(&store, "k/a", "1").await;
        let mut follow = store.follow(Keys::prefix("k/"), Vec::new());
        let mut known = Known::default();
        known.until(&mut follow, |known| known.synced == 1).await;
        etcd.stop();
        for _ in 0..2 {
            let asked = Instant::now();
            let away = store.get("k/a").await;
            assert!(matches!(away, Err(Error::Unavailable { .. })), "{away:?}");
            assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
        }
        // The watch is silent, and given up.
        known.until(&mut follow, |known| known.away == 1).await;
        etcd.resume();
        ready(&store).await;
        put(&store, "k/b", "1").await;
        known.until(&mut follow, |known| known.rows.len() == 2).await;
        assert_eq!(known.deleted, [""; 0]);
    });
}

/// A way to etcd that can be cut.
async fn way(port: u16, to: u16) -> watch::Sender<bool> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
    let (open, state) = watch::channel(true);
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut state = state.clone();
            if !*state.borrow() {
                continue;
            }
            tokio::spawn(async move {
                let mut far = TcpStream::connect(("127.0.0.1", to)).await.expect("etcd");
                tokio::select! {
                    _ = copy_bidirectional(&mut near, &mut far) => {}
                    _ = state.wait_for(|open| !open) => {}
                }
            });
        }
    });
    open
}

#[test]
fn what_was_missed_and_forgotten_is_found_by_difference() {
    World::bare();
    let etcd = Etcd::start(2379, &[]);
    block_on(async {
        let direct = client(&[etcd.url()]).await;
        ready(&direct).await;
        for key in ["k/a", "k/b", "k/c"] {
            put(&direct, key, "1").await;
        }
        let open = way(3379, 2379).await;
        let cut = client(&["http://127.0.0.1:3379".to_owned()]).await;
        let mut follow = cut.follow(Keys::prefix("k/"), Vec::new());
        let mut known = Known::default();
        known.until(&mut follow, |known| known.rows.len() == 3).await;
        open.send_replace(false);
        known.until(&mut follow, |known| known.away == 1).await;
        direct.delete(Keys::one("k/b")).await.expect("deleted");
        put(&direct, "k/c", "2").await;
        let last = put(&direct, "k/d", "1").await;
        direct.compact(last).await.expect("compacted");
        open.send_replace(true);
        known.until(&mut follow, |known| known.synced == 2).await;
        assert_eq!(known.deleted, ["k/b"]);
        let rows = [("k/a", "1"), ("k/c", "2"), ("k/d", "1")];
        assert_eq!(known.rows, rows.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
    });
}

#[test]
fn a_store_that_went_back_in_time_is_read_anew() {
    World::bare();
    let mut etcd = Etcd::start(2379, &[]);
    block_on(async {
        let store = client(&[etcd.url()]).await;
        ready(&store).await;
        put(&store, "k/old", "1").await;
        put(&store, "k/gone", "1").await;
        etcd.ctl("snapshot save /run/snapshot");
        let mut follow = store.follow(Keys::prefix("k/"), Vec::new());
        let mut known = Known::default();
        known.until(&mut follow, |known| known.synced == 1).await;
        store.delete(Keys::one("k/gone")).await.expect("deleted");
        for n in 0..5 {
            put(&store, "k/new", &n.to_string()).await;
        }
        known.until(&mut follow, |known| known.rows.get("k/new").is_some_and(|n| n == "4")).await;
        etcd.kill();
        known.until(&mut follow, |known| known.away == 1).await;
        etcd.restore("/run/snapshot");
        etcd.run();
        known.until(&mut follow, |known| known.synced == 2).await;
        let rows = [("k/gone", "1"), ("k/old", "1")];
        assert_eq!(known.rows, rows.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        // And it goes on from there, at revisions that were seen before.
        put(&store, "k/after", "1").await;
        known.until(&mut follow, |known| known.rows.contains_key("k/after")).await;
    });
}

#[test]
fn a_full_store_says_so() {
    World::bare();
    let etcd = Etcd::start(2379, &["--quota-backend-bytes", "2000000"]);
    block_on(async {
        let store = client(&[etcd.url()]).await;
        ready(&store).await;
        let Store::Etcd(admin) = &store else { unreachable!("it is etcd") };
        let mut last = 0;
        let full = loop {
            match store.put("k", vec![b'x'; 100_000]).await {
                Ok(revision) => last = revision,
                Err(error) => break error,
            }
            assert!(last < 200, "it has no quota");
        };
        assert!(matches!(full, Error::NoSpace { .. }), "{full:?}");
        assert_eq!(admin.full_members().await.expect("alarms").len(), 1);
        assert!(store.get("k").await.expect("read").is_some());
        admin.make_room(last).await.expect("made");
        put(&store, "k", "1").await;
        assert_eq!(admin.full_members().await.expect("alarms"), [0; 0]);
        let statuses = admin.statuses().await;
        let status = statuses[0].1.as_ref().expect("status");
        assert!(status.size < 2_000_000 && status.version.starts_with("3."), "{status:?}");
    });
}

#[test]
fn another_member_takes_over() {
    World::bare();
    let mut members = Etcd::cluster(2379, 3);
    block_on(async {
        let urls: Vec<_> = members.iter().map(Etcd::url).collect();
        let store = client(&urls).await;
        ready(&store).await;
        put(&store, "k/a", "1").await;
        let mut follow = store.follow(Keys::prefix("k/"), Vec::new());
        let mut known = Known::default();
        known.until(&mut follow, |known| known.synced == 1).await;
        for (n, member) in members.iter_mut().enumerate() {
            member.kill();
            ready(&store).await;
            let key = format!("k/{n}");
            // A write that nobody answered may have been done; this one may be repeated.
            let write = async {
                while let Err(error) = store.put(key.as_str(), "1").await {
                    assert!(error.is_away(), "{error}");
                }
            };
            soon(write).await;
            known.until(&mut follow, |known| known.rows.contains_key(&key)).await;
            member.run();
            // It answers for itself, and so has a leader.
            ready(&client(&[member.url()]).await).await;
        }
        assert_eq!(known.deleted, [""; 0]);
    });
}

#[test]
fn nobody_there_is_said_within_a_second() {
    World::bare();
    block_on(async {
        let urls: Vec<_> = (1..=3).map(|n| format!("http://127.0.0.1:{n}")).collect();
        let store = client(&urls).await;
        let asked = Instant::now();
        let errors = [
            store.get("k").await.map(drop),
            store.put("k", "").await.map(drop),
            store.watch(Keys::one("k"), 1).await.map(drop),
            store.grant(Duration::from_secs(5)).await.map(drop),
        ];
        for error in errors {
            assert!(matches!(error, Err(Error::Unavailable { sent: false, .. })), "{error:?}");
        }
        assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
    });
}
