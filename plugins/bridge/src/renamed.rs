//! Host ends that somebody gave another name: they are known by their other ends, and get their names
//! back.

use std::collections::HashSet;

use kernel::{
    Errno, Result,
    links::{self, Change, Link, Mac},
    netlink::Batch,
};

use crate::{
    Port,
    apply::{Kernel, condemn},
    plan::Observed,
};

impl Kernel {
    /// The host end of an endpoint, whatever it is called: where its other end has this name and this
    /// address, in the namespace of this id.
    pub(crate) fn end_of(
        &mut self,
        name: &str,
        mac: Mac,
        nsid: Option<i32>,
    ) -> Result<Option<Link>> {
        let inside = match nsid {
            Some(nsid) => links::within(&mut self.socket, nsid, name)?,
            // It was left on the host.
            None => links::by_name(&mut self.socket, name)?,
        };
        // By now the id may be another namespace's.
        let Some(inside) = inside.filter(|inside| inside.mac == Some(mac)) else { return Ok(None) };
        let Some(peer) = inside.peer else { return Ok(None) };
        let host = links::by_index(&mut self.socket, peer)?;
        let is_other = |host: &Link| host.peer == Some(inside.index) && host.peer_nsid == nsid;
        Ok(host.filter(|host| self.marks.is_port(host) && is_other(host)))
    }

    /// Gives host ends their names back, of ports each with the id of its container's namespace; what
    /// was done.
    pub(crate) fn name_again<'a>(
        &mut self,
        ports: impl Iterator<Item = (&'a Port, Option<i32>)>,
        observed: &mut Observed,
    ) -> Result<Vec<String>> {
        let mut done = Vec::new();
        let named: HashSet<_> = observed.links.iter().map(|link| link.name.clone()).collect();
        for (port, nsid) in ports.filter(|(port, _)| !named.contains(&port.host)) {
            let Some(end) = self.end_of(&port.name, port.mac, nsid)? else { continue };
            let up = self.rename(&end, &port.host)?;
            done.push(format!("call {} {} again", end.name, port.host));
            if let Some(seen) = observed.links.iter_mut().find(|link| link.index == end.index) {
                (seen.name, seen.up) = (port.host.clone(), up);
            }
        }
        Ok(done)
    }

    /// Leaves the host end of a port to the reaper that is called otherwise; how many there were.
    pub(crate) fn condemn_renamed(&mut self, port: &Port, nsid: Option<i32>) -> Result<usize> {
        let Some(end) = self.end_of(&port.name, port.mac, nsid)? else { return Ok(0) };
        self.rename(&end, &port.host)?;
        let mut batch = Batch::new();
        condemn(&mut batch, &self.marks, &port.host);
        self.socket.run_but(&[Errno::ENODEV], batch, |_| ())
    }

    /// Gives a link another name; whether it is up then.
    fn rename(&mut self, link: &Link, name: &str) -> Result<bool> {
        let mut batch = Batch::new();
        links::rename(&mut batch, link.index, name);
        match self.socket.run(batch) {
            Err(error) if error.errno() == Some(Errno::EBUSY) => {
                let mut batch = Batch::new();
                let down = Change { up: Some(false), ..Change::default() };
                links::change_index(&mut batch, link.index, &down);
                links::rename(&mut batch, link.index, name);
                self.socket.run(batch).map(|()| false)
            }
            outcome => outcome.map(|()| link.up),
        }
    }
}
