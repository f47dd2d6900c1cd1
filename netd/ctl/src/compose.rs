//! `netctl apply` and `netctl down`: the networks of a Compose file are there as it has them, and are
//! gone. What is made bears Compose's own labels, so that it is known again, by Compose as well.

mod apply;
mod compare;
mod file;
mod variables;

use std::{
    env, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::Duration,
};

use cnm::{
    Error, Kind, Result,
    client::{Client, With},
    network::{ListNetworks, RemoveNetwork},
    system::TakeTurn,
};

use crate::{
    args::Compose,
    out::{self, Outcome, Tally},
};
pub(crate) use apply::apply;
use file::Wanted;

/// Where a project's file is looked for, in this order (Compose specification, "Compose file").
const USUAL: [&str; 4] =
    ["compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml"];

/// The labels by which Compose knows its own.
const PROJECT: &str = "com.docker.compose.project";
const NETWORK: &str = "com.docker.compose.network";

/// How long another `apply` or `down` of the project is waited for.
const TURN: Duration = Duration::from_secs(10);

/// A file, read.
struct Project {
    name: String,
    /// Where it was read from, for people.
    file: String,
    networks: Vec<Wanted>,
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
        Ok(Self { name, file: path.display().to_string(), networks })
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
}
