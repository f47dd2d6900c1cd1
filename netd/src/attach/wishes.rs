//! What options of a network or of an endpoint say of an attach that the request itself does not:
//! netd reads these, since it chooses names and ports.

use std::{collections::BTreeMap, net::IpAddr};

use cnm::{
    Error, IfName, Result,
    endpoint::{Attach, Port},
    network::Network,
    options::{
        ATTACHABLE, HOST_BINDING, IFNAME, IFNAME_PREFIX, OUTBOUND_IPV4, OUTBOUND_IPV6, Setting,
    },
};

use crate::host::sockets::{self, nobody_connects};

/// How many digits an interface's name may have behind its prefix.
const DIGITS: usize = 3;

fn given(options: &BTreeMap<String, String>, setting: Setting) -> Option<(&'static str, &str)> {
    setting.given(options).filter(|(_, value)| !value.is_empty())
}

fn invalid(name: &str, value: &str, error: impl std::fmt::Display) -> Error {
    Error::invalid(format_args!("invalid {name} {value:?}: {error}")).with("option", name)
}

/// Fills in what the request leaves open.
///
/// # Errors
/// `invalid` for an option whose value means nothing.
pub(super) fn fill(params: &mut Attach, network: &Network) -> Result<()> {
    if params.ifname.is_none()
        && let Some((name, value)) = given(&params.options, IFNAME)
    {
        params.ifname = Some(value.parse().map_err(|error| invalid(name, value, error))?);
    }
    fill_ports(&mut params.ports, network)
}

/// Publishes where the network says what does not say it.
///
/// # Errors
/// `invalid` for an option whose value means nothing.
pub(super) fn fill_ports(ports: &mut [Port], network: &Network) -> Result<()> {
    if let Some(address) = host_binding(&network.options)? {
        let open = ports.iter_mut().filter(|port| port.host_ip.is_none());
        open.for_each(|port| port.host_ip = Some(address));
    }
    Ok(())
}

/// Refuses a network of which an option means nothing to its endpoints.
///
/// # Errors
/// `invalid` for an option whose value means nothing.
pub(crate) fn check_network_wishes(options: &BTreeMap<String, String>) -> Result<()> {
    host_binding(options)?;
    attachable(options)?;
    prefix(options).map(drop)
}

/// Where a network's ports are published, where they do not say it.
fn host_binding(options: &BTreeMap<String, String>) -> Result<Option<IpAddr>> {
    let Some((name, value)) = given(options, HOST_BINDING) else { return Ok(None) };
    let address: IpAddr = value.parse().map_err(|error| invalid(name, value, error))?;
    // One that the host does not have yet, it may get.
    match sockets::of_many(address) {
        Ok(Some(kind)) => Err(invalid(name, value, nobody_connects(kind))),
        _ => Ok(Some(address)),
    }
}

/// Refuses an address to go out as that is not one of the host's: what comes back would find nobody.
/// Only what is said anew is looked at, since the host may lose an address for a while.
///
/// # Errors
/// `invalid` for such an address.
pub(crate) fn check_outbound(options: &BTreeMap<String, String>) -> Result<()> {
    for setting in [OUTBOUND_IPV4, OUTBOUND_IPV6] {
        let Some((name, value)) = given(options, setting) else { continue };
        // Whether it is one of its family the driver says.
        let Ok(address) = value.parse::<IpAddr>() else { continue };
        let why = match sockets::of_many(address) {
            _ if address.is_unspecified() => "it stands for all of them".to_owned(),
            Ok(None) => continue,
            Ok(Some(kind)) => format!("it is a {kind} address"),
            Err(error) => error.to_string(),
        };
        return Err(invalid(
            name,
            value,
            format_args!("it should be an address of this host: {why}"),
        ));
    }
    Ok(())
}

/// Refuses what is neither said of it nor not.
fn attachable(options: &BTreeMap<String, String>) -> Result<()> {
    match given(options, ATTACHABLE) {
        None | Some((_, "true" | "false")) => Ok(()),
        Some((name, value)) => Err(invalid(name, value, "it should be true or false")),
    }
}

