//! `/events`, as far as networks go: what happened to them in Docker's words, the last of it kept for
//! those who ask for what was, and all of it told to those who wait for what comes.
//!
//! netd's own events are where it comes from. They are taken in before anybody is answered, so that
//! whoever was told that something is done finds it among what was.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    rc::{Rc, Weak},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use cnm::{
    Error, Result, docker,
    events::{Event, Notification},
    network::Network,
};
use serde::Serialize;
use tokio::sync::{
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    mpsc,
};

use crate::{docker::plugin::is_unnamed, netd::Netd};

/// How many events are kept: as many as Docker keeps (moby, daemon/events).
const KEPT: usize = 256;

/// How many a reader may be behind before it is let go.
const BEHIND: usize = 1024;

/// A nanosecond is the unit of its times.
const NANOS: i64 = 1_000_000_000;

/// An event, member by member in Docker's order (Engine API 1.40 to 1.51, `EventMessage`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Message {
    #[serde(rename = "Type")]
    kind: &'static str,
    #[serde(rename = "Action")]
    action: &'static str,
    #[serde(rename = "Actor")]
    actor: Actor,
    scope: &'static str,
    time: i64,
    #[serde(rename = "timeNano")]
    nanos: i64,
}

/// What it happened to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    attributes: BTreeMap<String, String>,
}

impl Message {
    fn new(action: &'static str, network: &Known, at: i64) -> Self {
        let attributes = [("name", &network.name), ("type", &network.driver)];
        Self {
            kind: "network",
            action,
            actor: Actor {
                id: network.id.clone(),
                attributes: attributes.map(|(key, value)| (key.to_owned(), value.clone())).into(),
            },
            scope: network.scope,
            time: at.div_euclid(NANOS),
            nanos: at,
        }
    }

    /// As a line of the stream.
    fn line(&self) -> String {
        serde_json::to_string(self).expect("a message has text keys only") + "\n"
    }
}

/// Which events somebody wants, and of when, in nanoseconds since 1970.
#[derive(Debug)]
pub(super) struct Asked {
    filters: BTreeMap<String, Vec<String>>,
    since: Option<i64>,
    until: Option<i64>,
}

impl Asked {
    /// # Errors
    /// `invalid` for a time that is none, or an end before the beginning.
    pub(super) fn parse(
        filters: BTreeMap<String, Vec<String>>,
        since: &str,
        until: &str,
    ) -> Result<Self> {
        let (from, to) = (time("since", since)?, time("until", until)?);
        if to.is_some_and(|to| from.is_some_and(|from| to < from)) {
            return Err(Error::invalid(format_args!(
                "`since` time ({since}) cannot be after `until` time ({until})"
            )));
        }
        Ok(Self { filters, since: from, until: to })
    }

    /// Whether an event is among them, as Docker's filters have it: any value of one key, all keys.
    /// Keys that it does not know mean nothing.
    fn wants(&self, message: &Message) -> bool {
        let Message { kind, action, actor, scope, .. } = message;
        let begins = |value: &String| {
            let name = actor.attributes.get("name").map_or("", String::as_str);
            actor.id.starts_with(value.as_str()) || name.starts_with(value.as_str())
        };
        let has = |value: &String| match value.split_once('=') {
            Some((key, value)) => actor.attributes.get(key).is_some_and(|own| own == value),
            None => actor.attributes.contains_key(value),
        };
        self.filters.iter().filter(|(_, values)| !values.is_empty()).all(|(key, values)| {
            let mut values = values.iter();
            match key.as_str() {
                "type" => values.any(|value| value == kind),
                "event" => values.any(|value| value == action),
                "scope" => values.any(|value| value == scope),
                "label" => values.all(has),
                "image" => values.any(|value| *value == actor.id),
                "config" | "container" | "daemon" | "network" | "node" | "plugin" | "secret"
                | "service" | "volume" => values.any(begins),
                _ => true,
            }
        })
    }
}

