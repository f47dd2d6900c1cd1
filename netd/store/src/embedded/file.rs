//! The file: opening it, and a transaction of the database for each reading and each writing. A
//! database that failed once refuses everything after, so it is opened anew then.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};

use redb::{Database, ReadableDatabase};

use super::tables::{self, Opened, Reading, Writing};
use crate::{Error, Result};

#[derive(Debug)]
pub(crate) struct File {
    path: PathBuf,
    cache: usize,
    database: RwLock<Option<Database>>,
}

impl File {
    pub(crate) fn open(path: PathBuf, cache: usize) -> Result<(Self, Opened)> {
        let made = !path.exists();
        // The database trusts its file in places and panics where it should not have.
        let opened = panic::catch_unwind(|| {
            let database = open(&path, cache)?;
            let opened = tables::open(&database).map_err(|error| broken(&path, error))?;
            Ok::<_, Error>((database, opened))
        });
        let (database, opened) = opened.map_err(|_| Error::Damaged { path: path.clone() })??;
        if made {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|error| Error::Io { path: path.clone(), why: error.to_string() })?;
        }
        if opened.schema != tables::SCHEMA {
            let (found, expected) = (opened.schema, tables::SCHEMA);
            return Err(Error::Schema { path, found, expected });
        }
        Ok((Self { path, cache, database: RwLock::new(Some(database)) }, opened))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads, at one moment.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Reading) -> Result<T, Failure>) -> Result<T> {
        self.with(|database| {
            let tables = Reading::new(&database.begin_read().map_err(redb::Error::from)?)?;
            read(&tables)
        })
    }

    /// Writes, and commits to the disk; nothing is changed when `write` fails.
    pub(crate) fn write<T>(
        &self,
        write: impl FnOnce(&mut Writing<'_>) -> Result<T, Failure>,
    ) -> Result<T> {
        let written = self.with(|database| {
            let transaction = database.begin_write().map_err(redb::Error::from)?;
            let mut tables = Writing::new(&transaction)?;
            let done = write(&mut tables)?;
            drop(tables);
            transaction.commit().map_err(redb::Error::from)?;
            Ok(done)
        });
        if matches!(written, Err(Error::Io { .. } | Error::Damaged { .. })) {
            self.reopen();
        }
        written
    }

    fn with<T>(&self, act: impl FnOnce(&Database) -> Result<T, Failure>) -> Result<T> {
        let database = self.database.read().unwrap_or_else(PoisonError::into_inner);
        let Some(database) = database.as_ref() else {
            let why = "it failed before and cannot be opened again".to_owned();
            return Err(Error::Io { path: self.path.clone(), why });
        };
        match panic::catch_unwind(AssertUnwindSafe(|| act(database))) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(Failure::Store(error))) => Err(error),
            Ok(Err(Failure::Database(error))) => Err(broken(&self.path, *error)),
            Err(_) => Err(Error::Damaged { path: self.path.clone() }),
        }
    }

    fn reopen(&self) {
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        database.take();
        *database = open(&self.path, self.cache).ok();
    }
}

fn open(path: &Path, cache: usize) -> Result<Database> {
    let opened = Database::builder().set_cache_size(cache).create(path);
    opened.map_err(|error| broken(path, error.into()))
}

fn broken(path: &Path, error: redb::Error) -> Error {
    let path = path.to_owned();
    match error {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
        redb::Error::Corrupted(_) => Error::Damaged { path },
        error => Error::Io { path, why: error.to_string() },
    }
}

/// Why something inside a transaction of the database was given up.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The request was wrong.
    Store(Error),
    /// The database failed.
    Database(Box<redb::Error>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Store(error)
    }
}

impl<E: Into<redb::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Database(Box::new(error.into()))
    }
}
