//! The embedded engine beside a model: a list of everything that ever was.

use std::collections::BTreeMap;

use proptest::{collection::vec, prelude::*};
use store::{
    Compare, EmbeddedOptions, Error, Event, Keys, Op, Read, Relation, Row, Store, Test, Txn,
};

use crate::start::{block_on, file};

type Rows = BTreeMap<String, Row>;

fn index(revision: u64) -> usize {
    usize::try_from(revision).expect("a small number")
}

/// What was at each revision, from 0 on.
#[derive(Clone, Debug)]
struct Model {
    rows: Vec<Rows>,
    compacted: usize,
}

impl Model {
    fn now(&self) -> &Rows {
        self.rows.last().expect("there is always one")
    }

    fn revision(&self) -> u64 {
        self.rows.len() as u64 - 1
    }

    fn holds(&self, compare: &Compare) -> bool {
        let met: Vec<_> =
            self.now().values().filter(|row| compare.keys.contains(&row.key)).collect();
        let number = |relation: &Relation, a: u64, b: u64| match relation {
            Relation::Equal => a == b,
            Relation::NotEqual => a != b,
            Relation::Less => a < b,
            Relation::Greater => a > b,
        };
        let one = |row: Option<&&Row>| match &compare.test {
            Test::Version(relation, n) => number(relation, row.map_or(0, |row| row.version), *n),
            Test::Modified(relation, n) => number(relation, row.map_or(0, |row| row.modified), *n),
            Test::Value(_, value) => row.is_some_and(|row| row.value == *value),
        };
        if met.is_empty() { one(None) } else { met.iter().all(|row| one(Some(row))) }
    }

    fn txn(&mut self, txn: &Txn) -> bool {
        let held = txn.compares.iter().all(|compare| self.holds(compare));
        let (mut rows, next) = (self.now().clone(), self.revision() + 1);
        let mut changed = false;
        for op in if held { &txn.then } else { &txn.otherwise } {
            match op {
                Op::Put { key, value, .. } => {
                    let before = rows.get(key);
                    let row = Row {
                        key: key.clone(),
                        value: value.clone(),
                        created: before.map_or(next, |row| row.created),
                        modified: next,
                        version: before.map_or(0, |row| row.version) + 1,
                        lease: None,
                    };
                    rows.insert(key.clone(), row);
                    changed = true;
                }
                Op::Delete(keys) => {
                    let before = rows.len();
                    rows.retain(|key, _| !keys.contains(key));
                    changed |= rows.len() < before;
                }
                Op::Get(_) => {}
            }
        }
        if changed {
            self.rows.push(rows);
        }
        held
    }

    /// What happened to `keys` after revision `after`, by looking at what was.
    fn events(&self, keys: &Keys, after: usize) -> Vec<(u64, String, Option<Row>)> {
        let mut events = Vec::new();
        for revision in after + 1..self.rows.len() {
            let (before, now) = (&self.rows[revision - 1], &self.rows[revision]);
            let all: std::collections::BTreeSet<_> = before.keys().chain(now.keys()).collect();
            for key in all.into_iter().filter(|key| keys.contains(key)) {
                if before.get(key) != now.get(key) {
                    events.push((revision as u64, key.clone(), now.get(key).cloned()));
                }
            }
        }
        events
    }
}

fn key() -> impl Strategy<Value = String> {
    "[ab]/[cd]?"
}

fn keys() -> impl Strategy<Value = Keys> {
    prop_oneof![
        key().prop_map(Keys::One),
        "[ab]?/?".prop_map(Keys::Prefix),
        (key(), key()).prop_map(|(from, to)| Keys::Between(from, to)),
    ]
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop_oneof![
        Just(Relation::Equal),
        Just(Relation::NotEqual),
        Just(Relation::Less),
        Just(Relation::Greater)
    ];
    let test = prop_oneof![
        (relation.clone(), 0..4_u64).prop_map(|(relation, n)| Test::Version(relation, n)),
        (relation, 0..40_u64).prop_map(|(relation, n)| Test::Modified(relation, n)),
        vec(0..2_u8, 0..2).prop_map(|value| Test::Value(Relation::Equal, value)),
    ];
    (keys(), test).prop_map(|(keys, test)| Compare { keys, test })
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        2 => (key(), vec(0..2_u8, 0..2)).prop_map(|(key, value)| Op::put(key, value)),
        1 => keys().prop_map(Op::Delete),
    ]
}

