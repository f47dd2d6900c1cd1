//! Rules about published ports: where they lead, and that others may take their place in use.

use std::net::{SocketAddr, TcpStream};

use cnm::{
    Call as _, Kind,
    driver::{PublishPorts, Sync as Everything},
};
use serde_json::{Value, json};

use super::{
    Rule, Verdict, Why,
    endpoints::must,
    sandbox::Sandbox,
    stage::{Placed, Stage},
};

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "ports",
        says: "a published port of the host leads to the container, until it is taken away",
        holds: ports,
    },
    Rule {
        name: "publish",
        says: "driver.publish has other ports lead to the container, and the former ones no more",
        holds: |stage| {
            let mut site = Site::publishing(stage, &[FIRST])?;
            site.publish(stage, &[SECOND])?;
            site.lead(stage, &[SECOND], &[FIRST])
        },
    },
    Rule {
        name: "publish-from-none",
        says: "an endpoint that published nothing publishes ports, and then nothing again",
        holds: |stage| {
            let mut site = Site::publishing(stage, &[])?;
            site.publish(stage, &[FIRST])?;
            site.lead(stage, &[FIRST], &[])?;
            site.publish(stage, &[])?;
            site.lead(stage, &[], &[FIRST])
        },
    },
    Rule {
        name: "publish-keeps",
        says: "a port that was published and is to be still leads to the container",
        holds: |stage| {
            let mut site = Site::publishing(stage, &[FIRST])?;
            site.publish(stage, &[FIRST, SECOND])?;
            site.lead(stage, &[FIRST, SECOND], &[])?;
            site.publish(stage, &[SECOND])?;
            site.lead(stage, &[SECOND], &[FIRST])
        },
    },
    Rule {
        name: "publish-all-or-none",
        says: "a port of a family in which the endpoint has no address is invalid, those with it are \
               not published, and the former ones are",
        holds: |stage| {
            stage.needs_addresses()?;
            let mut site = Site::publishing(stage, &[FIRST])?;
            site.publish(stage, &[FIRST])?;
            let nowhere = json!({ "host_ip": "::", "host_port": 18082, "container_port": 80 });
            let params = site.instead(stage, json!([port(SECOND), nowhere]));
            stage.refused(PublishPorts::METHOD, &params, &[Kind::Invalid])?;
            site.lead(stage, &[FIRST], &[SECOND])
        },
    },
    Rule {
        name: "publish-lasts",
        says: "a sync after an end finds right what was published instead, and nothing else",
        holds: |stage| {
            let mut site = Site::publishing(stage, &[FIRST])?;
            site.publish(stage, &[SECOND])?;
            stage.session.end()?;
            stage.start_again()?;
            let synced = stage.sync(&[stage.network()], &[&site.placed.endpoint])?;
            must(synced.repaired.is_empty(), &format!("it repaired {:?}", synced.repaired))?;
            site.lead(stage, &[SECOND], &[FIRST])
        },
    },
    Rule {
        name: "sync-publishes",
        says: "a sync has an endpoint publish the ports that it is named with, and no others",
        holds: |stage| {
            let mut site = Site::publishing(stage, &[FIRST])?;
            site.placed.endpoint["ports"] = json!([port(SECOND)]);
            let everything = json!({
                "networks": [stage.network()], "endpoints": [site.placed.endpoint],
            });
            stage.ask::<Value>(Everything::METHOD, &everything)?;
            site.lead(stage, &[SECOND], &[FIRST])
        },
    },
];

/// Ports of the host.
const FIRST: u16 = 18080;
const SECOND: u16 = 18081;

/// A port of the host that leads to port 80 of the container.
fn port(host: u16) -> Value {
    json!({ "host_port": host, "container_port": 80 })
}

/// Passes over drivers that publish nothing.
fn needs_ports(stage: &Stage) -> Verdict {
    if !stage.info().capabilities.ports {
        return Err(Why::NotMeant("it publishes no ports"));
    }
    stage.needs_gateway()
}

fn ports(stage: &mut Stage) -> Verdict {
    let site = Site::publishing(stage, &[FIRST])?;
    site.lead(stage, &[FIRST], &[])?;
    stage.detach(&site.placed.endpoint)?;
    // Its address may be gone already; nobody listens there in any case.
    let at = SocketAddr::new(Stage::gateway(), FIRST);
    let open = stage.home.inside(|| TcpStream::connect(at).is_ok())?;
    must(!open, "the port is open after the detach")
}

/// A container that publishes ports.
struct Site {
    sandbox: Sandbox,
    placed: Placed,
}

impl Site {
    fn publishing(stage: &mut Stage, ports: &[u16]) -> Verdict<Self> {
        needs_ports(stage)?;
        stage.up()?;
        let sandbox = stage.sandbox()?;
        let placed = stage.place_with(2, &sandbox, |endpoint| {
            endpoint["ports"] = ports.iter().copied().map(port).collect();
        })?;
        Ok(Self { sandbox, placed })
    }

    /// What has it publish other ports.
    fn instead(&self, stage: &Stage, ports: Value) -> Value {
        let mut endpoint = self.placed.endpoint.clone();
        let before = std::mem::replace(&mut endpoint["ports"], ports);
        json!({ "network": stage.network(), "endpoint": endpoint, "instead_of": before })
    }

    /// Has it publish other ports. Passes over drivers that are told everything instead.
    fn publish(&mut self, stage: &mut Stage, ports: &[u16]) -> Verdict {
        let ports: Value = ports.iter().copied().map(port).collect();
        let params = self.instead(stage, ports.clone());
        match stage.session.call(PublishPorts::METHOD, &params)? {
            Err(error) if error.kind == Kind::Unsupported => {
                return Err(Why::NotMeant("it is told everything instead"));
            }
            Err(error) => return Err(format!("driver.publish is refused: {error}").into()),
            Ok(_) => {}
        }
        self.placed.endpoint["ports"] = ports;
        Ok(())
    }

    /// Whether ports lead to the container, and others nowhere.
    fn lead(&self, stage: &Stage, open: &[u16], closed: &[u16]) -> Verdict {
        let behind = SocketAddr::new(Stage::address(2), 80);
        let leads = |port: &u16| {
            let at = SocketAddr::new(Stage::gateway(), *port);
            stage.home.connects(at, &self.sandbox, behind)
        };
        for port in open {
            must(leads(port)?, &format!("port {port} does not lead to the container"))?;
        }
        for port in closed {
            must(!leads(port)?, &format!("port {port} leads to the container"))?;
        }
        Ok(())
    }
}
