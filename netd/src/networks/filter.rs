//! Which networks a list or a prune is about: Docker's filters.

use std::collections::BTreeMap;

use cnm::{Error, Result, network::Network};
use regex_lite::Regex;

use crate::clock;

type Filters = BTreeMap<String, Vec<String>>;

/// Docker's word for where a network is.
fn scope(network: &Network) -> &'static str {
    if network.overlay.is_some() { "swarm" } else { "local" }
}

/// Whether a network matches every key, each by one of its values; labels by all of them.
pub(super) fn matches(filters: &Filters, network: &Network, used: bool) -> Result<bool> {
    for (key, values) in filters {
        let any = |test: &dyn Fn(&str) -> bool| values.iter().any(|value| test(value));
        let matched = match key.as_str() {
            "name" => any(&|value| is_in(value, network.name.as_str())),
            "id" => any(&|value| is_in(value, network.id.as_str())),
            "driver" => any(&|value| network.driver == value),
            "scope" => any(&|value| value == scope(network)),
            "label" => values.iter().all(|value| labelled(network, value)),
            "type" => {
                let own = if network.predefined { "builtin" } else { "custom" };
                one_of(key, values, &["builtin", "custom"])?;
                any(&|value| value == own)
            }
            "dangling" => {
                one_of(key, values, &["true", "false", "1", "0"])?;
                let dangling = !used && !network.predefined;
                any(&|value| matches!(value, "true" | "1") == dangling)
            }
            _ => return Err(unknown(key)),
        };
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a prune with these filters removes a network that nobody is on.
pub(super) fn prunes(filters: &Filters, network: &Network) -> Result<bool> {
    for (key, values) in filters {
        let matched = match key.as_str() {
            "label" => values.iter().all(|value| labelled(network, value)),
            "label!" => !values.iter().any(|value| labelled(network, value)),
            "until" => {
                let mut before = true;
                for value in values {
                    before &= clock::before(&network.created, value)?;
                }
                before
            }
            _ => return Err(unknown(key)),
        };
        if !matched {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether a pattern is found in a text. One that is no regular expression is a text itself.
fn is_in(pattern: &str, text: &str) -> bool {
    text.contains(pattern) || Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text))
}

fn labelled(network: &Network, filter: &str) -> bool {
    match filter.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|found| found == value),
        None => network.labels.contains_key(filter),
    }
}

fn one_of(key: &str, values: &[String], known: &[&str]) -> Result<()> {
    match values.iter().find(|value| !known.contains(&value.as_str())) {
        Some(value) => Err(Error::invalid(format_args!(
            "invalid filter '{key}={value}': it should be {}",
            known.join(" or ")
        ))),
        None => Ok(()),
    }
}

fn unknown(key: &str) -> Error {
    Error::invalid(format_args!("invalid filter '{key}'")).with("filter", key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, predefined: bool) -> Network {
        Network {
            id: cnm::NetworkId::from_bytes([0xab; 32]),
            name: name.parse().expect("a name"),
            driver: "bridge".into(),
            created: "2026-01-02T03:04:05.000000006Z".into(),
            subnets: vec![],
            internal: false,
            predefined,
            link: None,
            mtu: None,
            overlay: None,
            options: BTreeMap::new(),
            labels: BTreeMap::from([("tier".into(), "web".into())]),
            idempotency_key: None,
        }
    }

    fn filters(pairs: &[(&str, &str)]) -> Filters {
        let mut filters = Filters::new();
        for (key, value) in pairs {
            filters.entry((*key).into()).or_default().push((*value).into());
        }
        filters
    }

    #[test]
    fn keys_are_all_met_and_values_by_one() {
        let app = network("app", false);
        let met = |pairs: &[(&str, &str)]| matches(&filters(pairs), &app, false).expect("known");
        assert!(met(&[]));
        assert!(met(&[("name", "pp"), ("driver", "bridge"), ("id", "abab")]));
        assert!(met(&[("name", "x"), ("name", "app")]));
        assert!(met(&[("name", "^app$")]) && !met(&[("name", "^pp")]) && !met(&[("name", "(")]));
        assert!(met(&[("name", "a.p|db"), ("id", "^(ab)+$")]) && !met(&[("id", "^b")]));
        assert!(!met(&[("name", "app"), ("driver", "brid")]));
        assert!(met(&[("label", "tier"), ("label", "tier=web")]));
        assert!(!met(&[("label", "tier"), ("label", "tier=db")]));
        assert!(met(&[("type", "custom")]) && !met(&[("type", "builtin")]));
        assert!(met(&[("dangling", "true")]) && !met(&[("dangling", "false")]));
    }

    #[test]
    fn unknown_filters_are_refused_by_name() {
        let app = network("app", false);
        for pairs in [[("colour", "red")], [("type", "odd")], [("dangling", "perhaps")]] {
            let error = matches(&filters(&pairs), &app, false).expect_err("unknown");
            assert!(error.message.contains(pairs[0].0), "{error}");
        }
        assert!(prunes(&filters(&[("name", "app")]), &app).is_err());
    }

    #[test]
    fn a_prune_goes_by_labels_and_age() {
        let app = network("app", false);
        let pruned = |pairs: &[(&str, &str)]| prunes(&filters(pairs), &app).expect("known");
        assert!(pruned(&[("label", "tier=web")]) && !pruned(&[("label!", "tier")]));
        assert!(pruned(&[("until", "2026-01-03T00:00:00Z")]));
        assert!(!pruned(&[("until", "2026-01-02T00:00:00Z")]));
        assert!(pruned(&[("until", "1767398400")]) && !pruned(&[("until", "1767312000.5")]));
        assert!(pruned(&[("until", "1h30m")]) && pruned(&[("until", "0s")]));
        assert!(!pruned(&[("until", "9000000h")]), "more than there has been");
        for bad in ["soon", "-1", "inf", "1 fortnight", ""] {
            assert!(prunes(&filters(&[("until", bad)]), &app).is_err(), "{bad}");
        }
    }
}
