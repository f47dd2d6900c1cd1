//! What is written down: networks and sticky addresses for good, sandboxes and endpoints until
//! the host restarts. One row for each, as JSON: in a database, where a change is one commit on the
//! disk, and in a journal in memory, where it is one write.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt,
    panic::{self, AssertUnwindSafe},
    path::{Path, PathBuf},
};

use cnm::{ContainerId, EndpointId, NetworkId, endpoint::Endpoint, network::Network};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{host::Home, registry::SandboxRecord};

mod journal;

use journal::Journal;

type Rows = TableDefinition<'static, &'static str, &'static str>;

const META: Rows = TableDefinition::new("meta");
const NETWORKS: Rows = TableDefinition::new("networks");
const STICKY: Rows = TableDefinition::new("sticky");
const SANDBOXES: &str = "sandboxes";
const ENDPOINTS: &str = "endpoints";
const CACHED: &str = "rows";
const HOST: &str = "host";

/// The row of the namespace in that table.
const HOME: &str = "netns";

/// What the journal of this boot is called in the run directory.
pub(crate) const BOOT: &str = "boot.journal";

/// How many endpoints that are gone are kept on record, for what they had not to be given to others
/// at once.
const PAST: usize = 256;

/// What is known of the cluster, in the run directory.
const CLUSTER: &str = "cluster.journal";

/// The form of the rows. A store of another form is refused, never guessed at.
const SCHEMA: &str = "1";

/// Bytes of cache for each store: the state is small and read whole at the start.
const CACHE: usize = 1 << 20;

/// What can go wrong with a store.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Its directory.
    #[error("cannot use the directory {path}: {source}")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// Another process has it.
    #[error("the store {path} is in use: another netd runs with this --state-dir")]
    InUse {
        /// Which.
        path: PathBuf,
    },
    /// What it holds makes no sense.
    #[error(
        "the store {path} is damaged, or a file of something else; put back a copy, or move it aside to \
         lose its networks"
    )]
    Damaged {
        /// Which.
        path: PathBuf,
    },
    /// The file.
    #[error("cannot open the store {path}: {source}")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: Box<redb::Error>,
    },
    /// Somebody else's, or another version's.
    #[error("the store {path} has schema {found}, this netd reads {SCHEMA}: use the netd it is of")]
    Schema {
        /// Which.
        path: PathBuf,
        /// What it has.
        found: String,
    },
    /// A row that cannot be read.
    #[error(
        "the store {path} is damaged: {table} {key}: {source}; put back a copy, or move it aside \
         to lose what it holds"
    )]
    Row {
        /// The file.
        path: PathBuf,
        /// The table.
        table: &'static str,
        /// The row.
        key: String,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// A file of its own.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A read or a write.
    #[error("the store {path} failed: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
}

impl From<Error> for cnm::Error {
    fn from(error: Error) -> Self {
        Self::internal(error)
    }
}

/// One file. A database that failed once refuses everything after, so it is closed then and
/// opened again for the next change.
#[derive(Debug)]
struct Store {
    path: PathBuf,
    database: RefCell<Option<Database>>,
}

/// One change to a row: the text it is to have, or nothing to take it away.
type Change<'a> = (Rows, &'a str, Option<String>);

impl Store {
    fn open(path: PathBuf, tables: &[Rows]) -> Result<Self, Error> {
        let made = !path.exists();
        // The database trusts its file in places and panics where it should not have.
        let opened = panic::catch_unwind(|| {
            let database = database(&path)?;
            let found = with_tables(&database, tables);
            let found = found.map_err(|source| open_error(&path, *source))?;
            Ok((database, found))
        });
        let (database, found) = opened.map_err(|_| Error::Damaged { path: path.clone() })??;
        if made {
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))
                .map_err(|source| Error::File { path: path.clone(), source })?;
        }
        match found {
            Some(found) if found != SCHEMA => Err(Error::Schema { path, found }),
            _ => Ok(Self { path, database: RefCell::new(Some(database)) }),
        }
    }

    fn change(&self, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut slot = self.database.borrow_mut();
        let database = match slot.take() {
            Some(database) => database,
            None => database(&self.path)?,
        };
        let apply = || -> Result<(), redb::Error> {
            let write = database.begin_write()?;
            for (table, key, value) in changes {
                let mut rows = write.open_table(*table)?;
                match value {
                    Some(value) => drop(rows.insert(*key, value.as_str())?),
                    None => drop(rows.remove(*key)?),
                }
            }
            write.commit()?;
            Ok(())
        };
        apply().map_err(|source| Error::Io { path: self.path.clone(), source: source.into() })?;
        *slot = Some(database);
        Ok(())
    }

    fn rows<T: DeserializeOwned>(
        &self,
        table: Rows,
        name: &'static str,
    ) -> Result<Vec<(String, T)>, Error> {
        let slot = self.database.borrow();
        let database = slot.as_ref().expect("rows are read before anything is changed");
        let read = || -> Result<Vec<(String, String)>, redb::Error> {
            let rows = database.begin_read()?.open_table(table)?;
            rows.iter()?
                .map(|row| {
                    let (key, value) = row?;
                    Ok((key.value().to_owned(), value.value().to_owned()))
                })
                .collect()
        };
        panic::catch_unwind(AssertUnwindSafe(read))
            .map_err(|_| Error::Damaged { path: self.path.clone() })?
            .map_err(|source| Error::Io { path: self.path.clone(), source: source.into() })?
            .into_iter()
            .map(|(key, value)| match serde_json::from_str(&value) {
                Ok(value) => Ok((key, value)),
                Err(source) => {
                    Err(Error::Row { path: self.path.clone(), table: name, key, source })
                }
            })
            .collect()
    }
}

