//! Everything that can happen, in an order that follows from a seed: containers come and go while
//! cables are cut, and daemons, drivers and members of etcd die or stand still. Every so often all
//! is put right, and then everything has to be as it should be.
//!
//! `NETD_FAULTS_SECONDS` says for how long, `NETD_FAULTS_SEED` with which seed. The steps that were
//! taken are in a file that a failure names; `NETD_FAULTS_REPLAY` takes one, from which lines can be
//! left out until what is left is no more than the fault needs.

use std::{
    collections::BTreeMap,
    env,
    fs::{self, File},
    hash::{BuildHasher as _, RandomState},
    io::Write as _,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use cnm::{
    Call, Error, Kind,
    client::Client,
    endpoint::{Attach, Detach, Endpoint, ListEndpoints},
    network::{CreateNetwork, ListNetworks, Network, RemoveNetwork, Subnet},
    system::GetStatus,
};
use netd_tests::{Asking as _, Container, Ping, Snapshot, eventually, within};

use crate::fleet::{Fleet, Running};

mod step;
mod truth;

use step::{Cut, Dice, HOSTS, IN_ATTACH, IN_DETACH, MANAGERS, Step, Steps};

/// How long it may take, once all is put right, until everything is as it should be: long, since
/// the machine may be busy. How long it took is printed.
const CONVERGED: Duration = Duration::from_secs(30);

/// A container and where it is.
struct Placed {
    host: usize,
    network: usize,
    running: Running,
}

/// What was done, written down as it is.
struct Diary {
    seed: u64,
    path: PathBuf,
    file: File,
    steps: usize,
}

impl Diary {
    fn begin(seed: u64) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("faults-{seed}.steps"));
        let file = File::create(&path).unwrap();
        eprintln!("seed {seed}");
        Self { seed, path, file, steps: 0 }
    }

    fn note(&mut self, step: &Step) {
        self.steps += 1;
        writeln!(self.file, "{step}").unwrap();
    }
}

impl Drop for Diary {
    fn drop(&mut self) {
        if thread::panicking() {
            let steps = fs::read_to_string(&self.path).unwrap_or_default();
            let (seed, path) = (self.seed, self.path.display());
            eprintln!("the steps of seed {seed}, which are in {path}:\n{steps}");
            eprintln!("NETD_FAULTS_REPLAY={path} takes them again");
        } else {
            drop(fs::remove_file(&self.path));
        }
    }
}

struct Run {
    // First, so that it is told before the hosts' logs bury it.
    diary: Diary,
    fleet: Fleet,
    /// Which way to look where there are too many.
    dice: Dice,
    base: Network,
    networks: BTreeMap<usize, Network>,
    running: BTreeMap<usize, Placed>,
    /// Two containers of each host that are always there.
    always: Vec<[Running; 2]>,
    /// Containers of which a call that nobody answered was the last, and where; they are to go.
    uncertain: BTreeMap<usize, (usize, Container)>,
    /// Containers whose namespace ended while netd was not there.
    unnoticed: Vec<(usize, String)>,
    down: [bool; HOSTS],
    cut: [Option<Cut>; HOSTS],
    /// Whether anything has been out of order since the last check.
    disturbed: bool,
    inside: Vec<Ping>,
    /// From each host to the next, where no cable is cut.
    across: [Option<Ping>; HOSTS],
    before: Vec<Snapshot>,
    converged: Vec<Duration>,
}

fn network(name: &str, subnet: &str) -> CreateNetwork {
    CreateNetwork {
        driver: Some("overlay".into()),
        subnets: vec![Subnet::new(subnet.parse().unwrap())],
        ..CreateNetwork::named(name)
    }
}

/// The subnets of the networks that come and go; the last is small.
const SUBNETS: [&str; 3] = ["10.200.0.0/22", "10.201.0.0/22", "10.202.0.0/25"];

