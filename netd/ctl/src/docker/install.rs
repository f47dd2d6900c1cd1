//! Telling netd and dockerd of each other, and taking that back. Everything is looked at before anything
//! is written; an earlier install is taken back first, so that a later one is in its place.

use std::{net::IpAddr, path::Path};

use cnm::{Error, Kind};

use super::{
    daemon_json,
    netd_toml::{self, API, LINK, Notes, PLUGIN, RESOLVER, Settings},
    place::Place,
};
use crate::{
    args::docker::Install,
    out::{Outcome, Stop, Tally},
};

/// Where dockerd finds a plugin `netd` by itself (moby, pkg/plugins/discovery.go).
const FOUND: [&str; 2] = [PLUGIN.1, "/run/docker/plugins/netd/netd.sock"];

/// The bridge that dockerd takes for its own unless it is told another.
const DOCKERS: &str = "docker0";

/// A file, what it is to be, and what is said of that.
struct Change {
    place: Place,
    wanted: Option<String>,
    what: String,
}

/// An install under way: what it was asked, what is there, and what comes of it.
struct Plan<'a> {
    args: &'a Install,
    /// What netd is to be told, and is told already.
    settings: Settings,
    /// What an earlier install has written.
    before: Notes,
    /// What this one writes.
    notes: Notes,
    changes: Vec<Change>,
    tally: Tally,
}

/// `docker install`.
pub(crate) fn install(args: &Install) -> Outcome {
    let mut tally = Tally::default();
    let config = Place::read(&args.netd_config)?;
    let there = config.there.as_deref().unwrap_or_default();
    let own = netd_toml::without(there);
    // Others' and ours together are what netd would read.
    let checked = Settings::of(there).and_then(|_| Settings::of(&own));
    let settings = match checked.and_then(check_link) {
        Ok(settings) => settings,
        Err(why) => {
            tally.fault(&config.refuse(&why));
            return Ok(tally.code());
        }
    };
    let mut wanted = vec![PLUGIN, API];
    // Another address is answered by whoever named it.
    wanted.extend(args.dns.is_none().then_some(RESOLVER));
    let missing = settings.missing(&wanted);

    let before = Notes::of(there);
    let (notes, changes) = (Notes::default(), Vec::new());
    let mut plan = Plan { args, settings, before, notes, changes, tally };
    plan.spec()?;
    plan.daemon()?;
    let Plan { before, mut notes, mut changes, tally, .. } = plan;
    if !tally.is_well() {
        return Ok(tally.code());
    }
    let is_bare = missing.is_empty() && notes == Notes::default();
    notes.is_new = !is_bare && (config.there.is_none() || before.is_new);
    let text = netd_toml::with(&own, &missing, &notes);
    let said: Vec<_> = missing.iter().map(|(name, value)| format!("{name} = {value:?}")).collect();
    let what = if said.is_empty() { "what else is written".to_owned() } else { said.join(", ") };
    // First, since by it an uninstall finds the others.
    let wanted = Some(text).filter(|_| config.there.is_some() || !is_bare);
    changes.insert(0, Change { place: config, wanted, what });
    carry_out(&changes, args.dry_run)?;
    Ok(tally.code())
}

/// `docker uninstall`. What is not there is no fault, and what was there before stays.
pub(crate) fn uninstall(args: &Install) -> Outcome {
    let mut tally = Tally::default();
    let config = Place::read(&args.netd_config)?;
    let there = config.there.as_deref().unwrap_or_default();
    let notes = Notes::of(there);
    let mut changes = Vec::new();
    if let Some((server, made, path)) = &notes.dns {
        let place = Place::read(path)?;
        let text = place.there.as_deref().unwrap_or_default();
        match daemon_json::without(text, *server, *made) {
            Ok(wanted) => {
                let wanted = wanted.filter(|_| place.there.is_some());
                changes.push(Change { place, wanted, what: format!("without dns {server}") });
            }
            Err(why) => tally.fault(&place.refuse(&why)),
        }
    }
    if let Some((content, path)) = &notes.spec {
        let place = Place::read(path)?;
        let wanted = place.there.clone().filter(|there| there.trim_end() != content);
        changes.push(Change { place, wanted, what: format!("without {content}") });
    }
    if !tally.is_well() {
        return Ok(tally.code());
    }
    let text = netd_toml::without(there);
    let (wanted, what) = match text.is_empty() && notes.is_new {
        true => (None, "all of it"),
        false => (config.there.as_ref().map(|_| text), "without what install wrote"),
    };
    // Last, since by it the others are found.
    changes.push(Change { place: config, wanted, what: what.to_owned() });
    carry_out(&changes, args.dry_run)?;
    Ok(tally.code())
}

