//! What this host has yet to write of its own endpoints: by key, the last word alone. It is derived
//! of the endpoints on record, so that nothing of it has to outlive netd.

use std::collections::BTreeMap;

use ::store::{Op, Txn};

/// How many rows are written at once: an etcd takes 128 operations (`--max-txn-ops`).
const AT_ONCE: usize = 100;

/// How many bytes of rows are written at once, unless one has more: an etcd takes 1.5 MiB
/// (`--max-request-bytes`), and no row is as large.
const MOST: usize = 512 << 10;

/// Rows to be written, or deleted where there is none.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    rows: BTreeMap<String, Option<Vec<u8>>>,
}

impl Outbox {
    /// A row is to be this.
    pub(crate) fn put(&mut self, key: String, value: Vec<u8>) {
        self.rows.insert(key, Some(value));
    }

    /// A row is to go.
    pub(crate) fn delete(&mut self, key: String) {
        self.rows.insert(key, None);
    }

    /// How many rows wait.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Makes it the difference between what the store has and what it is to have. What is to go
    /// anyway goes: the store may be about to get it.
    pub(crate) fn compare(
        &mut self,
        written: &BTreeMap<String, Vec<u8>>,
        wanted: BTreeMap<String, Vec<u8>>,
    ) {
        self.rows.retain(|key, row| row.is_none() && !wanted.contains_key(key));
        for key in written.keys().filter(|key| !wanted.contains_key(*key)) {
            self.rows.insert(key.clone(), None);
        }
        for (key, value) in wanted {
            if written.get(&key) != Some(&value) {
                self.rows.insert(key, Some(value));
            }
        }
    }

    /// As many rows as are written at once.
    pub(crate) fn take(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let mut bytes = 0;
        let fitting = self.rows.iter().take(AT_ONCE).take_while(|(key, row)| {
            let before = bytes;
            bytes += key.len() + row.as_ref().map_or(0, Vec::len);
            before == 0 || bytes <= MOST
        });
        let keys: Vec<String> = fitting.map(|(key, _)| key.clone()).collect();
        keys.into_iter().filter_map(|key| self.rows.remove_entry(&key)).collect()
    }

    /// As [`Outbox::take`], of rows that are to go alone.
    pub(crate) fn take_gone(&mut self) -> Vec<(String, Option<Vec<u8>>)> {
        let gone = self.rows.iter().filter(|(_, row)| row.is_none());
        let keys: Vec<String> = gone.map(|(key, _)| key.clone()).take(AT_ONCE).collect();
        keys.into_iter().filter_map(|key| self.rows.remove_entry(&key)).collect()
    }

    /// Rows that could not be written, unless there is a later word.
    pub(crate) fn put_back(&mut self, rows: Vec<(String, Option<Vec<u8>>)>) {
        for (key, value) in rows {
            self.rows.entry(key).or_insert(value);
        }
    }
}

/// What writes these rows.
pub(crate) fn operations(txn: Txn, rows: &[(String, Option<Vec<u8>>)]) -> Txn {
    rows.iter().fold(txn, |txn, (key, value)| {
        txn.then(match value {
            Some(value) => Op::put(key.as_str(), value.clone()),
            None => Op::delete(key.as_str()),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(pairs: &[(&str, &str)]) -> BTreeMap<String, Vec<u8>> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect()
    }

    #[test]
    fn the_last_word_counts() {
        let mut outbox = Outbox::default();
        outbox.put("a".into(), b"1".to_vec());
        outbox.delete("a".into());
        outbox.put("b".into(), b"1".to_vec());
        let taken = outbox.take();
        assert_eq!(taken, [("a".to_owned(), None), ("b".to_owned(), Some(b"1".to_vec()))]);
        // What was said while it was being written stands.
        outbox.put("a".into(), b"2".to_vec());
        outbox.put_back(taken);
        assert_eq!(outbox.take()[0].1.as_deref(), Some(b"2".as_slice()));
    }

    #[test]
    fn what_goes_is_taken_alone() {
        let mut outbox = Outbox::default();
        (0..150).for_each(|n| outbox.put(format!("a{n}"), Vec::new()));
        outbox.delete("b".into());
        assert_eq!(outbox.take_gone(), [("b".to_owned(), None)]);
        assert_eq!(outbox.take_gone(), []);
        assert_eq!(outbox.len(), 150);
    }

    #[test]
    fn a_comparison_finds_what_differs() {
        let mut outbox = Outbox::default();
        outbox.put("old".into(), Vec::new());
        outbox.delete("on its way".into());
        let written = rows(&[("a", "1"), ("b", "1"), ("stale", "1")]);
        outbox.compare(&written, rows(&[("a", "1"), ("b", "2"), ("new", "1")]));
        let taken: Vec<_> =
            outbox.take().into_iter().map(|(key, row)| (key, row.is_some())).collect();
        let wanted = [("b", true), ("new", true), ("on its way", false), ("stale", false)];
        assert_eq!(taken, wanted.map(|(key, put)| (key.to_owned(), put)));
    }

    #[test]
    fn a_transaction_takes_what_a_store_takes() {
        let mut outbox = Outbox::default();
        (0..250).for_each(|n| outbox.put(format!("{n}"), Vec::new()));
        let sizes: Vec<_> =
            std::iter::from_fn(|| Some(outbox.take().len()).filter(|n| *n > 0)).collect();
        assert_eq!(sizes, [100, 100, 50]);
        for (n, size) in [200 << 10, 300 << 10, 600 << 10, 600 << 10, 100].into_iter().enumerate() {
            outbox.put(format!("{n}"), vec![b'x'; size]);
        }
        let sizes: Vec<_> =
            std::iter::from_fn(|| Some(outbox.take().len()).filter(|n| *n > 0)).collect();
        assert_eq!(sizes, [2, 1, 1, 1]);
    }
}
