//! Where a node keeps its identity: PEM files for their owner only, each replaced whole.

use std::{
    fs,
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use super::{Authority, Identity};
use crate::{Error, Result};

const CA: &str = "ca.pem";
const CA_KEY: &str = "ca-key.pem";
const CERTIFICATE: &str = "node.pem";
const KEY: &str = "node-key.pem";

/// The certificate that is about to take the other's place, and its key. The certificate is written
/// last: where it is, the key is whole, or in its place already.
const NEXT: &str = "next.pem";
const NEXT_KEY: &str = "next-key.pem";

/// A directory of its own.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// The directory at `path`; it is made when something is kept.
    pub fn new(path: impl AsRef<Path>) -> Self {
        Self { path: path.as_ref().to_owned() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The CA's certificate, the node's, and its key, for programs that read files.
    pub fn paths(&self) -> [PathBuf; 3] {
        [CA, CERTIFICATE, KEY].map(|name| self.path.join(name))
    }

    /// Who the node is, if it is anybody.
    ///
    /// # Errors
    /// When the files cannot be read.
    pub fn identity(&self) -> Result<Option<Identity>> {
        self.take_next()?;
        let files = (self.read(CA)?, self.read(CERTIFICATE)?, self.read(KEY)?);
        let (Some(ca), Some(certificate), Some(key)) = files else { return Ok(None) };
        Ok(Some(Identity { ca, certificate, key }))
    }

    /// The cluster's CA, if the node is a manager.
    ///
    /// # Errors
    /// When the files cannot be read or are none of a CA.
    pub fn authority(&self) -> Result<Option<Authority>> {
        match (self.read(CA)?, self.read(CA_KEY)?) {
            (Some(certificate), Some(key)) => Authority::from_pem(certificate, key).map(Some),
            _ => Ok(None),
        }
    }

    /// Keeps who the node is.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn keep(&self, identity: &Identity) -> Result<()> {
        self.write(CA, &identity.ca)?;
        self.write(NEXT_KEY, &identity.key)?;
        self.write(NEXT, &identity.certificate)?;
        self.take_next()
    }

    /// A certificate and a key of which only one was replaced would be worth nothing.
    fn take_next(&self) -> Result<()> {
        let [next, next_key] = [NEXT, NEXT_KEY].map(|name| self.path.join(name));
        if !next.exists() {
            return Ok(());
        }
        for (from, to) in [(next_key, KEY), (next, CERTIFICATE)] {
            match fs::rename(&from, self.path.join(to)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File { path: from, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Keeps the cluster's CA.
    ///
    /// # Errors
    /// When the files cannot be written.
    pub fn keep_authority(&self, authority: &Authority) -> Result<()> {
        self.write(CA, authority.certificate())?;
        self.write(CA_KEY, authority.key())
    }

    /// Removes all of it: the node is nobody any more.
    ///
    /// # Errors
    /// When a file cannot be removed.
    pub fn forget(&self) -> Result<()> {
        for name in [NEXT, NEXT_KEY, CERTIFICATE, KEY, CA_KEY, CA] {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::File { path, source });
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn read(&self, name: &str) -> Result<Option<String>> {
        let path = self.path.join(name);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(Error::File { path, source }),
        }
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let path = self.path.join(name);
        let write = || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
            replace(&path, text.as_bytes())
        };
        write().map_err(|source| Error::File { path: path.clone(), source })
    }
}

/// Writes a file for its owner only, whole or not at all: beside its place first, and on the disk
/// before it goes there.
///
/// # Errors
/// When it cannot be written.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let aside = path.with_file_name(format!(".{name}"));
    let mut file =
        fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&aside, path)
}
