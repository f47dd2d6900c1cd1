//! A store of one file on a file system in memory: every change is a line at its end, which is one
//! write. A crash of netd leaves at most a last line without its end, which counts as not written.
//! When the file has become twice as long as what it holds, it is written again and renamed into
//! its own place.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
};

use serde::de::DeserializeOwned;

use super::{Error, SCHEMA};

/// What the first line says, before the form of the rows.
const HEAD: &str = "netd boot store, schema ";

/// A file shorter than this is not written again, in bytes.
const SHORT: u64 = 1 << 20;

/// One file; its rows are found by table and key.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: RefCell<File>,
    /// How much of the file is whole lines, in bytes.
    length: Cell<u64>,
    /// The length at which it is written again, in bytes.
    limit: Cell<u64>,
}

/// What a journal comes to, by table and key.
type Rows = BTreeMap<(String, String), String>;

impl Journal {
    /// Opens the journal at `path`, or begins one.
    pub(super) fn open(path: PathBuf) -> Result<Self, Error> {
        let failed = |source| Error::File { path: path.clone(), source };
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let head = format!("{HEAD}{SCHEMA}\n");
        let text = fs::read_to_string(&path).map_err(failed)?;
        let length = match text.rfind('\n') {
            Some(end) if text.starts_with(&head) => end + 1,
            Some(_) => {
                let first = text.lines().next().unwrap_or_default();
                let found = first.strip_prefix(HEAD).unwrap_or("of another program").to_owned();
                return Err(Error::Schema { path, found });
            }
            None if head.starts_with(&text) => {
                file.write_all_at(head.as_bytes(), 0).map_err(failed)?;
                head.len()
            }
            None => return Err(Error::Schema { path, found: "of another program".to_owned() }),
        };
        let length = length as u64;
        file.set_len(length).map_err(failed)?;
        let journal = Self {
            path,
            file: RefCell::new(file),
            length: Cell::new(length),
            limit: Cell::new(SHORT),
        };
        journal.shorten()?;
        Ok(journal)
    }

    /// Writes a row.
    pub(super) fn put(&self, table: &str, key: &str, text: &str) -> Result<(), Error> {
        self.append(&format!("{table} {key} {text}\n"))
    }

    /// Takes a row away, if it is there.
    pub(super) fn remove(&self, table: &str, key: &str) -> Result<(), Error> {
        self.append(&format!("{table} {key}\n"))
    }

    /// Takes every row away.
    pub(super) fn clear(&self) -> Result<(), Error> {
        let head = format!("{HEAD}{SCHEMA}\n").len() as u64;
        let cut = self.file.borrow().set_len(head);
        cut.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.length.set(head);
        self.limit.set(SHORT);
        Ok(())
    }

    fn append(&self, line: &str) -> Result<(), Error> {
        let length = self.length.get();
        let written = {
            let file = self.file.borrow();
            file.write_all_at(line.as_bytes(), length).inspect_err(|_| {
                // Half a line, with the next one behind it, would be a line that nobody wrote.
                if let Err(error) = file.set_len(length) {
                    tracing::error!(path = %self.path.display(), %error, "half a line is left");
                }
            })
        };
        written.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.length.set(length + line.len() as u64);
        if self.length.get() > self.limit.get()
            && let Err(error) = self.shorten()
        {
            tracing::warn!(%error, "the journal grows on");
            self.limit.set(self.length.get() * 2);
        }
        Ok(())
    }

    /// Writes only what the journal comes to, if that is much shorter.
    fn shorten(&self) -> Result<(), Error> {
        if self.length.get() <= self.limit.get() {
            return Ok(());
        }
        let failed = |source| Error::File { path: self.path.clone(), source };
        let mut text = format!("{HEAD}{SCHEMA}\n");
        for ((table, key), row) in self.replay()? {
            text.extend([table.as_str(), " ", &key, " ", &row, "\n"]);
        }
        let aside = self.path.with_extension("unfinished");
        let rewrite = || -> io::Result<File> {
            let mut file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            file.write_all(text.as_bytes())?;
            fs::rename(&aside, &self.path)?;
            Ok(file)
        };
        *self.file.borrow_mut() = rewrite().map_err(failed)?;
        let length = text.len() as u64;
        self.length.set(length);
        self.limit.set(SHORT.max(length * 2));
        Ok(())
    }

    /// Reads every row of a table.
    pub(super) fn rows<T: DeserializeOwned>(&self, table: &'static str) -> Result<Vec<T>, Error> {
        let rows = self.replay()?.into_iter().filter(|((of, _), _)| of == table);
        rows.map(|((_, key), text)| {
            serde_json::from_str(&text).map_err(|source| Error::Row {
                path: self.path.clone(),
                table,
                key,
                source,
            })
        })
        .collect()
    }

