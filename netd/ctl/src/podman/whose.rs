//! Whose a file or a link is that is in a place of an install's: one that it has left, the same and
//! changed since by somebody, or somebody else's altogether.

use std::{fs, path::Path};

use cnm::Error;

/// What the file begins with, by which it is known again.
const MARK: &str =
    "# Written by `netctl podman install`; `netctl podman uninstall` takes it away.\n";

/// What its second line is, with a number that tells whether what follows was changed.
const SEAL: &str =
    "# What is yours goes into a file of its own: changed, this one stays as it is. ";

/// Whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    /// Nobody's: it is not there.
    Nobodys,
    /// As an install has left it.
    Ours,
    /// Left by an install, and changed.
    Changed,
    /// Another's.
    Anothers,
}

impl Whose {
    /// Whose something is, wherever a link leads: links that an install left are known by where.
    pub(super) fn of(path: &Path, plugin: &str) -> Self {
        if path.symlink_metadata().is_err() {
            return Self::Nobodys;
        }
        if let Ok(target) = fs::read_link(path) {
            let is_beside = path.extension().is_some_and(|end| end == "distribution");
            let leads = target.file_name().is_some_and(|name| name == plugin);
            return if is_beside || leads { Self::Ours } else { Self::Anothers };
        }
        fs::read_to_string(path).map_or(Self::Anothers, |text| Self::of_text(&text))
    }

    fn of_text(text: &str) -> Self {
        let Some(rest) = text.strip_prefix(MARK) else { return Self::Anothers };
        let sealed = rest.split_once('\n').filter(|(line, text)| {
            line.strip_prefix(SEAL).is_some_and(|number| number == sum(text))
        });
        if sealed.is_some() { Self::Ours } else { Self::Changed }
    }

    /// Refuses what an install may not write over, or an uninstall take away.
    ///
    /// # Errors
    /// `exists`, with what to do about it.
    pub(super) fn check(self, path: &Path) -> Result<(), Error> {
        let path = path.display();
        match self {
            Self::Nobodys | Self::Ours => Ok(()),
            Self::Changed => Err(Error::exists(format_args!(
                "{path} was changed since netctl wrote it, and stays as it is: put what is yours into \
                 another file beside it, which Podman reads as well, and remove this one"
            ))),
            Self::Anothers => Err(Error::exists(format_args!(
                "{path} is there and not netctl's: move it away, or name another directory"
            ))),
        }
    }
}

/// A file of ours with this text.
pub(super) fn sealed(text: &str) -> String {
    format!("{MARK}{SEAL}{}\n{text}", sum(text))
}

/// A number that another text hardly has (FNV-1a, 64 bits).
fn sum(text: &str) -> String {
    let sum = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |sum, byte| {
        (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{sum:016x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_ours_until_it_is_changed() {
        assert_eq!(sum("a"), "af63dc4c8601ec8c");
        let text = sealed("[network]\n");
        assert_eq!(Whose::of_text(&text), Whose::Ours);
        for changed in [
            text.clone() + "# mine\n",
            text.replace("network", "engine"),
            text.replace(SEAL, "# "),
            MARK.to_owned(),
        ] {
            assert_eq!(Whose::of_text(&changed), Whose::Changed, "{changed}");
        }
        assert_eq!(Whose::of_text("[network]\n"), Whose::Anothers);
        assert_eq!(Whose::of_text(""), Whose::Anothers);
    }
}
