//! Which gateway, range, auxiliary address and exclusion belongs to which subnet: the flags come
//! apart, the protocol wants them together. The refusals are those of Docker's command line.

use std::net::IpAddr;

use cnm::{Error, Result, network::Subnet};
use ipnetwork::IpNetwork;

use crate::args::values::Pair;

/// Puts everything under the subnet that contains it.
pub(crate) fn group(
    subnets: &[IpNetwork],
    ranges: &[IpNetwork],
    gateways: &[IpAddr],
    aux: &[Pair],
    excludes: &[IpNetwork],
) -> Result<Vec<Subnet>> {
    if subnets.len() < ranges.len() || subnets.len() < gateways.len() {
        return Err(Error::invalid("every ip-range or gateway must have a corresponding subnet"));
    }
    let mut grouped: Vec<Subnet> = Vec::with_capacity(subnets.len());
    for subnet in subnets {
        if grouped.iter().any(|other| overlap(other.subnet, *subnet)) {
            return Err(Error::invalid(
                "multiple overlapping subnet configuration is not supported",
            ));
        }
        grouped.push(Subnet::new(*subnet));
    }
    for range in ranges {
        let owner = owner(&mut grouped, range.ip(), "range", range)?;
        if let Some(other) = owner.range.replace(*range) {
            return Err(Error::invalid(format_args!(
                "cannot configure multiple ranges ({range}, {other}) on the same subnet ({})",
                owner.subnet
            )));
        }
    }
    for gateway in gateways {
        let owner = owner(&mut grouped, *gateway, "gateway", gateway)?;
        if let Some(other) = owner.gateway.replace(*gateway) {
            return Err(Error::invalid(format_args!(
                "cannot configure multiple gateways ({gateway}, {other}) for the same subnet ({})",
                owner.subnet
            )));
        }
    }
    for (name, text) in aux {
        let address: IpAddr = text.parse().map_err(|_| {
            Error::invalid(format_args!("invalid aux-address {name}={text}: it is no IP address"))
        })?;
        owner(&mut grouped, address, "aux-address", address)?.aux.insert(name.clone(), address);
    }
    for exclude in excludes {
        owner(&mut grouped, exclude.ip(), "exclude", exclude)?.exclude.push(*exclude);
    }
    Ok(grouped)
}

fn owner<'a>(
    subnets: &'a mut [Subnet],
    address: IpAddr,
    what: &str,
    which: impl std::fmt::Display,
) -> Result<&'a mut Subnet> {
    subnets
        .iter_mut()
        .find(|subnet| subnet.subnet.contains(address))
        .ok_or_else(|| Error::invalid(format_args!("no matching subnet for {what} {which}")))
}

/// Two blocks of addresses are apart, or one is within the other.
fn overlap(a: IpNetwork, b: IpNetwork) -> bool {
    a.contains(b.ip()) || b.contains(a.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNetwork> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn refusal(subnets: &[&str], ranges: &[&str], gateways: &[&str], aux: &[Pair]) -> String {
        group(&nets(subnets), &nets(ranges), &addresses(gateways), aux, &[])
            .expect_err("a refusal")
            .message
    }

    #[test]
    fn everything_goes_to_the_subnet_that_contains_it() {
        let grouped = group(
            &nets(&["10.1.0.0/16", "fd00:1::/64"]),
            &nets(&["fd00:1::100/120", "10.1.4.0/24"]),
            &addresses(&["10.1.0.9", "fd00:1::9"]),
            &[("router".into(), "10.1.0.7".into()), ("nas".into(), "fd00:1::7".into())],
            &nets(&["10.1.4.128/25", "10.1.4.3/32"]),
        )
        .expect("grouped");
        let [four, six] = &grouped[..] else { panic!("two subnets") };
        assert_eq!(four.range, Some("10.1.4.0/24".parse().expect("a range")));
        assert_eq!(four.gateway, Some("10.1.0.9".parse().expect("an address")));
        assert_eq!(four.aux.len(), 1);
        assert_eq!(four.exclude.len(), 2);
        assert_eq!(six.range, Some("fd00:1::100/120".parse().expect("a range")));
        assert_eq!(six.gateway, Some("fd00:1::9".parse().expect("an address")));
        assert_eq!(six.aux["nas"], "fd00:1::7".parse::<IpAddr>().expect("an address"));
        assert!(six.exclude.is_empty());
        assert_eq!(group(&[], &[], &[], &[], &[]), Ok(Vec::new()));
    }

    #[test]
    fn refusals_are_dockers() {
        let one = &["10.1.0.0/16"][..];
        let two = &["10.1.0.0/16", "10.2.0.0/16"][..];
        assert_eq!(
            refusal(&[], &[], &["10.1.0.1"], &[]),
            "every ip-range or gateway must have a corresponding subnet"
        );
        for pair in [["10.1.0.0/16", "10.1.2.0/24"], ["10.1.2.0/24", "10.1.0.0/16"]] {
            assert_eq!(
                refusal(&pair, &[], &[], &[]),
                "multiple overlapping subnet configuration is not supported"
            );
        }
        assert_eq!(
            refusal(one, &["10.3.0.0/24"], &[], &[]),
            "no matching subnet for range 10.3.0.0/24"
        );
        assert_eq!(
            refusal(one, &[], &["10.3.0.1"], &[]),
            "no matching subnet for gateway 10.3.0.1"
        );
        assert_eq!(
            refusal(one, &[], &[], &[("a".into(), "fd00::1".into())]),
            "no matching subnet for aux-address fd00::1"
        );
        assert_eq!(
            refusal(two, &["10.1.1.0/24", "10.1.2.0/24"], &[], &[]),
            "cannot configure multiple ranges (10.1.2.0/24, 10.1.1.0/24) on the same subnet (10.1.0.0/16)"
        );
        assert_eq!(
            refusal(two, &[], &["10.1.0.1", "10.1.0.2"], &[]),
            "cannot configure multiple gateways (10.1.0.2, 10.1.0.1) for the same subnet (10.1.0.0/16)"
        );
        assert_eq!(
            group(&nets(one), &[], &[], &[], &nets(&["10.9.0.0/24"]))
                .expect_err("no owner")
                .message,
            "no matching subnet for exclude 10.9.0.0/24"
        );
    }
}
