//! Names that mean the same to whoever asks: those that are everybody's by convention (RFC 6761),
//! and those that are netd's own whatever its networks and containers are called. Neither can be
//! anybody's name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

use crate::Error;
use crate::names::text;
use crate::reverse;
use crate::view::strip;

/// The zone of this host's own names, whatever the domain is.
pub(crate) const INTERNAL: &str = "netd.internal";

/// At and below this everything is whoever asks (RFC 6761, section 6.3).
pub(crate) const LOCALHOST: &str = "localhost";

/// At and below these nothing is that a server knows: of the one nothing at all (RFC 6761, section 6.4),
/// of the other what Tor alone finds, and nobody else is to hear of (RFC 7686, section 2).
const NOBODYS: [&str; 2] = ["invalid", "onion"];

/// Where addresses have their names.
const REVERSE: [&str; 2] = ["in-addr.arpa", "ip6.arpa"];

/// Domains that others answer for, or that nobody asks for, whatever a resolver has there: at and below
/// them no network's names would be found (RFC 6761; RFC 7686; RFC 9476).
const OTHERS: [&str; 4] = [INTERNAL, LOCALHOST, "alt", "arpa"];

/// The one below `arpa` that is for whoever wants names of his own (RFC 8375).
const HOME: &str = "home.arpa";

/// Asked for by multicast (RFC 6762); below it people have domains that are asked for as others are,
/// `cluster.local` among them.
const LOCAL: &str = "local";

/// What a name at or below `localhost` stands for, and where that begins in it.
pub(crate) fn localhost(text: &[u8]) -> Option<(Vec<IpAddr>, usize)> {
    strip(text, LOCALHOST.as_bytes())?;
    let addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    Some((addresses, text.len() - LOCALHOST.len()))
}

/// The zone of addresses that everybody has for himself, where a range is in one (RFC 6303).
pub(crate) fn loopback(range: IpNetwork) -> Option<IpNetwork> {
    let zone: (IpAddr, u8) = match range.ip() {
        IpAddr::V4(ip) if ip.is_loopback() => (Ipv4Addr::new(127, 0, 0, 0).into(), 8),
        IpAddr::V6(ip) if ip.is_loopback() => (ip.into(), 128),
        _ => return None,
    };
    IpNetwork::new(zone.0, zone.1).ok()
}

/// Whether an address is what `localhost` stands for.
pub(crate) fn is_localhosts(address: IpAddr) -> bool {
    address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST
}

/// Where `invalid` or `onion` begins in a name at or below it.
pub(crate) fn nobodys(text: &[u8]) -> Option<usize> {
    let zone = NOBODYS.into_iter().find(|zone| strip(text, zone.as_bytes()).is_some())?;
    Some(text.len() - zone.len())
}

/// Checks that what an endpoint or a network is called is not a name for which there is another
/// answer, whoever is called so: then nobody would ever find it.
///
/// # Errors
/// [`Error::Own`] and [`Error::Address`].
pub fn check_free(name: &str, domain: &str) -> Result<(), Error> {
    if name.parse::<Ipv4Addr>().is_ok() {
        return Err(Error::Address { name: name.to_owned() });
    }
    let (called, domain) = (text(name), text(domain));
    let zones = [INTERNAL, LOCALHOST].into_iter().chain(REVERSE).map(text).chain([domain]);
    for zone in zones {
        if strip(&called, &zone).is_some() {
            let zone = String::from_utf8_lossy(&zone).into_owned();
            return Err(Error::Own { name: name.to_owned(), zone });
        }
    }
    Ok(())
}

