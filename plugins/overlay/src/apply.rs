//! Seeing what the kernel has of VXLAN devices and their rows, and doing what a plan says.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnetwork::IpNetwork;
use kernel::{
    Errno, Result,
    direct::{self, Direct},
    fdb::{self, Row},
    firewall::{Fact, Firewall},
    links::{self, Change, Link},
    neighbours::{self, Neighbour},
    netlink::{Batch, Socket},
    nexthop, routes, sysctl,
    vxlan::{self, Vxlan},
};

use words::Undone;

use crate::{
    TUNNELS, Tunnel,
    plan::{self, Observed, Step},
    table::{self, Difference, Here, Key, Table, Underlay, Value},
    tunnel::node_of,
};

/// Takes out of the kernel what of these networks is not of their bridges, unless it is only to be
/// shown: devices, with the rows on them, and nexthops.
pub(crate) fn uninstall(check: bool) -> Result<Vec<String>> {
    let mut socket = Socket::route()?;
    let (mut found, mut batch) = (Vec::new(), Batch::new());
    for tunnel in vxlan::all(&mut socket)?.iter().filter(|found| plan::is_own(found)) {
        found.push(format!("the VXLAN device {}", tunnel.link.name));
        links::delete(&mut batch, &tunnel.link.name);
    }
    let own = nexthop::all(&mut socket)?;
    for id in own.into_iter().filter(|id| table::is_own_nexthop(*id)) {
        found.push(format!("the nexthop {id}"));
        nexthop::delete(&mut batch, id);
    }
    if !check {
        socket.run_but(&NOT_THERE, batch, |_| ())?;
    }
    Ok(found)
}

/// How many messages go into one send: as many as fit a socket's buffer many times over.
const CHUNK: usize = 4096;

/// Up to how many rows that are missing may have been passed over.
const FEW: usize = 64;

/// How often rows are looked for that were passed over.
const LOOKS: usize = 3;

/// What it is to delete what is not there, or is on a link that is not.
const NOT_THERE: [Errno; 3] = [Errno::ENOENT, Errno::ESRCH, Errno::ENODEV];

/// The driver's hold on the kernel: sockets kept open, in the namespace it was opened in.
#[derive(Debug)]
pub(crate) struct Kernel {
    socket: Socket,
    firewall: Firewall,
}

impl Kernel {
    /// Opens everything, in the calling thread's namespace, but for the firewall.
    pub(crate) fn open(firewall: Firewall) -> Result<Self> {
        Ok(Self { socket: Socket::route()?, firewall })
    }

