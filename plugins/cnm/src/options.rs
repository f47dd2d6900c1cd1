//! What people may ask of a driver by name and value: a table of each driver's says which options
//! there are. netd refuses by it what nobody would act on, and people read it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// A row of a driver's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// What it is called: first its own name, then those that it has elsewhere, such as Docker's.
    pub names: &'static [&'static str],
    /// What it does, in half a sentence.
    pub about: &'static str,
}

/// The MTU of a network's links. netd reads it itself.
pub const MTU: Setting = Setting {
    names: &["mtu", "com.docker.network.driver.mtu"],
    about: "the MTU of its links; the uplink's if not given",
};

/// The name of a network's link on the host, where it has one. netd reads it itself.
pub const LINK: Setting = Setting {
    names: &["link", "com.docker.network.bridge.name"],
    about: "the name of its link on the host",
};

/// Who gives out a network's addresses. netd reads it itself.
pub const IPAM: Setting = Setting {
    names: &["ipam"],
    about: "none: addresses come from outside, netd gives out no others",
};

/// Whether an endpoint's interface may outlast its detach by a moment, which makes that faster.
pub const LINGER: Setting = Setting {
    names: &["linger"],
    about: "false: the interface has to go at once when it is detached",
};

/// Where an endpoint's interface is made. netd reads it itself.
pub const DELIVER: Setting = Setting {
    names: &["deliver"],
    about: "host: its interface is left on the host, for a runtime that moves it itself",
};

/// The address of the host that a network's ports are published on. netd reads it itself.
pub const HOST_BINDING: Setting = Setting {
    names: &["host-binding", "com.docker.network.bridge.host_binding_ipv4"],
    about: "the address of the host that ports are published on, where they do not say one",
};

/// The address of the host, of IPv4, that what leaves the network takes. netd reads it itself.
pub const OUTBOUND_IPV4: Setting = Setting {
    names: &["outbound-ipv4", "com.docker.network.host_ipv4"],
    about: "the host's address of IPv4 that what leaves the network takes; its route's if not given",
};

/// As [`OUTBOUND_IPV4`], of IPv6.
pub const OUTBOUND_IPV6: Setting = Setting {
    names: &["outbound-ipv6", "com.docker.network.host_ipv6"],
    about: "the same for IPv6",
};

/// What an option that is on or off may be: as `strconv.ParseBool` of Docker's has it, but for single
/// letters.
pub const ON_OR_OFF: [&str; 4] = ["true", "false", "1", "0"];

/// How both families of a network meet the outside. netd reads it itself.
pub const GATEWAY_MODE: Setting = Setting {
    names: &["gateway-mode"],
    about: "how it meets the outside: nat, nat-unprotected, routed or isolated; nat if not given",
};

/// As [`GATEWAY_MODE`], of IPv4 alone.
pub const GATEWAY_MODE_IPV4: Setting = Setting {
    names: &["gateway-mode-ipv4", "com.docker.network.bridge.gateway_mode_ipv4"],
    about: "the same for IPv4 alone",
};

/// As [`GATEWAY_MODE`], of IPv6 alone.
pub const GATEWAY_MODE_IPV6: Setting = Setting {
    names: &["gateway-mode-ipv6", "com.docker.network.bridge.gateway_mode_ipv6"],
    about: "the same for IPv6 alone",
};

/// How a family of a network meets the outside, as it was said and under which name.
pub fn gateway_mode(options: &BTreeMap<String, String>, v6: bool) -> Option<(&'static str, &str)> {
    let of_family = if v6 { GATEWAY_MODE_IPV6 } else { GATEWAY_MODE_IPV4 };
    of_family.given(options).or_else(|| GATEWAY_MODE.given(options))
}

/// Whether the host is on no subnet of a family of an internal network with these options.
pub fn is_isolated(options: &BTreeMap<String, String>, v6: bool) -> bool {
    gateway_mode(options, v6).is_some_and(|(_, mode)| mode == "isolated")
}

/// What the names of a network's interfaces begin with. netd reads it itself.
pub const IFNAME_PREFIX: Setting = Setting {
    names: &["ifname-prefix", "com.docker.network.container_iface_prefix"],
    about: "what the names of its interfaces begin with; eth if not given",
};

