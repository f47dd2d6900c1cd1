//! Names in `in-addr.arpa` and `ip6.arpa`: which addresses one stands for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;

/// The addresses below a reverse name: one for a whole name, a range for the end of one. `None`
/// when it is not a reverse name, or covers everything.
pub(crate) fn range(text: &[u8]) -> Option<IpNetwork> {
    // Most names are none, and this is asked of each.
    if !text.ends_with(b".arpa") {
        return None;
    }
    let text = str::from_utf8(text).ok()?;
    if let Some(labels) = text.strip_suffix(".in-addr.arpa") {
        let mut octets = [0; 4];
        let count = fill(&mut octets, labels, octet)?;
        IpNetwork::new(IpAddr::V4(Ipv4Addr::from(octets)), count * 8).ok()
    } else {
        let labels = text.strip_suffix(".ip6.arpa")?;
        let mut nibbles = [0; 32];
        let count = fill(&mut nibbles, labels, nibble)?;
        let bits = nibbles.iter().fold(0, |bits: u128, &nibble| bits << 4 | u128::from(nibble));
        IpNetwork::new(IpAddr::V6(Ipv6Addr::from(bits)), count * 4).ok()
    }
}

/// What an address is called in reverse (RFC 1035, section 3.5; RFC 3596, section 2.5).
pub(crate) fn name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(ip) => {
            let nibbles = ip.octets().into_iter().rev().flat_map(|octet| [octet & 15, octet >> 4]);
            nibbles.map(|nibble| format!("{nibble:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Whether all addresses of a range, which a reverse name stands for, are in a subnet.
pub(crate) fn holds(subnet: IpNetwork, range: IpNetwork) -> bool {
    subnet.prefix() <= range.prefix() && subnet.contains(range.ip())
}

/// Where, in the text of a reverse name, the zone of `subnet` begins that holds it.
///
/// Reverse zones end between labels. A subnet that does not is as many zones as it has parts that
/// do: 10.0.0.0/23 is `0.0.10.in-addr.arpa` and `1.0.10.in-addr.arpa`.
pub(crate) fn zone(text: &[u8], subnet: IpNetwork) -> usize {
    let bits = if subnet.is_ipv4() { 8 } else { 4 };
    let labels = usize::from(subnet.prefix().div_ceil(bits)) + 2;
    text.iter()
        .enumerate()
        .rev()
        .filter(|(_, byte)| **byte == b'.')
        .nth(labels - 1)
        .map_or(0, |(dot, _)| dot + 1)
}

/// Reads labels, last one first, into `parts`. Returns how many there were.
fn fill(parts: &mut [u8], labels: &str, read: fn(&str) -> Option<u8>) -> Option<u8> {
    let mut count = 0;
    for label in labels.rsplit('.') {
        *parts.get_mut(usize::from(count))? = read(label)?;
        count += 1;
    }
    Some(count)
}

fn octet(label: &str) -> Option<u8> {
    label.parse().ok().filter(|octet: &u8| octet.to_string() == label)
}

fn nibble(label: &str) -> Option<u8> {
    let [digit] = label.as_bytes() else { return None };
    char::from(*digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_names_are_addresses() {
        let of = |name: &str| range(name.as_bytes()).map(|range| range.to_string());
        assert_eq!(of("4.3.2.10.in-addr.arpa").as_deref(), Some("10.2.3.4/32"));
        assert_eq!(of("3.2.10.in-addr.arpa").as_deref(), Some("10.2.3.0/24"));
        let v6 = "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(of(v6).as_deref(), Some("fd00::1/128"));
        assert_eq!(of("0.d.f.ip6.arpa").as_deref(), Some("fd00::/12"));
    }

    #[test]
    fn an_address_is_found_by_its_name() {
        for text in ["10.1.2.3", "0.0.0.0", "255.1.0.99", "fd00::1", "2001:db8:a:b:c:d:e:f0"] {
            let address: IpAddr = text.parse().unwrap();
            let found = range(name(address).as_bytes()).map(|range| (range.ip(), range.prefix()));
            assert_eq!(found, Some((address, if address.is_ipv4() { 32 } else { 128 })), "{text}");
        }
        assert_eq!(name([10, 1, 2, 3].into()), "3.2.1.10.in-addr.arpa");
    }

    #[test]
    fn what_is_no_address_is_none() {
        for name in [
            "in-addr.arpa",
            "256.2.10.in-addr.arpa",
            "01.2.10.in-addr.arpa",
            "+1.2.10.in-addr.arpa",
            "5.4.3.2.10.in-addr.arpa",
            "x.in-addr.arpa",
            ".in-addr.arpa",
            "10.ip6.arpa",
            "web.app",
        ] {
            assert_eq!(range(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn zones_end_between_labels() {
        let zone_of = |name: &'static str, subnet: &str| {
            &name[zone(name.as_bytes(), subnet.parse().unwrap())..]
        };
        assert_eq!(zone_of("4.3.2.10.in-addr.arpa", "10.2.3.0/24"), "3.2.10.in-addr.arpa");
        assert_eq!(zone_of("4.3.2.10.in-addr.arpa", "10.2.2.0/23"), "3.2.10.in-addr.arpa");
        assert_eq!(zone_of("4.3.2.10.in-addr.arpa", "10.2.0.0/16"), "2.10.in-addr.arpa");
        assert_eq!(zone_of("4.3.2.10.in-addr.arpa", "10.2.3.4/32"), "4.3.2.10.in-addr.arpa");
        assert_eq!(zone_of("3.2.10.in-addr.arpa", "10.2.3.0/24"), "3.2.10.in-addr.arpa");
    }
}
