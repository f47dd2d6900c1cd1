//! `netctl network`: what `docker network` does, done by netd.

mod disconnect;
mod list;
mod natural;
mod subnets;
mod template;

use std::{
    io::{self, BufRead as _},
    path::Path,
    process::ExitCode,
};

use cnm::{
    Error, Kind,
    client::Client,
    docker, ipam,
    network::{
        CheckNetwork, CreateNetwork, InspectNetwork, ListNetworks, NetworkDetail, PruneNetworks,
        RemoveNetwork, UpdateNetwork,
    },
    options::{ATTACHABLE, DNS, DNS_OF_DOMAIN},
};

use crate::{
    args::{
        Connect, Create, Format, Inspect, List, NetworkCommand, Prune, Remove, Reserve, Unreserve,
        Update, values,
    },
    cni,
    out::{self, Outcome, Tally},
    sandbox,
};

/// Does one of the commands.
pub(crate) fn network(socket: &Path, command: NetworkCommand) -> Outcome {
    match command {
        NetworkCommand::Create(args) => create(socket, args),
        NetworkCommand::Ls(args) => ls(socket, args),
        NetworkCommand::Inspect(args) => inspect(socket, &args),
        NetworkCommand::Update(args) => update(socket, args),
        NetworkCommand::Reserve(args) => reserve(socket, args),
        NetworkCommand::Unreserve(args) => unreserve(socket, args),
        NetworkCommand::Rm(args) => rm(socket, args),
        NetworkCommand::Prune(args) => prune(socket, args),
        NetworkCommand::Connect(args) => connect(socket, args),
        NetworkCommand::Disconnect(args) => disconnect::disconnect(socket, args),
    }
}