/// The name of an endpoint's interface. netd reads it itself.
pub const IFNAME: Setting = Setting {
    names: &["ifname", "com.docker.network.endpoint.ifname"],
    about: "the name of its interface, where the request does not say one",
};

/// The port where netd's resolver is asked in the place of port 53: at a network's gateway, or at
/// 127.0.0.11 in an endpoint's container. netd chooses it where it needs one, and the driver leads
/// there what goes to port 53.
pub const DNS_PORT: Setting = Setting {
    names: &["dns-port"],
    about: "the port of netd's resolver, where that is not 53; chosen when 53 is taken",
};

/// The domains that a container tries behind names which it asks for, said of a network or of an
/// endpoint, which has its network's unless it has its own. Whoever writes the container's
/// `resolv.conf` puts them there.
pub const DNS_SEARCH: Setting = Setting {
    names: &["dns-search"],
    about: "domains to try behind names, one after the other; `.` for none, the host's if not given",
};

/// The domains of [`DNS_SEARCH`], in their order; none where nobody said.
pub fn search(options: &BTreeMap<String, String>) -> Vec<&str> {
    let list = DNS_SEARCH.given(options).map_or("", |(_, list)| list);
    list.split(',').map(str::trim).filter(|domain| !domain.is_empty()).collect()
}

/// The servers that are asked for names that are not netd's, of a network or an endpoint. netd's own,
/// whatever the driver.
pub const DNS: Setting = Setting {
    names: &["dns"],
    about: "servers for names that are not netd's: ADDRESS or ADDRESS:PORT,...; the host's if not given",
};

/// As [`DNS`], for the names below a domain, which stands behind the dot.
pub const DNS_OF_DOMAIN: Setting =
    Setting { names: &["dns."], about: "the same for names below the domain behind the dot" };

/// Where a container finds netd's resolver, of a network or an endpoint. netd's own.
pub const RESOLVER: Setting = Setting {
    names: &["resolver"],
    about: "inside or gateway: where a container asks for names; at the gateway where there is one",
};

/// The ports that an endpoint serves without publishing them. netd's own.
pub const EXPOSE: Setting = Setting {
    names: &["expose"],
    about: "ports that it serves without publishing them: [NAME=]PORT[/PROTOCOL] or PORT-PORT[/PROTOCOL],...",
};

/// Whether containers that no service of Docker's made may be put on a network, which is a question
/// where there are such services. Here everybody may whom netd hears; it is kept as it was said, since
/// Docker's clients look at it. netd's own, whatever the driver.
pub const ATTACHABLE: Setting = Setting {
    names: &["attachable"],
    about: "true: Docker's clients are told that any container may be put on it, as it may anyway",
};

/// Whether a network with these options was made to be shown as attachable.
pub fn is_attachable(options: &BTreeMap<String, String>) -> bool {
    ATTACHABLE.given(options).is_some_and(|(_, said)| said == "true")
}

/// The options of networks that are netd's own, whatever the driver; and those of them that may change
/// while a network is in use.
pub const OF_ANY_NETWORK: [Setting; 5] = [DNS, DNS_OF_DOMAIN, DNS_SEARCH, RESOLVER, ATTACHABLE];

/// As [`OF_ANY_NETWORK`], of which it is a part.
pub const LIVE_OF_ANY_NETWORK: [Setting; 3] = [DNS, DNS_OF_DOMAIN, ATTACHABLE];

/// The options of endpoints that are netd's own, whatever the driver.
pub const OF_ANY_ENDPOINT: [Setting; 4] = [DNS, DNS_SEARCH, RESOLVER, EXPOSE];

/// Options of endpoints that fronts and netd say, and that nobody is offered.
const NOBODYS: [Setting; 2] = [DELIVER, DNS_PORT];

/// Whether an endpoint's interface is left on the host, bare: whoever asked for it moves it into the
/// container and gives it name, addresses and routes.
pub fn is_delivered_on_host(options: &BTreeMap<String, String>) -> bool {
    DELIVER.given(options).is_some_and(|(_, place)| place == "host")
}

