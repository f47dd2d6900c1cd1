//! A store of one file on a file system in memory: every change is a line at its end, which is one
//! write. A crash of netd leaves at most a last line without its end, which counts as not written.
//! When the file has become twice as long as what it holds, it is written again and renamed into
//! its own place.

use std::{
    cell::{Cell, RefCell},
    collections::{HashMap, hash_map::RandomState},
    fs::{self, File},
    hash::BuildHasher,
    io::{self, BufRead, BufReader, BufWriter, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::PathBuf,
};

use serde::de::DeserializeOwned;

use super::{Error, SCHEMA};

/// What the first line says, before the form of the rows.
const HEAD: &str = "netd boot store, schema ";

/// A file shorter than this is not written again, in bytes.
const SHORT: u64 = 1 << 20;

/// How much is gathered for one write, in bytes.
const AT_ONCE: usize = 64 << 10;

/// One file; its rows are found by table and key.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    file: RefCell<File>,
    /// How much of the file is whole lines, in bytes.
    length: Cell<u64>,
    /// The length at which it is written again, in bytes.
    limit: Cell<u64>,
    /// How many of the rows that were taken away last are kept when it is written again.
    past: usize,
}

/// Where in the file a row is. Rows are read when they are wanted, since there may be very many.
#[derive(Clone, Copy, Debug)]
struct Line {
    at: u64,
    /// In bytes, without its end.
    length: usize,
}

/// Where the rows are.
struct Index {
    /// Those that there are.
    rows: Vec<Line>,
    /// Those that were taken away, as far as they are still in the file.
    past: Vec<Line>,
}

