//! netd's own configuration, as far as Docker goes: a block of lines at its beginning, between two that
//! say whose they are, since what follows a table's head belongs to the table. In the block it is noted,
//! too, what else an install has written, so that just that is taken back.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use toml::Table;

use super::daemon_json::Made;

const BEGIN: &str = "# netctl docker install";
const END: &str = "# netctl docker install: to here";

/// The note that there was no file before.
const NEW: &str = "# a new file";

/// What other notes begin with, and what is between what was written and where.
const DNS: &str = "# dns ";
const SPEC: &str = "# spec ";
const IN: &str = " in ";
/// The same, with what had to be made for a server.
const IN_WHAT: [(Made, &str); 3] = [
    (Made::File, " in a new "),
    (Made::List, " in a new list of "),
    (Made::Place, " in the list of "),
];

/// The bridge of netd's default network.
pub(super) const LINK: (&str, &str) = ("default_link", "netd0");
/// The address at which netd's resolver answers the containers of all networks.
pub(super) const RESOLVER: (&str, &str) = ("dns_link_local", "169.254.76.53");
/// Where dockerd may call netd, and where `docker network` may speak to it.
pub(super) const PLUGIN: (&str, &str) = ("docker_plugin", "/run/docker/plugins/netd.sock");
pub(super) const API: (&str, &str) = ("docker_api", "/run/netd/docker.sock");

/// The settings that are there.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Where dockerd may call netd.
    pub(super) plugin: Option<String>,
    /// Where `docker network` may speak to it.
    pub(super) api: Option<String>,
    /// Where its resolver answers everybody.
    pub(super) resolver: Option<Ipv4Addr>,
    /// The bridge of its default network.
    pub(super) link: Option<String>,
}

impl Settings {
    /// Those of a text.
    ///
    /// # Errors
    /// Why netd would not start with it.
    pub(super) fn of(text: &str) -> Result<Self, String> {
        let table: Table = text.parse().map_err(|error| format!("it is no TOML: {error}"))?;
        let text = |(setting, usual): (&str, &str)| match table.get(setting) {
            None => Ok(None),
            Some(toml::Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(other) => {
                Err(format!("{setting} is {other}: it should be a text such as {usual:?}"))
            }
        };
        let resolver = match text(RESOLVER)? {
            None => None,
            Some(given) => match given.parse::<Ipv4Addr>() {
                Ok(address) if address.is_link_local() => Some(address),
                _ => {
                    let (setting, usual) = RESOLVER;
                    return Err(format!(
                        "{setting} is {given:?}: it should be an address of 169.254.0.0/16, such as \
                         {usual}"
                    ));
                }
            },
        };
        Ok(Self { plugin: text(PLUGIN)?, api: text(API)?, resolver, link: text(LINK)? })
    }

    /// Those of `wanted` that are not there.
    pub(super) fn missing<'a>(&self, wanted: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
        let is_there = |setting: &str| match setting {
            "docker_plugin" => self.plugin.is_some(),
            "docker_api" => self.api.is_some(),
            _ => self.resolver.is_some(),
        };
        wanted.iter().filter(|(setting, _)| !is_there(setting)).copied().collect()
    }
}

/// What an install has written, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Whether there was no such file as this one before.
    pub(super) is_new: bool,
    /// A server, what was made for it, and the file of dockerd's that has it among its `dns`.
    pub(super) dns: Option<(IpAddr, Made, PathBuf)>,
    /// What tells dockerd where netd is, and the file that does.
    pub(super) spec: Option<(String, PathBuf)>,
}

impl Notes {
    /// Those in a text; what somebody has written there is none of them.
    pub(super) fn of(text: &str) -> Self {
        let mut notes = Self::default();
        for line in text.lines().map(str::trim_end).filter(ours()) {
            if let Some(note) = line.strip_prefix(DNS) {
                notes.dns = IN_WHAT.iter().rev().find_map(|(made, at)| {
                    let (server, file) = note.split_once(at)?;
                    Some((server.parse().ok()?, *made, file.into()))
                });
            } else if let Some(note) = line.strip_prefix(SPEC) {
                let note = note.split_once(IN);
                notes.spec = note.map(|(content, file)| (content.to_owned(), file.into()));
            } else if line == NEW {
                notes.is_new = true;
            }
        }
        notes
    }

