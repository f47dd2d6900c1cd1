//! Putting the plugins where runtimes look for them.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use cnm::{Error, Kind};

use crate::replace::replace;
use crate::{
    args::cni::{DEFAULT_BIN, Install},
    out::{self, Outcome, Stop, Tally},
};

/// Where the package puts them.
const USUAL: &str = "/usr/libexec/netd";

/// What the executables of plugins begin with.
pub(super) const PREFIX: &str = "netd-";

/// The plugin that has loopback and nothing else, and the names under which runtimes ask for that.
const LOOPBACK: (&str, [&str; 2]) = ("netd-none", ["netd-loopback", "loopback"]);

/// The name of the reference's plugin, which may be there already.
pub(super) const THEIRS: &str = "loopback";

/// `cni install`.
pub(crate) fn install(args: &Install) -> Outcome {
    let source = source(args.plugin_dir.as_deref())?;
    let mut tally = Tally::default();
    if args.bin_dir != Path::new(DEFAULT_BIN) && !args.bin_dir.is_dir() {
        return Err(Error::new(
            Kind::NotFound,
            format_args!(
                "there is no directory {}: make it if runtimes look there, or leave --bin-dir out \
                 for {DEFAULT_BIN}",
                args.bin_dir.display()
            ),
        )
        .with("bin_dir", args.bin_dir.display().to_string())
        .into());
    }
    if !args.dry_run {
        fs::create_dir_all(&args.bin_dir).map_err(|error| {
            out::system(format_args!("cannot make {}", args.bin_dir.display()), &error)
        })?;
    }
    let theirs_is_ours = is_ours(&args.bin_dir);
    for (name, from) in wanted(&source)? {
        let content = fs::read(&from)
            .map_err(|error| out::system(format_args!("cannot read {}", from.display()), &error))?;
        let to = args.bin_dir.join(&name);
        match fs::read(&to) {
            Ok(there) if there == content => continue,
            Ok(_) if name == THEIRS && !theirs_is_ours => {
                out::print(&format!("{} is another's and stays\n", to.display()))?;
                continue;
            }
            _ => {}
        }
        if !args.dry_run
            && let Err(error) = replace(&to, &content, 0o755)
        {
            tally.fault(&out::system(format_args!("cannot write {}", to.display()), &error));
            continue;
        }
        out::print(&format!("{}\n", to.display()))?;
    }
    Ok(tally.code())
}

/// Where the plugins are.
pub(crate) fn source(given: Option<&Path>) -> Result<PathBuf, Stop> {
    let beside = || Some(env::current_exe().ok()?.parent()?.to_owned());
    let places: Vec<PathBuf> = match given {
        Some(given) => vec![given.to_owned()],
        None => beside().into_iter().chain([USUAL.into()]).collect(),
    };
    let has_plugins = |place: &&PathBuf| place.join(LOOPBACK.0).is_file();
    places.iter().find(has_plugins).cloned().ok_or_else(|| {
        let shown: Vec<_> = places.iter().map(|place| place.display().to_string()).collect();
        Error::new(
            Kind::NotFound,
            format_args!("netd's plugins are not in {}: name --plugin-dir", shown.join(" or ")),
        )
        .into()
    })
}

/// Names in the directory of runtimes, and which executable goes there.
fn wanted(source: &Path) -> Result<Vec<(String, PathBuf)>, Stop> {
    let (none, names) = LOOPBACK;
    let own = listed(source)?.into_iter().filter(|name| {
        // What cargo leaves beside them is none of them.
        name.starts_with(PREFIX) && !name.contains('.') && !names.contains(&name.as_str())
    });
    let mut wanted: Vec<_> = own.map(|name| (name.clone(), source.join(name))).collect();
    wanted.extend(names.map(|name| (name.to_owned(), source.join(none))));
    Ok(wanted)
}

/// The files of a directory, sorted; none when it is not there.
pub(super) fn listed(directory: &Path) -> Result<Vec<String>, Stop> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| {
            out::system(format_args!("cannot read {}", directory.display()), &error)
        })?,
    };
    let is_file = |entry: &fs::DirEntry| entry.file_type().is_ok_and(|kind| kind.is_file());
    let name = |entry: fs::DirEntry| entry.file_name().into_string().ok();
    let mut names: Vec<_> = entries.flatten().filter(is_file).filter_map(name).collect();
    names.sort();
    Ok(names)
}

/// Whether `loopback` in the directory is ours: the same as `netd-loopback` beside it.
pub(super) fn is_ours(directory: &Path) -> bool {
    let [ours, theirs] = LOOPBACK.1.map(|name| fs::read(directory.join(name)));
    matches!((ours, theirs), (Ok(ours), Ok(theirs)) if ours == theirs)
}
