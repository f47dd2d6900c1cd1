//! Watching over what a driver made. The kernel tells of links, addresses, routes and rules that change;
//! of kernel parameters, and of iptables as it was before nf_tables, nobody tells, so they are looked at
//! once a second. What is not as it should be is told to netd, whose sync puts it right: this decides
//! and changes nothing.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cnm::{driver::Disturbed, plugin::Teller};
use ipnetwork::IpNetwork;
use kernel::{
    links::{self, Link},
    netlink::{
        Socket,
        monitor::{Change, Ear, Monitor, Own},
    },
    nft::Nft,
    routes, sysctl,
};

use crate::{Marks, PREFIX, Segment, attach::Joined, coexist};

/// How long changes are let come in before they are looked at: they come many at a time, and most
/// are the driver's own.
const SETTLE: Duration = Duration::from_millis(50);

/// How often what nobody tells of is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How long a sync is waited for before the same is told again, at first; twice as long each time.
/// (The same may happen again at once, before it was seen to be right in between.)
const PATIENCE: Duration = Duration::from_millis(100);

/// The longest of these waits.
const LONGEST: Duration = Duration::from_secs(60);

/// What should be there.
#[derive(Debug, Default)]
struct Made {
    /// Bridges by index.
    bridges: BTreeMap<u32, String>,
    /// The MTUs of these.
    mtus: BTreeMap<u32, u32>,
    /// Links besides, by index.
    besides: BTreeMap<u32, Besides>,
    /// Links of others in bridges' place, by index: their going is what is waited for.
    in_place: BTreeMap<u32, String>,
    /// The addresses of bridges.
    addresses: BTreeMap<String, Vec<IpNetwork>>,
    /// Kernel parameters of bridges, and of the host under no name.
    parameters: BTreeMap<String, Vec<(String, &'static str)>>,
    /// The table of the firewall that others can change, and how many rules it has.
    rules: Option<(&'static str, usize)>,
    /// What is to be told, where nothing else is, since the last sync did not put everything right.
    troubled: Option<&'static str>,
    /// Whether rules may have changed while nobody listened.
    unheard: bool,
}

/// A link that is to be there besides bridges and their ports, and up.
#[derive(Debug)]
struct Besides {
    name: String,
    /// The bridge that it is to be on, by index.
    bridge: Option<u32>,
}

impl Besides {
    /// What is not as it should be with its link.
    fn wrong(&self, link: &Link) -> Option<String> {
        let name = &self.name;
        if link.name != *name {
            Some(format!("the link {name} is called {}", link.name))
        } else if !link.up {
            Some(format!("the link {name} is down"))
        } else if link.master != self.bridge {
            Some(format!("the link {name} is not where it should be"))
        } else {
            None
        }
    }
}

/// As long as it is there nobody listens to what becomes of rules.
#[derive(Debug)]
pub(crate) struct Quiet {
    ear: Ear,
    made: Arc<Mutex<Made>>,
}

impl Drop for Quiet {
    fn drop(&mut self) {
        if let Err(error) = self.ear.uncover() {
            eprintln!("cannot watch over rules any more: {error}");
        }
        lock(&self.made).unheard = true;
    }
}

/// The thread that watches, and what it watches over.
#[derive(Debug)]
pub(crate) struct Watch {
    made: Arc<Mutex<Made>>,
    ear: Ear,
}

fn lock(made: &Mutex<Made>) -> MutexGuard<'_, Made> {
    made.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watch {
    /// Begins to watch, in the calling thread's network namespace, until the process ends.
    pub(crate) fn start(marks: Marks, teller: Teller) -> kernel::Result<Self> {
        let made = Arc::<Mutex<Made>>::default();
        let prefix = PREFIX.as_bytes().first_chunk().copied().unwrap_or_default();
        let monitor =
            Monitor::open(&Own { group: marks.owned, prefix, condemned: marks.condemned })?;
        let ear = monitor.ear();
        let mut watcher = Watcher {
            marks,
            made: Arc::clone(&made),
            monitor,
            socket: Socket::route()?,
            nft: Nft::open()?,
            suspects: BTreeSet::new(),
            addresses: false,
            routes: false,
            rules: false,
        };
        thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(256 << 10)
            .spawn(move || watcher.work(&teller))
            .map_err(|error| kernel::Error::io("start", "the watch", &error))?;
        Ok(Self { made, ear })
    }

    /// Has the kernel write no message for each element that changes, where many are about to; rules
    /// are looked at afterwards.
    pub(crate) fn quiet(&self) -> Option<Quiet> {
        let (ear, made) = (self.ear.clone(), Arc::clone(&self.made));
        ear.cover().ok().map(|()| Quiet { ear, made })
    }

    /// Watches over these networks: besides others, or in their place.
    pub(crate) fn over(
        &self,
        segments: &[Segment],
        joined: &HashMap<String, Joined>,
        rules: Option<(&'static str, usize)>,
        replace: bool,
    ) {
        let mut made = lock(&self.made);
        if replace {
            *made = Made::default();
        }
        made.rules = rules;
        for segment in segments {
            for name in segment.bridges() {
                let Some(joined) = joined.get(name) else { continue };
                made.bridges.retain(|_, other| other != name);
                made.bridges.insert(joined.index, name.clone());
                made.mtus.insert(joined.index, joined.mtu);
            }
            made.addresses.insert(segment.bridge.clone(), segment.gateways.clone());
            made.parameters.insert(segment.bridge.clone(), segment.parameters());
        }
    }

    /// Watches over a link besides, which is to be there, up, and on this bridge if on any.
    pub(crate) fn besides(&self, index: u32, name: &str, bridge: Option<u32>) {
        let besides = Besides { name: name.to_owned(), bridge };
        lock(&self.made).besides.insert(index, besides);
    }

    /// Watches over such a link no longer.
    pub(crate) fn besides_no_more(&self, index: u32) {
        lock(&self.made).besides.remove(&index);
    }

    /// Watches for the going of links of others that are in bridges' place.
    pub(crate) fn until_gone<'a>(&self, links: impl Iterator<Item = &'a Link>) {
        let in_place = links.map(|link| (link.index, link.name.clone()));
        lock(&self.made).in_place = in_place.collect();
    }

    /// Says what is to be told of as long as nothing else is not as it should be: that something of
    /// others' was in the way, say, which is gone then.
    pub(crate) fn troubled(&self, troubled: Option<&'static str>) {
        lock(&self.made).troubled = troubled;
    }

    /// Watches over a bridge no longer.
    pub(crate) fn no_more(&self, bridge: &str) {
        let mut made = lock(&self.made);
        let Made { bridges, mtus, .. } = &mut *made;
        bridges.retain(|_, other| other != bridge);
        mtus.retain(|index, _| bridges.contains_key(index));
        made.addresses.remove(bridge);
        made.parameters.remove(bridge);
    }
}

struct Watcher {
    marks: Marks,
    made: Arc<Mutex<Made>>,
    monitor: Monitor,
    socket: Socket,
    nft: Nft,
    /// Links that may not be as they should be, by index.
    suspects: BTreeSet<u32>,
    /// Whether addresses may be missing.
    addresses: bool,
    /// Whether routes to the subnets of bridges may be missing.
    routes: bool,
    /// Whether rules may be missing, or somebody else's be in the way.
    rules: bool,
}

/// When what was found is told, and told again.
#[derive(Debug)]
struct Telling {
    last: Vec<String>,
    again: Instant,
    patience: Duration,
}

impl Telling {
    fn new(now: Instant) -> Self {
        Self { last: Vec::new(), again: now, patience: PATIENCE }
    }

    /// When it is to be told again, as long as it is not right.
    fn next(&self) -> Option<Instant> {
        (!self.last.is_empty()).then_some(self.again)
    }

    /// Whether it is to be told now.
    fn is_due(&mut self, found: &[String], now: Instant) -> bool {
        if found.is_empty() {
            *self = Self::new(now);
            return false;
        }
        if found == self.last {
            if now < self.again {
                return false;
            }
            self.patience = (self.patience * 2).min(LONGEST);
        } else {
            self.patience = PATIENCE;
        }
        self.last = found.to_vec();
        self.again = now + self.patience;
        true
    }
}

impl Watcher {
    fn work(&mut self, teller: &Teller) {
        let mut look = Instant::now() + LOOK;
        let mut telling = Telling::new(Instant::now());
        let mut parameters = Vec::new();
        loop {
            let found = self.notice(&mut look, telling.next(), &mut parameters);
            let found = match found {
                Ok(found) => found,
                Err(error) => {
                    eprintln!("cannot watch over the host's links and rules: {error}");
                    thread::park_timeout(LOOK);
                    continue;
                }
            };
            if telling.is_due(&found, Instant::now())
                && teller.disturbed(&Disturbed { what: found }).is_err()
            {
                return;
            }
        }
    }

    /// Waits until there is something to look at, or to tell `again`; what is not as it should be.
    fn notice(
        &mut self,
        look: &mut Instant,
        again: Option<Instant>,
        parameters: &mut Vec<String>,
    ) -> kernel::Result<Vec<String>> {
        let next = again.map_or(*look, |again| again.min(*look));
        if self.monitor.wait(next.saturating_duration_since(Instant::now()))? {
            thread::park_timeout(SETTLE);
            for change in self.monitor.changes()? {
                self.suspect(change);
            }
        }
        self.rules |= std::mem::take(&mut lock(&self.made).unheard);
        if Instant::now() >= *look {
            *look = Instant::now() + LOOK;
            *parameters = self.parameters();
            self.rules |= coexist::is_legacy_there();
            // The kernel is not asked to tell of all that comes and goes and is others'.
            self.suspects.extend(lock(&self.made).in_place.keys());
        }
        let mut found = self.links()?;
        found.extend(self.missing_addresses()?);
        found.extend(self.missing_routes()?);
        found.extend(self.missing_rules()?);
        found.extend(parameters.iter().cloned());
        if found.is_empty() {
            found.extend(lock(&self.made).troubled.map(str::to_owned));
        }
        Ok(found)
    }

    fn suspect(&mut self, change: Change) {
        let made = lock(&self.made);
        let is_bridge = |index: u32| made.bridges.contains_key(&index);
        match change {
            Change::Link(link) => {
                let wrong = match made.bridges.get(&link.index) {
                    Some(name) => {
                        let mtu = made.mtus.get(&link.index);
                        !link.up || link.name != *name || mtu.is_some_and(|mtu| *mtu != link.mtu)
                    }
                    None => match made.besides.get(&link.index) {
                        Some(besides) => besides.wrong(&link).is_some(),
                        None => self.marks.is_port(&link),
                    },
                };
                if wrong {
                    self.suspects.insert(link.index);
                }
            }
            Change::LinkGone(link) => {
                if is_bridge(link.index) || made.besides.contains_key(&link.index) {
                    self.suspects.insert(link.index);
                }
            }
            Change::AddressGone { link } => self.addresses |= is_bridge(link),
            Change::RouteGone { link } => self.routes |= is_bridge(link),
            Change::RouteReplaced { to } => {
                let mut own = made.addresses.values().flatten();
                self.routes |= own.any(|own| routes::subnet_of(*own) == Some(to));
            }
            Change::Rules => self.rules = true,
            Change::Missed => {
                self.suspects.extend(made.bridges.keys().chain(made.besides.keys()));
                self.addresses = true;
                self.routes = true;
                self.rules = true;
            }
        }
    }

    /// Links that are not as they should be now: what was seen of them may be of the middle of
    /// something.
    fn links(&mut self) -> kernel::Result<Vec<String>> {
        let mut found = Vec::new();
        for index in std::mem::take(&mut self.suspects) {
            let link = links::by_index(&mut self.socket, index)?;
            if let Some(what) = self.wrong(index, link.as_ref()) {
                self.suspects.insert(index);
                found.push(what);
            }
        }
        Ok(found)
    }

    fn wrong(&self, index: u32, link: Option<&Link>) -> Option<String> {
        let made = lock(&self.made);
        if let Some(name) = made.in_place.get(&index) {
            let gone = link.is_none_or(|link| link.name != *name);
            return gone.then(|| format!("the link {name} of others is gone"));
        }
        if let (Some(besides), Some(link)) = (made.besides.get(&index), link) {
            return besides.wrong(link);
        }
        match (made.bridges.get(&index), link) {
            (Some(name), None) => Some(format!("the bridge {name} is gone")),
            (Some(name), Some(link)) if link.name != *name => {
                Some(format!("the bridge {name} is called {}", link.name))
            }
            (Some(name), Some(link)) if !link.up => Some(format!("the bridge {name} is down")),
            (Some(name), Some(link)) => {
                let mtu = made.mtus.get(&index).filter(|mtu| **mtu != link.mtu)?;
                Some(format!("the bridge {name} has mtu {}, not {mtu}", link.mtu))
            }
            (None, None) => {
                made.besides.get(&index).map(|one| format!("the link {} is gone", one.name))
            }
            (None, Some(link)) if !self.marks.is_port(link) => None,
            (None, Some(link)) if !self.marks.is_end(link) => {
                Some(format!("the link {} was called otherwise", link.name))
            }
            (None, Some(link)) if !link.up => Some(format!("the link {} is down", link.name)),
            (None, Some(link)) => {
                let joined = link.master.is_some_and(|master| made.bridges.contains_key(&master));
                (!joined).then(|| format!("the link {} is on no bridge of netd's", link.name))
            }
        }
    }

    fn missing_addresses(&mut self) -> kernel::Result<Vec<String>> {
        if !self.addresses {
            return Ok(Vec::new());
        }
        let there = routes::addresses(&mut self.socket)?;
        let made = lock(&self.made);
        let mut found = Vec::new();
        for (index, name) in &made.bridges {
            for address in made.addresses.get(name).into_iter().flatten() {
                if !there.iter().any(|a| a.link == *index && a.address == *address) {
                    found.push(format!("the bridge {name} does not have {address}"));
                }
            }
        }
        self.addresses = !found.is_empty();
        Ok(found)
    }

    /// Routes that are gone while link and address are there: with these they come back.
    fn missing_routes(&mut self) -> kernel::Result<Vec<String>> {
        if !self.routes {
            return Ok(Vec::new());
        }
        let addresses = routes::addresses(&mut self.socket)?;
        let near = routes::near(&routes::routes(&mut self.socket)?);
        let mut gone = Vec::new();
        {
            let made = lock(&self.made);
            for (index, name) in &made.bridges {
                let own = made.addresses.get(name).into_iter().flatten();
                let there = own
                    .filter(|own| addresses.iter().any(|a| a.link == *index && a.address == **own));
                for subnet in there.filter_map(|own| routes::subnet_of(*own)) {
                    if !near.contains(&(*index, subnet)) {
                        gone.push((*index, format!("the bridge {name} has no route to {subnet}")));
                    }
                }
            }
        }
        let mut found = Vec::new();
        for (index, what) in gone {
            let link = links::by_index(&mut self.socket, index)?;
            if link.is_some_and(|link| link.up && link.master.is_none()) {
                found.push(what);
            }
        }
        self.routes = !found.is_empty();
        Ok(found)
    }

    fn missing_rules(&mut self) -> kernel::Result<Vec<String>> {
        if !self.rules {
            return Ok(Vec::new());
        }
        let (rules, bridges) = {
            let made = lock(&self.made);
            (made.rules, made.bridges.values().cloned().collect::<Vec<_>>())
        };
        let mut found = Vec::new();
        if let Some((table, count)) = rules
            && self.nft.rules(table)? != count
        {
            found.push(format!("rules of the table {table} are gone"));
        }
        if !bridges.is_empty() {
            let places = coexist::missing(&mut self.nft, &bridges)?;
            found.extend(places.iter().map(ToString::to_string));
        }
        self.rules = !found.is_empty();
        Ok(found)
    }

    fn parameters(&self) -> Vec<String> {
        let made = lock(&self.made);
        let all: BTreeSet<_> = made.parameters.values().flatten().collect();
        let differs = |(path, value): &&(String, &str)| {
            sysctl::read(path).is_some_and(|current| current != *value)
        };
        let wrong = all.into_iter().filter(differs);
        wrong.map(|(path, value)| format!("{} is not {value}", path.replace('/', "."))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_told_again_later_and_later_and_anything_new_at_once() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (one, two) = (["one".to_owned()], ["two".to_owned()]);
        let mut telling = Telling::new(start);
        assert!(!telling.is_due(&[], at(0)));
        assert!(telling.is_due(&one, at(1)));
        assert!(!telling.is_due(&one, at(100)));
        assert!(telling.is_due(&two, at(100)));
        assert!(!telling.is_due(&two, at(199)));
        assert!(telling.is_due(&two, at(200)));
        assert!(!telling.is_due(&two, at(399)));
        assert_eq!(telling.next(), Some(at(400)));
        assert!(telling.is_due(&two, at(400)));
        assert!(!telling.is_due(&[], at(401)));
        assert_eq!(telling.next(), None);
        assert!(telling.is_due(&two, at(402)), "it was right in between");
    }
}
