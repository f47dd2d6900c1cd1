//! Addresses and subnets that are none: what they should be, where their own decoders name neither that
//! nor the part that is wrong.

use std::{fmt::Display, net::IpAddr};

/// Why a text of which its decoder said `error` is not what it should be.
pub fn why(text: &str, error: impl Display) -> String {
    let said = error.to_string();
    let is_network = ["invalid address", "invalid prefix", "invalid cidr"];
    if said == "invalid IP address syntax" {
        "it should be an IP address, such as 10.9.0.2".to_owned()
    } else if is_network.iter().any(|begins| said.starts_with(begins)) {
        network(text)
    } else {
        said
    }
}

fn network(text: &str) -> String {
    let Some((address, prefix)) = text.split_once('/') else {
        return "it should be an address and a prefix length, such as 10.9.0.0/24".to_owned();
    };
    match address.parse() {
        Err(_) => format!("{address:?} is no IP address"),
        Ok(IpAddr::V4(_)) => format!("the prefix length {prefix:?} should be from 0 to 32"),
        Ok(IpAddr::V6(_)) => format!("the prefix length {prefix:?} should be from 0 to 128"),
    }
}
