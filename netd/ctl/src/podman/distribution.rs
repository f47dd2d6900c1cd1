//! The distribution's netavark, in whose place netd may be: where it is, and whether it takes plugins.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The first version that executes plugins (Podman 4.5 is the first that says where they are).
const PLUGINS: [u32; 2] = [1, 6];

/// The first of a program's name in directories, but for netd's own.
pub(super) fn find(name: &str, directories: &[String], own: &Path) -> Option<PathBuf> {
    let places = directories.iter().map(Path::new).filter(|directory| *directory != own);
    places.map(|directory| directory.join(name)).find(|program| program.is_file())
}

/// Why a netavark executes no plugins, where it says a version that does not.
pub(super) fn takes_no_plugins(netavark: &Path) -> Option<String> {
    let version = version(netavark)?;
    (numbers(&version)? < PLUGINS).then(|| {
        format!(
            "{} is netavark {version}, which takes no plugins, and so Podman has no drivers of netd's: \
             that needs netavark 1.6 and Podman 4.5; with --drop-in all of root's networks are netd's",
            netavark.display()
        )
    })
}

/// What it says of itself.
fn version(netavark: &Path) -> Option<String> {
    let asked = Command::new(netavark).arg("--version").stdin(Stdio::null()).output().ok()?;
    let said = String::from_utf8(asked.stdout).ok()?;
    Some(said.trim().strip_prefix("netavark ")?.to_owned())
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<[u32; 2]> {
    let mut numbers = version.split(['.', '-', ' ']).map(|number| number.parse().ok());
    Some([numbers.next()??, numbers.next()??])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_by_number() {
        for (version, takes) in [("1.4.0", false), ("1.5.2-dev", false), ("1.6", true)] {
            assert_eq!(numbers(version).expect("a version") >= PLUGINS, takes, "{version}");
        }
        assert!(numbers("1.17.2").expect("a version") >= PLUGINS);
        assert!(numbers("2.0.0-rc1").expect("a version") >= PLUGINS);
        assert_eq!((numbers("new"), numbers("1"), numbers("1.x")), (None, None, None));
    }
}
