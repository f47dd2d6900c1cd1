//! The steps of a fault run: as text, a line each, so that a run can be written down, cut short by
//! hand and run again; and where they come from, which is a seed and nothing else.

use std::{fmt, str::FromStr};

/// How many hosts, networks and containers there are to choose from.
pub(crate) const HOSTS: usize = 5;
pub(crate) const MANAGERS: usize = 3;
pub(crate) const NETWORKS: usize = 3;
pub(crate) const CONTAINERS: usize = 16;

/// Where a process dies in the middle of an attach, or of a detach.
pub(crate) const IN_ATTACH: [&str; 7] = [
    "netd.attach.before-intent",
    "netd.attach.after-intent",
    "netd.attach.after-driver",
    "netd.attach.after-record",
    "bridge.attach.before-veth",
    "bridge.attach.after-config",
    "bridge.attach.after-elements",
];
pub(crate) const IN_DETACH: [&str; 6] = [
    "netd.detach.before-record",
    "netd.detach.after-record",
    "netd.detach.after-driver",
    "bridge.detach.before-elements",
    "bridge.detach.after-elements",
    "bridge.detach.after-condemn",
];

/// What one is cut off from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Everything.
    Cable,
    /// The cluster's store and its managers.
    Store,
    /// What they say; what it says they hear.
    Deaf,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Create {
        network: usize,
    },
    Remove {
        network: usize,
    },
    Attach {
        host: usize,
        network: usize,
        container: usize,
    },
    /// At an address that is asked for.
    AttachAt {
        host: usize,
        network: usize,
        container: usize,
        address: usize,
    },
    AttachDying {
        host: usize,
        network: usize,
        container: usize,
        point: usize,
    },
    Detach {
        container: usize,
    },
    DetachDying {
        container: usize,
        point: usize,
    },
    /// Its namespace ends without a word.
    Vanish {
        container: usize,
    },
    CutOff {
        host: usize,
        from: Cut,
    },
    Heal {
        host: usize,
    },
    KillNetd {
        host: usize,
    },
    StartNetd {
        host: usize,
    },
    KillDriver {
        host: usize,
    },
    KillEtcd {
        host: usize,
    },
    StopEtcd {
        host: usize,
    },
    ResumeEtcd {
        host: usize,
    },
    /// All is put right, and everything has to be as it should.
    Check,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { network } => write!(f, "create {network}"),
            Self::Remove { network } => write!(f, "remove {network}"),
            Self::Attach { host, network, container } => {
                write!(f, "attach {host} {network} {container}")
            }
            Self::AttachAt { host, network, container, address } => {
                write!(f, "attach-at {host} {network} {container} {address}")
            }
            Self::AttachDying { host, network, container, point } => {
                write!(f, "attach-dying {host} {network} {container} {point}")
            }
            Self::Detach { container } => write!(f, "detach {container}"),
            Self::DetachDying { container, point } => write!(f, "detach-dying {container} {point}"),
            Self::Vanish { container } => write!(f, "vanish {container}"),
            Self::CutOff { host, from } => {
                let from = match from {
                    Cut::Cable => 0,
                    Cut::Store => 1,
                    Cut::Deaf => 2,
                };
                write!(f, "cut {host} {from}")
            }
            Self::Heal { host } => write!(f, "heal {host}"),
            Self::KillNetd { host } => write!(f, "kill-netd {host}"),
            Self::StartNetd { host } => write!(f, "start-netd {host}"),
            Self::KillDriver { host } => write!(f, "kill-driver {host}"),
            Self::KillEtcd { host } => write!(f, "kill-etcd {host}"),
            Self::StopEtcd { host } => write!(f, "stop-etcd {host}"),
            Self::ResumeEtcd { host } => write!(f, "resume-etcd {host}"),
            Self::Check => write!(f, "check"),
        }
    }
}

impl FromStr for Step {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut words = line.split_whitespace();
        let verb = words.next().unwrap_or_default();
        let numbers: Result<Vec<usize>, _> = words.map(str::parse).collect();
        let numbers = numbers.map_err(|error| format!("{line}: {error}"))?;
        Ok(match (verb, numbers.as_slice()) {
            ("create", &[network]) => Self::Create { network },
            ("remove", &[network]) => Self::Remove { network },
            ("attach", &[host, network, container]) => Self::Attach { host, network, container },
            ("attach-at", &[host, network, container, address]) => {
                Self::AttachAt { host, network, container, address }
            }
            ("attach-dying", &[host, network, container, point]) => {
                Self::AttachDying { host, network, container, point }
            }
            ("detach", &[container]) => Self::Detach { container },
            ("detach-dying", &[container, point]) => Self::DetachDying { container, point },
            ("vanish", &[container]) => Self::Vanish { container },
            ("cut", &[host, from]) => {
                let from = [Cut::Cable, Cut::Store, Cut::Deaf].get(from).copied();
                Self::CutOff { host, from: from.ok_or_else(|| line.to_owned())? }
            }
            ("heal", &[host]) => Self::Heal { host },
            ("kill-netd", &[host]) => Self::KillNetd { host },
            ("start-netd", &[host]) => Self::StartNetd { host },
            ("kill-driver", &[host]) => Self::KillDriver { host },
            ("kill-etcd", &[host]) => Self::KillEtcd { host },
            ("stop-etcd", &[host]) => Self::StopEtcd { host },
            ("resume-etcd", &[host]) => Self::ResumeEtcd { host },
            ("check", &[]) => Self::Check,
            _ => return Err(format!("{line}: no step")),
        })
    }
}

