//! Networks that dockerd has: made for it, or shared with it.

use std::{collections::BTreeMap, net::IpAddr};

use cnm::{
    Error, Kind, Result,
    docker::NETWORK_PREFIX,
    network::{Network, RemoveNetwork, UpdateNetwork},
    options::DELIVER,
    split::{self, Ranges},
};
use ipnetwork::IpNetwork;

use super::{
    Plugin,
    messages::CreateNetwork,
    translate::{self, JOINED, OWN, Wanted, aux_label, label, parts_label},
    untold,
};
use crate::{netd::Netd, networks::divided::left_out};

/// Whether dockerd has a network.
pub(in crate::docker) fn is_dockers(network: &Network) -> bool {
    dockers_ids(network).next().is_some()
}

/// The ids under which dockerd has a network.
pub(in crate::docker) fn dockers_ids(network: &Network) -> impl Iterator<Item = &str> {
    network.labels.keys().filter_map(|key| key.strip_prefix(NETWORK_PREFIX))
}

/// Dockerd's ids of a network that are the ids of the dockerd of this host: on a network of the cluster
/// others' are there as well, of which this one knows nothing.
pub(in crate::docker) fn ids_here<'a>(
    netd: &'a Netd,
    network: &'a Network,
) -> impl Iterator<Item = &'a str> {
    dockers_ids(network).filter(|id| {
        let value = network.labels.get(&label(id));
        value.is_some_and(|value| Plugin::is_here(netd, value))
    })
}

impl Plugin {
    /// The network that dockerd has under this id.
    pub(super) fn network(&self, id: &str) -> Result<Network> {
        let label = label(id);
        let registry = self.netd.registry.borrow();
        let found = registry.networks().find(|entry| entry.network.labels.contains_key(&label));
        found.map(|entry| entry.network.clone()).ok_or_else(|| {
            let short = id.get(..12).unwrap_or(id);
            Error::not_found(format_args!(
                "netd has no network for Docker's {short}: remove it in Docker and make it again"
            ))
            .with("network", id)
        })
    }

    /// Makes a network, or shares one that is there under the name that was given. One that was made
    /// for the same id is there already.
    pub(super) async fn create_network(&self, request: CreateNetwork) -> Result<()> {
        if request.network.is_empty() {
            return Err(Error::invalid("NetworkID is empty"));
        }
        if self.network(&request.network).is_ok() {
            return Ok(());
        }
        let mut wanted = translate::network(&request)?;
        let existing = {
            let registry = self.netd.registry.borrow();
            let found = registry.resolve_network(&format!("={}", wanted.create.name));
            found.ok().filter(|_| wanted.named).map(|entry| entry.network.clone())
        };
        let driver = existing.as_ref().map(|network| network.driver.clone());
        let driver = driver.or_else(|| wanted.create.driver.clone());
        let driver = driver.as_deref().unwrap_or("bridge");
        self.check_delivers(driver).await?;
        if let Some(known) = self.netd.driver(driver)?.options() {
            let given = wanted.create.options.keys().map(String::as_str);
            known.check_network_beside(driver, &translate::OWN_OPTIONS, given)?;
        }
        let (mut own, mut joined) = (OWN.to_owned(), JOINED.to_owned());
        if Netd::is_shared(driver) {
            if !wanted.addresses_are_netds {
                return Err(Error::invalid(
                    "a network of type overlay spans hosts, and no dockerd knows what the others gave out: \
                     say --ipam-driver netd",
                ));
            }
            if let Some(node) = self.netd.own_node() {
                own = format!("{OWN} {node}");
                joined = format!("{JOINED} {node}");
            }
        }
        wanted.create.labels.insert(label(&request.network), own);
        match existing {
            Some(network) => {
                let id = network.id.to_string();
                let decide =
                    |network: &Network| self.joined(network, &wanted, &request.network, joined);
                self.netd.update_network_as(&id, decide).await?;
            }
            None => {
                untold::check(&wanted)?;
                let key = Some(request.network.clone());
                self.netd.create_network(wanted.create.clone(), key).await?;
            }
        }
        let mut offers = self.offers.borrow_mut();
        wanted.create.subnets.iter().for_each(|subnet| offers.settled(subnet.subnet));
        Ok(())
    }