/// A time as clients write it: seconds since 1970 and, after a point, what is between two.
fn time(what: &str, text: &str) -> Result<Option<i64>> {
    if text.is_empty() {
        return Ok(None);
    }
    let wrong = || Error::invalid(format_args!("invalid {what} {text:?}: it should be seconds"));
    let (seconds, part) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    let part = match part {
        "" => 0,
        digits if digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit()) => {
            format!("{digits:0<9}").parse().map_err(|_| wrong())?
        }
        _ => return Err(wrong()),
    };
    let nanos = seconds.checked_mul(NANOS).and_then(|nanos| nanos.checked_add(part));
    nanos.map(Some).ok_or_else(wrong)
}

fn now() -> i64 {
    since_1970(SystemTime::now())
}

fn since_1970(at: SystemTime) -> i64 {
    let nanos = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    i64::try_from(nanos).unwrap_or(i64::MAX)
}

/// A network, as far as events tell of it.
#[derive(Clone, Debug)]
struct Known {
    id: String,
    name: String,
    driver: String,
    scope: &'static str,
}

impl Known {
    fn of(network: &Network) -> Self {
        Self {
            id: network.id.to_string(),
            name: network.name.to_string(),
            driver: docker::driver(network).to_owned(),
            scope: docker::scope(network),
        }
    }
}

/// What happened, and who waits for what comes.
pub(super) struct Journal {
    netd: Weak<Netd>,
    heard: RefCell<broadcast::Receiver<Arc<str>>>,
    past: RefCell<VecDeque<Rc<Message>>>,
    /// Networks by name: of one that is gone nobody else could tell any more what it was.
    known: RefCell<HashMap<String, Known>>,
    /// Endpoints of which dockerd has not yet told whose they are.
    unnamed: RefCell<HashSet<String>>,
    readers: broadcast::Sender<Rc<Message>>,
}

impl Journal {
    /// That of a netd, from now on.
    pub(super) fn of(netd: &Rc<Netd>) -> Rc<Self> {
        let journal = Rc::new(Self {
            netd: Rc::downgrade(netd),
            heard: RefCell::new(netd.events.subscribe()),
            past: RefCell::default(),
            known: RefCell::default(),
            unnamed: RefCell::default(),
            readers: broadcast::Sender::new(BEHIND),
        });
        journal.look_around();
        let mut woken = netd.events.subscribe();
        let own = Rc::downgrade(&journal);
        tokio::task::spawn_local(async move {
            while !matches!(woken.recv().await, Err(RecvError::Closed)) {
                let Some(journal) = own.upgrade() else { return };
                journal.catch_up();
            }
        });
        journal
    }

    /// Gets to know the networks that there are.
    fn look_around(&self) {
        let Some(netd) = self.netd.upgrade() else { return };
        let registry = netd.registry.borrow();
        let there = registry.networks().map(|entry| Known::of(&entry.network));
        self.known.borrow_mut().extend(there.map(|network| (network.name.clone(), network)));
    }

