//! Files of others in which something is to change: looked at first, and written when all is well.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cnm::Error;

use crate::{
    out::{self, Stop},
    replace::replace,
};

/// A file that is somebody's, and what is in it; nothing where it is not there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) there: Option<String>,
}

impl Place {
    /// Where a file really is: what leads there stays, also where there is nothing yet.
    pub(super) fn read(path: &Path) -> Result<Self, Stop> {
        let path = target(path);
        let there = match fs::read_to_string(&path) {
            Ok(text) => Some(text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let what = format!("cannot read {}", path.display());
                return Err(out::system(what, &error).into());
            }
        };
        Ok(Self { path, there })
    }

    /// Why a file cannot be changed.
    pub(super) fn refuse(&self, why: &str) -> Error {
        let message = format!("{} stays as it is: {why}", self.path.display());
        Error::invalid(message).with("file", self.path.display().to_string())
    }

    /// Says what is changed, and changes it unless that is all that is wanted. What is as it is to be
    /// is not spoken of.
    pub(super) fn make(&self, wanted: Option<&str>, what: &str, dry_run: bool) -> Result<(), Stop> {
        if self.there.as_deref() == wanted {
            return Ok(());
        }
        if !dry_run {
            let changed = match wanted {
                Some(text) => self.write(text),
                None => fs::remove_file(&self.path),
            };
            changed.map_err(|error| {
                out::system(format_args!("cannot write {}", self.path.display()), &error)
            })?;
        }
        out::print(&format!("{}: {what}\n", self.path.display()))
    }

    fn write(&self, text: &str) -> io::Result<()> {
        let mode = fs::metadata(&self.path).map_or(0o644, |there| there.permissions().mode());
        self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
        replace(&self.path, text.as_bytes(), mode & 0o7777)
    }
}

/// Where a path leads to by links.
fn target(path: &Path) -> PathBuf {
    let mut path = path.to_owned();
    // As many as the kernel follows (path_resolution(7)).
    for _ in 0..40 {
        if let Ok(whole) = fs::canonicalize(&path) {
            return whole;
        }
        let Ok(next) = fs::read_link(&path) else { break };
        path = path.parent().map_or_else(|| next.clone(), |directory| directory.join(&next));
    }
    std::path::absolute(&path).unwrap_or(path)
}