fn database(path: &Path) -> Result<Database, Error> {
    let builder = Database::builder().set_cache_size(CACHE).create(path);
    builder.map_err(|error| open_error(path, error.into()))
}

fn open_error(path: &Path, source: redb::Error) -> Error {
    let path = path.to_owned();
    match source {
        redb::Error::DatabaseAlreadyOpen => Error::InUse { path },
        redb::Error::Corrupted(_) => Error::Damaged { path },
        redb::Error::Io(error) if error.kind() == std::io::ErrorKind::InvalidData => {
            Error::Damaged { path }
        }
        source => Error::Open { path, source: source.into() },
    }
}

/// Makes the tables and gives the schema that was there before.
fn with_tables(database: &Database, tables: &[Rows]) -> Result<Option<String>, Box<redb::Error>> {
    let write = database.begin_write().map_err(redb::Error::from)?;
    let found = {
        let mut meta = write.open_table(META).map_err(redb::Error::from)?;
        let found = meta.get("schema").map_err(redb::Error::from)?.map(|v| v.value().to_owned());
        if found.is_none() {
            meta.insert("schema", SCHEMA).map_err(redb::Error::from)?;
        }
        for table in tables {
            write.open_table(*table).map_err(redb::Error::from)?;
        }
        found
    };
    write.commit().map_err(redb::Error::from)?;
    Ok(found)
}

fn text(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("records have text keys only")
}

/// Both stores.
#[derive(Debug)]
pub(crate) struct Stores {
    durable: Store,
    boot: Journal,
    cluster: Journal,
}

/// What the stores hold when netd starts.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Every network.
    pub(crate) networks: Vec<Network>,
    /// Which name is to have which address again: network, name, address.
    pub(crate) sticky: Vec<(NetworkId, String, IpAddr)>,
    /// Every sandbox that was made on its own.
    pub(crate) sandboxes: Vec<SandboxRecord>,
    /// Every endpoint, and what is known of its sandbox.
    pub(crate) endpoints: Vec<EndpointRow>,
    /// Those that went last.
    pub(crate) gone: Vec<Endpoint>,
}

/// An endpoint as it is stored: with what its sandbox, which comes and goes with its endpoints,
/// is made of again. One row, since a second one would cost every attach and detach a write more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EndpointRow<E = Endpoint> {
    /// The endpoint.
    pub(crate) endpoint: E,
    /// The sandbox's path, where it has one.
    pub(crate) path: Option<String>,
    /// When the sandbox's process started, where its process is watched.
    pub(crate) process_start: Option<u64>,
}

impl Stores {
    /// Opens both, or makes them.
    pub(crate) fn open(state_dir: &Path, run_dir: &Path) -> Result<Self, Error> {
        for path in [state_dir, run_dir] {
            fs::create_dir_all(path)
                .map_err(|source| Error::Directory { path: path.to_owned(), source })?;
        }
        Ok(Self {
            durable: Store::open(state_dir.join("netd.redb"), &[NETWORKS, STICKY])?,
            boot: Journal::open(run_dir.join(BOOT), PAST)?,
            cluster: Journal::open(run_dir.join(CLUSTER), 0)?,
        })
    }

    /// Reads everything.
    pub(crate) fn load(&self) -> Result<Stored, Error> {
        let values = |rows: Vec<(String, Network)>| rows.into_iter().map(|row| row.1).collect();
        let networks = values(self.durable.rows(NETWORKS, "networks")?);
        let sticky = self.fold(self.durable.rows(STICKY, "sticky")?);
        Ok(Stored {
            networks,
            sticky: sticky
                .into_iter()
                .filter_map(|(key, address)| {
                    let mut parts = key.splitn(3, '/');
                    let (network, _, owner) = (parts.next()?, parts.next()?, parts.next()?);
                    Some((network.parse().ok()?, owner.to_owned(), address))
                })
                .collect(),
            sandboxes: self.boot.rows(SANDBOXES)?.collect::<Result<_, _>>()?,
            endpoints: self.boot.rows(ENDPOINTS)?.collect::<Result<_, _>>()?,
            gone: self
                .boot
                .past_rows(ENDPOINTS)?
                .filter_map(|row: Result<EndpointRow, _>| Some(row.ok()?.endpoint))
                .collect(),
        })
    }