/// Checks that somebody is asked for names below a domain which is to have servers of its own: what is
/// in a zone of ours, the reverse zones of `subnets` among them, goes nowhere else.
///
/// # Errors
/// [`Error::Stub`].
pub fn check_stub(
    stub: &str,
    domain: &str,
    subnets: impl IntoIterator<Item = IpNetwork>,
) -> Result<(), Error> {
    let (given, domain) = (text(stub), text(domain));
    let zones = [INTERNAL, LOCALHOST].into_iter().chain(NOBODYS).map(text).chain([domain]);
    let named = zones.into_iter().find(|zone| strip(&given, zone).is_some());
    let named = named.map(|zone| String::from_utf8_lossy(&zone).into_owned());
    let zone = named.or_else(|| {
        let range = reverse::range(&given)?;
        let mut subnets = subnets.into_iter();
        let zone =
            subnets.find(|subnet| reverse::holds(*subnet, range)).or_else(|| loopback(range))?;
        Some(stub[reverse::zone(&given, zone)..].to_owned())
    });
    zone.map_or(Ok(()), |zone| Err(Error::Stub { domain: stub.to_owned(), zone }))
}

/// Checks that the networks' names can be found below a domain.
///
/// # Errors
/// [`Error::Domain`].
pub fn check_domain(domain: &str) -> Result<(), Error> {
    let given = text(domain);
    let below = |zone: &str| strip(&given, zone.as_bytes()).is_some();
    if given == text(LOCAL) || (OTHERS.into_iter().chain(NOBODYS).any(below) && !below(HOME)) {
        return Err(Error::Domain { domain: domain.to_owned() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_are_below_no_domain_that_is_anothers() {
        for good in ["netd", "cluster.local", "home.arpa", "x.home.arpa", "test", "internal", "lan"]
        {
            check_domain(good).unwrap();
        }
        for bad in [
            "localhost",
            "x.LocalHost",
            "local",
            "Local.",
            "invalid",
            "netd.internal",
            "x.onion",
            "alt",
            "arpa",
            "in-addr.arpa",
            "10.in-addr.arpa",
        ] {
            assert!(matches!(check_domain(bad), Err(Error::Domain { .. })), "{bad}");
        }
    }

    #[test]
    fn nobody_is_asked_below_zones_of_ours() {
        let subnets = ["10.2.3.0/24", "fd00:1::/64"].map(|subnet| subnet.parse().unwrap());
        let check = |stub| check_stub(stub, "Netd", subnets);
        for good in [
            "example.corp",
            "internal",
            "app",
            "xnetd",
            "arpa",
            "2.10.in-addr.arpa",
            "4.2.10.in-addr.arpa",
            "d.f.ip6.arpa",
            "128.in-addr.arpa",
        ] {
            check(good).unwrap();
        }
        for (bad, zone) in [
            ("netd", "netd"),
            ("App.NETD", "netd"),
            ("netd.internal", "netd.internal"),
            ("localhost", "localhost"),
            ("x.invalid", "invalid"),
            ("x.onion", "onion"),
            ("3.2.10.in-addr.arpa", "3.2.10.in-addr.arpa"),
            ("9.3.2.10.in-addr.arpa", "3.2.10.in-addr.arpa"),
            ("127.in-addr.arpa", "127.in-addr.arpa"),
            ("0.0.127.in-addr.arpa", "127.in-addr.arpa"),
            (
                "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
                "0.0.0.0.0.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa",
            ),
        ] {
            let error = check(bad).unwrap_err();
            assert!(matches!(&error, Error::Stub { zone: own, .. } if own == zone), "{error}");
        }
    }

    #[test]
    fn nobody_is_called_what_netd_answers_by_itself() {
        for good in ["web", "web.app", "gateway", "host", "ns", "internal", "xnetd", "netd.x", "1"]
        {
            check_free(good, "netd").unwrap();
        }
        for (bad, zone) in [
            ("netd", "netd"),
            ("NetD", "netd"),
            ("web.netd", "netd"),
            ("web.app.netd", "netd"),
            ("host.netd.internal", "netd.internal"),
            ("localhost", "localhost"),
            ("app.LocalHost", "localhost"),
            ("1.0.0.10.in-addr.arpa", "in-addr.arpa"),
        ] {
            let error = check_free(bad, "netd").unwrap_err();
            assert!(
                matches!(&error, Error::Own { zone: own, .. } if own == zone),
                "{bad}: {error}"
            );
        }
        check_free("netd", "Cluster.Local.").unwrap();
        assert!(check_free("web.cluster.local", "Cluster.Local.").is_err());
        assert!(matches!(check_free("10.0.0.7", "netd"), Err(Error::Address { .. })));
    }
}
