//! Telling netd and dockerd of each other, and taking that back.

use std::{
    fs, io,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use cnm::{Error, Kind};

use super::{daemon_json, netd_toml};
use crate::{
    args::docker::Install,
    out::{self, Outcome, Stop, Tally},
    replace::replace,
};

/// Where dockerd may call netd, and where `docker network` may speak to it.
const PLUGIN: (&str, &str) = ("docker_plugin", "/run/docker/plugins/netd.sock");
const API: (&str, &str) = ("docker_api", "/run/netd/docker.sock");

/// The address at which netd's resolver answers the containers of all networks.
const RESOLVER: (&str, &str) = ("dns_link_local", "169.254.76.53");

/// Where dockerd finds a plugin `netd` by itself (moby, pkg/plugins/discovery.go).
const FOUND: [&str; 2] = [PLUGIN.1, "/run/docker/plugins/netd/netd.sock"];

/// `docker install`.
pub(crate) fn install(args: &Install) -> Outcome {
    let mut tally = Tally::default();
    let file = Place::of(&args.netd_config);
    let there = file.read()?.unwrap_or_default();
    let mut wanted = vec![PLUGIN, API];
    // Another address is answered by whoever named it.
    wanted.extend(args.dns.is_none().then_some(RESOLVER));
    let text = netd_toml::with(&there, &wanted);
    if let Some(text) = &text {
        let new = wanted.iter().filter(|(name, _)| netd_toml::text_of(&there, name).is_none());
        let new: Vec<_> = new.map(|(name, value)| format!("{name} = {value:?}")).collect();
        file.write(args, text, &new.join(", "), &mut tally)?;
    }
    let config = text.unwrap_or(there);
    if let Some(content) = spec(&config) {
        let file = Place::of(&spec_file(args));
        match file.read()? {
            None => file.write(args, &content, content.trim_end(), &mut tally)?,
            Some(there) if there == content => {}
            Some(_) => {
                let message = format!("{} is another's and stays", file.path.display());
                tally.fault(&Error::new(Kind::Exists, message));
            }
        }
    }
    let server = server(args, &config)?;
    let file = Place::of(&args.daemon_json);
    match daemon_json::with(file.read()?.as_deref(), server) {
        Ok(Some(text)) => file.write(args, &text, &format!("dns {server}"), &mut tally)?,
        Ok(None) => {}
        Err(why) => tally.fault(&file.refuse(&why)),
    }
    Ok(tally.code())
}

/// `docker uninstall`. What is not there is no fault.
pub(crate) fn uninstall(args: &Install) -> Outcome {
    let mut tally = Tally::default();
    let config = Place::of(&args.netd_config);
    let there = config.read()?.unwrap_or_default();
    let server = server(args, &there)?;
    let file = Place::of(&args.daemon_json);
    let what = format!("dns {server}");
    match daemon_json::without(&file.read()?.unwrap_or_default(), server) {
        Ok(Some(daemon_json::Left::Text(text))) => file.write(args, &text, &what, &mut tally)?,
        Ok(Some(daemon_json::Left::Nothing)) => file.remove(args, &what, &mut tally)?,
        Ok(None) => {}
        Err(why) => tally.fault(&file.refuse(&why)),
    }
    if let Some(content) = spec(&there) {
        let file = Place::of(&spec_file(args));
        if file.read()?.is_some_and(|there| there == content) {
            file.remove(args, content.trim_end(), &mut tally)?;
        }
    }
    match netd_toml::without(&there) {
        Some(text) if text.is_empty() => config.remove(args, "all of it", &mut tally)?,
        Some(text) => config.write(args, &text, "what install wrote", &mut tally)?,
        None => {}
    }
    Ok(tally.code())
}

/// What dockerd is to be told where netd listens, unless it looks there by itself.
fn spec(config: &str) -> Option<String> {
    let plugin = netd_toml::text_of(config, PLUGIN.0).unwrap_or(PLUGIN.1);
    (!FOUND.contains(&plugin)).then(|| format!("unix://{plugin}\n"))
}

fn spec_file(args: &Install) -> PathBuf {
    args.spec_dir.join("netd.spec")
}

/// The resolver that dockerd is told of.
fn server(args: &Install, config: &str) -> Result<IpAddr, Stop> {
    if let Some(server) = args.dns {
        return Ok(server);
    }
    let text = netd_toml::text_of(config, RESOLVER.0).unwrap_or(RESOLVER.1);
    text.parse().map_err(|error| {
        let message = format!("{} {text:?} in netd's configuration: {error}", RESOLVER.0);
        Error::invalid(message).into()
    })
}

/// A file that is somebody's.
struct Place {
    path: PathBuf,
}

impl Place {
    /// Where a file really is: what leads there stays.
    fn of(path: &Path) -> Self {
        Self { path: fs::canonicalize(path).unwrap_or_else(|_| path.to_owned()) }
    }

    fn read(&self) -> Result<Option<String>, Stop> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.system("read", &error).into()),
        }
    }

    /// Says what is written, and writes it unless that is all that is wanted.
    fn write(&self, args: &Install, text: &str, what: &str, tally: &mut Tally) -> Result<(), Stop> {
        let mode = fs::metadata(&self.path).map_or(0o644, |there| there.permissions().mode());
        self.change(args, what, tally, || {
            self.path.parent().map_or(Ok(()), fs::create_dir_all)?;
            replace(&self.path, text.as_bytes(), mode & 0o7777)
        })
    }

    fn remove(&self, args: &Install, what: &str, tally: &mut Tally) -> Result<(), Stop> {
        self.change(args, what, tally, || fs::remove_file(&self.path))
    }

    fn change(
        &self,
        args: &Install,
        what: &str,
        tally: &mut Tally,
        change: impl FnOnce() -> io::Result<()>,
    ) -> Result<(), Stop> {
        if !args.dry_run
            && let Err(error) = change()
        {
            tally.fault(&self.system("write", &error));
            return Ok(());
        }
        out::print(&format!("{}: {what}\n", self.path.display()))
    }

    fn system(&self, verb: &str, error: &io::Error) -> Error {
        out::system(format_args!("cannot {verb} {}", self.path.display()), error)
    }

    fn refuse(&self, why: &str) -> Error {
        let message = format!("{} stays as it is: {why}", self.path.display());
        Error::invalid(message).with("file", self.path.display().to_string())
    }
}
