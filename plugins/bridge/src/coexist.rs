//! Getting along with the firewalls of others. An accept of ours undoes no other table's drop, so
//! where a chain of another's drops what none of its rules speaks of, one rule goes into it that
//! lets through what our own rules let through: they have marked it. The rule is written as the
//! chain's own program writes it, and bears our name. firewalld drops without saying so in a policy;
//! it is asked to trust our bridges.

use std::{
    fmt, fs, io,
    process::{Command, Stdio},
};

use cnm::Result;
use kernel::{
    firewall::{OVERLAY_TABLE, PASSED, TABLE},
    nft::{
        Nft,
        chains::{Chain, Hook},
    },
};

/// What every rule of ours in another's chain says, as its comment begins.
pub(crate) const COMMENT: &str = "netd: what its own rules let through";

/// What becomes of chains of others that would drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Coexist {
    /// They get a rule.
    #[default]
    Insert,
    /// They are reported, with the rule.
    Report,
}

/// Who writes a chain.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Writer {
    /// iptables, over nf_tables.
    Iptables,
    /// iptables, as it was before nf_tables.
    Legacy,
    /// Somebody with `nft`.
    Nft,
    /// firewalld, of a bridge.
    Firewalld(String),
}

/// A chain that needs a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    writer: Writer,
    family: &'static str,
    table: String,
    chain: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.writer {
            Writer::Firewalld(bridge) => write!(f, "firewalld does not trust {bridge}"),
            _ => write!(f, "the chain {} {} {} drops", self.family, self.table, self.chain),
        }
    }
}

impl Place {
    /// The command that writes the rule.
    fn insertion(&self) -> Vec<String> {
        let program = match (&self.writer, self.family) {
            (Writer::Iptables, "ip6") => "ip6tables-nft",
            (Writer::Iptables, _) => "iptables-nft",
            (Writer::Legacy, "ip6") => "ip6tables-legacy",
            (Writer::Legacy, _) => "iptables-legacy",
            (Writer::Nft, _) => "nft",
            (Writer::Firewalld(_), _) => "dbus-send",
        };
        let mark = format!("{PASSED:#x}");
        let both = format!("{mark}/{mark}");
        let comment = format!("\"{COMMENT}\"");
        let zone;
        let words: Vec<&str> = match &self.writer {
            Writer::Iptables | Writer::Legacy => vec![
                "-w",
                "-I",
                &self.chain,
                "1",
                "-m",
                "mark",
                "--mark",
                &both,
                "-m",
                "comment",
                "--comment",
                COMMENT,
                "-j",
                "ACCEPT",
            ],
            Writer::Nft => vec![
                "insert",
                "rule",
                self.family,
                &self.table,
                &self.chain,
                "meta",
                "mark",
                "&",
                &mark,
                "==",
                &mark,
                "accept",
                "comment",
                &comment,
            ],
            Writer::Firewalld(bridge) => {
                zone = format!("string:{bridge}");
                vec![
                    "--system",
                    "--print-reply",
                    "--dest=org.fedoraproject.FirewallD1",
                    "/org/fedoraproject/FirewallD1",
                    "org.fedoraproject.FirewallD1.zone.changeZoneOfInterface",
                    "string:trusted",
                    &zone,
                ]
            }
        };
        [program].into_iter().chain(words).map(str::to_owned).collect()
    }

    fn insert(&self) -> io::Result<()> {
        let words = self.insertion();
        run(&words).map(drop)
    }
}

/// Runs a program to its end; what it printed.
fn run(words: &[String]) -> io::Result<String> {
    let (program, words) = words.split_first().expect("a command has a program");
    let output = Command::new(program).args(words).stdin(Stdio::null()).output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).lines().collect::<Vec<_>>().join(" ");
    Err(io::Error::other(text))
}

impl Coexist {
    /// What the administrator said.
    pub(crate) fn parse(said: Option<&str>) -> Result<Self> {
        match said {
            None | Some("insert") => Ok(Self::Insert),
            Some("report") => Ok(Self::Report),
            Some(other) => Err(cnm::Error::invalid(format_args!(
                "invalid coexist {other:?}: it should be insert or report"
            ))),
        }
    }

    /// Writes the rules that are missing, or says which are. What is not as it should be.
    pub(crate) fn settle(self, nft: &mut Nft, bridges: &[String]) -> Vec<String> {
        if bridges.is_empty() {
            return Vec::new();
        }
        let places = match missing(nft, bridges) {
            Ok(places) => places,
            Err(error) => return vec![format!("cannot look at the rules of others: {error}")],
        };
        places.iter().filter_map(|place| self.write(place)).collect()
    }

