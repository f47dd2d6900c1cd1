//! `netctl apply` and `netctl down`: the networks of a Compose file are there as it has them, and are
//! gone. What is made bears Compose's own labels, so that it is known again, by Compose as well.

mod compare;
mod file;
mod variables;

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use cnm::{
    Error, Kind, Result,
    client::{Client, With},
    network::{CreateNetwork, InspectNetwork, ListNetworks, Network, RemoveNetwork, UpdateNetwork},
    system::TakeTurn,
};

use crate::{
    args::Compose,
    out::{self, Outcome, Tally},
};
use file::{Origin, Wanted};

/// Where a project's file is looked for, in this order (Compose specification, "Compose file").
const USUAL: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The labels by which Compose knows its own.
const PROJECT: &str = "com.docker.compose.project";
const NETWORK: &str = "com.docker.compose.network";

/// How long another `apply` or `down` of the project is waited for.
const TURN: Duration = Duration::from_secs(10);

/// How often a network may come and go under our hands.
const ATTEMPTS: usize = 8;

/// A file, read.
struct Project {
    name: String,
    networks: Vec<Wanted>,
}

/// `apply`.
pub(crate) fn apply(socket: &Path, args: &Compose) -> Outcome {
    let project = Project::read(args)?;
    let mut client = project.client(socket)?;
    let mut tally = Tally::default();
    for wanted in &project.networks {
        match project.apply(&mut client, wanted) {
            Ok(what) => out::print(&format!("{} {what}\n", wanted.name()))?,
            Err(error) => tally.fault(&error),
        }
    }
    Ok(tally.code())
}

/// `down`. What is not there is no fault.
pub(crate) fn down(socket: &Path, args: &Compose) -> Outcome {
    let project = Project::read(args)?;
    let mut client = project.client(socket)?;
    let mut tally = Tally::default();
    // Also those that the file had once.
    let own = [("label".to_owned(), vec![format!("{PROJECT}={}", project.name)])].into();
    let mut own = client.call(&ListNetworks { filters: own })?.networks;
    own.sort_by(|a, b| b.labels.get(NETWORK).cmp(&a.labels.get(NETWORK)));
    for network in own {
        match client.call(&RemoveNetwork { network: format!("={}", network.id) }) {
            Ok(_) => out::print(&format!("{} removed\n", network.name))?,
            Err(error) if error.kind == Kind::NotFound => {}
            Err(error) => tally.fault(&error),
        }
    }
    Ok(tally.code())
}

impl Project {
    fn read(args: &Compose) -> Result<Self> {
        let path = match &args.file {
            Some(path) => path.clone(),
            None => USUAL.map(PathBuf::from).into_iter().find(|path| path.is_file()).ok_or_else(
                || {
                    let message = format!("none of {} is here: name --file", USUAL.join(", "));
                    Error::not_found(message)
                },
            )?,
        };
        let (text, directory) = if path.as_os_str() == "-" {
            let mut text = String::new();
            io::stdin()
                .read_to_string(&mut text)
                .map_err(|error| out::system("cannot read standard input", &error))?;
            (text, env::current_dir().ok())
        } else {
            let cannot =
                |error| out::system(format_args!("cannot read {}", path.display()), &error);
            let whole = fs::canonicalize(&path).map_err(cannot)?;
            (fs::read_to_string(&whole).map_err(cannot)?, whole.parent().map(Path::to_owned))
        };
        let mut variables = variables::of_environment();
        if let Some(directory) = &directory
            && let Ok(text) = fs::read_to_string(directory.join(".env"))
        {
            variables::add_file(&mut variables, &text);
        }
        let called = variables.get("COMPOSE_PROJECT_NAME");
        let called = args.project_name.as_deref().or_else(|| called.map(String::as_str));
        let beside = directory.as_deref().and_then(Path::file_name);
        let beside = beside.map(|name| name.to_string_lossy().into_owned());
        let (name, networks) = file::parse(&text, &variables, called, &beside.unwrap_or_default())
            .map_err(|why| Error::invalid(format!("{}: {why}", path.display())))?;
        Ok(Self { name, networks })
    }

