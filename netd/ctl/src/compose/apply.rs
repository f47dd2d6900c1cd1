//! `netctl apply`: what each network needs, found out before anything is done, and taken back when one
//! of them cannot be.

use std::{collections::BTreeMap, path::Path};

use cnm::{
    Error, Kind, NetworkId, Result,
    client::Client,
    network::{CheckNetwork, CreateNetwork, InspectNetwork, Network, RemoveNetwork, UpdateNetwork},
};

use super::{
    NETWORK, PROJECT, Project, compare,
    file::{Origin, Wanted},
};
use crate::{
    args::Compose,
    out::{self, Outcome, Tally},
};

/// How often a network may come and go under our hands.
const ATTEMPTS: usize = 8;

/// What a network needs to be as it is wanted.
enum Step {
    Nothing,
    Change(UpdateNetwork),
    Create,
}

/// What was done to a network.
enum Done {
    Unchanged,
    Changed,
    Created(NetworkId),
}

impl Done {
    fn word(&self) -> &'static str {
        match self {
            Self::Unchanged => "unchanged",
            Self::Changed => "changed",
            Self::Created(_) => "created",
        }
    }
}

/// `apply`. Everything is looked at before anything is made, and what was made goes again when another
/// cannot be: all networks of a file are there afterwards, or those that were there before.
pub(crate) fn apply(socket: &Path, args: &Compose) -> Outcome {
    let project = Project::read(args)?;
    let mut client = project.client(socket)?;
    let mut tally = Tally::default();
    let mut order = Vec::new();
    let mut done: Vec<Option<Done>> = Vec::new();
    for (place, wanted) in project.networks.iter().enumerate() {
        let step = project.look(&mut client, wanted);
        done.push(matches!(step, Ok(Step::Nothing)).then_some(Done::Unchanged));
        match step {
            Ok(step) => order.push((!matches!(step, Step::Create), place)),
            Err(error) => tally.fault(&project.about(wanted, error)),
        }
    }
    // What may be refused comes first, since labels do not go back to what they were.
    order.sort_unstable();
    for (_, place) in order {
        if tally.is_well() {
            match project.apply(&mut client, &project.networks[place]) {
                Ok(what) => done[place] = Some(what),
                Err(error) => tally.fault(&project.about(&project.networks[place], error)),
            }
        }
    }
    if !tally.is_well() {
        project.undo(&mut client, &mut done, &mut tally);
    }
    for (wanted, done) in project.networks.iter().zip(&done) {
        if let Some(done) = done {
            out::print(&format!("{} {}\n", wanted.name(), done.word()))?;
        }
    }
    if project.networks.is_empty() {
        let file = &project.file;
        out::complain(&format_args!(
            "{file} has no networks section, or an empty one: nothing to make"
        ));
    }
    Ok(tally.code())
}

impl Project {
    /// What a network needs, unless it is another's or another one altogether.
    fn look(&self, client: &mut Client, wanted: &Wanted) -> Result<Step> {
        let there = find(client, wanted.name())?;
        match (&wanted.origin, there) {
            (Origin::Own(create), Some(there)) => self.compare(wanted, create, &there),
            (Origin::Own(create), None) => {
                let network =
                    CreateNetwork { labels: self.labels(wanted, create), ..create.clone() };
                match client.call(&CheckNetwork { network }) {
                    // An earlier netd looks no sooner than it makes it.
                    Err(error) if error.operands.contains_key("method") => Ok(Step::Create),
                    // Who has just been made by somebody is looked at when its turn comes.
                    Err(error) if find(client, wanted.name())?.is_none() => Err(error),
                    _ => Ok(Step::Create),
                }
            }
            (Origin::External, Some(_)) => Ok(Step::Nothing),
            (Origin::External, None) => Err(Error::not_found(format_args!(
                "network {} is external and not there: make it first",
                wanted.name()
            ))
            .with("network", wanted.name())),
        }
    }

    /// A refusal, with where in which file it is about.
    fn about(&self, wanted: &Wanted, error: Error) -> Error {
        let message = format!("{}: networks.{}: {}", self.file, wanted.key, error.message);
        Error { message, ..error }
    }

    /// Brings a network to what is wanted.
    fn apply(&self, client: &mut Client, wanted: &Wanted) -> Result<Done> {
        let mut refused = None;
        for _ in 0..ATTEMPTS {
            // Somebody else may make it or remove it now; or it is something of it that exists, such as a
            // subnet, and then it stays so.
            let error = match (self.look(client, wanted)?, &wanted.origin) {
                (Step::Create, Origin::Own(create)) => {
                    let labels = self.labels(wanted, create);
                    match client.call(&CreateNetwork { labels, ..create.clone() }) {
                        Err(error) if error.kind == Kind::Exists => error,
                        made => return made.map(|network| Done::Created(network.id)),
                    }
                }
                (Step::Change(update), _) => match client.call(&update) {
                    Err(error) if error.kind == Kind::NotFound => error,
                    changed => return changed.map(|_| Done::Changed),
                },
                (Step::Nothing | Step::Create, _) => return Ok(Done::Unchanged),
            };
            refused = Some(error);
        }
        Err(refused.unwrap_or_else(|| Error::internal("the network comes and goes")))
    }

    /// Removes what was made, the last first, and says what of it stays.
    fn undo(&self, client: &mut Client, done: &mut [Option<Done>], tally: &mut Tally) {
        let mut gone = Vec::new();
        for (wanted, done) in self.networks.iter().zip(done).rev() {
            let Some(Done::Created(id)) = done else { continue };
            match client.call(&RemoveNetwork { network: format!("={id}") }) {
                Err(error) if error.kind != Kind::NotFound => {
                    let why = error.message.clone();
                    let message = format!(
                        "network {} was made and stays: {why}; netctl down takes it away",
                        wanted.name()
                    );
                    tally.fault(&self.about(wanted, Error { message, ..error }));
                }
                _ => {
                    *done = None;
                    gone.push(wanted.name());
                }
            }
        }
        if !gone.is_empty() {
            out::complain(&format_args!("removed again: {}", gone.join(", ")));
        }
    }

    /// What a network that is there needs.
    fn compare(&self, wanted: &Wanted, create: &CreateNetwork, there: &Network) -> Result<Step> {
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
        let labels = self.labels(wanted, create);
        let stale = there.labels.keys().filter(|key| !labels.contains_key(*key));
        // Those of others, such as dockerd, are not the file's to judge.
        let remove_labels: Vec<_> = stale.filter(|key| !is_ours(key)).cloned().collect();
        let new = labels.iter().filter(|(key, value)| there.labels.get(*key) != Some(*value));
        let labels: BTreeMap<_, _> = new.map(|(key, value)| (key.clone(), value.clone())).collect();
        if labels.is_empty() && remove_labels.is_empty() {
            return Ok(Step::Nothing);
        }
        let network = format!("={}", there.id);
        Ok(Step::Change(UpdateNetwork { network, labels, remove_labels, ..Default::default() }))
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
