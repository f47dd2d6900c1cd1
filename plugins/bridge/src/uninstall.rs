//! Taking everything of a driver's own out of the kernel, whoever is on its networks; or showing what
//! that is. Kernel parameters stay as they are, since nobody knows what they were.

use cnm::driver::Uninstalled;
use kernel::{
    Result,
    firewall::Firewall,
    links::{self, Change, Link},
    netlink::{Batch, Socket},
    sysctl,
};

use crate::{Marks, coexist};

/// Parameters of the whole host that networks need.
const FORWARDING: [&str; 2] = ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"];

/// Takes out what there is, unless it is only to be shown.
pub(crate) fn everything(marks: Marks, check: bool) -> Result<Uninstalled> {
    let mut socket = Socket::route()?;
    let mut firewall = Firewall::open_as(marks.owner)?;
    let mut found = Vec::new();
    let mut batch = Batch::new();
    let all = links::all(&mut socket)?;
    // The ends first, all of them together: one by one each would take a grace period.
    let to_group = |group| Change { group: Some(group), ..Change::default() };
    let is_own = |link: &Link| marks.is_end(link) || marks.is_detour(link);
    for link in all.iter().filter(|link| link.group == marks.condemned && !is_own(link)) {
        links::change_index(&mut batch, link.index, &to_group(0));
    }
    for link in all.iter().filter(|link| is_own(link)) {
        found.push(format!("the link {}", link.name));
        links::change_index(&mut batch, link.index, &to_group(marks.condemned));
    }
    if !found.is_empty() {
        links::delete_group(&mut batch, marks.condemned);
    }
    for link in all.iter().filter(|link| marks.is_bridge(link)) {
        found.push(format!("the bridge {}", link.name));
        links::delete(&mut batch, &link.name);
    }
    if firewall.is_there()? {
        found.push(format!("the table inet {} of nftables", firewall.table()));
    }
    if !check {
        // First what a netd that runs has for itself: nothing is taken from under it.
        firewall.remove()?;
        socket.run_but(&[kernel::Errno::ENODEV], batch, |_| ())?;
    }
    // One rule serves the networks of all drivers: it goes with the tables of this one.
    if marks.owner.is_none() {
        found.extend(coexist::left(firewall.others(), check)?);
        let on = FORWARDING.iter().filter(|path| sysctl::read(path).as_deref() == Some("1"));
        if !found.is_empty() {
            found.extend(on.map(|path| {
                format!("the kernel parameter {} is 1, and stays so", path.replace('/', "."))
            }));
        }
    }
    Ok(Uninstalled { found })
}
