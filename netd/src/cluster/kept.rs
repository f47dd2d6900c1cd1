//! What this host keeps of its membership: who it is and where the cluster's store and managers
//! are. Written last when it joins and removed first when it leaves, so that half a membership is
//! none.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ::cluster::{
    ClusterId, Identity, NodeId, Role,
    identity::{Directory, replace},
};
use ::store::{EtcdOptions, Tls};
use cnm::{
    Error, Result,
    cluster::{CLUSTER_PORT, EtcdTls},
};
use serde::{Deserialize, Serialize};

/// The file.
const FILE: &str = "membership.json";

/// A membership.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    /// Which cluster.
    pub(crate) cluster: ClusterId,
    /// Which node this host is.
    pub(crate) node: NodeId,
    /// What it may do.
    pub(crate) role: Role,
    /// Where others reach it.
    pub(crate) address: IpAddr,
    /// The TCP port of managers.
    pub(crate) port: u16,
    /// The client URLs of etcd.
    pub(crate) etcd: Vec<String>,
    /// How that is known, where it is not the cluster's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) etcd_tls: Option<EtcdTls>,
    /// Where managers listen.
    pub(crate) managers: Vec<String>,
    /// Whether the host runs a member of etcd, which has the cluster's certificates.
    pub(crate) own_etcd: bool,
    /// The `--initial-cluster` of that member, where it joined others.
    #[serde(default)]
    pub(crate) initial_cluster: Option<String>,
    /// It is leaving, and goes on with that when netd ended meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaving: Option<Leaving>,
    /// Since when it is known that the others removed it, as RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) removed: Option<String>,
}

/// How far a node has come that leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Leaving {
    /// The cluster has yet to be told.
    Asked {
        /// It leaves whatever the cluster says.
        force: bool,
    },
    /// The cluster has it no more, or does not matter: the rest is this host's.
    Told,
}

impl Kept {
    /// A membership that is none, for ending what is left of one.
    pub(super) fn of_nobody() -> Result<Self> {
        Ok(Self {
            cluster: ClusterId::random().map_err(Error::internal)?,
            node: NodeId::random().map_err(Error::internal)?,
            role: Role::Worker,
            address: IpAddr::from([0; 4]),
            port: CLUSTER_PORT,
            etcd: Vec::new(),
            etcd_tls: None,
            managers: Vec::new(),
            own_etcd: false,
            initial_cluster: None,
            leaving: None,
            removed: None,
        })
    }

    /// How the store is reached.
    pub(super) fn way(&self, identity: &Identity) -> EtcdOptions {
        EtcdOptions { endpoints: self.etcd.clone(), tls: self.tls(identity) }
    }

    /// How etcd is known and knows this host: by the cluster's certificates, unless it is another's.
    pub(crate) fn tls(&self, identity: &Identity) -> Option<Tls> {
        let secure = self.etcd.iter().any(|url| url.starts_with("https:"));
        secure.then(|| match &self.etcd_tls {
            None => identity.tls(),
            Some(EtcdTls { ca, certificate, key }) => Tls {
                ca: ca.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
                name: None,
            },
        })
    }
}

/// Where all of it is.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    directory: PathBuf,
}

impl Place {
    /// In netd's state directory.
    pub(crate) fn new(state_dir: &Path) -> Self {
        Self { directory: state_dir.join("cluster") }
    }

    /// The certificates.
    pub(crate) fn identity(&self) -> Directory {
        Directory::new(&self.directory)
    }

    /// The data of the host's own etcd.
    pub(crate) fn etcd(&self) -> PathBuf {
        self.directory.join("etcd")
    }

    /// Whether there is anything.
    pub(super) fn is_there(&self) -> bool {
        self.directory.exists()
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// The membership, if there is one.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(crate) fn read(&self) -> Result<Option<Kept>> {
        let path = self.file();
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
                Error::internal(format_args!(
                    "{} is damaged: {error}; put back a copy, or remove it to leave the cluster",
                    path.display()
                ))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed(&path, &error)),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn write(&self, kept: &Kept) -> Result<()> {
        let path = self.file();
        let text = serde_json::to_vec_pretty(kept).map_err(Error::internal)?;
        let write = || {
            fs::create_dir_all(&self.directory)?;
            replace(&path, &text)
        };
        write().map_err(|error| failed(&path, &error))
    }

    /// Removes it, and then everything else.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(crate) fn forget(&self) -> Result<()> {
        let path = self.file();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed(&path, &error));
            }
            _ => {}
        }
        match fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed(&self.directory, &error))
            }
            _ => Ok(()),
        }
    }
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::internal(format_args!("cannot use {}: {error}", path.display()))
}
