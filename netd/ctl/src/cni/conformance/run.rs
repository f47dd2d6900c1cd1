//! Trying rules: each in a process of its own, in namespaces that `unshare` makes for it and that
//! end with it.

use std::{
    env,
    io::Read as _,
    process::{Child, Command, ExitCode, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use cnm::{Error, Result};

use super::{
    bench::Bench,
    machine::Machine,
    options::Conformance,
    rule::{Ended, Rule, Verdict},
    rules,
};
use crate::out::{self, Outcome};

/// How long a rule may take; a plugin that hangs breaks it.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long to let others run before looking again whether a process has ended.
const PAUSE: Duration = Duration::from_millis(5);

/// Tries all `rules`, `jobs` at a time, and gives what came of each, in their order.
pub(super) fn all(rules: &[&'static Rule], jobs: usize) -> Result<Vec<(&'static Rule, Verdict)>> {
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    let work = || -> Result<()> {
        while let Some(rule) = rules.get(next.fetch_add(1, Ordering::Relaxed)) {
            let verdict = one(rule).inspect_err(|_| next.store(rules.len(), Ordering::Relaxed))?;
            verdicts.lock().expect("no worker panics").push((*rule, verdict));
        }
        Ok(())
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Error::internal("trying a rule panicked")))
        })
    })?;
    let mut verdicts = verdicts.into_inner().expect("no worker panicked");
    verdicts.sort_by_key(|(rule, _)| rules.iter().position(|other| other.id == rule.id));
    Ok(verdicts)
}

/// Tries one rule in namespaces of its own.
fn one(rule: &Rule) -> Result<Verdict> {
    let failed = |error| out::system("cannot make namespaces with setpriv and unshare", &error);
    let netctl = env::current_exe().map_err(failed)?;
    // Whatever ends this process ends unshare, which ends the first process of the namespace and
    // with it all others.
    let mut child = Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--net", "--mount", "--propagation", "private"])
        .args(["--pid", "--mount-proc", "--fork", "--kill-child"])
        .arg(netctl)
        .args(env::args_os().skip(1))
        .args(["--inside", rule.id])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if !ended(&mut child).map_err(failed)? {
        child.kill().and_then(|()| child.wait()).map_err(failed)?;
        let reason = format!("it does not end within {} seconds", PATIENCE.as_secs());
        return Ok(Verdict { result: Ended::Fail, reason });
    }
    let (mut said, mut complained) = (String::new(), String::new());
    if let (Some(mut stdout), Some(mut stderr)) = (child.stdout.take(), child.stderr.take()) {
        stdout.read_to_string(&mut said).map_err(failed)?;
        stderr.read_to_string(&mut complained).map_err(failed)?;
    }
    serde_json::from_str(&said).map_err(|_| {
        let why = complained.trim();
        let why = why.strip_prefix("netctl: ").unwrap_or(why);
        Error::unavailable(format_args!("cannot try the rule {}: {why}", rule.id))
    })
}

/// Whether a process ends in time. What it says meanwhile is little and fits into a pipe.
fn ended(child: &mut Child) -> std::io::Result<bool> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if child.try_wait()?.is_some() {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::park_timeout(PAUSE);
    }
}

/// Tries one rule in this process's namespaces, which are nobody else's, and prints what came of
/// it.
pub(super) fn inside(options: &Conformance, id: &str) -> Outcome {
    let rule = rules::all()
        .find(|rule| rule.id == id)
        .ok_or_else(|| Error::not_found(format_args!("there is no rule {id}")))?;
    let plugin = options.plugin()?;
    let machine = Machine::new(options.setup.as_deref())?;
    let bench = Bench::new(machine, plugin, options);
    out::json(&Verdict::from((rule.check)(&bench)))?;
    Ok(ExitCode::SUCCESS)
}
