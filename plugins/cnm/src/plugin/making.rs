//! The first attach on a network makes it: in dialects whose runtimes write networks down on their
//! own and tell of one only with a container for it.

use std::{fs::File, os::fd::AsFd};

use serde_json::{Value, value::RawValue};

use crate::{
    Error, Kind, Name, Reply, Request, Result,
    client::Client,
    endpoint::{Attach, Detach, Endpoint},
    fault,
    network::{CreateNetwork, ListNetworks, Network, Networks, RemoveNetwork},
    options::DNS,
};

/// A network or a container as requests name it: whole, since its name may be the beginning of
/// another's id.
pub(crate) fn exactly(name: &str) -> String {
    format!("={name}")
}

/// How often the network may be found missing: others make it, fail, and take it away again.
const ATTEMPTS: usize = 8;

/// Attaches, and makes the network if that is what is missing, which is then left in `own`. Many may
/// do so at once: netd makes one, and the others find it.
pub(crate) fn attach_on(
    client: &mut Client,
    attach: &Attach,
    create: &CreateNetwork,
    netns: &File,
    own: &mut Option<Network>,
) -> Result<(Endpoint, Network)> {
    let (mut attach, mut refused) = (attach.clone(), None);
    for _ in 0..ATTEMPTS {
        match exchange_without(client, &mut attach, &create.name, netns) {
            Err(error) if is_unmade(&error) => refused = refused.or(Some(error)),
            outcome => return outcome,
        }
        match client.call(create) {
            Ok(network) => *own = Some(network),
            // Either somebody else has made it, or it is something else of it that exists, such as
            // its subnet: then it stays missing.
            Err(error) if error.kind == Kind::Exists => refused = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(refused.unwrap_or_else(|| Error::internal("the network is missing each time")))
}

/// Takes a network away again whose first attach failed: unless somebody else is on it by now,
/// who is then the one to need it.
pub(crate) fn unmake(client: &mut Client, network: &Network) {
    match client.call(&RemoveNetwork { network: network.id.to_string() }) {
        Err(error) if !matches!(error.kind, Kind::Busy | Kind::NotFound) => {
            eprintln!("network {} is left: {error}", network.name);
        }
        _ => {}
    }
}

/// Whether the network is not there, or not yet.
fn is_unmade(error: &Error) -> bool {
    matches!(error.kind, Kind::NotFound | Kind::Busy) && error.operands.contains_key("network")
}

/// As [`exchange`]. What a runtime calls its container, or would have it ask, and netd cannot take is
/// left out and told: the container runs without.
fn exchange_without(
    client: &mut Client,
    attach: &mut Attach,
    name: &str,
    netns: &File,
) -> Result<(Endpoint, Network)> {
    loop {
        match exchange(client, attach, name, netns) {
            Err(error) if error.kind == Kind::Invalid && leave_out(attach, &error) => {
                eprintln!("left out: {error}");
            }
            outcome => return outcome,
        }
    }
}

/// Leaves the name, or the name server, out of an attach that it was refused for; whether it was one.
fn leave_out(attach: &mut Attach, error: &Error) -> bool {
    let operand = |key: &str| error.operands.get(key).and_then(Value::as_str);
    let container = &mut attach.container;
    if let Some(refused) = operand("name") {
        let is = |name: &Name| name.as_str() == refused;
        let before = attach.aliases.len();
        attach.aliases.retain(|alias| !is(alias));
        let own = [&mut container.name, &mut container.hostname];
        let own = own.into_iter().filter_map(|name| name.take_if(|name| is(name))).count();
        return own > 0 || attach.aliases.len() < before;
    }
    let option = DNS.names[0];
    let Some((refused, list)) = operand("dns").zip(attach.options.remove(option)) else {
        return false;
    };
    let left: Vec<_> = list.split(',').filter(|server| *server != refused).collect();
    let fewer = left.len() < list.split(',').count();
    if !left.is_empty() {
        attach.options.insert(option.to_owned(), left.join(","));
    }
    fewer
}

/// Asks for the attach and for what the network is, in one line.
fn exchange(
    client: &mut Client,
    attach: &Attach,
    name: &str,
    netns: &File,
) -> Result<(Endpoint, Network)> {
    let mut list = ListNetworks::default();
    list.filters.insert("name".to_owned(), vec![name.to_owned()]);
    let line = format!(
        "[{},{}]\n",
        Request::new(1, attach).to_line().trim_end(),
        Request::new(2, &list).to_line().trim_end()
    );
    fault::point("front.attach.before-call");
    let answer = client.exchange(&line, &[netns.as_fd()])?;
    let unclear = |error: serde_json::Error| {
        Error::internal(format_args!("netd's answer is not understood: {error}"))
    };
    let replies: Vec<Reply<Box<RawValue>>> = serde_json::from_str(&answer).map_err(unclear)?;
    let mut results = replies.into_iter().map(Reply::outcome);
    let mut next =
        || results.next().unwrap_or_else(|| Err(Error::internal("netd's answer is not whole")));
    let endpoint: Endpoint = serde_json::from_str(next()?.get()).map_err(unclear)?;
    let networks =
        next().and_then(|found| serde_json::from_str::<Networks>(found.get()).map_err(unclear));
    let network = networks.and_then(|found| {
        let mut networks = found.networks.into_iter();
        networks
            .find(|network| network.id == endpoint.network)
            .ok_or_else(|| Error::internal("netd does not show the network of an endpoint"))
    });
    match network {
        Ok(network) => Ok((endpoint, network)),
        Err(error) => {
            undo(client, &endpoint);
            Err(error)
        }
    }
}

/// Takes an endpoint off again of which the runtime cannot be told.
pub(crate) fn undo(client: &mut Client, endpoint: &Endpoint) {
    let detach = Detach {
        network: Some(endpoint.network.to_string()),
        container: exactly(endpoint.container.id.as_str()),
        ifname: Some(endpoint.ifname.clone()),
    };
    if let Err(error) = client.call(&detach) {
        eprintln!("cannot undo the attach: {error}");
    }
}
