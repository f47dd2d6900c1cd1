//! CHECK: what was answered is compared with what netd has on record, and that with the kernel,
//! also inside the container. What plugins after this one have changed is theirs.

use std::os::fd::AsFd;

use super::{
    Call, add, connect,
    delegate::Delegate,
    environment::Verb,
    outcome::Outcome,
    refusal::{Refusal, Result},
};
use crate::{
    Kind,
    client::With,
    driver::Driver,
    endpoint::{CheckEndpoint, Endpoint, Netns, of_netns},
};

/// Prints nothing when all is as it should be.
pub(super) fn check(call: &Call<'_, impl Driver>) -> Result<String> {
    let (header, attachment) = (call.header, call.attachment()?);
    let previous = header.previous()?.ok_or_else(|| {
        Refusal::new(Refusal::CONFIG, "prevResult is missing, which a CHECK compares with")
    })?;
    let netns = add::open(call, attachment)?;
    let mut client = connect()?;
    let endpoint = call.endpoint(&mut client)?.ok_or_else(|| {
        Refusal::new(
            100 + u32::from(Kind::NotFound.exit_code()),
            format_args!(
                "container {} has no {} on network {}",
                attachment.container, attachment.ifname, header.name
            ),
        )
    })?;
    let mut differences = differences(&endpoint, &previous);
    let mac = link_of(&endpoint, &previous).and_then(|(_, mac)| mac?.parse().ok());
    let request = CheckEndpoint { endpoint: endpoint.id.to_string(), netns: Some(Netns::Fd), mac };
    let with = With { fds: &[netns.as_fd()], ..With::default() };
    let path = attachment.netns.as_deref().unwrap_or_default();
    let checked = client.call_with(&request, with).map_err(|error| of_netns(error, path))?;
    differences.extend(checked.differences);
    if !differences.is_empty() {
        return Err(Refusal::new(
            Refusal::DIFFERS,
            format_args!(
                "{} of container {} on network {} is not as it should be: {}",
                attachment.ifname,
                attachment.container,
                header.name,
                differences.join("; ")
            ),
        ));
    }
    if let Some(kind) = &header.delegate {
        Delegate::find(kind, &call.environment.path, call.text)?.run(Verb::Check)?;
    }
    Ok(String::new())
}

/// The place of an endpoint's interface in a result, and its MAC address there.
fn link_of<'a>(endpoint: &Endpoint, previous: &'a Outcome) -> Option<(u64, Option<&'a str>)> {
    let found = previous
        .interfaces
        .iter()
        .zip(0..)
        .find(|(link, _)| link.sandbox.is_some() && link.name == endpoint.ifname.as_str());
    found.map(|(link, at)| (at, link.mac.as_deref()))
}

/// What an ADD answered and is not so.
fn differences(endpoint: &Endpoint, previous: &Outcome) -> Vec<String> {
    let Some((own, _)) = link_of(endpoint, previous) else {
        return vec![format!("prevResult has no interface {} in a container", endpoint.ifname)];
    };
    let has = |address: &ipnetwork::IpNetwork| {
        let mut ips = previous.ips.iter().filter(|ip| ip.interface.is_none_or(|at| at == own));
        ips.any(|ip| ip.address == *address)
    };
    let missing = endpoint.addresses.iter().filter(|address| !has(address));
    missing.map(|address| format!("prevResult does not have its address {address}")).collect()
}
