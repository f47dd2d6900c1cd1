//! Drivers: where their executables are, and the one session that netd keeps with each.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use cnm::{Error, Result};

mod former;
mod process;
mod session;
mod waiting;

pub(crate) use session::{Desired, Session};

/// The sessions, by the name that networks give their driver.
pub(crate) struct Drivers {
    directories: Vec<PathBuf>,
    run_dir: PathBuf,
    deadline: Duration,
    sessions: RefCell<BTreeMap<String, Rc<Session>>>,
}

impl Drivers {
    /// Drivers in `directories`, whose processes are written down in `run_dir`; each call of one
    /// may take `deadline`.
    pub(crate) fn new(mut directories: Vec<PathBuf>, run_dir: PathBuf, deadline: Duration) -> Self {
        // One that was named may be where netd's own are, by whichever path.
        let mut known = BTreeSet::new();
        directories
            .retain(|path| known.insert(path.canonicalize().unwrap_or_else(|_| path.clone())));
        Self { directories, run_dir, deadline, sessions: RefCell::default() }
    }

    /// The session with a driver that was started.
    pub(crate) fn get(&self, name: &str) -> Option<Rc<Session>> {
        self.sessions.borrow().get(name).cloned()
    }

    /// The session with a driver, started when it was not.
    ///
    /// # Errors
    /// `not_found` where there is no such executable.
    pub(crate) fn open(&self, name: &str, desired: impl Desired) -> Result<Rc<Session>> {
        if let Some(session) = self.get(name) {
            return Ok(session);
        }
        let path = self.find(name)?;
        let session = Session::start(name, path, &self.run_dir, self.deadline, desired);
        self.sessions.borrow_mut().insert(name.to_owned(), session.clone());
        Ok(session)
    }

    /// Every session.
    pub(crate) fn all(&self) -> Vec<Rc<Session>> {
        self.sessions.borrow().values().cloned().collect()
    }

    fn find(&self, name: &str) -> Result<PathBuf> {
        let plain = !name.is_empty()
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        if !plain {
            return Err(Error::invalid(format_args!(
                "invalid driver {name:?}: it should be a driver's name, such as bridge, of a-z 0-9 -"
            ))
            .with("driver", name));
        }
        let file = format!("netd-{name}");
        let found = self
            .directories
            .iter()
            .map(|directory| directory.join(&file))
            .find(|path| executable(path));
        found.ok_or_else(|| {
            let places: Vec<_> =
                self.directories.iter().map(|path| path.display().to_string()).collect();
            Error::not_found(format_args!(
                "driver {name} not found: there is no executable {file} in {}",
                places.join(", ")
            ))
            .with("driver", name)
        })
    }
}

fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
