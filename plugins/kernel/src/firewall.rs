//! The firewall of bridge networks: constant rules, and facts that are elements of their sets.
//!
//! The rules are [`BASE`], readable as they are, laid down by `nft` once per start in one
//! transaction that keeps the elements. (They go in as text: the JSON of nft 1.0.6 cannot declare
//! a map whose values are `address . port`, and ends with a segmentation fault when asked to.)
//! Where the kernel lets a table have an owner, it is then the kept socket's, and nobody else's
//! `nft flush ruleset` takes them away.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::{Command, Stdio},
};

use nix::errno::Errno;

use crate::{
    Error, Result,
    nft::{Nft, Transaction},
};

mod fact;
mod text;

pub use fact::Fact;
use fact::SETS;

/// The rules, with empty sets, as `nft -f` takes them.
pub const BASE: &str = include_str!("firewall/base.nft");
/// What the table of the driver that spans hosts has besides.
pub const OVERLAY: &str = include_str!("firewall/overlay.nft");
/// The name of their table, of the family `inet`.
pub const TABLE: &str = "netd";
/// The name of the same table of the driver that spans hosts: a table has one owner.
pub const OVERLAY_TABLE: &str = "netd-overlay";
/// The bit of a packet's mark (`meta mark`) that says: our rules let this through. Rules in the
/// chains of others go by it.
pub const PASSED: u32 = 0x4000_0000;
/// The counters of VXLAN packets that were dropped: from nobody we know, and from nodes that are
/// not on the network.
pub const DROPPED: [&str; 2] = ["vxlan_strangers", "vxlan_misplaced"];
/// How many ports can be published one by one, of a family: on one address of the host, and on all of
/// them, each.
pub const PORTS: usize = 65536;
/// How many changes go into one transaction at most, so that it fits a socket's buffer.
const CHUNK: usize = 4096;

/// The firewall of the namespace that it was opened in.
#[derive(Debug)]
pub struct Firewall {
    nft: Nft,
    /// The name of its table.
    table: &'static str,
    /// Whether the table is to belong to its socket, where the kernel can do that.
    owning: bool,
    /// Whether they do.
    owned: bool,
    /// Whose facts it adds, sees and deletes: a driver must not sweep away another's.
    owner: Option<&'static str>,
    /// How many rules there are when all are there; known once they were laid down.
    rules: Option<usize>,
}

