//! Names in a container of Docker's, on its own bridge driver, beside names in one of netd's: both asked
//! by dnsperf from within, where a program of theirs would ask. What is spent is all of each daemon.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use kernel::netns::Netns;
use netd_tests::Asking as _;
use serde_json::{Value, json};

use crate::{
    Options,
    docker::{Api, HOME, OURS, THEIRS, with_dockerd},
    names::spent_by,
    report::{Report, Row, Samples},
    resolver::{Seen, own},
};

const COUNT: usize = 10;

/// What Docker's resolver is called in the table.
const DOCKER: &str = "Docker's resolver";

/// Where Docker's resolver is, inside each container.
const INSIDE: &str = "127.0.0.11";

/// A container of Docker's that asks, by its process, beside another one with all the names.
fn theirs(api: &Api, names: &[String]) -> Result<u64> {
    let sleep = ["sleep", "100000"];
    let named = api.create(THEIRS, &sleep, &[])?;
    api.start(&named)?;
    let connect = json!({"Container": named, "EndpointConfig": {"Aliases": names}});
    api.call("POST", &format!("/networks/{HOME}/connect"), &connect)?;
    let asker = api.create(HOME, &sleep, &[])?;
    api.start(&asker)?;
    let told = api.call("GET", &format!("/containers/{asker}/json"), &Value::Null)?;
    let told: Value = serde_json::from_str(&told)?;
    told["State"]["Pid"].as_u64().context("a container has a process")
}

/// Queries in a second, of processor time and of any.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    with_dockerd(|world, host, api| {
        let names: Vec<_> = (0..COUNT).map(own).collect();
        let questions = Path::new("/run/bench-docker-questions");
        fs::write(questions, names.iter().map(|name| format!("{name} A\n")).collect::<String>())?;
        // By the number that it has on its machine.
        let asker = theirs(api, &names)?;
        let asker = Netns::open(&format!("/proc/{}/root/proc/{asker}/ns/net", api.pid))?;

        let (named, client) = (world.container("named"), world.container("client"));
        let mut attach = named.to(OURS);
        attach.aliases = names.iter().map(|name| name.parse()).collect::<Result<_, _>>()?;
        host.client().attach(&attach);
        let endpoint = host.client().attach(&client.to(OURS));
        let server = endpoint.dns.first().context("it has a resolver")?.to_string();

        let home = Netns::own()?;
        let [mut mine, mut other] = <[Seen; 2]>::default();
        for _ in 0..(options.rounds / 60).max(1) {
            let netd = || spent_by(host.pid());
            client.netns.inside(|| mine.look(questions, &server, 53, netd))?;
            let dockerd = || spent_by(api.pid);
            asker.inside(&home, || other.look(questions, INSIDE, 53, dockerd))??;
        }
        let mut row = |what: &str, unit, of: fn(&Seen) -> &Samples| {
            let row =
                Row::new(format!("{COUNT} names in a container, {what}"), unit, of(&mine).clone());
            report.row(row.beside(DOCKER, of(&other).clone()));
        };
        row("queries per CPU-second", "/s", |seen| &seen.per_cpu_second);
        row("queries per second", "/s", |seen| &seen.per_second);
        row("p99 at half load", "µs", |seen| &seen.late);
        Ok(())
    })
}