    /// The link of a name.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>> {
        links::by_name(&mut self.socket, name)
    }

    /// All links.
    pub(crate) fn links(&mut self) -> Result<Vec<Link>> {
        links::all(&mut self.socket)
    }

    /// The MTU of the link that has an address of this host; none where none has it.
    pub(crate) fn underlay(&mut self, vtep: IpAddr) -> Result<Option<u32>> {
        let addresses = routes::addresses(&mut self.socket)?;
        match addresses.iter().find(|address| address.address.ip() == vtep) {
            Some(found) => {
                let link = links::by_index(&mut self.socket, found.link)?;
                Ok(link.map(|link| link.mtu))
            }
            None => Ok(None),
        }
    }

    /// What there is, as far as it matters to these devices.
    pub(crate) fn observe(&mut self, tunnels: &[Tunnel]) -> Result<Observed> {
        let mut bridges = BTreeMap::new();
        for name in tunnels.iter().filter_map(|tunnel| tunnel.bridge.as_ref()) {
            let link = links::by_name(&mut self.socket, name)?;
            bridges.extend(link.map(|link| (name.clone(), link.index)));
        }
        let parameters = tunnels.iter().flat_map(Tunnel::parameters);
        Ok(Observed {
            tunnels: vxlan::all(&mut self.socket)?,
            bridges,
            addresses: routes::addresses(&mut self.socket)?,
            parameters: parameters
                .filter_map(|(path, _)| Some((path.clone(), sysctl::read(&path)?)))
                .collect(),
            facts: self.firewall.facts()?,
        })
    }

    /// Does the steps: what is learned first, then the devices, then what is forgotten. Those after one that
    /// failed are tried nevertheless.
    ///
    /// # Errors
    /// What failed first of what all networks need.
    pub(crate) fn apply(&mut self, steps: &[Step], observed: &Observed) -> Result<Undone<Step>> {
        let mut undone = Undone::default();
        let (mut learn, mut forget) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Learn(fact) => learn.push(fact.clone()),
                Step::Forget(fact) => forget.push(fact.clone()),
                _ => {}
            }
        }
        undone.asked(self.firewall.change(&[], &learn));

        let (mut batch, mut whose) = (Batch::new(), Vec::new());
        for step in steps {
            device(&mut batch, step, &observed.bridges);
            whose.resize(batch.len(), step);
        }
        self.ask(batch, &whose, &mut undone);
        for step in steps {
            if let Step::Move { name, .. } = step
                && let Some(found) = observed.tunnel(name)
            {
                undone.note(step, self.speak_anew(found.link.index));
            }
        }

        for step in steps {
            if let Step::SetParameter { path, value } = step {
                undone.note(step, sysctl::write(path, value).map(drop));
            }
        }
        let addressed = self.address(steps, &mut undone);
        undone.asked(addressed);
        undone.asked(self.firewall.forget(&forget));
        undone.of_all.take().map_or(Ok(undone), Err)
    }

    /// Sends messages, each of a step of its own.
    fn ask(&mut self, batch: Batch, whose: &[&Step], undone: &mut Undone<Step>) {
        let refused = |error| undone.refused(whose, error);
        let asked = self.socket.run_each(&[], batch, |_| (), refused);
        undone.asked(asked.map(drop));
    }

    /// Makes a device's rows anew: over IPv6 each goes on sending from where the device did when the row was first
    /// used, since its route is kept with the address (`dst_cache`).
    fn speak_anew(&mut self, link: u32) -> Result<()> {
        let leads = |row: &Row| matches!(row, Row::Forward { .. } | Row::Flood { .. });
        let rows = fdb::rows(&mut self.socket, link)?.into_iter().filter(leads);
        let anew = rows.map(|row| entry(link, row)).collect();
        self.change(&Difference { anew, ..Difference::default() }, None).map(drop)
    }

    /// Gives and takes addresses. The kernel echoes no index of a VXLAN device that it makes.
    fn address(&mut self, steps: &[Step], undone: &mut Undone<Step>) -> Result<()> {
        let (mut batch, mut whose) = (Batch::new(), Vec::new());
        for step in steps {
            let (Step::AddAddress { link, address } | Step::DeleteAddress { link, address }) = step
            else {
                continue;
            };
            let Some(link) = links::by_name(&mut self.socket, link)? else { continue };
            if matches!(step, Step::AddAddress { .. }) {
                routes::add_address(&mut batch, link.index, *address);
            } else {
                routes::delete_address(&mut batch, link.index, *address);
            }
            whose.resize(batch.len(), step);
        }
        self.ask(batch, &whose, undone);
        Ok(())
    }

    /// Where the other nodes take VXLAN, as the device between them has it.
    pub(crate) fn nodes(&mut self) -> Result<BTreeMap<u32, IpAddr>> {
        let mut nodes = BTreeMap::new();
        for found in vxlan::all(&mut self.socket)? {
            if plan::is_own(&found) && found.link.master.is_none() {
                let rows = fdb::rows(&mut self.socket, found.link.index)?;
                nodes.extend(rows.into_iter().filter_map(|row| match row {
                    Row::Forward { mac, vtep } => Some((node_of(mac)?, vtep)),
                    _ => None,
                }));
            }
        }
        Ok(nodes)
    }

    /// The rows that lead to VTEPs, and the ways to addresses elsewhere that do without VXLAN.
    pub(crate) fn ways(&mut self, here: &Here) -> Result<Table> {
        let row = |(to, through): (_, std::net::Ipv4Addr)| {
            (Key::Route { to }, Value::Vtep(through.into()))
        };
        let mut table: Table = direct::all(&mut self.socket)?.into_iter().map(row).collect();
        let networks = here.networks.values().map(|place| place.tunnel);
        for link in networks.chain(here.ingress.map(|(link, _)| link)) {
            table
                .extend(fdb::rows(&mut self.socket, link)?.into_iter().map(|row| entry(link, row)));
        }
        Ok(table)
    }

    /// All rows of this host's devices.
    pub(crate) fn table(&mut self, here: &Here) -> Result<Table> {
        let mut table = self.ways(here)?;
        table.extend(self.all_neighbours(here)?);
        let nexthops = nexthop::all(&mut self.socket)?.into_iter();
        let own = nexthops.filter(|id| table::is_own_nexthop(*id));
        table.extend(own.map(|id| (Key::Nexthop { id }, Value::There)));
        Ok(table)
    }

    fn neighbours(&mut self, link: u32, table: &mut Table) -> Result<()> {
        for found in neighbours::of(&mut self.socket, link)? {
            let Neighbour { link, address, mac } = found;
            table.insert(Key::Neighbour { link, address }, Value::Mac(mac));
        }
        Ok(())
    }

    /// Those of all of this host's devices.
    fn all_neighbours(&mut self, here: &Here) -> Result<Table> {
        let bridges = here.networks.values().map(|place| place.bridge);
        let mut table = Table::new();
        for link in bridges.chain(here.ingress.map(|(link, _)| link)) {
            self.neighbours(link, &mut table)?;
        }
        Ok(table)
    }

    /// Takes out of a difference what is missing only as it seems: neighbours that the kernel passed over
    /// when it listed them. Its table of them is one for all network namespaces; a list comes in parts, and
    /// where the next one begins is counted among everybody's entries, so that each that goes meanwhile hides
    /// one (`neigh_dump_table`, net/core/neighbour.c). Where many are missing it is no accident.
    pub(crate) fn look_again(&mut self, here: &Here, difference: &mut Difference) -> Result<()> {
        let is_neighbour = |(key, _): &&(Key, Value)| matches!(key, Key::Neighbour { .. });
        if (1..=FEW).contains(&difference.write.iter().filter(is_neighbour).count()) {
            let seen = self.all_neighbours(here)?;
            difference.write.retain(|(key, value)| seen.get(key) != Some(value));
        }
        Ok(())
    }

    /// Deletes neighbours that are not wanted and were passed over when those were looked for that are;
    /// how many.
    pub(crate) fn sweep(&mut self, here: &Here, wanted: &Table) -> Result<usize> {
        let mut rows = 0;
        for _ in 0..LOOKS {
            let seen = self.all_neighbours(here)?;
            let delete: Vec<_> = seen.into_keys().filter(|key| !wanted.contains_key(key)).collect();
            if delete.is_empty() {
                break;
            }
            rows += self.change(&Difference { delete, ..Difference::default() }, None)?;
        }
        Ok(rows)
    }

    /// What the firewall knows of VXLAN and nodes.
    pub(crate) fn facts(&mut self) -> Result<BTreeSet<Fact>> {
        self.firewall.facts()
    }

    /// How many packets of VXLAN were dropped, by why.
    pub(crate) fn dropped(&mut self) -> Result<BTreeMap<String, u64>> {
        self.firewall.dropped()
    }

    /// Has the firewall know what is missing, and then forget what is stale. Whatever of it was
    /// done before is no fault.
    pub(crate) fn learn(&mut self, stale: &[Fact], new: &[Fact]) -> Result<()> {
        self.firewall.change(&[], new)?;
        self.firewall.forget(stale)
    }

    /// Writes rows, and deletes others; how many it wrote and deleted. Routes go by `underlay`. What would
    /// be on a device that somebody took away is passed over, so that the others' rows are right: all of
    /// it is told again once the device is back.
    pub(crate) fn change(
        &mut self,
        difference: &Difference,
        underlay: Option<Underlay>,
    ) -> Result<usize> {
        let mut rows = 0;
        for chunk in difference.write.chunks(CHUNK) {
            let mut batch = Batch::new();
            for (key, value) in chunk {
                write(&mut batch, *key, *value, underlay);
            }
            let messages = batch.len();
            let refused = messages - self.socket.run_but(&[Errno::ENODEV], batch, |_| ())?;
            rows += chunk.len().saturating_sub(refused);
        }
        for chunk in difference.anew.chunks(CHUNK) {
            let mut batch = Batch::new();
            for (key, value) in chunk {
                delete(&mut batch, *key);
                write(&mut batch, *key, *value, underlay);
            }
            rows += self.socket.run_but(&NOT_THERE, batch, |_| ())? / 2;
        }
        for chunk in difference.delete.chunks(CHUNK) {
            let mut batch = Batch::new();
            for key in chunk {
                delete(&mut batch, *key);
            }
            rows += self.socket.run_but(&NOT_THERE, batch, |_| ())?;
        }
        Ok(rows)
    }
}