impl Firewall {
    /// Opens it, in the calling thread's namespace; lays nothing down.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open() -> Result<Self> {
        Self::open_as(None)
    }

    /// As [`Firewall::open`], for an owner whose name its elements carry as their comment: in
    /// tables of the driver's own that spans hosts.
    ///
    /// # Errors
    /// What `socket(2)` refuses.
    pub fn open_as(owner: Option<&'static str>) -> Result<Self> {
        let table = if owner.is_some() { OVERLAY_TABLE } else { TABLE };
        let nft = Nft::open()?;
        Ok(Self { nft, table, owning: true, owned: false, owner, rules: None })
    }

    /// As another's facts in the same table, through the same socket: both are to be used by one
    /// thread.
    pub fn share(&self, owner: &'static str) -> Self {
        Self { nft: self.nft.share(), owner: Some(owner), ..*self }
    }

    /// Whether the table is to belong to its socket. One that does already is given up when the rules
    /// are laid next.
    pub fn set_owning(&mut self, owning: bool) {
        if self.owning != owning {
            self.owning = owning;
            self.rules = None;
        }
    }

    /// Whether the table is its socket's.
    pub fn is_owner(&self) -> bool {
        self.owned
    }

    /// What others can take away: the name of its table, and how many rules there should be. Nothing
    /// when the table is its socket's.
    pub fn watched(&self) -> Option<(&'static str, usize)> {
        self.rules.filter(|_| !self.owned).map(|rules| (self.table, rules))
    }

    /// The name of its table.
    pub fn table(&self) -> &'static str {
        self.table
    }

    /// Lays the rules down unless this was done and all are there still. Elements that are there
    /// stay. Whether somebody had taken them away since.
    ///
    /// # Errors
    /// When `nft` cannot be run or refuses, or the table is another process's.
    pub fn lay(&mut self) -> Result<bool> {
        let before = self.rules;
        if before.is_some() && before == Some(self.nft.rules(self.table)?) {
            return Ok(false);
        }
        if self.owned {
            // What belongs to a socket is closed to `nft`, too.
            self.nft = Nft::open()?;
            self.owned = false;
        }
        let persistent = self.owning && self.nft.make_orphan(self.table)?;
        // One that is there may be persistent, which `nft` does not know and would take back.
        let made = if self.is_there()? {
            String::new()
        } else {
            format!("add table inet {}\n", self.table)
        };
        let overlay = if self.table == OVERLAY_TABLE { OVERLAY } else { "" };
        let rules = text::ruleset(&[BASE, overlay].concat(), self.table);
        run_nft(&[made, rules].concat())?;
        if persistent {
            self.nft.own(self.table)?;
            self.owned = true;
        }
        self.rules = Some(self.nft.rules(self.table)?);
        Ok(before.is_some())
    }

    /// Whether its table is there.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn is_there(&mut self) -> Result<bool> {
        self.nft.has_table(self.table)
    }

    /// Takes its table away, with everything in it.
    ///
    /// # Errors
    /// What the kernel refuses: a table that is another process's.
    pub fn remove(&mut self) -> Result<()> {
        self.nft.delete_table(self.table)?;
        self.rules = None;
        self.owned = false;
        Ok(())
    }

    /// The firewalls of others, over the same socket.
    pub fn others(&mut self) -> &mut Nft {
        &mut self.nft
    }

    /// Whether the rules were laid down by this very value.
    pub fn laid(&self) -> bool {
        self.rules.is_some()
    }

    /// Everything of its owner's that it knows. Nothing where the sets are missing.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn facts(&mut self) -> Result<BTreeSet<Fact>> {
        let owner = self.owner;
        self.read(|of| of == owner)
    }

    /// Everything that it knows, whoever's it is.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn everyones(&mut self) -> Result<BTreeSet<Fact>> {
        self.read(|_| true)
    }

    fn read(&mut self, wanted: impl Fn(Option<&str>) -> bool) -> Result<BTreeSet<Fact>> {
        let mut facts = BTreeSet::new();
        for set in SETS {
            let elements = self.nft.elements_of(self.table, set, &wanted)?;
            let elements = elements.unwrap_or_default();
            facts.extend(elements.iter().filter_map(Fact::parse));
        }
        Ok(facts)
    }

    /// How many packets of VXLAN were dropped, by the counters [`DROPPED`]. None where the rules are
    /// missing.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn dropped(&mut self) -> Result<BTreeMap<String, u64>> {
        self.nft.counters(self.table)
    }

    /// Adds and deletes, all of it or nothing (of more than 4,096 changes: in runs of as many).
    ///
    /// # Errors
    /// The first change that the kernel refused: a fact to delete that is not there (`ENOENT`), a
    /// port that leads elsewhere (`EBUSY`).
    pub fn change(&mut self, delete: &[Fact], add: &[Fact]) -> Result<()> {
        let changes: Vec<_> =
            delete.iter().map(|fact| (fact, false)).chain(add.iter().map(|f| (f, true))).collect();
        for chunk in changes.chunks(CHUNK) {
            let mut transaction = Transaction::of(self.table, self.owner);
            for (fact, adding) in chunk {
                if *adding {
                    transaction.add(&fact.element(), fact);
                } else {
                    transaction.delete(&fact.element(), fact);
                }
            }
            self.nft.commit(transaction)?;
        }
        Ok(())
    }

    /// Sees to it that these facts are not known, whichever of them were.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn forget(&mut self, facts: &[Fact]) -> Result<()> {
        match self.change(facts, &[]) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => {
                let known = self.facts()?;
                let left: Vec<_> = facts.iter().filter(|f| known.contains(f)).cloned().collect();
                self.change(&left, &[])
            }
            outcome => outcome,
        }
    }
}

fn run_nft(ruleset: &str) -> Result<()> {
    let failed = |error| Error::io("run", "nft", &error);
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    let mut input = nft.stdin.take().expect("it was asked to be piped");
    let written = input.write_all(ruleset.as_bytes());
    drop(input);
    let output = nft.wait_with_output().map_err(failed)?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let text = text.lines().collect::<Vec<_>>().join(" ");
        return Err(Error::Nft(text));
    }
    written.map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_have_room_for_ports() {
        let maps = ["publish4_at", "publish6_at", "publish4", "publish6"];
        let line = |map: &&str| BASE.lines().find(|line| line.contains(&format!("map {map} ")));
        let lines: Vec<_> = maps.iter().filter_map(line).collect();
        assert!(lines.len() == 4 && lines.iter().all(|l| l.contains(&format!("size {PORTS}; }}"))));
    }

    #[test]
    fn the_rules_mark_what_they_let_through() {
        assert!(BASE.contains(&format!("meta mark set meta mark or {PASSED:#x} ")));
        assert!(OVERLAY.contains(&format!(" meta mark set meta mark & {:#x}\n", !PASSED)));
    }

    #[test]
    fn the_rules_have_the_counters() {
        for counter in DROPPED {
            assert!(BASE.contains(&format!("counter name {counter} drop")), "{counter}");
        }
    }
}