    fn replay(&self) -> Result<Rows, Error> {
        let failed = |source| Error::File { path: self.path.clone(), source };
        let text = fs::read_to_string(&self.path).map_err(failed)?;
        let mut rows = Rows::new();
        for line in text.lines().skip(1) {
            let mut parts = line.splitn(3, ' ');
            let (table, key) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            let place = (table.to_owned(), key.to_owned());
            match parts.next() {
                Some(text) => drop(rows.insert(place, text.to_owned())),
                None => drop(rows.remove(&place)),
            }
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TABLE: &str = "things";

    /// A file of the test's own, gone with it.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let name = format!("netd-journal-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            drop(fs::remove_file(&path));
            Self(path)
        }

        fn open(&self) -> Journal {
            Journal::open(self.0.clone()).expect("a journal")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).expect("removed");
        }
    }

    fn rows(journal: &Journal) -> Vec<String> {
        journal.rows(TABLE).expect("read")
    }

    #[test]
    fn what_is_written_is_there_when_it_is_opened_again() {
        let scratch = Scratch::new("again");
        let journal = scratch.open();
        for (key, text) in [("a", "\"1\""), ("b", "\"2\""), ("a", "\"3\""), ("c", "\"4\"")] {
            journal.put(TABLE, key, text).expect("written");
        }
        journal.put("others", "a", "\"0\"").expect("written");
        journal.remove(TABLE, "c").expect("removed");
        journal.remove(TABLE, "c").expect("removed before");
        let journal = scratch.open();
        assert_eq!(rows(&journal), ["3", "2"]);
        journal.put(TABLE, "b", "\"6\"").expect("written");
        assert_eq!(rows(&journal), ["3", "6"]);
    }

    proptest! {
        #[test]
        fn a_crash_in_the_middle_of_a_write_leaves_what_was_before(
            values in prop::collection::vec(("[a-d]", "[a-z]{0,9}"), 1..20),
            lost in 1_usize..60,
        ) {
            let scratch = Scratch::new("torn");
            let journal = scratch.open();
            let mut lengths = vec![journal.length.get()];
            for (key, value) in &values {
                journal.put(TABLE, key, &format!("{value:?}")).expect("written");
                lengths.push(journal.length.get());
            }
            let end = lengths[values.len()].saturating_sub(lost as u64);
            let file = File::options().write(true).open(&scratch.0).expect("there");
            file.set_len(end).expect("cut off");
            let whole = lengths.iter().filter(|length| **length <= end).count().saturating_sub(1);
            let expected: BTreeMap<_, _> = values[..whole].iter().cloned().collect();
            let journal = scratch.open();
            prop_assert_eq!(rows(&journal), expected.into_values().collect::<Vec<_>>());
            // And what is written next is not behind half a line.
            journal.put(TABLE, "z", "\"last\"").expect("written");
            let rows = rows(&scratch.open());
            prop_assert_eq!(rows.last().map(String::as_str), Some("last"));
        }
    }

    #[test]
    fn it_does_not_grow_for_ever() {
        let scratch = Scratch::new("short");
        let journal = scratch.open();
        let text = format!("{:?}", "x".repeat(1000));
        for n in 0..5000 {
            journal.put(TABLE, &format!("key{}", n % 10), &text).expect("written");
            if n % 10 == 9 {
                journal.remove(TABLE, "key0").expect("removed");
            }
        }
        assert!(fs::metadata(&scratch.0).expect("there").len() < SHORT + 2000);
        assert_eq!(rows(&journal).len(), 9);
        assert_eq!(rows(&scratch.open()).len(), 9);
    }

    #[test]
    fn another_schema_a_foreign_file_and_a_damaged_row_are_named() {
        let scratch = Scratch::new("damaged");
        scratch.open().put(TABLE, "a", "{").expect("written");
        let error = scratch.open().rows::<String>(TABLE).expect_err("damaged").to_string();
        assert!(error.contains("things a"), "{error}");
        for (text, said) in [
            (format!("{HEAD}99\n"), "has schema 99"),
            ("somebody else's\n".to_owned(), "of another program"),
            ("somebody else's".to_owned(), "of another program"),
        ] {
            fs::write(&scratch.0, &text).expect("written");
            let error = Journal::open(scratch.0.clone()).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
            assert_eq!(fs::read_to_string(&scratch.0).expect("there"), text);
        }
    }
}
