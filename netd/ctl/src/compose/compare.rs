//! What a network that is there is not, of what is wanted. Where a file says nothing, whatever was
//! chosen is right.

use cnm::network::{CreateNetwork, Network, Subnet};

/// One part of a sentence for each thing.
pub(super) fn differences(wanted: &CreateNetwork, there: &Network) -> Vec<String> {
    let mut differences = Vec::new();
    let driver = wanted.driver.as_deref().unwrap_or("bridge");
    if driver != there.driver {
        differences.push(format!("its driver is {}, not {driver}", there.driver));
    }
    if wanted.internal != there.internal {
        let is = if there.internal { "is" } else { "is not" };
        differences.push(format!("it {is} internal"));
    }
    for (name, is_v4, said) in [("IPv4", true, wanted.ipv4), ("IPv6", false, wanted.ipv6)] {
        let has = there.subnets.iter().any(|subnet| subnet.subnet.is_ipv4() == is_v4);
        if said.is_some_and(|said| said != has) {
            differences.push(format!("it has {}{name}", if has { "" } else { "no " }));
        }
    }
    for (key, value) in &wanted.options {
        match there.options.get(key) {
            Some(own) if own == value => {}
            Some(own) => differences.push(format!("its option {key} is {own}, not {value}")),
            None => differences.push(format!("it has no option {key}={value}")),
        }
    }
    for subnet in &wanted.subnets {
        let own = there.subnets.iter().find(|own| own.subnet == subnet.subnet);
        match own {
            None => differences.push(format!("it does not have {}", subnet.subnet)),
            Some(own) => differences.extend(of_subnet(subnet, own)),
        }
    }
    differences
}

fn of_subnet(wanted: &Subnet, there: &Subnet) -> Vec<String> {
    let mut differences = Vec::new();
    let subnet = wanted.subnet;
    let shown = |value: Option<String>| value.unwrap_or_else(|| "nothing".to_owned());
    if wanted.gateway.is_some() && wanted.gateway != there.gateway {
        let own = shown(there.gateway.map(|own| own.to_string()));
        differences.push(format!("the gateway of {subnet} is {own}"));
    }
    if wanted.range.is_some() && wanted.range != there.range {
        let own = shown(there.range.map(|own| own.to_string()));
        differences.push(format!("the range of {subnet} is {own}"));
    }
    for (name, address) in &wanted.aux {
        if there.aux.get(name) != Some(address) {
            differences.push(format!("{subnet} does not have {name} at {address}"));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there() -> Network {
        let json = r#"{"id":"7d1f0c5e2b9a4488a1c07f3d92e6b5148c0d7fa2935be61470dd28f3c9a15e6b",
            "name":"app","driver":"bridge","created":"","subnets":[{"subnet":"10.5.0.0/16",
            "gateway":"10.5.0.1"}],"options":{"mtu":"1400","chosen":"x"}}"#;
        serde_json::from_str(json).expect("a network")
    }

    #[test]
    fn what_was_chosen_is_no_difference() {
        let mut wanted = CreateNetwork::named("app");
        assert_eq!(differences(&wanted, &there()), [""; 0]);
        wanted.options.insert("mtu".into(), "1400".into());
        wanted.subnets = vec![Subnet::new("10.5.0.0/16".parse().expect("a subnet"))];
        assert_eq!(differences(&wanted, &there()), [""; 0]);
    }

    #[test]
    fn each_difference_is_said() {
        let mut subnet = Subnet::new("10.5.0.0/16".parse().expect("a subnet"));
        subnet.gateway = "10.5.0.9".parse().ok();
        subnet.range = "10.5.1.0/24".parse().ok();
        let wanted = CreateNetwork {
            driver: Some("macvlan".into()),
            internal: true,
            ipv6: Some(true),
            options: [("mtu".into(), "9000".into()), ("parent".into(), "eth0".into())].into(),
            subnets: vec![subnet, Subnet::new("10.6.0.0/16".parse().expect("a subnet"))],
            ..CreateNetwork::named("app")
        };
        assert_eq!(
            differences(&wanted, &there()),
            [
                "its driver is bridge, not macvlan",
                "it is not internal",
                "it has no IPv6",
                "its option mtu is 1400, not 9000",
                "it has no option parent=eth0",
                "the gateway of 10.5.0.0/16 is 10.5.0.1",
                "the range of 10.5.0.0/16 is nothing",
                "it does not have 10.6.0.0/16",
            ]
        );
    }
}