impl Setting {
    /// Whether an option of this name is meant; a name with a dot at its end is a beginning.
    pub fn is(&self, option: &str) -> bool {
        let is = |name: &&str| *name == option || name.ends_with('.') && option.starts_with(*name);
        self.names.iter().any(is)
    }

    /// The port that was said, where it is one.
    pub fn port(&self, options: &BTreeMap<String, String>) -> Option<u16> {
        self.given(options)?.1.parse().ok().filter(|port| *port != 0)
    }

    /// What was said, and under which name: the first of its names that was used.
    pub fn given<'a>(
        &self,
        options: &'a BTreeMap<String, String>,
    ) -> Option<(&'static str, &'a str)> {
        self.names.iter().find_map(|name| Some((*name, options.get(*name)?.as_str())))
    }
}

/// The options that a driver knows. Others are refused before it is asked anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Options {
    /// Those of its networks.
    #[serde(default)]
    pub network: Vec<Known>,
    /// Those of its endpoints.
    #[serde(default)]
    pub endpoint: Vec<Known>,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Known {
    /// What it is called: first its own name, then those that it has elsewhere.
    pub names: Vec<String>,
    /// What it does, in half a sentence.
    #[serde(default)]
    pub about: String,
    /// What it may be, in any case; anything where there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
    /// Of a network: whether it may change while the network is in use.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub live: bool,
}

impl Options {
    /// Those of two tables.
    pub fn of(network: &[Setting], endpoint: &[Setting]) -> Self {
        let known = |table: &[Setting]| {
            let row = |setting: &Setting| Known {
                names: setting.names.iter().map(|name| (*name).to_owned()).collect(),
                about: setting.about.to_owned(),
                values: Vec::new(),
                live: false,
            };
            table.iter().map(row).collect()
        };
        Self { network: known(network), endpoint: known(endpoint) }
    }

    /// The same, with an option of its networks that may be one of these alone.
    #[must_use]
    pub fn with_values(mut self, setting: Setting, values: &[&str]) -> Self {
        limit(&mut self.network, setting, values);
        self
    }

    /// As [`Options::with_values`], of its endpoints.
    #[must_use]
    pub fn with_endpoint_values(mut self, setting: Setting, values: &[&str]) -> Self {
        limit(&mut self.endpoint, setting, values);
        self
    }

    /// The same, with options of its networks that may change while those are in use.
    #[must_use]
    pub fn with_live(mut self, settings: &[Setting]) -> Self {
        for known in &mut self.network {
            known.live |= settings.iter().any(|setting| known.names == setting.names);
        }
        self
    }

    /// The option of a network that has this name.
    pub fn of_network(&self, name: &str) -> Option<&Known> {
        self.network.iter().find(|known| known.names.iter().any(|other| other == name))
    }

    /// Refuses values that an option of a network cannot have. An empty one is as good as none.
    ///
    /// # Errors
    /// `invalid`, with what it may be.
    pub fn check_network_values(&self, given: &BTreeMap<String, String>) -> Result<()> {
        check_values(&self.network, given)
    }

    /// As [`Options::check_network_values`], for endpoints.
    ///
    /// # Errors
    /// As there.
    pub fn check_endpoint_values(&self, given: &BTreeMap<String, String>) -> Result<()> {
        check_values(&self.endpoint, given)
    }

    /// Refuses names of options that no network of a driver has. Those that are netd's own are any
    /// network's.
    ///
    /// # Errors
    /// `invalid`, with the name that may have been meant.
    pub fn check_network<'a>(
        &self,
        driver: &str,
        given: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        self.check_network_beside(driver, &[], given)
    }

    /// As [`Options::check_network`], for who has options of its own besides.
    ///
    /// # Errors
    /// As there.
    pub fn check_network_beside<'a>(
        &self,
        driver: &str,
        own: &[Setting],
        given: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let any = [&OF_ANY_NETWORK, own].concat();
        check(&self.network, &any, &[], format_args!("{driver}"), given)
    }

    /// As [`Options::check_network`], for endpoints.
    ///
    /// # Errors
    /// As there.
    pub fn check_endpoint<'a>(
        &self,
        driver: &str,
        given: impl IntoIterator<Item = &'a str>,
    ) -> Result<()> {
        let of = format_args!("endpoints of {driver}");
        check(&self.endpoint, &OF_ANY_ENDPOINT, &NOBODYS, of, given)
    }

    /// A line for each, for people.
    pub fn to_text(&self) -> String {
        let line = |known: &Known| {
            let live = if known.live { " (may change in use)" } else { "" };
            format!("  {}: {}{live}\n", known.names.join(", "), known.about)
        };
        let section = |title: &str, table: &[Known]| match table {
            [] => String::new(),
            rows => format!("{title}\n{}", rows.iter().map(line).collect::<String>()),
        };
        section("Options of its networks:", &self.network)
            + &section("Options of its endpoints:", &self.endpoint)
    }
}