/// What a step takes of the devices themselves.
fn device(batch: &mut Batch, step: &Step, bridges: &BTreeMap<String, u32>) {
    match step {
        Step::Remove { name } => links::delete(batch, name),
        Step::Make(tunnel) => {
            let Tunnel { name, vni, local, port, mac, mtu, .. } = &**tunnel;
            let bridge = tunnel.bridge.as_ref().and_then(|bridge| bridges.get(bridge)).copied();
            vxlan::make(
                batch,
                &Vxlan {
                    name,
                    vni: *vni,
                    local: *local,
                    port: *port,
                    mac: *mac,
                    mtu: *mtu,
                    group: TUNNELS,
                    bridge,
                },
            );
            if tunnel.bridge.is_some() {
                vxlan::tune_port(batch, name, *mtu, tunnel.broadcast);
            }
            links::change(batch, name, &Change { up: Some(true), ..Change::default() });
        }
        Step::Move { name, vni, to } => vxlan::move_to(batch, name, *vni, *to),
        Step::Mend { name, mac, mtu, bridge, up } => {
            let master = bridge.as_ref().and_then(|bridge| bridges.get(bridge)).copied();
            let (mac, mtu, up) = (*mac, *mtu, up.then_some(true));
            links::change(batch, name, &Change { up, master, mac, mtu, group: None });
        }
        Step::Tune { name, mtu, broadcast } => vxlan::tune_port(batch, name, *mtu, *broadcast),
        _ => {}
    }
}