    /// The namespace in which netd ran last.
    pub(crate) fn home(&self) -> Result<Option<Home>, Error> {
        self.boot.rows(HOST)?.next().transpose()
    }

    /// Writes in which namespace netd runs.
    pub(crate) fn put_home(&self, home: &Home) -> Result<(), Error> {
        self.boot.put(HOST, HOME, &text(home))
    }

    /// Sticky addresses by key, those of an earlier netd under the keys that their names have now
    /// ([`sticky_key`]): it had one for each spelling. What is known of a name by its key goes before.
    fn fold(&self, rows: Vec<(String, IpAddr)>) -> BTreeMap<String, IpAddr> {
        let (earlier, mut rows): (BTreeMap<_, _>, BTreeMap<_, _>) =
            rows.into_iter().partition(|(key, _)| *key != key.to_ascii_lowercase());
        let mut changes: Vec<Change<'_>> = Vec::new();
        let folded: Vec<_> =
            earlier.iter().map(|(key, address)| (key.to_ascii_lowercase(), *address)).collect();
        for ((key, address), earlier) in folded.iter().zip(earlier.keys()) {
            changes.push((STICKY, earlier, None));
            if !rows.contains_key(key) {
                rows.insert(key.clone(), *address);
                changes.push((STICKY, key, Some(text(address))));
            }
        }
        if !changes.is_empty()
            && let Err(error) = self.durable.change(&changes)
        {
            tracing::warn!(%error, "sticky addresses stay under the names of an earlier netd");
        }
        rows
    }

    /// Writes a network, on the disk before this returns.
    pub(crate) fn put_network(&self, network: &Network) -> Result<(), Error> {
        self.durable.change(&[(NETWORKS, network.id.as_str(), Some(text(network)))])
    }

    /// Takes a network away, and the sticky addresses on it.
    pub(crate) fn remove_network(
        &self,
        id: &NetworkId,
        sticky: &[(String, IpAddr)],
    ) -> Result<(), Error> {
        let keys: Vec<String> =
            sticky.iter().map(|(owner, address)| sticky_key(id, owner, *address)).collect();
        let mut changes: Vec<Change<'_>> = vec![(NETWORKS, id.as_str(), None)];
        changes.extend(keys.iter().map(|key| (STICKY, key.as_str(), None)));
        self.durable.change(&changes)
    }

    /// Writes which name is to have which address again.
    pub(crate) fn put_sticky(
        &self,
        network: &NetworkId,
        owner: &str,
        address: IpAddr,
    ) -> Result<(), Error> {
        self.durable.change(&[(STICKY, &sticky_key(network, owner, address), Some(text(&address)))])
    }

    /// Writes an endpoint.
    pub(crate) fn put_endpoint(
        &self,
        endpoint: &Endpoint,
        sandbox: &SandboxRecord,
    ) -> Result<(), Error> {
        let row = EndpointRow {
            endpoint,
            path: sandbox.sandbox.path.clone(),
            process_start: sandbox.process_start,
        };
        self.boot.put(ENDPOINTS, endpoint.id.as_str(), &text(&row))
    }

    /// Takes an endpoint away.
    pub(crate) fn remove_endpoint(&self, id: &EndpointId) -> Result<(), Error> {
        self.boot.remove(ENDPOINTS, id.as_str())
    }

    /// Reads the rows of the cluster's store that were known.
    pub(crate) fn cached_rows<T: DeserializeOwned>(
        &self,
    ) -> Result<impl Iterator<Item = Result<T, Error>>, Error> {
        self.cluster.rows(CACHED)
    }

    /// Writes rows of the cluster's store, and takes those away that there is nothing of.
    pub(crate) fn cache<'a, T: Serialize>(
        &self,
        rows: impl Iterator<Item = (&'a str, Option<T>)>,
    ) -> Result<(), Error> {
        self.cluster.change(CACHED, rows.map(|(key, row)| (key, row.map(|row| text(&row)))))
    }

    /// Forgets all rows of the cluster's store.
    pub(crate) fn forget_cached(&self) -> Result<(), Error> {
        self.cluster.clear()
    }

    /// Writes a sandbox that was made on its own.
    pub(crate) fn put_sandbox(&self, record: &SandboxRecord) -> Result<(), Error> {
        self.boot.put(SANDBOXES, record.sandbox.container.id.as_str(), &text(record))
    }

    /// Takes a sandbox away.
    pub(crate) fn remove_sandbox(&self, id: &ContainerId) -> Result<(), Error> {
        self.boot.remove(SANDBOXES, id.as_str())
    }
}

/// A name has one sticky address of each family, so the key says which, and it is one name whatever its
/// case.
fn sticky_key(network: &NetworkId, owner: &str, address: IpAddr) -> String {
    let family = if address.is_ipv4() { 4 } else { 6 };
    format!("{network}/{family}/{}", owner.to_ascii_lowercase())
}

#[cfg(test)]
mod tests;
