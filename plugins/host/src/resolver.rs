//! The address of the host at which the resolver is asked from every network: on loopback, so that
//! it is the host's whichever link a question comes by.

use std::{collections::BTreeMap, net::Ipv4Addr};

use cnm::{Error, Result};
use kernel::{
    loopback::{self, Address},
    netlink::{Batch, Socket},
};

/// The setting of netd's that says which it is.
const SETTING: &str = "resolver";

/// A change of the kernel's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Add(Ipv4Addr),
    Delete(Ipv4Addr),
}

/// Which address netd wants there.
pub(crate) fn wanted(settings: &BTreeMap<String, String>) -> Result<Option<Ipv4Addr>> {
    let Some(text) = settings.get(SETTING) else { return Ok(None) };
    text.parse().map(Some).map_err(|error| {
        Error::invalid(format_args!("invalid {SETTING} {text:?}: {error}"))
            .with(SETTING, text.as_str())
    })
}

/// Sees to it that this one is there, and no other. Says what was done.
pub(crate) fn have(wanted: Option<Ipv4Addr>) -> kernel::Result<Vec<String>> {
    let mut socket = Socket::route_small()?;
    let steps = plan(wanted, &loopback::addresses(&mut socket)?);
    let mut batch = Batch::new();
    for step in &steps {
        match *step {
            Step::Add(address) => loopback::add(&mut batch, address),
            Step::Delete(address) => loopback::delete(&mut batch, address),
        }
    }
    if !batch.is_empty() {
        socket.run(batch)?;
    }
    let said = steps.iter().map(|step| match step {
        Step::Add(address) => format!("add the address {address} to lo"),
        Step::Delete(address) => format!("delete the address {address} from lo"),
    });
    Ok(said.collect())
}

/// Whether it is there, whoever gave it.
pub(crate) fn is_there(wanted: Ipv4Addr) -> kernel::Result<bool> {
    let there = loopback::addresses(&mut Socket::route_small()?)?;
    Ok(there.iter().any(|address| address.ip == wanted))
}

/// Takes it away, or only says what there is.
pub(crate) fn remove(check: bool) -> kernel::Result<Vec<String>> {
    let there = loopback::addresses(&mut Socket::route_small()?)?;
    if !check {
        have(None)?;
    }
    let own = there.iter().filter(|address| address.own);
    Ok(own.map(|address| format!("the address {} of lo", address.ip)).collect())
}

fn plan(wanted: Option<Ipv4Addr>, there: &[Address]) -> Vec<Step> {
    let gone = there.iter().filter(|address| address.own && Some(address.ip) != wanted);
    let new = wanted.filter(|wanted| !there.iter().any(|address| address.ip == *wanted));
    gone.map(|address| Step::Delete(address.ip)).chain(new.map(Step::Add)).collect()
}
