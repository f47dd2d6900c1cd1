//! Options of a network that change while it is in use, and those that cannot.

use std::collections::BTreeMap;

use cnm::{
    Error, Result,
    network::Network,
    options::{MTU, Options, is_isolated},
};

use crate::names::given;

type Given = BTreeMap<String, String>;

/// The options of a network as they are to be. Whether their values mean something is not looked at.
///
/// # Errors
/// `unsupported` for an option that stays as it was when the network was made, `invalid` for one that
/// has to have a value.
pub(super) fn changed(
    network: &Network,
    known: Option<&Options>,
    set: &Given,
    unset: &[String],
) -> Result<Given> {
    let mut options = network.options.clone();
    for name in set.keys().chain(unset) {
        if given::is_live(name) {
            options.remove(name);
            continue;
        }
        if given::is_networks(name) {
            return Err(stays(network, name, "where its containers ask for names"));
        }
        let Some(row) = known.and_then(|known| known.of_network(name)) else { continue };
        if !row.live {
            return Err(stays(network, name, "what it says"));
        }
        if row.names == MTU.names && unset.contains(name) {
            return Err(Error::invalid(format_args!(
                "network {} has to have some {name}: say which",
                network.name
            ))
            .with("option", name.as_str()));
        }
        // Under whichever of its names it was said before.
        options.retain(|other, _| !row.names.contains(other));
    }
    options.extend(set.iter().map(|(name, value)| (name.clone(), value.clone())));
    for v6 in [false, true] {
        if is_isolated(&options, v6) != is_isolated(&network.options, v6) {
            return Err(stays(network, "gateway-mode", "whether it is isolated"));
        }
    }
    Ok(options)
}

fn stays(network: &Network, option: &str, what: &str) -> Error {
    Error::unsupported(format_args!(
        "option {option} of network {} stays as it is, since {what} cannot change while the network is \
         in use: make another network with it",
        network.name
    ))
    .with("option", option)
    .with("network", network.id.as_str())
}

#[cfg(test)]
mod tests {
    use cnm::options::{LINK, Setting};

    use super::*;

    const ICC: Setting = Setting { names: &["icc", "enable_icc"], about: "" };

    fn said(pairs: &[(&str, &str)]) -> Given {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    fn network(options: &[(&str, &str)]) -> Network {
        serde_json::from_value(serde_json::json!({
            "id": cnm::NetworkId::from_bytes([1; 32]), "name": "app", "driver": "bridge",
            "created": "", "options": said(options),
        }))
        .expect("a network")
    }

    fn change(before: &[(&str, &str)], set: &[(&str, &str)], unset: &[&str]) -> Result<Given> {
        let known = Options::of(&[ICC, MTU, LINK], &[]).with_live(&[ICC, MTU]);
        let unset: Vec<_> = unset.iter().map(|name| (*name).to_owned()).collect();
        changed(&network(before), Some(&known), &said(set), &unset)
    }

    #[test]
    fn an_option_changes_under_whichever_of_its_names() {
        let before = [("enable_icc", "false"), ("dns", "10.0.0.1"), ("link", "br0")];
        assert_eq!(
            change(&before, &[("icc", "true"), ("dns.corp", "10.0.0.2")], &["dns"]),
            Ok(said(&[("icc", "true"), ("dns.corp", "10.0.0.2"), ("link", "br0")]))
        );
        assert_eq!(change(&before, &[], &["icc"]), Ok(said(&before[1..])));
        assert_eq!(change(&before, &[], &[]), Ok(said(&before)));
    }

    #[test]
    fn what_cannot_change_is_refused() {
        for (set, unset) in [
            (&[("link", "br1")][..], &[][..]),
            (&[], &["link"]),
            (&[("resolver", "inside")], &[]),
            (&[("gateway-mode", "isolated")], &[]),
            (&[], &["mtu"]),
        ] {
            let error = change(&[("mtu", "1400")], set, unset).expect_err("it stays");
            assert!(error.operands.contains_key("option"), "{error}");
        }
    }
}
