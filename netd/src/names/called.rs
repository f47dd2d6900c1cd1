//! What networks and containers may be called: what can be asked for, and has no other answer.

use cnm::{Error, Name, Result, endpoint::Container};

use crate::{netd::Netd, registry::Registry};

/// Refuses a name for a new network that nobody could ask for with a container's before it.
pub(crate) fn check_network_name(name: &str, domain: &str) -> Result<()> {
    dns::check_free(name, domain).map_err(|error| Error::invalid(error).with("name", name))
}

/// Refuses what a container cannot be called, or nobody would find it by. What it calls itself (its
/// hostname) may be all of a name of it, with a network's and the domain.
pub(crate) fn check_container(
    container: &Container,
    aliases: &[Name],
    network: &str,
    domain: &str,
) -> Result<()> {
    let names = || container.name.iter().chain(aliases);
    names().try_for_each(|name| check_called(name.as_str(), network, domain))?;
    let Some(hostname) = &container.hostname else { return Ok(()) };
    if names().any(|name| is_all_of(name.as_str(), hostname.as_str(), domain)) {
        return check_sayable(hostname.as_str(), network, domain);
    }
    check_called(hostname.as_str(), network, domain)
}

/// Refuses one name of a container's.
pub(crate) fn check_called(name: &str, network: &str, domain: &str) -> Result<()> {
    check_sayable(name, network, domain)?;
    dns::check_free(name, domain).map_err(|error| Error::invalid(error).with("name", name))
}

fn check_sayable(name: &str, network: &str, domain: &str) -> Result<()> {
    let checked = dns::check_name(name, &[network, domain]);
    checked.map_err(|error| Error::invalid(error).with("name", name))
}

/// Whether something is all of a name, `web.app.netd` of `web`, whichever the network.
fn is_all_of(name: &str, whole: &str, domain: &str) -> bool {
    let [name, whole, domain] = [name, whole, domain].map(str::to_ascii_lowercase);
    let network = whole.strip_prefix(&format!("{name}."));
    let network = network.and_then(|rest| rest.strip_suffix(&format!(".{domain}")));
    network.is_some_and(|network| !network.is_empty())
}

impl Netd {
    /// That networks have names that are netd's own by now, as the domain was chosen after them.
    pub(crate) fn unfound(&self, registry: &Registry) -> Option<String> {
        let domain = &self.config.dns_domain;
        let networks = registry.networks().map(|entry| entry.network.name.as_str());
        let mut names: Vec<_> =
            networks.filter(|name| check_network_name(name, domain).is_err()).collect();
        if names.is_empty() {
            return None;
        }
        names.sort_unstable();
        Some(format!(
            "nobody finds containers by the name of their network on {}, as netd itself answers for \
             what is at or below {domain}: choose another dns_domain, or name of the network",
            names.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostname_has_no_other_answer_but_all_of_the_name() {
        let check = |hostname: &str| {
            let mut container = Container::new("c1".parse().expect("an id"));
            container.name = Some("Web".parse().expect("a name"));
            container.hostname = Some(hostname.parse().expect("a name"));
            check_container(&container, &["www".parse().expect("a name")], "app", "netd")
        };
        for good in ["web", "web-1", "web.app", "web.app.netd", "WWW.back.Netd", "mail.example.org"]
        {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for bad in [
            "netd",
            "web.netd",
            "x.netd",
            "x.app.netd",
            "netd.internal",
            "web.netd.internal",
            "localhost",
            "x.LocalHost",
            "1.0.0.10.in-addr.arpa",
            "10.0.0.1",
            "a..b",
            "web..netd",
        ] {
            let error = check(bad).expect_err(bad);
            assert_eq!(error.operands["name"], bad);
        }
    }
}
