//! Telling Podman of netd, and taking that back. Everything is looked at before anything is done.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process,
};

use cnm::{Error, Kind};

use super::{
    distribution, running,
    settings::{self, HELPERS},
    whose::{self, Whose},
};
use crate::{
    args::podman::{Install, Uninstall},
    cni::install::source,
    out::{self, Outcome, Stop, Tally},
    replace::replace,
};

/// The file in Podman's directory: after what people write, which it holds on to.
const FILE: &str = "90-netd.conf";

/// What of Podman's a plugin of netd's stands in for.
const PROGRAMS: [&str; 2] = ["netavark", "aardvark-dns"];

/// The plugin that does; any would.
const PLUGIN: &str = "netd-bridge";

/// What is to be in a place.
enum Thing {
    Link(PathBuf),
    File(String),
}

/// `podman install`.
pub(crate) fn install(socket: &Path, args: &Install) -> Outcome {
    let places = &args.places;
    let plugins = absolute(&source(places.plugin_dir.as_deref())?)?;
    let file = places.conf_dir.join(FILE);
    let files = settings::read(&places.conf_dir, &file)?;
    let before = written(&file)?;
    // What is in netavark's place stays there until it is taken away.
    let drop_in = args.drop_in || before.is_some();
    let helpers = match (&places.helper_dir, &before) {
        (Some(given), _) => absolute(given)?,
        (None, Some(before)) => before.clone(),
        (None, None) => plugins.join("podman"),
    };
    let others = HELPERS.of(&files);
    let mut wanted = Vec::new();
    for name in PROGRAMS.into_iter().filter(|_| drop_in) {
        wanted.push((helpers.join(name), Thing::Link(plugins.join(PLUGIN))));
        match distribution::find(name, &others, &helpers) {
            Some(program) => {
                wanted.push((helpers.join(format!("{name}.distribution")), Thing::Link(program)));
            }
            None => out::complain(&format_args!(
                "no {name} is in {}: for containers of others than root there will be none",
                others.join(" or ")
            )),
        }
    }
    let text = settings::text(&files, &plugins, drop_in.then_some(helpers.as_path()));
    // Last, since by it Podman finds the others.
    wanted.push((file, Thing::File(whose::sealed(&text))));
    for (path, _) in &wanted {
        Whose::of(path, PLUGIN).check(path)?;
    }
    let mut is_new = false;
    for (path, thing) in &wanted {
        is_new |= put(path, thing, places.dry_run)?;
    }
    if let Some(before) = before.filter(|before| *before != helpers) {
        remove(&links(&before), &before, places.dry_run)?;
    } else if !is_new {
        let paths: Vec<_> = wanted.iter().map(|(path, _)| path.display().to_string()).collect();
        out::print(&format!("installed already: {}\n", paths.join(", ")))?;
    }
    if drop_in {
        // Now, since Podman may have started some meanwhile.
        if let Some(those) = running::on_netavark(socket, &files) {
            out::complain(&format_args!(
                "the distribution's netavark goes on with what it has, and takes it off when it ends \
                 ({those}): end them all before one of these networks is netd's"
            ));
        }
    } else if let Some(netavark) = distribution::find(PROGRAMS[0], &others, &helpers)
        && let Some(why) = distribution::takes_no_plugins(&netavark)
    {
        out::complain(&why);
    }
    Ok(process::ExitCode::SUCCESS)
}

/// `podman uninstall`. What is not there is no fault, and what is another's stays.
pub(crate) fn uninstall(socket: &Path, args: &Uninstall) -> Outcome {
    let places = &args.places;
    let file = places.conf_dir.join(FILE);
    let helpers = match (&places.helper_dir, written(&file)?) {
        (Some(given), _) => given.clone(),
        (None, Some(written)) => written,
        (None, None) => match source(places.plugin_dir.as_deref()) {
            Ok(plugins) => plugins.join("podman"),
            // Where there are no plugins there is nothing that leads to them.
            Err(Stop::Failed(error)) if error.kind == Kind::NotFound => PathBuf::new(),
            Err(stop) => return Err(stop),
        },
    };
    let whose = Whose::of(&file, PLUGIN);
    if whose == Whose::Changed && !args.force {
        whose.check(&file)?;
    }
    let is_there = matches!(whose, Whose::Ours | Whose::Changed);
    let running = if is_there { running::on_netd(socket) } else { Vec::new() };
    if !running.is_empty() && !args.force {
        let message = format!(
            "Podman's containers {} are on netd's networks: end them first, or say --force, and netd lets \
             go of each when it ends",
            running.join(", ")
        );
        return Err(Error::new(Kind::Busy, message).into());
    }
    // First, since by it Podman finds the others.
    let mut paths = vec![file];
    paths.extend(links(&helpers));
    let removed = remove(&paths, &helpers, places.dry_run)?;
    if !running.is_empty() {
        out::complain(&format_args!(
            "{} stay on netd's networks until they end, and Podman then complains of what the \
             distribution's netavark does not find; a network goes with the last of them",
            running.join(", ")
        ));
    }
    Ok(removed)
}