    fn write(self, place: &Place) -> Option<String> {
        let command = || place.insertion().join(" ");
        if self == Self::Report {
            return Some(format!("{place} what netd lets through: add `{}`", command()));
        }
        let error = place.insert().err()?;
        Some(format!("{place} what netd lets through, and `{}` failed: {error}", command()))
    }
}

/// The chains that would drop and have no rule of ours.
pub(crate) fn missing(nft: &mut Nft, bridges: &[String]) -> kernel::Result<Vec<Place>> {
    let chains = nft.chains()?;
    let mut places = Vec::new();
    for (family, chain) in dropping(&chains) {
        let (writer, target) = written_by(family, chain, &chains);
        if nft.rules_with(family, &chain.table, Some(&target), COMMENT.as_bytes())?.is_empty() {
            places.push(Place { writer, family, table: chain.table.clone(), chain: target });
        }
    }
    if chains.iter().any(|chain| chain.table == FIREWALLD) {
        for bridge in bridges {
            if nft.rules_with("inet", FIREWALLD, None, bridge.as_bytes())?.is_empty() {
                let (writer, chain) = (Writer::Firewalld(bridge.clone()), "trusted".to_owned());
                places.push(Place { writer, family: "inet", table: FIREWALLD.to_owned(), chain });
            }
        }
    }
    places.extend(missing_of_legacy());
    Ok(places)
}

/// The table of firewalld.
const FIREWALLD: &str = "firewalld";

/// Base chains of others that drop what none of their rules speaks of.
fn dropping(chains: &[Chain]) -> impl Iterator<Item = (&'static str, &Chain)> {
    let others = |chain: &&Chain| ![TABLE, OVERLAY_TABLE].contains(&chain.table.as_str());
    let asked = |chain: &&Chain| matches!(chain.hook, Some(Hook::Forward | Hook::Input));
    let drops = chains.iter().filter(|chain| chain.drops).filter(others).filter(asked);
    drops.filter_map(|chain| Some((chain.family?, chain)))
}

/// Who writes a chain, and where a rule for it belongs: Docker asks one for the user's rules first.
fn written_by(family: &'static str, chain: &Chain, chains: &[Chain]) -> (Writer, String) {
    let of_iptables = matches!(family, "ip" | "ip6")
        && chain.table == "filter"
        && matches!(chain.name.as_str(), "FORWARD" | "INPUT");
    if !of_iptables {
        return (Writer::Nft, chain.name.clone());
    }
    let of_users = chains.iter().any(|user| {
        user.family == Some(family) && user.table == chain.table && user.name == DOCKER_USER
    });
    let target =
        if of_users && chain.hook == Some(Hook::Forward) { DOCKER_USER } else { &chain.name };
    (Writer::Iptables, target.to_owned())
}

/// The chain that Docker asks before its own.
const DOCKER_USER: &str = "DOCKER-USER";

/// Whether there are chains that nf_tables knows nothing of, and tells nobody of.
pub(crate) fn is_legacy_there() -> bool {
    LEGACY.iter().any(|(_, names, _)| has_filter(names))
}

/// The families of iptables as it was before nf_tables: where the kernel lists their tables, and
/// their program.
const LEGACY: [(&str, &str, &str); 2] = [
    ("ip", "/proc/net/ip_tables_names", "iptables-legacy"),
    ("ip6", "/proc/net/ip6_tables_names", "ip6tables-legacy"),
];

fn has_filter(names: &str) -> bool {
    fs::read_to_string(names).is_ok_and(|names| names.lines().any(|name| name == "filter"))
}

/// As [`missing`], of tables that nf_tables knows nothing of. They are asked for only where there
/// are any.
fn missing_of_legacy() -> Vec<Place> {
    let mut places = Vec::new();
    for (family, names, program) in LEGACY {
        if !has_filter(names) {
            continue;
        }
        let list = [program, "-w", "-S"].map(str::to_owned);
        let Ok(rules) = run(&list) else { continue };
        let has = |line: &str| rules.lines().any(|rule| rule == line);
        for chain in ["FORWARD", "INPUT"] {
            if !has(&format!("-P {chain} DROP")) {
                continue;
            }
            let users = chain == "FORWARD" && has(&format!("-N {DOCKER_USER}"));
            let target = if users { DOCKER_USER } else { chain };
            let begin = format!("-A {target} ");
            if rules.lines().any(|rule| rule.starts_with(&begin) && rule.contains(COMMENT)) {
                continue;
            }
            places.push(Place {
                writer: Writer::Legacy,
                family,
                table: "filter".to_owned(),
                chain: target.to_owned(),
            });
        }
    }
    places
}