/// Whether a table has an option of this name.
pub fn has(table: &[Known], name: &str) -> bool {
    table.iter().any(|known| known.names.iter().any(|other| other == name))
}

fn limit(table: &mut [Known], setting: Setting, values: &[&str]) {
    for known in table.iter_mut().filter(|known| known.names == setting.names) {
        known.values = values.iter().map(|value| (*value).to_owned()).collect();
    }
}

fn check_values(table: &[Known], given: &BTreeMap<String, String>) -> Result<()> {
    for known in table.iter().filter(|known| !known.values.is_empty()) {
        let values = &known.values;
        let given = given.iter().filter(|(name, _)| known.names.contains(name));
        let mut wrong = given.filter(|(_, value)| {
            !value.is_empty() && !values.iter().any(|one| one.eq_ignore_ascii_case(value))
        });
        if let Some((name, value)) = wrong.next() {
            return Err(Error::invalid(format_args!(
                "invalid {name} {value:?}: it should be {}, or be left out",
                values.join(" or ")
            ))
            .with("option", name.as_str())
            .with("value", value.as_str()));
        }
    }
    Ok(())
}

fn check<'a>(
    table: &[Known],
    any: &[Setting],
    untold: &[Setting],
    of: fmt::Arguments<'_>,
    given: impl IntoIterator<Item = &'a str>,
) -> Result<()> {
    let is_known = |name: &str| has(table, name) || any.iter().any(|setting| setting.is(name));
    let Some(unknown) = given.into_iter().find(|name| !is_known(name)) else { return Ok(()) };
    let is_told =
        |known: &&Known| !known.names.iter().any(|n| untold.iter().any(|setting| setting.is(n)));
    let of_table = table.iter().filter(is_told).flat_map(|known| &known.names).map(String::as_str);
    let of_any = any.iter().flat_map(|setting| setting.names).copied();
    let hint = match nearest(unknown, of_table.chain(of_any)) {
        Some(meant) => format!("did you mean {meant:?}?"),
        None => {
            let told = table.iter().filter(is_told);
            let of_table = told.filter_map(|known| Some(known.names.first()?.as_str()));
            let of_any = any.iter().filter_map(|setting| setting.names.first().copied());
            let all: Vec<_> = of_table
                .chain(of_any)
                .map(|name| if name.ends_with('.') { format!("{name}DOMAIN") } else { name.into() })
                .collect();
            format!("there are {}", all.join(", "))
        }
    };
    Err(Error::invalid(format_args!("no option {unknown:?} for {of}; {hint}"))
        .with("option", unknown))
}

/// The name that is most like another; none when all are too different.
pub fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace('_', "-");
    let wanted = plain(given);
    let near = (wanted.chars().count() / 3).clamp(1, 3);
    let known = names.map(|name| (edits(&wanted, &plain(name)), name));
    known.filter(|(edits, _)| *edits <= near).min_by_key(|(edits, _)| *edits).map(|(_, name)| name)
}

