//! The loopback interface of one container: no network and no daemon, since the driver `none` sets
//! it up by itself.

use super::{
    Call, add,
    environment::{Attachment, Verb},
    outcome::{Interface, Ip, Outcome},
    refusal::{Refusal, Result},
};
use crate::{
    EndpointId, IfName, Name, NetworkId,
    driver::Driver,
    endpoint::{Container, Endpoint, State},
    network::Network,
};

/// The driver that has loopback and nothing else.
const DRIVER: &str = "none";

/// Does any verb.
pub(super) fn answer(mut call: Call<'_, impl Driver>) -> Result<String> {
    if call.driver.info().name != DRIVER {
        return Err(Refusal::new(
            Refusal::CONFIG,
            "loopback is the business of netd-none: install that under the name netd-loopback",
        ));
    }
    match call.environment.verb {
        Verb::Add => {
            let previous = call.header.previous()?;
            let (attachment, netns) = place(&call)?;
            let (network, endpoint) = made_up(attachment);
            call.driver.attach(&network, &endpoint, &netns)?;
            previous.unwrap_or_else(|| lo(&netns)).to_text(call.header.version)
        }
        Verb::Check => {
            let (attachment, netns) = place(&call)?;
            let (network, endpoint) = made_up(attachment);
            let checked = call.driver.check(&network, &endpoint, Some(&netns))?;
            if checked.differences.is_empty() {
                return Ok(String::new());
            }
            Err(Refusal::new(Refusal::DIFFERS, checked.differences.join("; ")))
        }
        // It goes with its namespace.
        Verb::Del | Verb::Gc | Verb::Status | Verb::Version => Ok(String::new()),
    }
}

fn place<'a>(call: &Call<'a, impl Driver>) -> Result<(&'a Attachment, String)> {
    let attachment = call.attachment()?;
    add::open(call, attachment)?;
    Ok((attachment, attachment.netns.clone().unwrap_or_default()))
}

/// What the driver is told: it makes nothing of it but a loopback that is up.
fn made_up(attachment: &Attachment) -> (Network, Endpoint) {
    let name: Name = DRIVER.parse().expect("a name");
    let network = Network {
        id: NetworkId::from_bytes([0; 32]),
        name: name.clone(),
        driver: DRIVER.to_owned(),
        created: String::new(),
        subnets: Vec::new(),
        internal: false,
        predefined: true,
        link: None,
        mtu: None,
        overlay: None,
        options: Default::default(),
        labels: Default::default(),
        idempotency_key: None,
    };
    let endpoint = Endpoint {
        id: EndpointId::from_bytes([0; 32]),
        network: network.id.clone(),
        network_name: name,
        container: Container::new(attachment.container.clone()),
        ifname: IfName::lo(),
        state: State::Attaching,
        mac: None,
        addresses: Vec::new(),
        gateways: Vec::new(),
        routes: Vec::new(),
        metric: 0,
        dns: Vec::new(),
        aliases: Vec::new(),
        ports: Vec::new(),
        ports_bound: false,
        bandwidth: None,
        netns: None,
        mtu: None,
        options: Default::default(),
        labels: Default::default(),
        created: String::new(),
        idempotency_key: None,
    };
    (network, endpoint)
}

fn lo(netns: &str) -> Outcome {
    let ip = |address: &str| Ip {
        interface: Some(0),
        address: address.parse().expect("an address"),
        gateway: None,
    };
    Outcome {
        interfaces: vec![Interface {
            name: "lo".to_owned(),
            mac: Some("00:00:00:00:00:00".to_owned()),
            sandbox: Some(netns.to_owned()),
            ..Interface::default()
        }],
        ips: vec![ip("127.0.0.1/8"), ip("::1/128")],
        ..Outcome::default()
    }
}
