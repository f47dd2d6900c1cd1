//! Runtimes kill plugins: what is left then is put right by a DEL.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::cni::conformance::{
    bench::{Bench, with},
    container::Container,
    plugin::Call,
    rule::{Checked, Flaw, Level::*, Rule},
};

/// How often a plugin is killed, each time a little later.
const TIMES: u32 = 12;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "kill-add-del",
        level: Must,
        source: "libcni kills with SIGKILL",
        says: "After an ADD that was killed at any moment the first DEL succeeds",
        check: |bench| kill_add(bench, false),
    },
    Rule {
        id: "kill-add-cleans",
        level: Must,
        source: "libcni kills with SIGKILL",
        says: "After an ADD that was killed at any moment and its DEL nothing is left",
        check: |bench| kill_add(bench, true),
    },
    Rule {
        id: "kill-del-del",
        level: Must,
        source: "libcni kills with SIGKILL",
        says: "After a DEL that was killed at any moment the next DEL takes the rest",
        check: kill_del,
    },
    Rule {
        id: "kill-add-add",
        level: Must,
        source: "libcni kills with SIGKILL",
        says: "After an ADD that was killed and its DEL another ADD of the same container works",
        check: kill_add_add,
    },
];

/// How long an ADD takes here.
fn measure(bench: &Bench, config: &Value) -> Checked<Duration> {
    let began = Instant::now();
    let (_, _) = bench.attached(config)?;
    Ok(began.elapsed())
}

/// Executes something and kills it after a time.
fn killed(call: &Call, after: Duration) -> Checked {
    let mut child = call.start()?;
    let deadline = Instant::now() + after;
    while let Some(left) = deadline.checked_duration_since(Instant::now()).filter(|d| !d.is_zero())
    {
        thread::park_timeout(left);
    }
    let lost = |error| Flaw::Broken(format!("cannot kill the plugin: {error}"));
    child.kill().map_err(lost)?;
    child.wait().map(drop).map_err(lost)
}

/// The moments at which to kill what takes `whole`, from at once to a little after its end.
fn moments(whole: Duration) -> impl Iterator<Item = Duration> {
    (0..TIMES).map(move |number| whole * number / (TIMES - 2))
}

fn kill_add(bench: &Bench, cleans: bool) -> Checked {
    let config = bench.network();
    measure(bench, &config)?;
    let whole = measure(bench, &config)?;
    let before = bench.machine.account()?;
    for moment in moments(whole) {
        let container = bench.container()?;
        killed(&bench.call_for("ADD", &container, "eth0", &config), moment)?;
        let when = format!("killed after {} ms", moment.as_millis());
        bench.del(&container, "eth0", &config).map_err(|flaw| flaw.of(&when))?;
        if cleans {
            let left = container.lacks("eth0").and_then(|()| bench.machine.becomes(&before));
            left.map_err(|flaw| flaw.of(&when))?;
        }
    }
    Ok(())
}

fn kill_del(bench: &Bench) -> Checked {
    let config = bench.network();
    bench.attached(&config)?;
    let before = bench.machine.account()?;
    let attached = || -> Checked<(Container, Value)> {
        let (container, result) = bench.attached(&config)?;
        Ok((container, with(&config, "prevResult", result)))
    };
    let (container, request) = attached()?;
    let began = Instant::now();
    bench.del(&container, "eth0", &request)?;
    for moment in moments(began.elapsed()) {
        let (container, request) = attached()?;
        killed(&bench.call_for("DEL", &container, "eth0", &request), moment)?;
        let when = format!("killed after {} ms", moment.as_millis());
        bench.del(&container, "eth0", &request).map_err(|flaw| flaw.of(&when))?;
        let left = container.lacks("eth0").and_then(|()| bench.machine.becomes(&before));
        left.map_err(|flaw| flaw.of(&when))?;
    }
    Ok(())
}

fn kill_add_add(bench: &Bench) -> Checked {
    let config = bench.network();
    measure(bench, &config)?;
    let whole = measure(bench, &config)?;
    let (neighbour, _) = bench.attached(&config)?;
    let container = bench.container()?;
    for moment in moments(whole) {
        killed(&bench.call_for("ADD", &container, "eth0", &config), moment)?;
        let when = format!("killed after {} ms", moment.as_millis());
        bench.del(&container, "eth0", &config).map_err(|flaw| flaw.of(&when))?;
        let result = bench.add(&container, "eth0", &config).map_err(|flaw| flaw.of(&when))?;
        container.pings(neighbour.address("eth0")?).map_err(|flaw| flaw.of(&when))?;
        bench.del(&container, "eth0", &with(&config, "prevResult", result))?;
    }
    Ok(())
}