/// Rules of ours in the chains of others, one line each; they are deleted unless they are only to be
/// shown.
pub(crate) fn left(nft: &mut Nft, check: bool) -> kernel::Result<Vec<String>> {
    let mut found = Vec::new();
    for chain in nft.chains()? {
        let Some(family) = chain.family else { continue };
        if [TABLE, OVERLAY_TABLE].contains(&chain.table.as_str()) {
            continue;
        }
        let rules = nft.rules_with(family, &chain.table, Some(&chain.name), COMMENT.as_bytes())?;
        if rules.is_empty() {
            continue;
        }
        found.push(format!("a rule in the chain {family} {} {}", chain.table, chain.name));
        if !check {
            nft.delete_rules(family, &chain.table, &chain.name, &rules)?;
        }
    }
    for (family, names, program) in LEGACY {
        if !has_filter(names) {
            continue;
        }
        let list = [program, "-w", "-S"].map(str::to_owned);
        let Ok(rules) = run(&list) else { continue };
        for rule in rules.lines().filter(|rule| rule.contains(COMMENT)) {
            let Some(chain) = rule.split_whitespace().nth(1) else { continue };
            found.push(format!("a rule in the chain {chain} of {program}"));
            if !check {
                let place = Place {
                    writer: Writer::Legacy,
                    family,
                    table: "filter".to_owned(),
                    chain: chain.to_owned(),
                };
                if let Err(error) = run(&place.deletion()) {
                    eprintln!("cannot delete the rule from {chain} of {program}: {error}");
                }
            }
        }
    }
    Ok(found)
}

impl Place {
    /// The command that takes the rule back, of iptables as it was.
    fn deletion(&self) -> Vec<String> {
        let mut words = self.insertion();
        words[2] = "-D".to_owned();
        words.remove(4);
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(family: &'static str, table: &str, name: &str, hook: Option<Hook>) -> Chain {
        let drops = hook.is_some();
        Chain { family: Some(family), table: table.into(), name: name.into(), hook, drops }
    }

    fn written(family: &'static str, chains: &[Chain]) -> (Writer, String) {
        let (_, first) = dropping(chains).next().unwrap();
        written_by(family, first, chains)
    }

    #[test]
    fn a_rule_goes_where_the_chains_writer_looks_for_the_users() {
        let forward = chain("ip", "filter", "FORWARD", Some(Hook::Forward));
        let users = chain("ip", "filter", "DOCKER-USER", None);
        let of_six = chain("ip6", "filter", "DOCKER-USER", None);
        let said = |chains: &[Chain]| written("ip", chains);
        assert_eq!(said(&[forward.clone(), of_six]), (Writer::Iptables, "FORWARD".into()));
        assert_eq!(said(&[forward, users.clone()]), (Writer::Iptables, "DOCKER-USER".into()));
        let input = chain("ip", "filter", "INPUT", Some(Hook::Input));
        assert_eq!(said(&[input, users]), (Writer::Iptables, "INPUT".into()));
        let own = chain("inet", "mine", "forward", Some(Hook::Forward));
        assert_eq!(written("inet", &[own]), (Writer::Nft, "forward".into()));
    }

    #[test]
    fn our_own_chains_and_those_of_other_places_are_passed_over() {
        let chains = [
            chain("inet", "netd", "forward", Some(Hook::Forward)),
            chain("ip", "filter", "OUTPUT", Some(Hook::Other)),
            Chain { drops: false, ..chain("ip", "filter", "FORWARD", Some(Hook::Forward)) },
        ];
        assert_eq!(dropping(&chains).count(), 0);
    }

    #[test]
    fn a_rule_is_taken_back_as_it_was_written() {
        let (writer, table, chain) = (Writer::Legacy, "filter".into(), "FORWARD".into());
        let place = Place { writer, family: "ip6", table, chain };
        let (insert, delete) = (place.insertion().join(" "), place.deletion().join(" "));
        assert!(insert.starts_with("ip6tables-legacy -w -I FORWARD 1 -m mark --mark 0x40000000/"));
        assert_eq!(insert.replace("-I FORWARD 1 ", ""), delete.replace("-D FORWARD ", ""));
    }
}
