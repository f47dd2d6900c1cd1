//! ADD: everything that can be refused is refused first, then another plugin is asked for
//! addresses where one gives them, then netd. What fails leaves nothing.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::Path,
};

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
    IfName,
    driver::Driver,
    endpoint::{of_netns, open_netns},
    fault,
    network::Network,
    plugin::making::{attach_on, undo, unmake},
};

/// What an ADD prints.
pub(super) fn add(call: &Call<'_, impl Driver>) -> Result<String> {
    let (header, attachment) = (call.header, call.attachment()?);
    if call.has_interfaces() && attachment.ifname == IfName::lo() {
        return Err(Refusal::new(
            Refusal::ENVIRONMENT,
            "invalid CNI_IFNAME lo: it is the loopback interface, which the container has already; \
             name another",
        ));
    }
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
        let attach = attach.opened_at(Path::new(path));
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
