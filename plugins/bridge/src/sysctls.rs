//! Kernel parameters of a container's interface that an endpoint asks for:
//! `net.ipv4.conf.IFNAME.log_martians=1,…`, where `IFNAME` stands for the interface, whatever it will
//! be called.

use cnm::{Error, Result, endpoint::Endpoint};

use crate::options::SYSCTLS;

/// What stands for the interface's name.
const INTERFACE: &str = "IFNAME";

/// Paths under `/proc/sys` and their values, in the order in which they are asked for.
///
/// # Errors
/// `invalid` for what is no parameter of an interface: others would be the container's own, or the
/// host's.
pub(crate) fn of(endpoint: &Endpoint) -> Result<Vec<(String, String)>> {
    let given = SYSCTLS.given(&endpoint.options);
    let settings =
        given.iter().flat_map(|(_, text)| text.split(',')).filter(|text| !text.is_empty());
    settings.map(|setting| parse(setting, endpoint.ifname.as_str())).collect()
}

fn parse(setting: &str, ifname: &str) -> Result<(String, String)> {
    let invalid = || {
        Error::invalid(format_args!(
            "invalid parameter {setting:?} of an interface: it should be like \
             net.ipv4.conf.{INTERFACE}.log_martians=1"
        ))
        .with("sysctl", setting)
    };
    let (key, value) = setting.split_once('=').ok_or_else(invalid)?;
    let parts: Vec<&str> = key.trim().split('.').collect();
    let [net, "ipv4" | "ipv6" | "mpls", .., INTERFACE, last] = parts[..] else {
        return Err(invalid());
    };
    let is_word = |part: &&str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
    };
    if net != "net" || last == INTERFACE || !parts.iter().all(is_word) {
        return Err(invalid());
    }
    let path: Vec<_> =
        parts.iter().map(|part| if *part == INTERFACE { ifname } else { part }).collect();
    Ok((path.join("/"), value.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_one_of_the_interface() {
        let parsed = |text| parse(text, "eth0.7").map(|(path, value)| format!("{path} = {value}"));
        assert_eq!(
            parsed("net.ipv4.conf.IFNAME.log_martians=1").as_deref(),
            Ok("net/ipv4/conf/eth0.7/log_martians = 1")
        );
        assert_eq!(
            parsed("net.ipv6.neigh.IFNAME.gc_stale_time= 30").as_deref(),
            Ok("net/ipv6/neigh/eth0.7/gc_stale_time = 30")
        );
        for bad in [
            "net.ipv4.conf.IFNAME.log_martians",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.log_martians=1",
            "kernel.ipv4.conf.IFNAME.x=1",
            "net.ipv4.conf.IFNAME.IFNAME=1",
            "net.ipv4.conf.IFNAME=1",
            "net.ipv4.../../IFNAME.x=1",
            "net.ipv4./etc.IFNAME.x=1",
            "",
        ] {
            assert!(parse(bad, "eth0").is_err(), "{bad}");
        }
    }
}