/// What the names of a network's interfaces begin with.
///
/// # Errors
/// `invalid` for what no interface can be called.
pub(super) fn prefix(options: &BTreeMap<String, String>) -> Result<&str> {
    let Some((name, value)) = given(options, IFNAME_PREFIX) else { return Ok("eth") };
    let longest = format!("{value}{}", "0".repeat(DIGITS));
    match longest.parse::<IfName>() {
        Ok(_) => Ok(value),
        Err(error) => Err(invalid(name, value, error)),
    }
}

#[cfg(test)]
mod tests {
    use cnm::Kind;

    use super::*;

    fn network(options: &[(&str, &str)]) -> Network {
        let options: BTreeMap<_, _> = options.iter().copied().collect();
        serde_json::from_value(serde_json::json!({
            "id": cnm::NetworkId::from_bytes([1; 32]), "name": "app", "driver": "bridge",
            "created": "", "internal": false, "predefined": false, "options": options,
        }))
        .expect("a network")
    }

    fn attach(options: &[(&str, &str)], ports: &[&str]) -> Attach {
        let container = cnm::endpoint::Container::new("web".parse().expect("an id"));
        let mut attach = Attach::new("app", container, None);
        attach.options = options.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        attach.ports = ports.iter().map(|port| port.parse().expect("a port")).collect();
        attach
    }

    #[test]
    fn ports_are_published_where_the_network_says_unless_they_say_it() {
        let network = network(&[("com.docker.network.bridge.host_binding_ipv4", "127.0.0.1")]);
        let mut params = attach(&[], &["8080:80", "192.0.2.1:81:81"]);
        fill(&mut params, &network).expect("filled in");
        let shown: Vec<_> = params.ports.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["127.0.0.1:8080->80/tcp", "192.0.2.1:81->81/tcp"]);
    }

    #[test]
    fn an_interface_is_called_as_docker_says_it() {
        let option = [("com.docker.network.endpoint.ifname", "lan7")];
        let mut params = attach(&option, &[]);
        fill(&mut params, &network(&[])).expect("filled in");
        assert_eq!(params.ifname, "lan7".parse().ok());
        params.ifname = "eth5".parse().ok();
        fill(&mut params, &network(&[])).expect("filled in");
        assert_eq!(params.ifname, "eth5".parse().ok(), "the request itself goes before");
        assert_eq!(prefix(&network(&[]).options), Ok("eth"));
        let docker = "com.docker.network.container_iface_prefix";
        assert_eq!(prefix(&network(&[(docker, "wan")]).options), Ok("wan"));
    }

    #[test]
    fn what_leaves_a_network_leaves_as_the_host() {
        let said = |name: &str, value: &str| {
            check_outbound(&BTreeMap::from([(name.to_owned(), value.to_owned())]))
        };
        for (name, good) in
            [("outbound-ipv4", "127.0.0.1"), ("com.docker.network.host_ipv6", "::1"), ("mtu", "x")]
        {
            assert_eq!(said(name, good), Ok(()), "{good}");
        }
        for (name, bad) in [
            ("outbound-ipv4", "198.51.100.1"),
            ("outbound-ipv4", "0.0.0.0"),
            ("outbound-ipv4", "127.255.255.255"),
            ("com.docker.network.host_ipv4", "224.0.0.1"),
            ("outbound-ipv6", "2001:db8::1"),
        ] {
            let error = said(name, bad).expect_err(bad);
            assert_eq!((error.kind, &error.operands["option"]), (Kind::Invalid, &name.into()));
        }
    }

    #[test]
    fn what_means_nothing_is_refused() {
        let bad = |option: (&str, &str)| {
            let mut params = attach(&[option], &[]);
            let network = network(&[option]);
            fill(&mut params, &network).is_err() || check_network_wishes(&network.options).is_err()
        };
        assert!(bad(("host-binding", "eth0")));
        assert!(bad(("host-binding", "224.0.0.1")));
        assert!(bad(("host-binding", "255.255.255.255")));
        assert!(!bad(("host-binding", "198.51.100.1")), "the host may get it");
        assert!(bad(("ifname-prefix", "a/b")));
        assert!(bad(("ifname-prefix", "much-too-long-")));
        assert!(bad(("com.docker.network.endpoint.ifname", "a b")));
        assert!(!bad(("host-binding", "")));
    }
}
