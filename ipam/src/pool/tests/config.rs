use super::*;

/// The sentence and kind with which a configuration is refused.
fn refusal(config: PoolConfig) -> (String, Kind) {
    let error = Pool::new(config).unwrap_err();
    (error.to_string(), error.kind())
}

#[track_caller]
fn assert_invalid(config: PoolConfig, sentence: &str) {
    assert_eq!(refusal(config), (sentence.to_owned(), Kind::Invalid));
}

fn with_range(subnet: &str, range: &str) -> PoolConfig {
    PoolConfig { range: Some(net(range)), ..config(subnet) }
}

fn with_gateway(subnet: &str, gateway: &str) -> PoolConfig {
    PoolConfig { gateway: Some(ip(gateway)), ..config(subnet) }
}

fn with_aux(mut config: PoolConfig, aux: &[(&str, &str)]) -> PoolConfig {
    config.aux = aux.iter().map(|&(name, address)| (name.to_owned(), ip(address))).collect();
    config
}

fn with_exclusion(subnet: &str, excluded: &str) -> PoolConfig {
    PoolConfig { exclude: vec![net(excluded)], ..config(subnet) }
}

#[test]
fn host_bits_are_refused_with_the_right_subnet() {
    assert_invalid(config("10.0.0.1/24"), "invalid subnet 10.0.0.1/24: it should be 10.0.0.0/24");
    assert_invalid(config("fd00::1/64"), "invalid subnet fd00::1/64: it should be fd00::/64");
}

#[test]
fn a_range_is_a_part_of_its_subnet() {
    assert_invalid(
        with_range("10.0.0.0/24", "10.0.0.0/16"),
        "invalid ip-range 10.0.0.0/16: CIDR block is bigger than its parent subnet 10.0.0.0/24",
    );
    assert_invalid(
        with_range("10.0.0.0/24", "10.0.1.0/25"),
        "invalid ip-range 10.0.1.0/25: parent subnet 10.0.0.0/24 doesn't contain ip-range",
    );
    assert_invalid(
        with_range("10.0.0.0/24", "10.0.0.9/25"),
        "invalid ip-range 10.0.0.9/25: it should be 10.0.0.0/25",
    );
    assert_invalid(
        with_range("10.0.0.0/24", "fd00::/120"),
        "invalid ip-range fd00::/120: parent subnet is an IPv4 block",
    );
    assert!(Pool::new(with_range("10.0.0.0/24", "10.0.0.0/24")).is_ok());
}

#[test]
fn an_exclusion_is_a_part_of_its_subnet() {
    assert_invalid(
        with_exclusion("10.0.0.0/24", "10.0.0.0/8"),
        "invalid exclusion 10.0.0.0/8: CIDR block is bigger than its parent subnet 10.0.0.0/24",
    );
    assert_invalid(
        with_exclusion("10.0.0.0/24", "10.0.1.7/32"),
        "invalid exclusion 10.0.1.7/32: parent subnet 10.0.0.0/24 doesn't contain exclusion",
    );
    assert_invalid(
        with_exclusion("10.0.0.0/24", "10.0.0.7/31"),
        "invalid exclusion 10.0.0.7/31: it should be 10.0.0.6/31",
    );
    assert_invalid(
        with_exclusion("fd00::/64", "10.0.0.0/24"),
        "invalid exclusion 10.0.0.0/24: parent subnet is an IPv6 block",
    );
}

#[test]
fn a_gateway_is_an_address_that_a_host_may_have() {
    assert_invalid(
        with_gateway("10.0.0.0/24", "10.0.1.1"),
        "invalid gateway 10.0.1.1: parent subnet 10.0.0.0/24 doesn't contain this address",
    );
    assert_invalid(
        with_gateway("10.0.0.0/24", "fd00::1"),
        "invalid gateway fd00::1: parent subnet is an IPv4 block",
    );
    assert_invalid(
        with_gateway("10.0.0.0/24", "10.0.0.0"),
        "invalid gateway 10.0.0.0: it is the network address of subnet 10.0.0.0/24",
    );
    assert_invalid(
        with_gateway("10.0.0.0/24", "10.0.0.255"),
        "invalid gateway 10.0.0.255: it is the broadcast address of subnet 10.0.0.0/24",
    );
    assert_invalid(
        with_gateway("fd00::/64", "fd00::"),
        "invalid gateway fd00::: it is the subnet-router anycast address of subnet fd00::/64",
    );
    assert!(Pool::new(with_gateway("fd00::/64", "fd00::ffff:ffff:ffff:ffff")).is_ok());
}

#[test]
fn auxiliary_addresses_are_checked_like_the_gateway_and_named() {
    assert_invalid(
        with_aux(config("10.0.0.0/24"), &[("nas", "10.0.1.1")]),
        "invalid auxiliary address nas=10.0.1.1: \
         parent subnet 10.0.0.0/24 doesn't contain this address",
    );
    assert_invalid(
        with_aux(config("10.0.0.0/24"), &[("nas", "10.0.0.255")]),
        "invalid auxiliary address nas=10.0.0.255: \
         it is the broadcast address of subnet 10.0.0.0/24",
    );
    assert_invalid(
        with_aux(config("fd00::/64"), &[("nas", "10.0.0.2")]),
        "invalid auxiliary address nas=10.0.0.2: parent subnet is an IPv6 block",
    );
}

#[test]
fn an_address_has_one_role() {
    assert_invalid(
        with_aux(with_gateway("10.0.0.0/24", "10.0.0.1"), &[("nas", "10.0.0.1")]),
        "invalid auxiliary address nas=10.0.0.1: it is the gateway of subnet 10.0.0.0/24 too",
    );
    assert_invalid(
        with_aux(config("10.0.0.0/24"), &[("a", "10.0.0.9"), ("b", "10.0.0.9")]),
        "invalid auxiliary address b=10.0.0.9: \
         it is the auxiliary address a of subnet 10.0.0.0/24 too",
    );
}

#[test]
fn a_subnet_has_room_for_one_lease_at_least() {
    assert_invalid(
        with_gateway("10.0.0.0/32", "10.0.0.0"),
        "invalid subnet 10.0.0.0/32: beside its gateway and auxiliary addresses it has none for \
         containers; name a larger one",
    );
    let full = with_aux(with_gateway("10.0.0.0/30", "10.0.0.1"), &[("nas", "10.0.0.2")]);
    assert_eq!(Pool::new(full).unwrap_err(), Error::SubnetTooSmall { subnet: net("10.0.0.0/30") });
    assert!(Pool::new(with_gateway("fd00::/128", "fd00::")).is_err());
    assert!(Pool::new(with_gateway("fd00::/127", "fd00::")).is_ok());
}

#[test]
fn what_a_pool_was_made_of_can_be_read_back() {
    let config = with_aux(with_gateway("10.0.0.0/24", "10.0.0.1"), &[("nas", "10.0.0.2")]);
    assert_eq!(*Pool::new(config.clone()).unwrap().config(), config);
}