    /// What becomes of a network that is there when dockerd has it as well, under this id.
    fn joined(
        &self,
        network: &Network,
        wanted: &Wanted,
        id: &str,
        joined: String,
    ) -> Result<UpdateNetwork> {
        check_same(network, &wanted.create)?;
        let (ranges, parts) = split::joined(network, &wanted.parts);
        untold::check_joined(network, wanted, &ranges)?;
        self.check_divisible(network, wanted, &parts)?;
        self.check_left_out(network, wanted, &ranges)?;
        let mut labels = BTreeMap::from([(label(id), joined)]);
        if !parts.is_empty() {
            labels.insert(parts_label(id), split::label(parts));
            let aux = aux_label(id);
            if let Some(told) = wanted.create.labels.get(&aux) {
                labels.insert(aux, told.clone());
            }
        }
        let network = network.id.to_string();
        Ok(UpdateNetwork { network, ranges, labels, ..UpdateNetwork::default() })
    }

    /// Refuses an address that Docker is to leave out and that netd would give to the next one who comes.
    fn check_left_out(&self, network: &Network, wanted: &Wanted, ranges: &Ranges) -> Result<()> {
        if wanted.addresses_are_netds {
            return Ok(());
        }
        let registry = self.netd.registry.borrow();
        let kept_off = |address| {
            let entry = registry.network(&network.id);
            entry.is_some_and(|entry| entry.is_kept_off(address))
        };
        for address in wanted.create.subnets.iter().flat_map(|subnet| subnet.aux.values()) {
            let Some(own) = network.subnet_of(*address) else { continue };
            let range = ranges.get(&own.subnet).copied().unwrap_or(own.range).unwrap_or(own.subnet);
            let taken = registry.taken_from_docker(network, &[IpNetwork::from(*address)]);
            if !range.contains(*address) || taken.contains(address) || kept_off(*address) {
                continue;
            }
            return Err(Error::invalid(format_args!(
                "address {address} is of {range}, which netd gives out on network {}, and --aux-address \
                 keeps only Docker from it: say netctl network reserve --ip {address} {} NAME first, and \
                 netd keeps it for the container of that name",
                network.name, network.name
            ))
            .with("address", address.to_string())
            .with("network", network.id.as_str()));
        }
        Ok(())
    }

    /// Refuses a network of which Docker would give out what it is to keep its hands off: no driver can
    /// tell it so but before the network is made, and then it knows for good.
    fn check_divisible(
        &self,
        network: &Network,
        wanted: &Wanted,
        parts: &[IpNetwork],
    ) -> Result<()> {
        let name = &network.name;
        let refused = |why: String| Err(Error::invalid(why).with("network", network.id.as_str()));
        let of_podman = split::parts(network).filter(|(label, _)| *label == split::NETAVARK);
        let of_podman: Vec<_> = of_podman.map(|(_, part)| part).collect();
        if !wanted.parts.is_empty() && !of_podman.is_empty() {
            return refused(format!(
                "Podman gives addresses of {} of network {name} of netd out itself, and Docker would give \
                 the same: say --ipam-driver netd --ipam-opt network={name}, or, where Podman has no such \
                 network any more, netctl podman prune first",
                split::label(of_podman),
            ));
        }
        let told: Vec<_> =
            wanted.create.subnets.iter().flat_map(|subnet| subnet.aux.values()).collect();
        let mut taken = self.netd.registry.borrow().taken_from_docker(network, parts);
        taken.retain(|address| !told.contains(&address));
        let gateways = network.subnets.iter().filter_map(|own| Some((own.subnet, own.gateway?)));
        let is_other = |(subnet, gateway): &(IpNetwork, IpAddr)| {
            let mut same = wanted.create.subnets.iter().filter(|other| other.subnet == *subnet);
            parts.iter().any(|part| subnet.contains(part.network()))
                && same.any(|other| other.gateway.is_some_and(|other| other != *gateway))
        };
        let mut say: Vec<_> =
            gateways.filter(is_other).map(|(_, gateway)| format!("--gateway {gateway}")).collect();
        if !taken.is_empty() {
            say.push(left_out(&taken));
        }
        if say.is_empty() {
            return Ok(());
        }
        refused(format!(
            "network {name} of netd has addresses in use of {}, which Docker would give out itself: say {} \
             as well, or --ipam-driver netd --ipam-opt network={name}",
            split::label(parts),
            say.join(" ")
        ))
    }