    /// A connection that changes the project's networks, and for as long as it is there the only one.
    fn client(&self, socket: &Path) -> Result<Client> {
        let mut client = Client::connect(socket)?;
        let turn = TakeTurn { at: format!("compose/{}", self.name) };
        let with = With { deadline: Some(TURN), ..With::default() };
        client.call_with(&turn, with).map_err(|error| match error.kind {
            Kind::Unavailable if error.operands.contains_key("deadline_ms") => Error::new(
                Kind::Busy,
                format_args!(
                    "another netctl apply or down of project {} is under way: run this again when it \
                     has ended",
                    self.name
                ),
            )
            .with("project", self.name.as_str()),
            _ => error,
        })?;
        Ok(client)
    }

    /// Brings a network to what is wanted; what was done.
    fn apply(&self, client: &mut Client, wanted: &Wanted) -> Result<&'static str> {
        let Origin::Own(create) = &wanted.origin else {
            return match find(client, wanted.name())? {
                Some(_) => Ok("unchanged"),
                None => Err(Error::not_found(format_args!(
                    "network {} is external and not there: make it first",
                    wanted.name()
                ))
                .with("network", wanted.name())),
            };
        };
        let create = CreateNetwork { labels: self.labels(wanted, create), ..create.clone() };
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            // Somebody else may make it or remove it now; or it is something of it that exists, such as a
            // subnet, and then it stays so.
            let error = match find(client, wanted.name())? {
                Some(there) => match self.change(client, wanted, &create, &there) {
                    Err(error) if error.kind == Kind::NotFound => error,
                    done => return done,
                },
                None => match client.call(&create) {
                    Err(error) if error.kind == Kind::Exists => error,
                    made => return made.map(|_| "created"),
                },
            };
            refused = Some(error);
        }
        Err(refused.unwrap_or_else(|| Error::internal("the network comes and goes")))
    }

    /// Brings a network that is there to what is wanted; what was done.
    fn change(
        &self,
        client: &mut Client,
        wanted: &Wanted,
        create: &CreateNetwork,
        there: &Network,
    ) -> Result<&'static str> {
        let differences = compare::differences(create, there);
        if !differences.is_empty() {
            return Err(Error::exists(format_args!(
                "network {} is there and is another: {}; remove it, or let the file say so",
                there.name,
                differences.join(", ")
            ))
            .with("network", there.id.as_str()));
        }
        if !self.is_own(there, wanted) {
            return Err(Error::exists(format_args!(
                "network {} is there, and not of project {}: make it external, or name another",
                there.name, self.name
            ))
            .with("network", there.id.as_str()));
        }
        let labels = &create.labels;
        let stale = there.labels.keys().filter(|key| !labels.contains_key(*key));
        // Those of others, such as dockerd, are not the file's to judge.
        let remove_labels: Vec<_> = stale.filter(|key| !is_ours(key)).cloned().collect();
        let new = labels.iter().filter(|(key, value)| there.labels.get(*key) != Some(*value));
        let labels: BTreeMap<_, _> = new.map(|(key, value)| (key.clone(), value.clone())).collect();
        if labels.is_empty() && remove_labels.is_empty() {
            return Ok("unchanged");
        }
        let network = format!("={}", there.id);
        client.call(&UpdateNetwork { network, labels, remove_labels, ..Default::default() })?;
        Ok("changed")
    }

    fn labels(&self, wanted: &Wanted, create: &CreateNetwork) -> BTreeMap<String, String> {
        let mut labels = create.labels.clone();
        labels.insert(PROJECT.to_owned(), self.name.clone());
        labels.insert(NETWORK.to_owned(), wanted.key.clone());
        labels
    }

    fn is_own(&self, there: &Network, wanted: &Wanted) -> bool {
        there.labels.get(PROJECT) == Some(&self.name)
            && there.labels.get(NETWORK) == Some(&wanted.key)
    }
}

/// Whether a label is netd's, or Compose's, and in no file.
fn is_ours(label: &str) -> bool {
    label.starts_with("docker/") || label.starts_with("com.docker.compose.")
}

fn find(client: &mut Client, name: &str) -> Result<Option<Network>> {
    match client.call(&InspectNetwork { network: format!("={name}") }) {
        Ok(detail) => Ok(Some(detail.network)),
        Err(error) if error.kind == Kind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