/// How many letters have to be put in, taken out, changed or swapped with the next to make one word of
/// the other (optimal string alignment): row by row, of which each knows how far every beginning of `b`
/// is from one of `a`.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, letter) in a.iter().enumerate() {
        let mut next = vec![i + 1];
        for (j, other) in b.iter().enumerate() {
            let changed = row[j] + usize::from(letter != other);
            let mut least = changed.min(row[j + 1] + 1).min(next[j] + 1);
            if i > 0 && j > 0 && *letter == b[j - 1] && a[i - 1] == *other {
                least = least.min(before[j - 1] + 1);
            }
            next.push(least);
        }
        before = std::mem::replace(&mut row, next);
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODE: Setting =
        Setting { names: &["mode", "macvlan_mode"], about: "how its members see each other" };

    fn said(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn letters_are_counted() {
        let of = [("", ""), ("mode", "mode"), ("modee", "mode"), ("mdoe", "mode"), ("", "mtu")];
        assert_eq!(of.map(|(a, b)| edits(a, b)), [0, 0, 1, 1, 3]);
        assert_eq!(edits("kitten", "sitting"), 3);
        assert_eq!(edits("sitting", "kitten"), 3);
    }

    #[test]
    fn what_is_not_in_the_table_is_refused_with_what_may_be_meant() {
        let options = Options::of(&[MODE, MTU], &[]);
        for right in ["mode", "macvlan_mode", "mtu", "com.docker.network.driver.mtu"] {
            options.check_network("macvlan", [right]).expect(right);
        }
        for (wrong, hint) in [
            ("modee", "did you mean \"mode\"?"),
            ("Mode", "did you mean \"mode\"?"),
            ("macvlan-mode", "did you mean \"macvlan_mode\"?"),
            ("com.docker.network.driver.mut", "did you mean \"com.docker.network.driver.mtu\"?"),
            ("dsn-search", "did you mean \"dns-search\"?"),
            ("mut", "did you mean \"mtu\"?"),
            ("colour", "there are mode, mtu, dns, dns.DOMAIN, dns-search, resolver, attachable"),
        ] {
            let error = options.check_network("macvlan", ["mtu", wrong]);
            let error = error.expect_err(wrong);
            assert_eq!(error.message, format!("no option {wrong:?} for macvlan; {hint}"));
            assert_eq!(error.operands["option"], wrong);
        }
        let options = Options::of(&[MODE, MTU], &[DELIVER, DNS_PORT]);
        options.check_endpoint("macvlan", ["deliver"]).expect("a front says it");
        let error = options.check_endpoint("macvlan", ["mode"]).expect_err("none");
        assert_eq!(
            error.message,
            "no option \"mode\" for endpoints of macvlan; there are dns, dns-search, resolver, expose"
        );
        options.check_network("macvlan", ["dns", "dns.example.corp"]).expect("any network's");
        options.check_endpoint("macvlan", ["expose"]).expect("any endpoint's");
    }

    #[test]
    fn a_value_that_cannot_be_is_refused_with_those_that_can() {
        let options = Options::of(&[MODE, MTU], &[]).with_values(MODE, &["bridge", "private"]);
        for (name, right) in [("mode", "bridge"), ("macvlan_mode", "Private"), ("mode", "")] {
            options.check_network_values(&said(&[(name, right), ("mtu", "x")])).expect(right);
        }
        let error = options.check_network_values(&said(&[("macvlan_mode", "bogus")]));
        let error = error.expect_err("there is no such mode");
        assert_eq!(
            error.message,
            "invalid macvlan_mode \"bogus\": it should be bridge or private, or be left out"
        );
        assert_eq!(error.operands["option"], "macvlan_mode");
    }

    #[test]
    fn values_of_endpoints_are_looked_at_too() {
        let options = Options::of(&[], &[LINGER]).with_endpoint_values(LINGER, &ON_OR_OFF);
        options.check_endpoint_values(&said(&[("linger", "False")])).expect("as Go reads it");
        let error = options.check_endpoint_values(&said(&[("linger", "banana")]));
        let error = error.expect_err("neither");
        assert_eq!(
            error.message,
            "invalid linger \"banana\": it should be true or false or 1 or 0, or be left out"
        );
        options.check_network_values(&said(&[("linger", "banana")])).expect("no network's");
    }

    #[test]
    fn the_first_name_that_is_used_counts() {
        assert_eq!(MODE.given(&said(&[("macvlan_mode", "a"), ("mode", "b")])), Some(("mode", "b")));
        assert_eq!(MODE.given(&said(&[("mtu", "1")])), None);
    }
}