    /// Refuses a driver that leaves no interface on the host, from where dockerd moves it.
    async fn check_delivers(&self, driver: &str) -> Result<()> {
        let session = self.netd.driver(driver)?;
        session.capabilities().await?;
        let on_host = [(DELIVER.names[0].to_owned(), "host".to_owned())];
        session.check_endpoint_options(&on_host.into()).map_err(|_| {
            Error::unsupported(format_args!(
                "a network of type {driver} takes none of Docker's containers, since dockerd moves their \
                 interfaces itself: say -o type=bridge, overlay or macvlan, or -d with a driver of Docker's own"
            ))
            .with("driver", driver)
        })
    }

    /// Whether a label that says that dockerd has a network is of the dockerd of this host: on one of the
    /// cluster each has its own.
    pub(in crate::docker) fn is_here(netd: &Netd, value: &str) -> bool {
        let node = value.split_once(' ').map(|(_, node)| node);
        node.is_none_or(|node| netd.own_node().is_some_and(|own| own.as_str() == node))
    }

    /// Removes a network that was made for dockerd, and lets go of one that is shared: made for one
    /// dockerd it is the next one's that has it, and goes with the last. One on which somebody else is
    /// stays, as netd's own.
    pub(super) async fn delete_network(&self, id: &str) -> Result<()> {
        let Ok(network) = self.network(id) else { return Ok(()) };
        let label = label(id);
        let is_own = network.labels.get(&label).is_some_and(|whose| whose.starts_with(OWN));
        let mut others = network.labels.iter();
        let heir = others.find(|(key, _)| key.starts_with(NETWORK_PREFIX) && **key != label);
        let mut labels = BTreeMap::new();
        if let Some((key, whose)) = heir.filter(|_| is_own) {
            labels.insert(key.clone(), whose.replacen(JOINED, OWN, 1));
        } else if is_own {
            let remove = RemoveNetwork { network: network.id.to_string() };
            match self.netd.remove_network(&remove).await {
                // A worker of a cluster takes none of its networks away.
                Err(error) if matches!(error.kind, Kind::Busy | Kind::Denied) => {
                    tracing::info!(network = %network.name, %error, "stays, without Docker");
                }
                Err(error) if error.kind != Kind::NotFound => return Err(error),
                _ => return Ok(()),
            }
        }
        let (parts, aux) = (parts_label(id), aux_label(id));
        let ranges = split::left(&network, &parts);
        // A worker of a cluster may take the first one off a network, and nothing else.
        let remove_labels = [label, parts, aux]
            .into_iter()
            .filter(|label| network.labels.contains_key(label))
            .collect();
        let network = network.id.to_string();
        let update = UpdateNetwork { network, ranges, labels, remove_labels, ..Default::default() };
        let network = self.netd.update_network(update).await?;
        self.netd.left_behind(&network.id);
        Ok(())
    }
}

/// Refuses what a network that is there is not.
fn check_same(network: &Network, wanted: &cnm::network::CreateNetwork) -> Result<()> {
    let refused = |what: String| {
        Err(Error::invalid(format_args!("network {} of netd is there, and {what}", network.name))
            .with("network", network.id.as_str()))
    };
    if let Some(driver) = wanted.driver.as_deref().filter(|driver| *driver != network.driver) {
        return refused(format!("its type is {}, not {driver}", network.driver));
    }
    if wanted.internal != network.internal {
        return refused("only one of the two is internal".to_owned());
    }
    let known = |subnet: &&cnm::network::Subnet| {
        network.subnets.iter().all(|own| own.subnet != subnet.subnet)
    };
    if let Some(other) = wanted.subnets.iter().find(known) {
        return refused(format!(
            "{} is none of its subnets: use --ipam-driver netd --ipam-opt network={} --subnet {}",
            other.subnet,
            network.name,
            network.subnets.first().map(|own| own.subnet.to_string()).unwrap_or_default()
        ));
    }
    Ok(())
}
