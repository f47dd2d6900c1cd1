//! What goes through the host end of a container's pair: a container speaks for nobody but itself, and
//! gets no IPv6 where it has none.
//!
//! Two programs decide, each of them kept in a block of filters that all ports of a driver share
//! (tc(8), BLOCK): a port that is new has a queue that names the blocks, and an entry for each of its
//! addresses in the one set that the program for what comes looks senders up in. Whoever has a single
//! address of IPv4, as most have, is found without a look at the set, in a row of a table (3 ns and not
//! 24). All of that goes with the link; what is left of the set is swept now and then. (Chains of nftables did this before.
//! They cost every frame of every bridge on the host a tenth of its way, an empty chain as much as a
//! twentieth, and every attach a transaction.)

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::{AsFd, AsRawFd},
};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use crate::{
    Error, Result,
    bpf::{Program, Set, Table},
    netlink::{Batch, Socket, append, read_u32},
    traffic::{
        self, CLSACT, CLSACT_HANDLE, INGRESS_FILTERS, RTM_DELQDISC, RTM_NEWQDISC, RTM_NEWTFILTER,
        TCA_KIND, TCA_OPTIONS,
    },
};

mod door;
mod hooks;
mod program;
mod queues;

pub use door::{Door, Speaker};
use door::{KEY, ROW, ROWS, Row};
use queues::{filters, programs, queues};

/// Attributes of a queue and of a filter (linux/rtnetlink.h, linux/pkt_cls.h).
const TCA_INGRESS_BLOCK: u16 = 13;
const TCA_EGRESS_BLOCK: u16 = 14;
const TCA_BPF_FD: u16 = 6;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_FLAGS: u16 = 8;
const TCA_BPF_ID: u16 = 11;

/// The queues that are there for their filters: the one for those of what comes in alone, which spares
/// what goes out a look, and the attach a microsecond; and the one for both, which is what makes a
/// detour, too.
const INWARD: &[u8] = b"ingress\0";
const BOTH_WAYS: &[u8] = b"clsact\0";

/// How many addresses there may be. The kernel keeps 16 bytes for each of as many, and more for each
/// that there is.
const CAPACITY: u32 = 1 << 16;

/// After so many that were written those are swept whose link is gone.
const SWEEP: usize = 1 << 13;

/// The numbers of a driver's two blocks, which are its own in the host's namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Of ports whose senders are compared.
    pub speakers: u32,
    /// Of ports that let no IPv6 through.
    pub no_ipv6: u32,
}

/// What a program decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    Speakers,
    NoIpv6,
}

impl Rule {
    const ALL: [Self; 2] = [Self::Speakers, Self::NoIpv6];

    /// The name that `tc filter show` has for it.
    fn name(self) -> &'static str {
        match self {
            Self::Speakers => "netd_speakers",
            Self::NoIpv6 => "netd_no_ipv6",
        }
    }
}

impl Blocks {
    fn of(self, rule: Rule) -> u32 {
        match rule {
            Rule::Speakers => self.speakers,
            Rule::NoIpv6 => self.no_ipv6,
        }
    }
}

/// The guards of the namespace that they were opened in.
#[derive(Debug)]
pub struct Guards {
    blocks: Blocks,
    set: Set<KEY>,
    near: Table<ROW>,
    speakers: Program,
    no_ipv6: Program,
    written: usize,
    /// How many ports have the block of each rule, at most. With the last one it goes, and its filter.
    ports: [usize; Rule::ALL.len()],
    /// What keeps the kernel from rewriting itself; nothing where it would not have it.
    _hooks: Option<Socket>,
}

