//! Macvlan networks: containers on the LAN behind a link of the host's, with addresses of their
//! own there.

mod addresses;
mod host_access;
mod modes;
mod parents;
mod reach;
mod refusals;
mod survival;

use std::{net::IpAddr, time::Duration};

use cnm::{
    Kind, Request,
    endpoint::{CheckEndpoint, Endpoint, Route},
    network::{CreateNetwork, InspectNetwork, Network, RemoveNetwork, Subnet},
    system::Reconcile,
};
use netd_tests::{
    Asking as _, Container, Host, Namespace, Ping, World, eventually, kill, kind_of, within,
};
use serde_json::Value;

/// What the README promises.
const SECOND: Duration = Duration::from_secs(1);

/// The LAN is `192.0.2.0/24`, the host's `lan0` is its link there; these addresses of it are ours.
fn lan_network(name: &str, options: &[(&str, &str)]) -> CreateNetwork {
    let mut subnet = Subnet::new("192.0.2.0/24".parse().unwrap());
    subnet.range = Some("192.0.2.128/25".parse().unwrap());
    let options = options.iter().map(|(key, value)| ((*key).into(), (*value).into()));
    CreateNetwork {
        driver: Some("macvlan".into()),
        subnets: vec![subnet],
        options: options.collect(),
        ..CreateNetwork::named(name)
    }
}

fn make(host: &Host, network: &CreateNetwork) -> Network {
    host.client().call(network).unwrap_or_else(|error| panic!("{error}: {:?}", error.operands))
}

fn put(host: &Host, container: &Container, network: &str) -> Endpoint {
    host.client().attach(&container.to(network))
}

fn ip(endpoint: &Endpoint) -> IpAddr {
    endpoint.addresses[0].ip()
}

const NEIGHBOUR: &str = "192.0.2.2";

/// The one link of this name in a namespace, as `ip` shows it.
fn link(netns: &Namespace, name: &str) -> Value {
    netns.json(&format!("ip -j -d link show {name}"))[0].clone()
}

fn differences(host: &Host, endpoint: &Endpoint) -> Vec<String> {
    let check = CheckEndpoint { endpoint: endpoint.id.to_string(), mac: None, netns: None };
    host.client().call(&check).unwrap().differences
}