/// The directory of the stand-ins, as an earlier install has written it down.
fn written(file: &Path) -> Result<Option<PathBuf>, Stop> {
    if !matches!(Whose::of(file, PLUGIN), Whose::Ours | Whose::Changed) {
        return Ok(None);
    }
    let text = fs::read_to_string(file)
        .map_err(|error| out::system(format_args!("cannot read {}", file.display()), &error))?;
    let table = settings::parse(file, &text)?;
    let has_helpers = table.get("engine").is_some();
    Ok(HELPERS.of(&[table]).first().filter(|_| has_helpers).map(PathBuf::from))
}

/// Every link that an install may have left.
fn links(helpers: &Path) -> Vec<PathBuf> {
    let both = |name: &str| [name.to_owned(), format!("{name}.distribution")];
    PROGRAMS.into_iter().flat_map(both).map(|name| helpers.join(name)).collect()
}

/// Puts a thing where it is to be, unless it is there, and says so; whether it was not.
fn put(path: &Path, thing: &Thing, dry_run: bool) -> Result<bool, Stop> {
    let is_there = match thing {
        Thing::Link(target) => fs::read_link(path).is_ok_and(|there| there == *target),
        Thing::File(text) => fs::read_to_string(path).is_ok_and(|there| there == *text),
    };
    if is_there {
        return Ok(false);
    }
    if !dry_run {
        let directory = path.parent().unwrap_or(path);
        let made = fs::create_dir_all(directory).and_then(|()| match thing {
            Thing::Link(target) => link(target, path),
            Thing::File(text) => replace(path, text.as_bytes(), 0o644),
        });
        made.map_err(|e| out::system(format_args!("cannot write {}", path.display()), &e))?;
    }
    match thing {
        Thing::Link(to) => out::print(&format!("{} -> {}\n", path.display(), to.display()))?,
        Thing::File(_) => out::print(&format!("{}\n", path.display()))?,
    }
    Ok(true)
}

/// A link that leads to the one place or to the other, and never to none.
fn link(target: &Path, path: &Path) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let unfinished = path.with_file_name(format!(".{name}.{}.tmp", process::id()));
    symlink(target, &unfinished)?;
    fs::rename(&unfinished, path).inspect_err(|_| drop(fs::remove_file(&unfinished)))
}

/// Takes away what of these is ours, and the directory of the stand-ins if nothing else is there.
fn remove(paths: &[PathBuf], helpers: &Path, dry_run: bool) -> Outcome {
    let mut tally = Tally::default();
    for path in paths {
        match Whose::of(path, PLUGIN) {
            Whose::Nobodys => continue,
            Whose::Anothers => {
                out::print(&format!("{} is another's and stays\n", path.display()))?;
                continue;
            }
            Whose::Ours | Whose::Changed => {}
        }
        if !dry_run && let Err(error) = fs::remove_file(path) {
            tally.fault(&out::system(format_args!("cannot remove {}", path.display()), &error));
            continue;
        }
        out::print(&format!("{}\n", path.display()))?;
    }
    if !dry_run {
        // One that others have put something into stays.
        fs::remove_dir(helpers).ok();
    }
    Ok(tally.code())
}

/// A path that Podman can go by from anywhere.
fn absolute(path: &Path) -> Result<PathBuf, Stop> {
    let whole = std::path::absolute(path);
    Ok(whole.map_err(|e| out::system(format_args!("cannot find {}", path.display()), &e))?)
}