/// A forwarding row as one of a table.
fn entry(link: u32, row: Row) -> (Key, Value) {
    match row {
        Row::Forward { mac, vtep } => (Key::Forward { link, mac }, Value::Vtep(vtep)),
        Row::Odd { mac } => (Key::Forward { link, mac }, Value::There),
        Row::Flood { vtep } => (Key::Flood { link, vtep }, Value::There),
        Row::OddFlood { vtep, by } => (Key::OddFlood { link, vtep, by }, Value::There),
        Row::Port { mac } => (Key::Port { link, mac }, Value::There),
    }
}

fn write(batch: &mut Batch, key: Key, value: Value, underlay: Option<Underlay>) {
    match (key, value) {
        (Key::Route { to }, Value::Vtep(IpAddr::V4(through))) => {
            if let Some(Underlay { link, address: IpNetwork::V4(own) }) = underlay {
                direct::write(batch, &Direct { to, through, link, from: own.ip() });
            }
        }
        (Key::Forward { link, mac }, Value::Vtep(vtep)) => {
            fdb::write(batch, link, &Row::Forward { mac, vtep });
        }
        (Key::Port { link, mac }, _) => fdb::write(batch, link, &Row::Port { mac }),
        (Key::Flood { link, vtep }, _) => fdb::write(batch, link, &Row::Flood { vtep }),
        (Key::Neighbour { link, address }, Value::Mac(mac)) => {
            neighbours::write(batch, &Neighbour { link, address, mac });
        }
        // What is wanted says all of it.
        _ => {}
    }
}

fn delete(batch: &mut Batch, key: Key) {
    match key {
        Key::Nexthop { id } => nexthop::delete(batch, id),
        Key::Forward { link, mac } => fdb::delete(batch, link, &Row::Odd { mac }),
        Key::Port { link, mac } => fdb::delete(batch, link, &Row::Port { mac }),
        Key::Flood { link, vtep } => fdb::delete(batch, link, &Row::Flood { vtep }),
        Key::OddFlood { link, vtep, by } => fdb::delete(batch, link, &Row::OddFlood { vtep, by }),
        Key::Route { to } => direct::delete(batch, to),
        Key::Neighbour { link, address } => neighbours::delete(batch, link, address),
    }
}