fn create(socket: &Path, args: Create) -> Outcome {
    let subnets = subnets::group(
        &args.subnet,
        &args.ip_range,
        &args.gateway,
        &args.aux_address,
        &args.exclude,
    )?;
    if args.cni {
        cni::list::check_free(&args.cni_dir, &args.name)?;
    }
    let chosen = subnets.is_empty();
    let attachable = args.attachable.then(|| (ATTACHABLE.names[0].to_owned(), "true".to_owned()));
    let mut client = Client::connect(socket)?;
    let create = CreateNetwork {
        name: args.name,
        driver: Some(args.driver),
        subnets,
        ipv4: args.ipv4,
        ipv6: args.ipv6,
        internal: args.internal,
        options: args.options.into_iter().chain(attachable).collect(),
        labels: args.labels.into_iter().collect(),
    };
    let warnings = if chosen { Vec::new() } else { warnings(&mut client, &create)? };
    let made = client.call(&create)?;
    out::print(&format!("{}\n", made.id))?;
    if let Some(warning) = lan_without_subnet(&made).filter(|_| chosen) {
        out::complain(&warning);
    }
    if let Some(warning) = servers_unasked(&made) {
        out::complain(&warning);
    }
    for warning in &warnings {
        out::complain(warning);
    }
    if args.cni {
        cni::list::write(&args.cni_dir, &made)?;
        if let Some(warning) = cni::list::not_first(&args.cni_dir, &made) {
            out::complain(&warning);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What would be in the way of a network whose subnets were named.
fn warnings(client: &mut Client, create: &CreateNetwork) -> cnm::Result<Vec<String>> {
    match client.call(&CheckNetwork { network: create.clone() }) {
        Ok(checked) => Ok(checked.warnings),
        // An earlier netd looks no sooner than it makes it.
        Err(error) if error.operands.contains_key("method") => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// What is said of a network on a LAN whose subnet was chosen. It is chosen as for any other, as
/// Docker does it: the containers reach each other, and so moved commands work. The LAN's own subnet
/// is not taken instead, since its other addresses are somebody's to give out, a DHCP server's or an
/// administrator's, and who does not name a part of it has not thought of that.
fn lan_without_subnet(network: &cnm::network::Network) -> Option<String> {
    let subnet = network.subnets.first()?.subnet;
    let parent = network.options.get("parent").filter(|parent| !parent.is_empty())?;
    (network.link.is_none() && !network.internal).then(|| {
        format!(
            "network {} has {subnet}, of the default pools, which nobody on the LAN of {parent} \
             knows: to be reached from there, give it the LAN's --subnet, and an --ip-range that \
             nobody else gives out",
            network.name
        )
    })
}

/// What is said of an internal network with servers for names of others.
fn servers_unasked(network: &cnm::network::Network) -> Option<String> {
    let mut options = network.options.keys();
    let option = options.find(|name| DNS.is(name) || DNS_OF_DOMAIN.is(name))?;
    let name = &network.name;
    network.internal.then(|| {
        format!(
            "network {name} is internal, and asks nobody for names of others: the servers of \
             {option} are not used"
        )
    })
}

fn ls(socket: &Path, args: List) -> Outcome {
    let format = list::Format::new(args.format.as_deref(), args.quiet)?;
    let mut filters = values::filters(args.filters);
    if let Some(drivers) = filters.get_mut("driver") {
        for driver in drivers.iter_mut().filter(|driver| *driver == docker::NULL) {
            docker::NONE.clone_into(driver);
        }
    }
    let mut found = Client::connect(socket)?.call(&ListNetworks { filters })?;
    found.networks.sort_by(|a, b| natural::compare(a.name.as_str(), b.name.as_str()));
    if args.output.json {
        out::json(&found)?;
    } else {
        out::print(&format.text(&found.networks, args.no_trunc))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn inspect(socket: &Path, args: &Inspect) -> Outcome {
    let mut client = Client::connect(socket)?;
    let mut tally = Tally::default();
    let mut found: Vec<NetworkDetail> = Vec::new();
    for network in &args.networks {
        match client.call(&InspectNetwork { network: network.clone() }) {
            Ok(detail) => found.push(detail),
            Err(error) => tally.fault(&error),
        }
    }
    if args.output.json || args.format == "cnm" {
        out::json(&found)?;
    } else {
        let shown: Vec<_> = found.iter().map(docker::Network::of).collect();
        out::print(&docker::text(&shown, args.format == "json"))?;
        found.iter().flat_map(|detail| &detail.notes).for_each(out::complain);
    }
    Ok(tally.code())
}

fn update(socket: &Path, args: Update) -> Outcome {
    let add_subnets = subnets::group(
        &args.add_subnet,
        &args.ip_range,
        &args.gateway,
        &args.aux_address,
        &args.exclude,
    )?;
    let update = UpdateNetwork {
        network: args.network,
        add_subnets,
        labels: args.labels.into_iter().collect(),
        remove_labels: args.remove_labels,
        options: args.options.into_iter().collect(),
        remove_options: args.remove_options,
        ..UpdateNetwork::default()
    };
    if update == (UpdateNetwork { network: update.network.clone(), ..UpdateNetwork::default() }) {
        return Err(Error::invalid(format_args!(
            "nothing to change of network {} was said: say --add-subnet, --opt, --opt-rm, --label or \
             --label-rm",
            update.network
        ))
        .into());
    }
    let changed = Client::connect(socket)?.call(&update)?;
    if args.output.json {
        out::json(&changed)?;
    } else {
        out::print(&format!("{}\n", changed.id))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn reserve(socket: &Path, args: Reserve) -> Outcome {
    let Reserve { ip: addresses, output, network, name } = args;
    let call = ipam::Reserve { network, name, addresses };
    reserved(&output, &Client::connect(socket)?.call(&call)?)
}

fn unreserve(socket: &Path, args: Unreserve) -> Outcome {
    let Unreserve { output, network, name } = args;
    reserved(&output, &Client::connect(socket)?.call(&ipam::Unreserve { network, name })?)
}

/// One address a line.
fn reserved(output: &Format, reserved: &ipam::Reserved) -> Outcome {
    if output.json {
        out::json(reserved)?;
    } else {
        let lines = reserved.addresses.iter().map(|address| format!("{address}\n"));
        out::print(&lines.collect::<String>())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn rm(socket: &Path, args: Remove) -> Outcome {
    let mut client = Client::connect(socket)?;
    let mut tally = Tally::default();
    for network in args.networks {
        // Whether it is there is said by its removal.
        let known = client.call(&InspectNetwork { network: network.clone() }).ok();
        match remove(&mut client, &network, args.force) {
            Ok(_) => {
                if let Some(known) = known {
                    cni::list::withdraw(&args.cni_dir, &known.network);
                }
                out::print(&format!("{network}\n"))?;
            }
            Err(error) if args.force && error.kind == Kind::NotFound => {}
            Err(error) => tally.fault(&error),
        }
    }
    Ok(tally.code())
}

/// Removes a network; with force also one that another has as well, which loses its hold on it then.
fn remove(client: &mut Client, network: &str, force: bool) -> cnm::Result<cnm::Empty> {
    let remove = RemoveNetwork { network: network.to_owned() };
    // As often as somebody else has a hold on it.
    loop {
        let error = match client.call(&remove) {
            Err(error) if force && error.kind == Kind::Busy => error,
            outcome => return outcome,
        };
        let operand = |name: &str| error.operands.get(name)?.as_str().map(str::to_owned);
        let (Some(id), Some(label)) = (operand("network"), operand("label")) else {
            return Err(error);
        };
        let (network, remove_labels) = (format!("={id}"), vec![label]);
        client.call(&UpdateNetwork { network, remove_labels, ..UpdateNetwork::default() })?;
    }
}

fn prune(socket: &Path, args: Prune) -> Outcome {
    if !args.force && !agreed()? {
        out::complain(&"network prune has been cancelled");
        return Ok(ExitCode::FAILURE);
    }
    let request = PruneNetworks { filters: values::filters(args.filters) };
    let mut client = Client::connect(socket)?;
    let known = client.call(&ListNetworks::default())?.networks;
    let pruned = client.call(&request)?;
    for network in known.iter().filter(|network| pruned.removed.contains(&network.name)) {
        cni::list::withdraw(&args.cni_dir, network);
    }
    if args.output.json {
        out::json(&pruned)?;
    } else if !pruned.removed.is_empty() {
        let names: String = pruned.removed.iter().map(|name| format!("{name}\n")).collect();
        out::print(&format!("Deleted Networks:\n{names}\n"))?;
    }
    pruned.notes.iter().for_each(out::complain);
    Ok(ExitCode::SUCCESS)
}

fn agreed() -> Result<bool, out::Stop> {
    out::print(
        "WARNING! This will remove all custom networks not used by at least one container.\n\
         Are you sure you want to continue? [y/N] ",
    )?;
    let mut answer = String::new();
    io::stdin()
        .lock()
        .read_line(&mut answer)
        .map_err(|error| out::system("cannot read the answer", &error))?;
    Ok(answer.trim().eq_ignore_ascii_case("y"))
}

fn connect(socket: &Path, args: Connect) -> Outcome {
    let mut client = Client::connect(socket)?;
    let sandbox = sandbox::find(&mut client, &args.container)?;
    client.call(&args.wanted.on(&args.network, sandbox.container, None))?;
    Ok(ExitCode::SUCCESS)
}
