//! `setup`: puts a container on one network. What fails leaves nothing.

use std::path::Path;

use super::{
    document::{self, Setup},
    status, there, translate,
};
use crate::{
    Error, Kind, Result,
    client::Client,
    driver::Info,
    endpoint::{Attach, of_netns, open_netns},
    fault,
    network::{ListNetworks, Network, RemoveNetwork, UpdateNetwork},
    plugin::making::{attach_on, undo, unmake},
    split,
};

/// What a setup prints.
pub(super) fn setup(info: &Info, setup: &Setup, netns: &str) -> Result<String> {
    let mut attach = translate::attach(info, setup)?.opened_at(Path::new(netns));
    let create = translate::create(info, &setup.network)?;
    let file = open_netns(Path::new(netns))?;
    let mut client = super::connect()?;
    let mut own = None;
    let mut attach_once = |client: &mut Client, attach: &Attach| {
        attach_on(client, attach, &create, &file, &mut own).map_err(|error| of_netns(error, netns))
    };
    let mut attached = attach_once(&mut client, &attach);
    let earlier = match &attached {
        Ok((endpoint, network)) if is_earlier(network, &setup.network.id) => {
            undo(&mut client, endpoint);
            Some(network.clone())
        }
        Ok(_) => None,
        // What is left of it may have other subnets, where there is no place.
        Err(_) => find_earlier(&mut client, &setup.network),
    };
    if let Some(network) = earlier {
        let removed = remove_earlier(&mut client, &network);
        attached = removed.and_then(|()| attach_once(&mut client, &attach));
    }
    if attached.is_err()
        && let Some(network) = there::with_others(&mut client, &setup.network, &attach)
    {
        attached = there::leave_to_netd(&mut attach, &network, &setup.network)
            .and_then(|()| attach_once(&mut client, &attach));
        if let Ok((endpoint, _)) = &attached {
            there::tell(endpoint, &setup.network, &network);
        }
    }
    if let Ok((_, network)) = &attached {
        leave_half(&mut client, network, &setup.network);
    }
    let told = attached.and_then(|(endpoint, network)| {
        if network.driver == info.name {
            return status::text(&endpoint, &network, setup.network.dns_enabled);
        }
        undo(&mut client, &endpoint);
        Err(Error::invalid(format_args!(
            "network {} is of the driver {}: its driver should be netd-{}",
            network.name, network.driver, network.driver
        )))
    });
    if told.is_err()
        && let Some(network) = &own
    {
        unmake(&mut client, network);
    }
    fault::point("front.attach.before-answer");
    told
}

/// Whether Podman has removed the network and made another one of its name.
fn is_earlier(network: &Network, id: &str) -> bool {
    network.labels.get(translate::LABEL).is_some_and(|earlier| earlier != id)
}

/// What netd has of an earlier network of this name.
fn find_earlier(client: &mut Client, given: &document::Network) -> Option<Network> {
    let mut list = ListNetworks::default();
    list.filters.insert("name".to_owned(), vec![given.name.clone()]);
    let mut found = client.call(&list).ok()?.networks.into_iter();
    found.find(|network| network.name.as_str() == given.name && is_earlier(network, &given.id))
}

fn remove_earlier(client: &mut Client, network: &Network) -> Result<()> {
    match client.call(&RemoveNetwork { network: network.id.to_string() }) {
        Err(error) if error.kind == Kind::Busy => Err(Error::new(
            Kind::Busy,
            format_args!(
                "network {} was removed and made again, and the earlier one is in use: {error}",
                network.name
            ),
        )),
        Err(error) if error.kind != Kind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Has netd leave Podman its half of a network that netd had first, where Podman gives addresses.
fn leave_half(client: &mut Client, network: &Network, given: &document::Network) {
    let is_divided =
        network.labels.contains_key(split::NETAVARK) || split::dockers(network).next().is_some();
    if given.ipam() != Some(translate::HOST_LOCAL) || is_divided {
        return;
    }
    let (ranges, parts) = split::joined(network, &translate::parts(given));
    if parts.is_empty() {
        return;
    }
    let labels = [(split::NETAVARK.to_owned(), split::label(parts))].into();
    let id = network.id.to_string();
    let update = UpdateNetwork { network: id, ranges, labels, ..UpdateNetwork::default() };
    if let Err(error) = client.call(&update) {
        eprintln!("network {} is not divided: {error}", network.name);
    }
}
