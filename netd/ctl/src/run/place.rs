//! Making a process at home in its namespaces: its hostname, its own `/etc/resolv.conf` and
//! `/etc/hosts`, then the command itself. Nothing on the host is made or changed. What the host takes
//! away again by replacing its own files is put back by [`keep`](super::keep), which gets a [`Kept`]
//! of each file that can be taken away.

use std::{
    ffi::OsString,
    fs::{self, Permissions},
    io,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use cnm::Result;
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    unistd::sethostname,
};
use serde::{Deserialize, Serialize};

use super::keep::Kept;
use crate::out;

/// What a command finds around it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// What it calls itself; the host's name unless told.
    pub(crate) hostname: Option<String>,
    /// Files that are there as it is to see them, by path.
    pub(crate) files: Vec<(String, String)>,
}

/// Where files are put together, in memory and seen by nobody else. `/proc` is a directory on
/// every host, no file that is replaced lies in it, and it comes back after a moment.
const STAGE: &str = "/proc";

/// How often a file is put over one that the host replaces at that moment, and how long apart.
const TRIES: usize = 50;
const MOMENT: Duration = Duration::from_millis(1);

/// Puts a setting in place. The process must be in mount and UTS namespaces of its own.
pub(crate) fn settle(setting: &Setting) -> Result<()> {
    if let Some(hostname) = &setting.hostname {
        sethostname(hostname).map_err(|errno| refused("set the hostname", errno))?;
    }
    cover(&setting.files).map(drop)
}

/// Puts files where they are to be seen, by path, in the mount namespace of the calling thread, which
/// must not be the host's. Gives those that the host can take away again.
pub(super) fn cover(files: &[(String, String)]) -> Result<Vec<Kept>> {
    // What the host mounts and unmounts later holds here too, but not the other way round.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|errno| refused("part from the host's mounts", errno))?;
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let (mut there, mut missing) = (Vec::new(), Vec::new());
    for (path, text) in files {
        // Symbolic links are followed.
        match fs::exists(path) {
            Ok(true) => there.push((path, text)),
            Ok(false) | Err(_) => missing.push((Path::new(path), text)),
        }
    }
    mount(
        Some("netctl"),
        STAGE,
        Some("tmpfs"),
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
        Some("mode=0755"),
    )
    .map_err(|errno| refused("mount a tmpfs", errno))?;
    // What lies under the others comes first.
    if let Err(error) = add(&missing) {
        for (path, _) in &missing {
            out::complain(&format_args!(
                "the command has no {} of its own, as there is none on the host to put it over, \
                 and {error}",
                path.display()
            ));
        }
    }
    let placed = there.iter().enumerate().map(|(number, (path, text))| {
        place(&Path::new(STAGE).join(number.to_string()), path, text)
    });
    let placed = placed.collect();
    umount2(STAGE, MntFlags::MNT_DETACH).map_err(|errno| refused("unmount a tmpfs", errno))?;
    placed
}

/// Puts files where the host has none, or a link that leads nowhere. Nothing can be put over these,
/// and nothing is to be made on the host: so their directory is covered with what it is and they
/// are besides. What the command writes to that directory stays its own.
fn add(files: &[(&Path, &String)]) -> Result<()> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for (path, text) in files {
        let failed = |error| out::system(format_args!("{} cannot be made", path.display()), &error);
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { continue };
        let directory = fs::canonicalize(directory).map_err(failed)?;
        let number = match directories.iter().position(|other| *other == directory) {
            Some(number) => number,
            None => {
                directories.push(directory.clone());
                directories.len() - 1
            }
        };
        let layers = layers(number);
        let usual = fs::metadata(&directory).map_err(failed)?.permissions();
        layers.iter().try_for_each(fs::create_dir_all).map_err(failed)?;
        fs::set_permissions(&layers[0], usual).map_err(failed)?;
        write(&layers[0].join(name), text)?;
    }
    for (number, directory) in directories.iter().enumerate() {
        let [upper, work] = layers(number).map(|layer| layer.display().to_string());
        let options = format!("lowerdir={},upperdir={upper},workdir={work}", directory.display());
        mount(Some("netctl"), directory, Some("overlay"), MsFlags::empty(), Some(options.as_str()))
            .map_err(|errno| refused(format_args!("cover {}", directory.display()), errno))?;
    }
    Ok(())
}

/// What covers a directory, and what the kernel needs for that.
fn layers(number: usize) -> [PathBuf; 2] {
    ["upper", "work"].map(|layer| Path::new(STAGE).join(format!("{layer}-{number}")))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, Permissions::from_mode(0o644)))
        .map_err(|error| out::system(format_args!("cannot write {}", path.display()), &error))
}

fn place(source: &Path, path: &str, text: &str) -> Result<Kept> {
    write(source, text)?;
    let mut tries = 0;
    loop {
        match Kept::put(source, path) {
            // The host has put another there since the kernel found it.
            Err(error) if error.kind() == io::ErrorKind::NotFound && tries < TRIES => {
                tries += 1;
                thread::park_timeout(MOMENT);
            }
            outcome => {
                return outcome.map_err(|error| {
                    out::system(format_args!("cannot put a file over {path}"), &error)
                });
            }
        }
    }
}

/// A refusal of the kernel, of which `what` says what was tried.
pub(crate) fn refused(what: impl std::fmt::Display, errno: Errno) -> cnm::Error {
    out::system(format_args!("cannot {what}"), &errno.into())
}

/// Becomes the command. Comes back only where that fails, with the code that shells end with: 127
/// where there is no such command, 126 where it cannot be run.
pub(crate) fn execute(command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        out::complain(&"there is no command to run");
        return ExitCode::from(127);
    };
    let error = Command::new(program).args(arguments).exec();
    out::complain(&format_args!("cannot run {}: {error}", program.display()));
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 })
}