fn carry_out(changes: &[Change], dry_run: bool) -> Result<(), Stop> {
    changes
        .iter()
        .try_for_each(|Change { place, wanted, what }| place.make(wanted.as_deref(), what, dry_run))
}

/// Refuses a netd whose bridge dockerd would take for its own.
fn check_link(settings: Settings) -> Result<Settings, String> {
    match settings.link.as_deref() {
        Some(DOCKERS) => Err(format!(
            "{} is {DOCKERS}, which dockerd takes for its own bridge, and then gives netd's addresses \
             out a second time: say {:?}, and start netd again before dockerd",
            LINK.0, LINK.1
        )),
        _ => Ok(settings),
    }
}

impl Plan<'_> {
    /// What tells dockerd where netd listens, unless it looks there by itself.
    fn spec(&mut self) -> Result<(), Stop> {
        let plugin = self.settings.plugin.as_deref().unwrap_or(PLUGIN.1);
        let wanted = (!FOUND.contains(&plugin)).then(|| format!("unix://{plugin}"));
        let place = Place::read(&self.args.spec_dir.join("netd.spec"))?;
        let mut is_replaced = false;
        if let Some((content, path)) = &self.before.spec {
            let earlier = Place::read(path)?;
            is_replaced = earlier.path == place.path;
            let is_own = earlier.there.as_deref().is_some_and(|there| there.trim_end() == content);
            if is_own && !(is_replaced && wanted.is_some()) {
                let what = format!("without {content}");
                self.changes.push(Change { place: earlier, wanted: None, what });
            }
        }
        let Some(content) = wanted else { return Ok(()) };
        let is_ours = |there: &str| {
            is_replaced && self.before.spec.as_ref().is_some_and(|(own, _)| own == there.trim_end())
        };
        match place.there.as_deref() {
            Some(there) if !is_ours(there) => {
                if there.trim_end() != content {
                    let message = format!("{} is another's and stays", place.path.display());
                    self.tally.fault(&Error::new(Kind::Exists, message));
                }
            }
            _ => {
                self.notes.spec = Some((content.clone(), place.path.clone()));
                let wanted = Some(format!("{content}\n"));
                self.changes.push(Change { place, wanted, what: content });
            }
        }
        Ok(())
    }

    /// What has Docker's own resolver ask netd's.
    fn daemon(&mut self) -> Result<(), Stop> {
        let place = Place::read(&self.args.daemon_json)?;
        let server = self.args.dns.unwrap_or_else(|| {
            let own = self.settings.resolver.map(IpAddr::from);
            own.unwrap_or_else(|| RESOLVER.1.parse().expect("an address"))
        });
        match self.changed(&place, server) {
            Ok((wanted, what)) => {
                self.elsewhere(&place.path)?;
                self.changes.push(Change { place, wanted, what });
            }
            Err(why) => self.tally.fault(&place.refuse(&why)),
        }
        Ok(())
    }

    /// The file with a server in place of the one that an earlier install put there.
    fn changed(
        &mut self,
        place: &Place,
        server: IpAddr,
    ) -> Result<(Option<String>, String), String> {
        let link = self.settings.link.as_deref().unwrap_or(LINK.1);
        let told = daemon_json::bridge(place.there.as_deref().unwrap_or_default())?;
        if told.as_deref() == Some(link) {
            return Err(format!(
                "\"bridge\" is {link}, which is netd's own, and dockerd would give its addresses out a \
                 second time: name another"
            ));
        }
        let earlier = self.before.dns.as_ref().filter(|(_, _, path)| *path == place.path);
        let own = match (earlier, &place.there) {
            (Some((server, made, _)), Some(text)) => daemon_json::without(text, *server, *made)?,
            (_, there) => there.clone(),
        };
        let instead = match earlier {
            Some((earlier, ..)) if *earlier != server => format!(" in place of {earlier}"),
            _ => String::new(),
        };
        match daemon_json::with(own.as_deref(), server)? {
            Some((text, made)) => {
                self.notes.dns = Some((server, made, place.path.clone()));
                Ok((Some(text), format!("dns {server}{instead}")))
            }
            None => Ok((own, format!("dns {server}, which was there{instead}"))),
        }
    }

    /// What an earlier install put into another file than this one goes.
    fn elsewhere(&mut self, path: &Path) -> Result<(), Stop> {
        let Some((server, made, other)) =
            self.before.dns.as_ref().filter(|(.., other)| other != path)
        else {
            return Ok(());
        };
        let place = Place::read(other)?;
        let Some(text) = &place.there else { return Ok(()) };
        match daemon_json::without(text, *server, *made) {
            Ok(wanted) => {
                self.changes.push(Change { place, wanted, what: format!("without dns {server}") });
            }
            Err(why) => self.tally.fault(&place.refuse(&why)),
        }
        Ok(())
    }
}
