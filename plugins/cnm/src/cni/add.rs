//! ADD: everything that can be refused is refused first, then another plugin is asked for
//! addresses where one gives them, then netd. What fails leaves nothing.

use std::{
    fs::{self, File},
    os::{fd::AsFd, unix::fs::MetadataExt},
    path::Path,
};

use serde_json::value::RawValue;

use super::{
    Call, addressing,
    config::Config,
    connect,
    delegate::Delegate,
    environment::{Attachment, Verb},
    refusal::{Refusal, Result},
    translate,
};
use crate::{
    Error, Kind, Reply, Request,
    client::Client,
    driver::Driver,
    endpoint::{Attach, Detach, Endpoint, of_netns, open_netns},
    fault,
    network::{CreateNetwork, ListNetworks, Network, Networks, RemoveNetwork},
};

/// What an ADD prints.
pub(super) fn add(call: &Call<'_, impl Driver>) -> Result<String> {
    let (header, attachment) = (call.header, call.attachment()?);
    let mut config = Config::parse(header)?;
    let previous = header.previous()?;
    if config.dns.is_empty()
        && let Some(dns) = addressing::resolver_file(&header.keys())?
    {
        config.dns = dns;
    }
    let netns = open(call, attachment)?;
    let mut client = connect()?;
    let delegate = match &header.delegate {
        Some(kind) => Some(Delegate::find(kind, &call.environment.path, call.text)?),
        None => None,
    };
    let given = delegate.as_ref().map(Delegate::add).transpose();
    let mut own_network = None;
    let added = given.and_then(|given| {
        let mut attach =
            translate::attach(&header.name, header.version, attachment, &config, given.as_ref())?;
        let info = call.driver.info();
        let driver = &info.name;
        let mut create = translate::create(&header.name, driver, &config, given.as_ref());
        // The keys are the reference bridge's, and some say nothing to another driver.
        attach.options.retain(|option, _| info.takes_for_endpoint(option));
        create.options.retain(|option, _| info.takes_for_network(option));
        let path = attachment.netns.as_deref().unwrap_or_default();
        let (endpoint, network) =
            attach_on(&mut client, &attach, &create, &netns, &mut own_network)
                .map_err(|error| of_netns(error, path))?;
        let outcome = translate::outcome(&endpoint, &network, path, &config, given);
        let outcome = outcome.after(previous.unwrap_or_default());
        let told = same_driver(&network, driver).and_then(|()| outcome.to_text(header.version));
        if told.is_err() {
            undo(&mut client, &endpoint);
        }
        told
    });
    if added.is_err() {
        if let Some(network) = &own_network {
            unmake(&mut client, network);
        }
        if let Some(delegate) = &delegate
            && let Err(error) = delegate.run(Verb::Del)
        {
            eprintln!("{}", error.msg);
        }
    }
    fault::point("front.attach.before-answer");
    added
}

/// Opens the namespace here, since its path may mean nothing where netd runs. The host's own is
/// refused before anything is done.
pub(super) fn open(call: &Call<'_, impl Driver>, attachment: &Attachment) -> Result<File> {
    let path = attachment.netns.as_deref().unwrap_or_default();
    let netns = open_netns(Path::new(path)).map_err(|error| {
        Refusal::new(Refusal::NETNS, format_args!("invalid CNI_NETNS: {error}"))
    })?;
    let place = |meta: fs::Metadata| (meta.dev(), meta.ino());
    let own = fs::metadata("/proc/self/ns/net").map(place);
    let theirs = netns.metadata().map(place);
    let is_own = matches!((own, theirs), (Ok(own), Ok(theirs)) if own == theirs);
    if is_own && !attachment.own_netns && !call.driver.info().capabilities.host_netns {
        return Err(Refusal::new(
            Refusal::NETNS,
            format_args!("invalid CNI_NETNS {path}: it is the host's own network namespace"),
        ));
    }
    Ok(netns)
}

/// How often the network may be found missing: others make it, fail, and take it away again.
const ATTEMPTS: usize = 8;

/// Attaches, and makes the network if that is what is missing, which is then left in `own`. Many may
/// do so at once: netd makes one, and the others find it.
fn attach_on(
    client: &mut Client,
    attach: &Attach,
    create: &CreateNetwork,
    netns: &File,
    own: &mut Option<Network>,
) -> crate::Result<(Endpoint, Network)> {
    let mut refused = None;
    for _ in 0..ATTEMPTS {
        match exchange(client, attach, &create.name, netns) {
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

/// Takes a network away again that an ADD made and that failed: unless somebody else is on it by now,
/// who is then the one to need it.
fn unmake(client: &mut Client, network: &Network) {
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

/// Asks for the attach and for what the network is, in one line.
fn exchange(
    client: &mut Client,
    attach: &Attach,
    name: &str,
    netns: &File,
) -> crate::Result<(Endpoint, Network)> {
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

/// A network has one driver, and the configuration names it by its type.
fn same_driver(network: &Network, driver: &str) -> Result<()> {
    if network.driver == driver {
        return Ok(());
    }
    Err(Refusal::new(
        Refusal::CONFIG,
        format_args!(
            "network {} is of the driver {}: its type should be netd-{}",
            network.name, network.driver, network.driver
        ),
    ))
}

fn undo(client: &mut Client, endpoint: &Endpoint) {
    let detach = Detach {
        network: Some(endpoint.network.to_string()),
        container: translate::exactly(endpoint.container.id.as_str()),
        ifname: Some(endpoint.ifname.clone()),
    };
    if let Err(error) = client.call(&detach) {
        eprintln!("cannot undo the attach: {error}");
    }
}