    fn lines(&self) -> String {
        let mut lines = if self.is_new { format!("{NEW}\n") } else { String::new() };
        if let Some((server, made, file)) = &self.dns {
            let at = IN_WHAT.iter().find(|(what, _)| what == made).map_or(IN, |(_, at)| at);
            lines += &format!("{DNS}{server}{at}{}\n", file.display());
        }
        if let Some((content, file)) = &self.spec {
            lines += &format!("{SPEC}{content}{IN}{}\n", file.display());
        }
        lines
    }
}

/// The text with settings and notes at its beginning; as it is when there are none.
pub(super) fn with(text: &str, settings: &[(&str, &str)], notes: &Notes) -> String {
    let settings = settings.iter().map(|(name, value)| format!("{name} = {value:?}\n"));
    let lines = settings.collect::<String>() + &notes.lines();
    if lines.is_empty() { text.to_owned() } else { format!("{BEGIN}\n{lines}{END}\n{text}") }
}

/// The text without what [`with`] put there.
pub(super) fn without(text: &str) -> String {
    let mut is_ours = ours();
    text.split_inclusive('\n').filter(|line| !is_ours(&line.trim_end())).collect()
}

/// Whether a line, of all one after the other, is in the block or at an end of it.
fn ours() -> impl FnMut(&&str) -> bool {
    let mut inside = false;
    move |line| {
        let own = inside || *line == BEGIN;
        inside = own && *line != END;
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes() -> Notes {
        Notes {
            is_new: true,
            dns: Some((
                "169.254.76.53".parse().expect("an address"),
                Made::File,
                "/etc/a in b.json".into(),
            )),
            spec: Some(("unix:///run/p.sock".into(), "/etc/netd.spec".into())),
        }
    }

    #[test]
    fn what_is_missing_is_put_first_and_goes_without_a_trace() {
        let there = "log_level = \"debug\"\n[firewall]\ndocker_api = 1\n";
        let missing = Settings::of(there).expect("settings").missing(&[PLUGIN, API]);
        let put = with(there, &missing, &notes());
        assert_eq!(
            put,
            format!(
                "{BEGIN}\ndocker_plugin = \"/run/docker/plugins/netd.sock\"\n\
                 docker_api = \"/run/netd/docker.sock\"\n# a new file\n\
                 # dns 169.254.76.53 in a new /etc/a in b.json\n\
                 # spec unix:///run/p.sock in /etc/netd.spec\n{END}\n{there}"
            )
        );
        assert_eq!(Settings::of(&put).expect("settings").missing(&[PLUGIN, API]), []);
        assert_eq!(Notes::of(&put), notes());
        assert_eq!(without(&put), there);
        assert_eq!(without(there), there);
        assert_eq!(with(there, &[], &Notes::default()), there);
        assert_eq!(without(&with("", &[API], &Notes::default())), "");
    }

    #[test]
    fn what_somebody_wrote_is_no_note() {
        assert_eq!(Notes::of("# dns 192.0.2.1 in /etc/docker/daemon.json\n"), Notes::default());
        for what in [Made::List, Made::Place] {
            let (server, _, file) = notes().dns.expect("one");
            let old = Notes { is_new: false, dns: Some((server, what, file)), spec: None };
            assert_eq!(Notes::of(&with("a = 1\n", &[], &old)), old);
        }
    }

    #[test]
    fn what_is_there_stays_as_it_is() {
        let there = "docker_plugin='/run/netd/plugin.sock' # elsewhere\n";
        let settings = Settings::of(there).expect("settings");
        assert_eq!(settings.plugin.as_deref(), Some("/run/netd/plugin.sock"));
        assert_eq!(settings.missing(&[PLUGIN, API]), [API]);
    }

    #[test]
    fn what_netd_would_not_take_is_named() {
        for (bad, said) in [
            ("log_level = \n", "no TOML"),
            ("docker_api = 7\n", "docker_api is 7"),
            ("docker_plugin = \"\"\n", "docker_plugin is \"\""),
            ("dns_link_local = \"192.0.2.1\"\n", "dns_link_local is \"192.0.2.1\""),
            ("dns_link_local = \"here\"\n", "169.254.0.0/16"),
        ] {
            let error = Settings::of(bad).expect_err(bad);
            assert!(error.contains(said), "{error}");
        }
    }
}