impl Journal {
    /// Opens the journal at `path`, or begins one. Of the rows that were taken away at least the last
    /// `past` can be read.
    pub(super) fn open(path: PathBuf, past: usize) -> Result<Self, Error> {
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
        let mut first = None;
        let (mut length, mut rest) = (0, Vec::new());
        each_line(&file, |line, at| match line.strip_suffix(b"\n") {
            Some(whole) => {
                first.get_or_insert_with(|| String::from_utf8_lossy(whole).into_owned());
                length = at + line.len() as u64;
            }
            None => rest = line.to_owned(),
        })
        .map_err(failed)?;
        match first {
            Some(first) if first == head.trim_end() => {}
            Some(first) => {
                let found = first.strip_prefix(HEAD).unwrap_or("of another program").to_owned();
                return Err(Error::Schema { path, found });
            }
            None if head.as_bytes().starts_with(&rest) => {
                file.write_all_at(head.as_bytes(), 0).map_err(failed)?;
                length = head.len() as u64;
            }
            None => return Err(Error::Schema { path, found: "of another program".to_owned() }),
        }
        file.set_len(length).map_err(failed)?;
        let journal = Self {
            path,
            file: RefCell::new(file),
            length: Cell::new(length),
            limit: Cell::new(SHORT),
            past,
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

    /// Writes rows, and takes those away that there is no text of, with one write for many.
    pub(super) fn change<'a>(
        &self,
        table: &str,
        rows: impl Iterator<Item = (&'a str, Option<String>)>,
    ) -> Result<(), Error> {
        let mut lines = String::new();
        for (key, text) in rows {
            lines.extend([table, " ", key]);
            if let Some(text) = text {
                lines.extend([" ", &text]);
            }
            lines.push('\n');
            if lines.len() > AT_ONCE {
                self.append(&lines)?;
                lines.clear();
            }
        }
        if lines.is_empty() { Ok(()) } else { self.append(&lines) }
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

    fn append(&self, lines: &str) -> Result<(), Error> {
        let length = self.length.get();
        let written = {
            let file = self.file.borrow();
            file.write_all_at(lines.as_bytes(), length).inspect_err(|_| {
                // Half a line, with the next one behind it, would be a line that nobody wrote.
                if let Err(error) = file.set_len(length) {
                    tracing::error!(path = %self.path.display(), %error, "half a line is left");
                }
            })
        };
        written.map_err(|source| Error::File { path: self.path.clone(), source })?;
        self.length.set(length + lines.len() as u64);
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
        let Index { rows, past } = self.index()?;
        let aside = self.path.with_extension("unfinished");
        let rewrite = || -> io::Result<(File, u64)> {
            let file = fs::OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&aside)?;
            let mut writer = BufWriter::with_capacity(AT_ONCE, file);
            writeln!(writer, "{HEAD}{SCHEMA}")?;
            for line in &past[past.len().saturating_sub(self.past)..] {
                let text = self.text(*line)?;
                let end = text.match_indices(' ').nth(1).map_or(text.len(), |(at, _)| at);
                writeln!(writer, "{text}\n{}", &text[..end])?;
            }
            for line in rows {
                writeln!(writer, "{}", self.text(line)?)?;
            }
            let file = writer.into_inner()?;
            fs::rename(&aside, &self.path)?;
            let length = file.metadata()?.len();
            Ok((file, length))
        };
        let (file, length) = rewrite().map_err(failed)?;
        *self.file.borrow_mut() = file;
        self.length.set(length);
        self.limit.set(SHORT.max(length * 2));
        Ok(())
    }

    /// Reads the rows of a table, each when it is its turn, in the order in which they were written.
    /// Nothing may be written meanwhile.
    pub(super) fn rows<T: DeserializeOwned>(
        &self,
        table: &'static str,
    ) -> Result<impl Iterator<Item = Result<T, Error>>, Error> {
        Ok(self.read(table, self.index()?.rows))
    }

    /// As [`Journal::rows`], for those that were taken away, in the order in which they were.
    pub(super) fn past_rows<T: DeserializeOwned>(
        &self,
        table: &'static str,
    ) -> Result<impl Iterator<Item = Result<T, Error>>, Error> {
        Ok(self.read(table, self.index()?.past))
    }

    fn read<T: DeserializeOwned>(
        &self,
        table: &'static str,
        lines: Vec<Line>,
    ) -> impl Iterator<Item = Result<T, Error>> {
        let path = || self.path.clone();
        let rows = lines.into_iter().map(move |line| {
            let line = self.text(line).map_err(|source| Error::File { path: path(), source })?;
            let mut parts = line.splitn(3, ' ');
            let (Some(of), Some(key), Some(text)) = (parts.next(), parts.next(), parts.next())
            else {
                return Ok(None);
            };
            if of != table {
                return Ok(None);
            }
            serde_json::from_str(text).map(Some).map_err(|source| {
                let key = key.to_owned();
                Error::Row { path: path(), table, key, source }
            })
        });
        rows.filter_map(Result::transpose)
    }

    fn text(&self, line: Line) -> io::Result<String> {
        let mut bytes = vec![0; line.length];
        self.file.borrow().read_exact_at(&mut bytes, line.at)?;
        String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// The rows that the journal comes to, in the order of the file.
    fn index(&self) -> Result<Index, Error> {
        // Of tables and keys their hashes are enough, and take one piece of memory: many small ones
        // would stay netd's when they are free.
        let hashers = [RandomState::new(), RandomState::new()];
        let (mut rows, mut past) = (HashMap::new(), Vec::new());
        let indexed = each_line(&self.file.borrow(), |line, at| {
            let Some(line) = line.strip_suffix(b"\n").filter(|_| at > 0) else { return };
            let mut spaces = line.iter().enumerate().filter(|(_, byte)| **byte == b' ');
            let end = spaces.nth(1).map(|(space, _)| space);
            let place = line.get(..end.unwrap_or(line.len()));
            let place = hashers.each_ref().map(|hasher| hasher.hash_one(place));
            match end {
                Some(_) => drop(rows.insert(place, Line { at, length: line.len() })),
                None => past.extend(rows.remove(&place).filter(|_| self.past > 0)),
            }
        });
        indexed.map_err(|source| Error::File { path: self.path.clone(), source })?;
        let mut rows: Vec<_> = rows.into_values().collect();
        rows.sort_unstable_by_key(|line: &Line| line.at);
        Ok(Index { rows, past })
    }
}

/// Gives each line of a file, with its end, and where it begins.
fn each_line(file: &File, mut take: impl FnMut(&[u8], u64)) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(AT_ONCE, file);
    reader.seek(SeekFrom::Start(0))?;
    let (mut line, mut at) = (Vec::new(), 0);
    loop {
        line.clear();
        let length = reader.read_until(b'\n', &mut line)?;
        if length == 0 {
            return Ok(());
        }
        take(&line, at);
        at += length as u64;
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
            self.open_with(0)
        }

        fn open_with(&self, past: usize) -> Journal {
            Journal::open(self.0.clone(), past).expect("a journal")
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_file(&self.0).expect("removed");
        }
    }

    fn rows(journal: &Journal) -> Vec<String> {
        journal.rows(TABLE).expect("read").collect::<Result<_, _>>().expect("rows")
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
        assert_eq!(rows(&journal), ["2", "3"], "in the order in which they were written");
        journal.put(TABLE, "b", "\"6\"").expect("written");
        assert_eq!(rows(&journal), ["3", "6"]);
    }

    #[test]
    fn many_changes_are_as_each_by_itself() {
        let scratch = Scratch::new("many");
        let journal = scratch.open();
        let text = format!("{:?}", "x".repeat(AT_ONCE / 3));
        let keys: Vec<_> = (0..10).map(|n| format!("key{n}")).collect();
        let put = keys.iter().map(|key| (key.as_str(), Some(text.clone())));
        journal.change(TABLE, put).expect("written");
        assert_eq!(rows(&scratch.open()).len(), 10);
        let gone = keys.iter().skip(1).map(|key| (key.as_str(), None));
        journal.change(TABLE, gone.chain([("z", Some("\"1\"".to_owned()))])).expect("written");
        assert_eq!(rows(&scratch.open()).last().map(String::as_str), Some("1"));
        assert_eq!(rows(&journal).len(), 2);
    }

    #[test]
    fn what_was_taken_away_last_can_be_read_even_when_the_journal_is_written_again() {
        let scratch = Scratch::new("past");
        let journal = scratch.open_with(3);
        let past = |journal: &Journal| -> Vec<String> {
            let past = journal.past_rows(TABLE).expect("read");
            past.map(|row: Result<String, Error>| row.expect("a row")[..2].to_owned()).collect()
        };
        journal.put(TABLE, "stays", "\"st\"").expect("written");
        journal.remove(TABLE, "never").expect("there was none");
        for n in 10..15 {
            journal.put(TABLE, &format!("key{n}"), "\"xx\"").expect("written");
            journal.put(TABLE, &format!("key{n}"), &format!("\"{n}\"")).expect("written");
            journal.remove(TABLE, &format!("key{n}")).expect("removed");
        }
        assert_eq!(past(&scratch.open_with(3)), ["10", "11", "12", "13", "14"]);
        let long = format!("\"99{}\"", "x".repeat(1000));
        while fs::metadata(&scratch.0).expect("there").len() < SHORT - 3000 {
            journal.put(TABLE, "long", &long).expect("written");
        }
        journal.remove(TABLE, "long").expect("removed");
        for _ in 0..5 {
            journal.put(TABLE, "stays", &long).expect("written");
        }
        assert!(fs::metadata(&scratch.0).expect("there").len() < SHORT / 2, "it was written again");
        assert_eq!(past(&scratch.open_with(3)), ["13", "14", "99"]);
        assert_eq!(rows(&scratch.open_with(3)).len(), 1);
        assert_eq!(past(&scratch.open()).len(), 0);
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
            let mut expected: Vec<&(String, String)> = Vec::new();
            for value in &values[..whole] {
                expected.retain(|(key, _)| *key != value.0);
                expected.push(value);
            }
            let expected: Vec<_> = expected.into_iter().map(|(_, value)| value.clone()).collect();
            let journal = scratch.open();
            prop_assert_eq!(rows(&journal), expected);
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
        let journal = scratch.open();
        let first = journal.rows::<String>(TABLE).expect("indexed").next().expect("a row");
        let error = first.expect_err("damaged").to_string();
        assert!(error.contains("things a"), "{error}");
        for (text, said) in [
            (format!("{HEAD}99\n"), "has schema 99"),
            ("somebody else's\n".to_owned(), "of another program"),
            ("somebody else's".to_owned(), "of another program"),
        ] {
            fs::write(&scratch.0, &text).expect("written");
            let error = Journal::open(scratch.0.clone(), 0).expect_err("refused").to_string();
            assert!(error.contains(said), "{error}");
            assert_eq!(fs::read_to_string(&scratch.0).expect("there"), text);
        }
    }
}
