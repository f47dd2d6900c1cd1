//! A store of files, one for each row, on a file system in memory: a change is a new file renamed
//! into the old one's place, which is all that a crash of netd can come between. A tenth of what a
//! transaction costs, and an attach makes two changes.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::de::DeserializeOwned;

use super::{Error, SCHEMA};

/// What a file is called until it is complete; no key begins with a dot.
const UNFINISHED: &str = ".unfinished";

/// A directory with a directory for each table.
#[derive(Debug)]
pub(super) struct Files {
    path: PathBuf,
}

impl Files {
    /// Opens the store at `path`, or makes it.
    pub(super) fn open(path: PathBuf, tables: &[&str]) -> Result<Self, Error> {
        for table in tables {
            let path = path.join(table);
            fs::create_dir_all(&path).map_err(|source| Error::Directory { path, source })?;
        }
        let files = Self { path };
        let schema = files.path.join("schema");
        match fs::read_to_string(&schema) {
            Ok(found) if found == SCHEMA => Ok(files),
            Ok(found) => Err(Error::Schema { path: files.path, found }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                files.write(&schema, SCHEMA)?;
                Ok(files)
            }
            Err(source) => Err(Error::File { path: schema, source }),
        }
    }

    /// Writes a row.
    pub(super) fn put(&self, table: &str, key: &str, text: &str) -> Result<(), Error> {
        self.write(&self.path.join(table).join(key), text)
    }

    fn write(&self, path: &Path, text: &str) -> Result<(), Error> {
        let unfinished = self.path.join(UNFINISHED);
        fs::write(&unfinished, text)
            .and_then(|()| fs::rename(&unfinished, path))
            .map_err(|source| Error::File { path: path.to_owned(), source })
    }

    /// Takes a row away, if it is there.
    pub(super) fn remove(&self, table: &str, key: &str) -> Result<(), Error> {
        let path = self.path.join(table).join(key);
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(Error::File { path, source })
            }
            _ => Ok(()),
        }
    }

    /// Reads every row of a table.
    pub(super) fn rows<T: DeserializeOwned>(&self, table: &'static str) -> Result<Vec<T>, Error> {
        let directory = self.path.join(table);
        let failed = |source| Error::File { path: directory.clone(), source };
        let mut rows = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let text = fs::read_to_string(&path)
                .map_err(|source| Error::File { path: path.clone(), source })?;
            let row = serde_json::from_str(&text).map_err(|source| Error::Row {
                path: self.path.clone(),
                table,
                key: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                source,
            })?;
            rows.push(row);
        }
        Ok(rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "things";

    /// A directory of the test's own.
    fn scratch(name: &str) -> PathBuf {
        std::env::temp_dir().join(format!("netd-files-{name}-{}", std::process::id()))
    }

    fn sorted(files: &Files) -> Vec<String> {
        let mut rows = files.rows(TABLE).expect("read");
        rows.sort();
        rows
    }

    #[test]
    fn what_is_written_is_there_when_it_is_opened_again() {
        let path = scratch("again");
        let files = Files::open(path.clone(), &[TABLE]).expect("new");
        for (key, text) in [("a", "\"1\""), ("b", "\"2\""), ("a", "\"3\""), ("c", "\"4\"")] {
            files.put(TABLE, key, text).expect("written");
        }
        files.remove(TABLE, "c").expect("removed");
        files.remove(TABLE, "c").expect("removed before");
        // A crash in the middle of a write.
        fs::write(path.join(UNFINISHED), "\"5").expect("written");
        let files = Files::open(path.clone(), &[TABLE]).expect("there");
        assert_eq!(sorted(&files), ["2", "3"]);
        files.put(TABLE, "b", "\"6\"").expect("written");
        assert_eq!(sorted(&files), ["3", "6"]);
        fs::remove_dir_all(path).expect("removed");
    }

    #[test]
    fn another_schema_and_a_damaged_row_are_named() {
        let path = scratch("damaged");
        let files = Files::open(path.clone(), &[TABLE]).expect("new");
        files.put(TABLE, "a", "{").expect("written");
        let error = files.rows::<String>(TABLE).expect_err("damaged").to_string();
        assert!(error.contains("things a"), "{error}");
        fs::write(path.join("schema"), "99").expect("written");
        let error = Files::open(path.clone(), &[TABLE]).expect_err("refused").to_string();
        assert!(error.contains("has schema 99"), "{error}");
        fs::remove_dir_all(path).expect("removed");
    }
}