impl Run {
    fn new(seed: u64) -> Self {
        let config = "reuse_delay = 1\ndns_upstreams = [\"127.0.0.1:9\"]";
        let fleet = Fleet::managed(HOSTS, MANAGERS, config);
        let diary = Diary::begin(seed);
        let before = fleet.hosts.iter().map(|host| host.snapshot()).collect();
        let base = fleet.hosts[0].client().call(&network("base", "10.210.0.0/24")).unwrap();
        let mut run = Self {
            diary,
            dice: Dice::new(!seed),
            base,
            networks: BTreeMap::new(),
            running: BTreeMap::new(),
            always: Vec::new(),
            uncertain: BTreeMap::new(),
            unnoticed: Vec::new(),
            down: [false; HOSTS],
            cut: [None; HOSTS],
            disturbed: false,
            inside: Vec::new(),
            across: Default::default(),
            before,
            converged: Vec::new(),
            fleet,
        };
        run.wait_for_network("base");
        for host in 0..HOSTS {
            let two = ["a", "b"].map(|one| run.fleet.run(host, "base", &format!("{one}{host}")));
            run.inside.push(Ping::start(&two[0].container.netns, two[1].ip()));
            run.always.push(two);
        }
        run.ping_across();
        run
    }

    fn call<C: Call>(&self, host: usize, call: &C) -> cnm::Result<C::Reply> {
        Client::connect(&self.fleet.hosts[host].socket())?.call(call)
    }

    fn wait_for_network(&self, name: &str) {
        eventually("every host has the network", || {
            let has = |host: usize| -> cnm::Result<bool> {
                let listed = self.call(host, &ListNetworks::default())?;
                Ok(listed.networks.iter().any(|one| one.name.as_str() == name))
            };
            let without: Vec<_> = (0..HOSTS).filter(|host| !has(*host).unwrap_or(false)).collect();
            if without.is_empty() { Ok(()) } else { Err(without) }
        });
    }

    fn ping_across(&mut self) {
        for host in 0..HOSTS {
            let next = (host + 1) % HOSTS;
            let whole = |host: usize| self.cut[host] != Some(Cut::Cable);
            if self.across[host].is_none() && whole(host) && whole(next) {
                let from = &self.always[host][0].container.netns;
                crate::fleet::reaches(from, self.always[next][0].ip());
                self.across[host] = Some(Ping::start(from, self.always[next][0].ip()));
            }
        }
    }

    /// A refusal: one that nothing explains is a fault.
    #[track_caller]
    fn refused(&self, step: &Step, error: &Error) {
        let away = matches!(error.kind, Kind::Unavailable | Kind::NotFound | Kind::Busy);
        assert!(self.disturbed && away, "{step}: {error} ({:?})", error.kind);
    }

    /// Whether a call is worth another attempt, since nothing is out of order but the machine busy.
    fn patiently<T>(&self, step: &Step, ask: impl Fn() -> cnm::Result<T>) -> cnm::Result<T> {
        if self.disturbed {
            return ask();
        }
        eventually(&step.to_string(), || match ask() {
            Err(error) if matches!(error.kind, Kind::Unavailable | Kind::Busy) => Err(error),
            answered => Ok(answered),
        })
    }