#[derive(Clone, Debug)]
enum Step {
    Txn(Txn),
    Compact(u64),
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (vec(compare(), 0..3), vec(op(), 0..4), vec(op(), 0..3))
            .prop_map(|(compares, then, otherwise)| Step::Txn(Txn { compares, then, otherwise })),
        2 => (0..40_u64).prop_map(Step::Compact),
        1 => Just(Step::Reopen),
    ]
}

async fn compare_with(store: &Store, model: &Model, look: &Keys) -> Result<(), TestCaseError> {
    for revision in 1..=model.revision() + 1 {
        let read = store.read(Read::new(look.clone()).at(revision)).await;
        if revision > model.revision() {
            prop_assert!(matches!(read, Err(Error::Future { .. })), "{:?}", read);
        } else if revision < model.compacted as u64 {
            prop_assert!(matches!(read, Err(Error::Compacted { .. })), "{:?}", read);
        } else {
            let page = read.expect("a revision that is there");
            let rows = &model.rows[index(revision)];
            let wanted: Vec<_> =
                rows.values().filter(|row| look.contains(&row.key)).cloned().collect();
            prop_assert_eq!(page.count, wanted.len());
            prop_assert_eq!(page.rows, wanted, "at {}", revision);
        }
    }
    for after in model.compacted.max(1) - 1..model.rows.len() {
        let mut watch = store.watch(look.clone(), after as u64 + 1).await.expect("watch");
        watch.request_progress().await.expect("asked");
        let batch = watch.next().await.expect("a batch");
        let mut seen: Vec<_> = batch
            .events
            .into_iter()
            .map(|event| match event {
                Event::Put(row) => (row.modified, row.key.clone(), Some(row)),
                Event::Delete { key, revision } => (revision, key, None),
            })
            .collect();
        seen.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        prop_assert_eq!(seen, model.events(look, after), "after {}", after);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn the_embedded_engine_is_its_model(steps in vec(step(), 1..40), look in keys()) {
        static RUN: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let run = RUN.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("store-{}-{run}", std::process::id()));
        let path = path.to_str().expect("text");
        // The first revision is that of an empty store.
        let mut model = Model { rows: vec![Rows::new(), Rows::new()], compacted: 0 };
        let checked = block_on(async {
            let mut store = file(path, EmbeddedOptions::default());
            for step in steps {
                match step {
                    Step::Txn(txn) => match store.txn(txn.clone()).await {
                        Err(Error::Invalid { .. }) => {}
                        outcome => {
                            let held = model.txn(&txn);
                            let outcome = outcome.expect("done");
                            prop_assert_eq!(outcome.held, held);
                            prop_assert_eq!(outcome.revision, model.revision());
                        }
                    },
                    Step::Compact(to) => match store.compact(to).await {
                        Ok(()) => model.compacted = index(to),
                        Err(Error::Future { .. }) => prop_assert!(to > model.revision()),
                        Err(error) => prop_assert!(to <= model.compacted as u64, "{}", error),
                    },
                    Step::Reopen => {
                        drop(store);
                        store = file(path, EmbeddedOptions::default());
                    }
                }
            }
            compare_with(&store, &model, &look).await
        });
        std::fs::remove_file(path).expect("it is there");
        checked?;
    }
}

#[test]
fn the_history_is_bounded() {
    let path = std::env::temp_dir().join(format!("store-bounded-{}", std::process::id()));
    let path = path.to_str().expect("text");
    let store = file(path, EmbeddedOptions { history: 10, ..EmbeddedOptions::default() });
    block_on(async {
        for n in 0..50 {
            store.put("a", n.to_string()).await.expect("put");
        }
        let old = store.read(Read::new(Keys::one("a")).at(20)).await;
        assert!(matches!(old, Err(Error::Compacted { .. })), "{old:?}");
        let recent = store.read(Read::new(Keys::one("a")).at(45)).await.expect("kept");
        assert_eq!(recent.rows.len(), 1);
    });
    drop(store);
    std::fs::remove_file(path).expect("it is there");
}

#[test]
fn a_file_has_one_owner_and_must_be_one() {
    let path = std::env::temp_dir().join(format!("store-owner-{}", std::process::id()));
    let first = file(path.to_str().expect("text"), EmbeddedOptions::default());
    let second = store::Embedded::open(&path, EmbeddedOptions::default());
    assert!(matches!(second, Err(Error::InUse { .. })), "{second:?}");
    drop(first);
    std::fs::write(&path, vec![7; 8192]).expect("written");
    let foreign = store::Embedded::open(&path, EmbeddedOptions::default());
    assert!(matches!(foreign, Err(Error::Io { .. } | Error::Damaged { .. })), "{foreign:?}");
    std::fs::remove_file(path).expect("it is there");
}