    /// Takes in what netd has told since.
    fn catch_up(&self) {
        loop {
            let heard = self.heard.borrow_mut().try_recv();
            match heard {
                Ok(line) => {
                    if let Ok(Notification { params, .. }) = serde_json::from_str(&line)
                        && let Some(message) = self.translate(&params)
                    {
                        self.keep(message);
                    }
                }
                // What was told too fast is lost, and with it networks that came.
                Err(TryRecvError::Lagged(_)) => self.look_around(),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn keep(&self, message: Message) {
        let message = Rc::new(message);
        let mut past = self.past.borrow_mut();
        if past.len() == KEPT {
            past.pop_front();
        }
        past.push_back(message.clone());
        // Nobody to hear it is no fault.
        drop(self.readers.send(message));
    }

    /// What an event of netd's is in Docker's words; none where Docker has none.
    fn translate(&self, event: &Event) -> Option<Message> {
        let at = humantime::parse_rfc3339(&event.time).map_or_else(|_| now(), since_1970);
        match event.object.as_str() {
            "network" => self.of_network(event, at),
            "endpoint" => self.of_endpoint(event, at),
            _ => None,
        }
    }

    fn of_network(&self, event: &Event, at: i64) -> Option<Message> {
        let name = event.attributes.get("name")?;
        if event.action == "create" {
            self.look_around();
        }
        let mut known = self.known.borrow_mut();
        let network = known.get(name)?;
        let action = match (event.action.as_str(), network.scope) {
            ("create", _) => "create",
            ("update", _) => "update",
            ("remove", "swarm") => "remove",
            ("remove", _) => "destroy",
            _ => return None,
        };
        let message = Message::new(action, network, at);
        if event.action == "remove" {
            known.remove(name);
        }
        Some(message)
    }

    fn of_endpoint(&self, event: &Event, at: i64) -> Option<Message> {
        let (network, container) =
            (event.attributes.get("network")?, event.attributes.get("container")?);
        let mut unnamed = self.unnamed.borrow_mut();
        let action = match event.action.as_str() {
            "attach" if self.is_unnamed(&event.id) => {
                unnamed.insert(event.id.clone());
                return None;
            }
            "attach" => "connect",
            "update" if unnamed.contains(&event.id) && !self.is_unnamed(&event.id) => {
                unnamed.remove(&event.id);
                "connect"
            }
            "detach" | "vanish" if !unnamed.remove(&event.id) => "disconnect",
            _ => return None,
        };
        let mut message = Message::new(action, self.known.borrow().get(network)?, at);
        message.actor.attributes.insert("container".to_owned(), container.clone());
        Some(message)
    }

    fn is_unnamed(&self, endpoint: &str) -> bool {
        let Some(netd) = self.netd.upgrade() else { return false };
        let registry = netd.registry.borrow();
        endpoint.parse().is_ok_and(|id| registry.endpoint(&id).is_some_and(is_unnamed))
    }

    /// Networks were pruned.
    pub(super) fn pruned(&self) {
        self.catch_up();
        let none =
            Known { id: String::new(), name: String::new(), driver: String::new(), scope: "local" };
        let mut message = Message::new("prune", &none, now());
        message.actor.attributes = [("reclaimed".to_owned(), "0".to_owned())].into();
        self.keep(message);
    }

    /// What was of what is asked for, a line each, and what comes of it.
    pub(super) fn tell(&self, asked: Asked) -> (String, mpsc::Receiver<String>) {
        self.catch_up();
        let past = match (asked.since, asked.until) {
            (None, None) => String::new(),
            (since, until) => {
                let past = self.past.borrow();
                let within = |message: &&Rc<Message>| {
                    since.is_none_or(|since| message.nanos >= since)
                        && until.is_none_or(|until| message.nanos <= until)
                };
                let wanted = past.iter().filter(within).filter(|message| asked.wants(message));
                wanted.map(|message| message.line()).collect()
            }
        };
        let (sender, flow) = mpsc::channel(BEHIND);
        let left = asked.until.map(|until| u64::try_from(until - now()).unwrap_or(0));
        if left != Some(0) {
            let events = self.readers.subscribe();
            tokio::task::spawn_local(follow(events, asked, left.map(Duration::from_nanos), sender));
        }
        (past, flow)
    }
}

/// Tells what comes until its time is over, or the reader goes away or does not keep up.
async fn follow(
    mut events: broadcast::Receiver<Rc<Message>>,
    asked: Asked,
    left: Option<Duration>,
    sender: mpsc::Sender<String>,
) {
    let over = async {
        match left {
            Some(left) => tokio::time::sleep(left).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            event = events.recv() => match event {
                Ok(message) if !asked.wants(&message) => {}
                Ok(message) if sender.try_send(message.line()).is_ok() => {}
                _ => return,
            },
            () = sender.closed() => return,
            () = &mut over => return,
        }
    }
}

#[cfg(test)]
mod tests;