    /// A manager that can decide.
    fn manager(&self) -> Option<usize> {
        (0..MANAGERS).find(|host| !self.down[*host] && self.cut[*host].is_none())
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Create { network } => self.create(step, network),
            Step::Remove { network } => self.remove(step, network),
            Step::Attach { host, network, container } => {
                self.attach(step, host, network, container, &[]);
            }
            Step::AttachAt { host, network, container, address } => {
                let subnet: ipnetwork::IpNetwork = SUBNETS[network].parse().unwrap();
                let address = subnet.iter().nth(address).unwrap();
                self.attach(step, host, network, container, &[address]);
            }
            Step::AttachDying { host, network, container, point } => {
                self.attach_dying(host, network, container, IN_ATTACH[point]);
            }
            Step::Detach { container } => self.detach(step, container),
            Step::DetachDying { container, point } => {
                self.detach_dying(container, IN_DETACH[point]);
            }
            Step::Vanish { container } => {
                if let Some(mut placed) = self.running.remove(&container) {
                    placed.running.container.netns.kill();
                    self.disturbed = true;
                    self.unnoticed.push((placed.host, placed.running.container.id.clone()));
                    self.notice(placed.host);
                }
            }
            Step::CutOff { host, from } => self.cut_off(host, from),
            Step::Heal { host } => self.heal(host),
            Step::KillNetd { host } if !self.down[host] => {
                self.fleet.hosts[host].kill();
                self.down[host] = true;
                self.disturbed = true;
            }
            Step::StartNetd { host } if self.down[host] => {
                self.fleet.hosts[host].start();
                self.down[host] = false;
                self.notice(host);
            }
            Step::KillDriver { host } => {
                self.disturbed = true;
                let Ok(status) = self.call(host, &GetStatus {}) else { return };
                let overlay = status.drivers.iter().find(|driver| driver.name == "overlay");
                if let Some(pid) = overlay.and_then(|driver| driver.pid) {
                    drop(netd_tests::output(&format!("kill -KILL {pid}")));
                }
            }
            Step::KillEtcd { host } => self.signal_etcd(host, "KILL"),
            Step::StopEtcd { host } => self.signal_etcd(host, "STOP"),
            Step::ResumeEtcd { host } => self.signal_etcd(host, "CONT"),
            Step::KillNetd { .. } | Step::StartNetd { .. } => {}
            Step::Check => self.check(),
        }
    }

    /// Waits until a host has noticed which containers are gone, if its netd is there.
    fn notice(&mut self, host: usize) {
        if self.down[host] {
            return;
        }
        let (noticed, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.unnoticed).into_iter().partition(|(on, _)| *on == host);
        self.unnoticed = rest;
        for (_, container) in noticed {
            let all = ListEndpoints { network: None, container: None };
            eventually("the end of a container is noticed", || {
                let listed = self.call(host, &all)?;
                let left =
                    listed.endpoints.iter().any(|one| one.container.id.as_str() == container);
                if left { Err(Error::internal(&container)) } else { Ok(()) }
            });
        }
    }

    fn signal_etcd(&mut self, host: usize, signal: &str) {
        self.disturbed = true;
        self.fleet.signal_etcd_of(host, signal);
    }

    fn create(&mut self, step: &Step, number: usize) {
        let Some(manager) = self.manager().filter(|_| !self.networks.contains_key(&number)) else {
            return;
        };
        let name = format!("n{number}");
        let create = network(&name, SUBNETS[number]);
        match self.patiently(step, || self.call(manager, &create)) {
            Ok(made) => {
                self.networks.insert(number, made);
                if !self.disturbed {
                    self.wait_for_network(&name);
                }
            }
            // One that nobody answered was made.
            Err(error) if self.disturbed && error.kind == Kind::Exists => {}
            Err(error) => self.refused(step, &error),
        }
    }

    fn remove(&mut self, step: &Step, number: usize) {
        let used = self.running.values().any(|placed| placed.network == number);
        let Some(manager) = self.manager().filter(|_| self.networks.contains_key(&number)) else {
            return;
        };
        if used {
            return;
        }
        let remove = RemoveNetwork { network: format!("n{number}") };
        match self.patiently(step, || self.call(manager, &remove)) {
            Ok(_) => drop(self.networks.remove(&number)),
            Err(error) => self.refused(step, &error),
        }
    }

    fn request(&self, network: usize, container: &Container, at: &[std::net::IpAddr]) -> Attach {
        Attach { addresses: at.to_vec(), ..container.to(&format!("n{network}")) }
    }

    fn may_attach(&self, host: usize, network: usize, container: usize) -> bool {
        !self.down[host]
            && self.networks.contains_key(&network)
            && !self.running.contains_key(&container)
            && !self.uncertain.contains_key(&container)
    }

    fn attach(
        &mut self,
        step: &Step,
        host: usize,
        network: usize,
        number: usize,
        at: &[std::net::IpAddr],
    ) {
        if !self.may_attach(host, network, number) {
            return;
        }
        let container = self.fleet.world.container(&format!("c{number}"));
        let request = self.request(network, &container, at);
        match self.patiently(step, || self.call(host, &request)) {
            Ok(endpoint) => {
                self.is_nobodys(step, &endpoint);
                assert!(at.iter().all(|at| endpoint.addresses[0].ip() == *at), "{step}");
                let running = Running { container, endpoint };
                self.running.insert(number, Placed { host, network, running });
            }
            // Somebody has it, had it a moment ago, or asks for it.
            Err(error) if !at.is_empty() && error.kind == Kind::Exists => {}
            Err(error) if network == 2 && error.kind == Kind::Exhausted => {}
            Err(error) => self.refused(step, &error),
        }
    }

    /// No address twice.
    #[track_caller]
    fn is_nobodys(&self, step: &Step, endpoint: &Endpoint) {
        let ip = endpoint.addresses[0].ip();
        for placed in self.running.values() {
            let other = &placed.running;
            let same = other.endpoint.network == endpoint.network && other.ip() == ip;
            assert!(!same, "{step}: {ip} is {}'s on {}", other.container.name, placed.host);
        }
    }

    /// Has a process of a host die at a point that a call comes to; whether the call was answered.
    fn dying<C: Call>(&mut self, host: usize, point: &str, call: &C) -> cnm::Result<C::Reply> {
        self.disturbed = true;
        let died = self.fleet.hosts[host].arm(point);
        let outcome = self.call(host, call);
        if died() {
            if point.starts_with("netd.") {
                self.fleet.hosts[host].wait_for_death();
                self.down[host] = true;
            }
        } else {
            drop(fs::remove_file(self.fleet.hosts[host].faults().join(point)));
        }
        outcome
    }

    fn attach_dying(&mut self, host: usize, network: usize, number: usize, point: &str) {
        if !self.may_attach(host, network, number) {
            return;
        }
        let container = self.fleet.world.container(&format!("c{number}"));
        let request = self.request(network, &container, &[]);
        // Whether it is there nobody was told: whoever asked for it takes it back.
        drop(self.dying(host, point, &request));
        self.uncertain.insert(number, (host, container));
    }

    fn detach(&mut self, step: &Step, number: usize) {
        let Some(placed) = self.running.get(&number) else { return };
        let (host, container) = (placed.host, placed.running.container.id.clone());
        if self.down[host] {
            return;
        }
        let detach = Detach { network: None, container, ifname: None };
        let detached = self.call(host, &detach);
        let detached = detached.unwrap_or_else(|error| panic!("{step}: {error}"));
        assert_eq!(detached.endpoints.len(), 1, "{step}");
        self.running.remove(&number);
    }

    fn detach_dying(&mut self, number: usize, point: &str) {
        let Some(placed) = self.running.get(&number) else { return };
        let (host, container) = (placed.host, placed.running.container.id.clone());
        if self.down[host] {
            return;
        }
        drop(self.dying(host, point, &Detach { network: None, container, ifname: None }));
        if let Some(placed) = self.running.remove(&number) {
            self.uncertain.insert(number, (host, placed.running.container));
        }
    }

    fn cut_off(&mut self, host: usize, from: Cut) {
        if self.cut[host].is_some() {
            return;
        }
        self.disturbed = true;
        self.cut[host] = Some(from);
        let netns = &self.fleet.hosts[host].netns;
        if from == Cut::Cable {
            for pair in [host, (host + HOSTS - 1) % HOSTS] {
                if let Some(ping) = self.across[pair].take() {
                    ping.lost_none();
                }
            }
            return self.fleet.cable(host, false);
        }
        netns.run("nft add table inet faults");
        let hooks = if from == Cut::Store { &["input", "output"][..] } else { &["input"] };
        for hook in hooks {
            let chain = format!("inet faults {hook}");
            netns.run(&format!(
                "nft add chain {chain} {{ type filter hook {hook} priority -300 ; }}"
            ));
            let link = if *hook == "input" { "iifname" } else { "oifname" };
            for port in ["sport", "dport"] {
                let ports = "{ 2377, 2379, 2380 }";
                netns.run(&format!("nft add rule {chain} {link} eth0 tcp {port} {ports} drop"));
            }
        }
    }

    fn heal(&mut self, host: usize) {
        match self.cut[host].take() {
            Some(Cut::Cable) => self.fleet.cable(host, true),
            Some(Cut::Store | Cut::Deaf) => {
                self.fleet.hosts[host].netns.run("nft delete table inet faults");
            }
            None => {}
        }
    }

    /// Puts everything right, and waits until everything is as it should be.
    fn check(&mut self) {
        for host in 0..HOSTS {
            self.heal(host);
            if self.down[host] {
                self.take(&Step::StartNetd { host });
            }
        }
        for host in 0..MANAGERS {
            self.fleet.signal_etcd_of(host, "CONT");
        }
        let healed = Instant::now();
        for (host, container) in std::mem::take(&mut self.uncertain).into_values() {
            self.fleet.hosts[host].client().detach(&container.id);
        }
        within(CONVERGED, "everything is as it should be", || self.verify());
        let took = healed.elapsed();
        eprintln!(
            "step {}: {} containers, as they should be after {took:.1?}",
            self.diary.steps,
            self.running.len()
        );
        self.converged.push(took);
        let mut dice = self.dice.clone();
        self.verify_traffic(&mut dice);
        self.dice = dice;
        for (ping, two) in self.inside.drain(..).zip(&self.always).collect::<Vec<_>>() {
            ping.lost_none();
            self.inside.push(Ping::start(&two[0].container.netns, two[1].ip()));
        }
        for ping in self.across.iter_mut().filter_map(Option::take) {
            ping.lost_none();
        }
        self.ping_across();
        self.disturbed = false;
    }

    /// Takes everything away; nothing may be left.
    fn end(mut self) -> Vec<Duration> {
        self.check();
        let across = self.across.iter_mut().filter_map(Option::take);
        for ping in self.inside.drain(..).chain(across) {
            ping.lost_none();
        }
        let always = std::mem::take(&mut self.always).into_iter().enumerate();
        let always = always.flat_map(|(host, two)| two.map(|one| (host, one)));
        let running = std::mem::take(&mut self.running).into_values();
        let running = running.map(|placed| (placed.host, placed.running));
        for (host, one) in always.chain(running).collect::<Vec<_>>() {
            self.fleet.hosts[host].client().detach(&one.container.id);
        }
        let networks = std::mem::take(&mut self.networks).into_values();
        for network in networks.chain([self.base.clone()]) {
            let remove = RemoveNetwork { network: network.name.to_string() };
            eventually("the network goes", || self.call(0, &remove));
        }
        eventually("nothing is left in the store", || {
            let mut rows = self.rows()?;
            let lasting = ["meta", "cfg", "node/", "tok/", "ix/ingress/"];
            rows.retain(|key, _| {
                !lasting.iter().any(|one| key.starts_with(one)) && !key.ends_with("/live")
            });
            if rows.is_empty() { Ok(()) } else { Err(format!("{rows:?}")) }
        });
        for (host, before) in self.fleet.hosts.iter().zip(&self.before) {
            eventually("nothing is left in the kernel", || {
                // The driver that spans hosts keeps its rules, which others may be there for again.
                let rules =
                    |difference: &String| difference.starts_with("more: table inet netd-overlay ");
                match host.snapshot().same_as(before) {
                    Err(differences) if !differences.iter().all(rules) => Err(differences),
                    _ => Ok(()),
                }
            });
        }
        std::mem::take(&mut self.converged)
    }
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = env::var(name).ok()?;
    let parsed = value.parse().ok();
    assert!(parsed.is_some(), "{name} is {value:?}");
    parsed
}