/// Numbers that follow from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `sides`.
    pub(crate) fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(sides).expect("few")).expect("few")
    }
}

/// How many steps there are between two checks.
const BETWEEN: usize = 40;

/// How many hosts may be in trouble at the same time.
const TROUBLED: usize = 3;

/// Steps without end. What it believes to be is what was asked for, not what came of it, so that
/// the steps follow from the seed alone.
#[derive(Clone, Debug)]
pub(crate) struct Steps {
    dice: Dice,
    /// Networks that are made first: without any nothing happens for long.
    first: std::ops::Range<usize>,
    since_check: usize,
    attached: [bool; CONTAINERS],
    cut: [bool; HOSTS],
    down: [bool; HOSTS],
    stopped: [bool; MANAGERS],
}

impl Steps {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            first: 0..NETWORKS,
            since_check: 0,
            attached: [false; CONTAINERS],
            cut: [false; HOSTS],
            down: [false; HOSTS],
            stopped: [false; MANAGERS],
        }
    }

    /// One of those that are as they should be for it.
    fn one_of(&mut self, of: &[bool], wanted: bool) -> Option<usize> {
        let fit: Vec<_> = (0..of.len()).filter(|n| of[*n] == wanted).collect();
        (!fit.is_empty()).then(|| fit[self.dice.roll(fit.len())])
    }

    fn troubled(&self) -> usize {
        let stopped = |host: &usize| self.stopped.get(*host).copied().unwrap_or_default();
        (0..HOSTS).filter(|host| self.cut[*host] || self.down[*host] || stopped(host)).count()
    }

    fn choose(&mut self) -> Option<Step> {
        let (host, network) = (self.dice.roll(HOSTS), self.dice.roll(NETWORKS));
        let calm = self.troubled() < TROUBLED;
        match self.dice.roll(100) {
            0..36 => {
                let container = self.one_of(&self.attached.clone(), false)?;
                self.attached[container] = true;
                Some(match self.dice.roll(12) {
                    0..2 => {
                        let address = 2 + self.dice.roll(60);
                        Step::AttachAt { host, network, container, address }
                    }
                    2 => {
                        let point = self.dice.roll(IN_ATTACH.len());
                        self.attached[container] = false;
                        self.down[host] |= IN_ATTACH[point].starts_with("netd.");
                        Step::AttachDying { host, network, container, point }
                    }
                    _ => Step::Attach { host, network, container },
                })
            }
            36..66 => {
                let container = self.one_of(&self.attached.clone(), true)?;
                self.attached[container] = false;
                Some(match self.dice.roll(12) {
                    0..2 => Step::Vanish { container },
                    2 => {
                        let point = self.dice.roll(IN_DETACH.len());
                        Step::DetachDying { container, point }
                    }
                    _ => Step::Detach { container },
                })
            }
            66..71 => Some(Step::Create { network }),
            71..73 => Some(Step::Remove { network }),
            73..77 if calm => {
                let host = self.one_of(&self.down.clone(), false)?;
                self.down[host] = true;
                Some(Step::KillNetd { host })
            }
            77..81 => {
                let host = self.one_of(&self.down.clone(), true)?;
                self.down[host] = false;
                Some(Step::StartNetd { host })
            }
            81..84 => Some(Step::KillDriver { host }),
            84..88 if calm => {
                let host = self.one_of(&self.cut.clone(), false)?;
                self.cut[host] = true;
                let from = [Cut::Cable, Cut::Store, Cut::Deaf][self.dice.roll(3)];
                Some(Step::CutOff { host, from })
            }
            88..92 => {
                let host = self.one_of(&self.cut.clone(), true)?;
                self.cut[host] = false;
                Some(Step::Heal { host })
            }
            92..95 => Some(Step::KillEtcd { host: self.dice.roll(MANAGERS) }),
            95..97 if calm => {
                let host = self.one_of(&self.stopped.clone(), false)?;
                self.stopped[host] = true;
                Some(Step::StopEtcd { host })
            }
            97..100 => {
                let host = self.one_of(&self.stopped.clone(), true)?;
                self.stopped[host] = false;
                Some(Step::ResumeEtcd { host })
            }
            _ => None,
        }
    }
}

impl Iterator for Steps {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        self.since_check += 1;
        if self.since_check > BETWEEN {
            let (dice, first, attached) = (self.dice.clone(), 0..0, self.attached);
            *self = Self { dice, first, attached, ..Self::new(0) };
            return Some(Step::Check);
        }
        if let Some(network) = self.first.next() {
            return Some(Step::Create { network });
        }
        loop {
            if let Some(step) = self.choose() {
                return Some(step);
            }
        }
    }
}

#[test]
fn steps_follow_from_the_seed_and_can_be_written_down() {
    let steps: Vec<_> = Steps::new(7).take(2000).collect();
    assert_eq!(steps, Steps::new(7).take(2000).collect::<Vec<_>>());
    assert_ne!(steps, Steps::new(8).take(2000).collect::<Vec<_>>());
    for step in steps {
        assert_eq!(step.to_string().parse(), Ok(step));
    }
}