impl Guards {
    /// Makes them, or goes on with what an earlier process knew, as long as any port has it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn open(socket: &mut Socket, blocks: Blocks) -> Result<Self> {
        let in_place = programs(socket, &Hook::Block(blocks.speakers))?;
        let maps = in_place.first().map_or_else(|| Ok(Vec::new()), |(id, _)| Program::maps_of(*id));
        let mut known = None;
        for map in maps? {
            known = Set::of_id(map)?.or(known);
        }
        let set = match known {
            Some(set) => set,
            None => Set::make("netd_speakers", CAPACITY)?,
        };
        let near = Table::make("netd_near", ROWS)?;
        let code = program::speakers(set.as_fd(), near.as_fd());
        let speakers = Program::load(Rule::Speakers.name(), &code)?;
        let no_ipv6 = Program::load(Rule::NoIpv6.name(), &program::no_ipv6())?;
        let hooks = hooks::keep().inspect_err(|error| eprintln!("{error}")).ok();
        let ports = [0; Rule::ALL.len()];
        let mut guards =
            Self { blocks, set, near, speakers, no_ipv6, written: 0, ports, _hooks: hooks };
        for queue in queues(socket)? {
            for rule in Rule::ALL {
                let block = Some(blocks.of(rule));
                guards.ports[rule as usize] +=
                    usize::from(queue.ingress == block || queue.egress == block);
            }
        }
        for (link, speaker) in guards.known()? {
            if let Some(row) = speaker.row(link) {
                guards.place(link, &row)?;
            }
        }
        // What an earlier process left is replaced by this one's, which may know better.
        let mut batch = Batch::new();
        for rule in Rule::ALL {
            let block = Hook::Block(blocks.of(rule));
            if !programs(socket, &block)?.is_empty() {
                guards.filter(&mut batch, NLM_F_CREATE, &block, rule);
            }
        }
        socket.run(batch)?;
        Ok(guards)
    }

    /// Lets through what goes by a door, and nothing else, where nothing was kept before.
    ///
    /// # Errors
    /// What the kernel refuses: `E2BIG` when there are too many addresses.
    pub fn hang(&mut self, socket: &mut Socket, link: u32, door: &Door) -> Result<()> {
        let mut batch = Batch::new();
        self.queue(&mut batch, link, door)?;
        self.filters(&mut batch, link, door);
        socket.run_but(&[Errno::EEXIST], batch, |_| ()).map(drop)
    }

    /// The first half of [`Guards::hang`]: who may speak, and the queue that has the filters; whether
    /// those may not be there, since no other port has them. While a link is up, a queue costs an RCU
    /// grace period, and what the link is about to send is lost (`dev_deactivate`,
    /// net/sched/sch_generic.c).
    ///
    /// # Errors
    /// `E2BIG` when there are too many addresses.
    pub fn queue(&mut self, batch: &mut Batch, link: u32, door: &Door) -> Result<bool> {
        if door.is_open() {
            return Ok(false);
        }
        for speaker in door.speakers.iter().flatten() {
            self.written += 1;
            self.set.insert(&speaker.key(link)).map_err(|errno| of_speaker(*speaker, errno))?;
        }
        // Whatever was there before: a link that had the number may have had this row.
        let speakers = door.speakers.iter().flatten();
        let row = speakers.filter_map(|speaker| speaker.row(link)).next();
        self.place(link, &row.unwrap_or_default())?;
        let what = format!("of number {link}");
        batch.frame(RTM_NEWQDISC, NEW, "make the queue for filters", what, |bytes| {
            traffic::header(bytes, link, CLSACT_HANDLE, CLSACT, 0);
            let both_ways = door.gets_no_ipv6 || door.detour;
            append(bytes, TCA_KIND, if both_ways { BOTH_WAYS } else { INWARD });
            if let Some(rule) = door.rule().filter(|_| !door.detour) {
                append(bytes, TCA_INGRESS_BLOCK, &self.blocks.of(rule).to_ne_bytes());
            }
            if door.gets_no_ipv6 {
                append(bytes, TCA_EGRESS_BLOCK, &self.blocks.no_ipv6.to_ne_bytes());
            }
        });
        let mut is_first = false;
        for rule in door.in_blocks() {
            let ports = &mut self.ports[rule as usize];
            is_first |= *ports == 0;
            *ports += 1;
        }
        Ok(is_first)
    }

    /// A link with this door goes.
    pub fn gone(&mut self, door: &Door) {
        for rule in door.in_blocks() {
            let ports = &mut self.ports[rule as usize];
            *ports = ports.saturating_sub(1);
        }
    }

    /// Writes the row of a link. A frame of another one that had the row may be compared with half of
    /// the one and half of the other: of a few nanoseconds nobody knows when they are.
    fn place(&self, link: u32, row: &Row) -> Result<()> {
        let failed = |errno| Error::call("write down who speaks by", format!("link {link}"), errno);
        self.near.write(link % ROWS, row).map_err(failed)
    }

    /// Who may speak, and by which link.
    fn known(&self) -> Result<Vec<(u32, Speaker)>> {
        let keys = self.set.keys().map_err(|errno| Error::call("list", "who may speak", errno))?;
        Ok(keys.iter().filter_map(Speaker::parse).collect())
    }

    /// The other half: the filters, which are in their block as long as any other port has it. That
    /// one is there (`EEXIST`) is to be passed over.
    pub fn filters(&self, batch: &mut Batch, link: u32, door: &Door) {
        if let Some(rule) = door.rule() {
            let shared = Hook::Block(self.blocks.of(rule));
            let hook = if door.detour { Hook::Link(link) } else { shared };
            self.filter(batch, NEW, &hook, rule);
        }
        if door.gets_no_ipv6 {
            self.filter(batch, NEW, &Hook::Block(self.blocks.no_ipv6), Rule::NoIpv6);
        }
    }

    /// The same where something was kept before.
    ///
    /// # Errors
    /// As [`Guards::hang`].
    pub fn rehang(
        &mut self,
        socket: &mut Socket,
        link: u32,
        was: Option<&Door>,
        door: &Door,
    ) -> Result<()> {
        let mut batch = Batch::new();
        let what = format!("of number {link}");
        batch.frame(RTM_DELQDISC, 0, "delete the queue for filters", what, |bytes| {
            traffic::header(bytes, link, CLSACT_HANDLE, CLSACT, 0);
        });
        socket.run_but(&[Errno::ENOENT, Errno::EINVAL], batch, |_| ())?;
        let left = was.and_then(|was| was.speakers.as_ref()).into_iter().flatten();
        for speaker in left.filter(|left| door.speakers.iter().all(|new| !new.contains(left))) {
            self.set.remove(&speaker.key(link)).map_err(|errno| of_speaker(*speaker, errno))?;
        }
        self.hang(socket, link, door)
    }

    /// What there is, by the index of the link. Links that nothing is kept from are not among it.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn doors(&self, socket: &mut Socket) -> Result<BTreeMap<u32, Door>> {
        let mut speakers: BTreeMap<u32, BTreeSet<Speaker>> = BTreeMap::new();
        for (link, speaker) in self.known()? {
            speakers.entry(link).or_default().insert(speaker);
        }
        // A block without its filter keeps nothing from anybody.
        let mut there = Vec::new();
        for rule in Rule::ALL {
            let block = self.blocks.of(rule);
            if !programs(socket, &Hook::Block(block))?.is_empty() {
                there.push((block, rule));
            }
        }
        let rule_of = |block: Option<u32>| {
            there.iter().find(|(other, _)| Some(*other) == block).map(|(_, rule)| *rule)
        };
        let mut doors = BTreeMap::new();
        for queue in queues(socket)? {
            let mut door = Door {
                gets_no_ipv6: rule_of(queue.egress) == Some(Rule::NoIpv6),
                ..Door::default()
            };
            let rule = if queue.ingress.is_some() {
                rule_of(queue.ingress)
            } else {
                let there = filters(socket, &Hook::Link(queue.link))?;
                door.detour = !there.is_empty();
                there.into_iter().flatten().next().map(|(_, rule)| rule)
            };
            door.sends_no_ipv6 = rule == Some(Rule::NoIpv6);
            if rule == Some(Rule::Speakers) {
                door.speakers = Some(speakers.remove(&queue.link).unwrap_or_default());
            }
            doors.insert(queue.link, door);
        }
        Ok(doors)
    }

    /// Forgets the addresses of links that are gone, if there may be many of them.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn sweep(&mut self, links: impl FnOnce() -> Result<BTreeSet<u32>>) -> Result<()> {
        if self.written < SWEEP {
            return Ok(());
        }
        self.written = 0;
        let links = links()?;
        let failed = |errno| Error::call("sweep", "who may speak", errno);
        for key in self.set.keys().map_err(failed)? {
            if read_u32(&key).is_some_and(|link| !links.contains(&link)) {
                self.set.remove(&key).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Whether a frame that comes by a link goes on, as the program itself says.
    ///
    /// # Errors
    /// What the kernel refuses: a frame that is shorter than Ethernet's header.
    pub fn passes(&self, link: u32, frame: &[u8]) -> Result<bool> {
        let verdict = self.speakers.verdict(frame, link);
        verdict
            .map(|verdict| verdict == program::PASS)
            .map_err(|errno| Error::call("try", "a frame", errno))
    }

    /// Appends the message that puts a program in its place.
    fn filter(&self, batch: &mut Batch, flags: u16, hook: &Hook, rule: Rule) {
        const DIRECT_ACTION: u32 = 1;
        let program = match rule {
            Rule::Speakers => &self.speakers,
            Rule::NoIpv6 => &self.no_ipv6,
        };
        batch.frame(RTM_NEWTFILTER, flags, "add the guard", hook.to_string(), |bytes| {
            let (link, parent) = hook.address();
            traffic::header(bytes, link, ONE, parent, traffic::order(FIRST));
            append(bytes, TCA_KIND, b"bpf\0");
            let mut options = Vec::new();
            append(&mut options, TCA_BPF_FD, &program.as_fd().as_raw_fd().to_ne_bytes());
            append(&mut options, TCA_BPF_NAME, &[rule.name().as_bytes(), &[0]].concat());
            append(&mut options, TCA_BPF_FLAGS, &DIRECT_ACTION.to_ne_bytes());
            append(bytes, TCA_OPTIONS, &options);
        });
    }
}

/// Nothing may be there yet.
const NEW: u16 = NLM_F_CREATE | NLM_F_EXCL;

/// The order in which the guard is asked, and its number there. What makes a detour comes after it.
const FIRST: u16 = 1;
const ONE: u32 = 1;

/// Where a filter hangs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hook {
    /// In a block.
    Block(u32),
    /// At what comes in by one link.
    Link(u32),
}

impl Hook {
    /// The link and the parent that say so in a message.
    fn address(self) -> (u32, u32) {
        /// `TCM_IFINDEX_MAGIC_BLOCK` (linux/rtnetlink.h).
        const A_BLOCK: u32 = 0xffff_ffff;
        match self {
            Self::Block(block) => (A_BLOCK, block),
            Self::Link(link) => (link, INGRESS_FILTERS),
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Block(block) => write!(f, "of the block {block}"),
            Self::Link(link) => write!(f, "of the link with number {link}"),
        }
    }
}

fn of_speaker(speaker: Speaker, errno: Errno) -> Error {
    Error::call("write down who may speak from", speaker.address.to_string(), errno)
}

#[cfg(test)]
mod tests;