#[test]
fn whatever_happens_all_is_well_in_the_end() {
    let seconds = variable("NETD_FAULTS_SECONDS").unwrap_or(60);
    let seed = variable("NETD_FAULTS_SEED").unwrap_or_else(|| RandomState::new().hash_one(()));
    let replay = variable::<PathBuf>("NETD_FAULTS_REPLAY").map(|path| {
        let text = fs::read_to_string(path).unwrap();
        text.lines().map(|line| line.parse().unwrap()).collect::<Vec<Step>>()
    });
    let mut run = Run::new(seed);
    let until = Instant::now() + Duration::from_secs(seconds);
    let endless = replay.is_none();
    let steps: Box<dyn Iterator<Item = Step>> = match replay {
        Some(steps) => Box::new(steps.into_iter()),
        None => Box::new(Steps::new(seed)),
    };
    for step in steps {
        if endless && Instant::now() >= until {
            break;
        }
        run.diary.note(&step);
        run.take(&step);
    }
    let steps = run.diary.steps;
    let mut converged = run.end();
    converged.sort_unstable();
    let (median, longest) = (converged[converged.len() / 2], converged.last().unwrap());
    eprintln!(
        "seed {seed}: {steps} steps, {} times as it should be, after {median:.1?} (median) and \
         {longest:.1?} (at most)",
        converged.len()
    );
}

/// `NETD_FAULTS_CUT` says for how many seconds; by default longer than it takes until a host is
/// missed, and with `make faults` a minute.
#[test]
fn a_host_that_was_cut_off_loses_nothing_and_catches_up() {
    let cut = Duration::from_secs(variable("NETD_FAULTS_CUT").unwrap_or(12));
    let fleet = Fleet::new(3);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    let (c, d) = (fleet.run(2, "shop", "c"), fleet.run(2, "shop", "d"));
    crate::fleet::resolves(&a, "c", &[c.ip()]);
    crate::fleet::resolves(&c, "a", &[a.ip()]);
    let inside = Ping::start(&c.container.netns, d.ip());
    let outside = Ping::start(&a.container.netns, b.ip());
    fleet.cable(2, false);
    let since = Instant::now();
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let mut round = 0;
    while since.elapsed() < cut {
        // Here and there somebody comes, and goes unless he is the last.
        for (host, running) in [(2, &mut here), (round % 2, &mut there)] {
            running.push((host, fleet.run(host, "shop", &format!("m{host}-{round}"))));
            if let [.., (host, gone), _] = running.as_slice() {
                fleet.hosts[*host].client().detach(&gone.container.id);
            }
        }
        inside.goes_on();
        outside.goes_on();
        round += 1;
    }
    let (_, here) = here.pop().unwrap();
    let (_, there) = there.pop().unwrap();
    fleet.cable(2, true);
    let healed = Instant::now();
    crate::fleet::resolves(&c, &there.container.name, &[there.ip()]);
    crate::fleet::resolves(&a, &here.container.name, &[here.ip()]);
    fleet.reaches(&here.container.netns, there.ip());
    eventually("all know the same", || {
        let known: Vec<_> = (0..3).map(|host| fleet.status(host)).collect();
        let elsewhere: Vec<_> = known.iter().map(|status| status.elsewhere).collect();
        let written = known.iter().all(|status| status.unwritten == 0);
        // Six are left: three here, and three on the two others.
        let wanted = elsewhere[2] == 3 && elsewhere[0] + elsewhere[1] == 9;
        if written && wanted { Ok(()) } else { Err(elsewhere) }
    });
    let took = healed.elapsed();
    crate::fleet::resolves(&b, "c", &[c.ip()]);
    let (kept, passed) = (inside.lost_none(), outside.lost_none());
    eprintln!(
        "cut off for {cut:?}, during which {round} containers came here and {round} there: all \
         knew all {took:.2?} after; of {kept} packets on the host and {passed} between the others \
         none was lost"
    );
}
