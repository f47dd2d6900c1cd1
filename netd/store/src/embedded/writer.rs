//! The thread that writes: takes what waits, does it in one commit, answers, and ends the leases
//! that nobody keeps alive.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tokio::sync::{oneshot, watch as revisions};

use super::{
    file::{Failure, File},
    tables::{Opened, Writing},
};
use crate::{Error, LeaseId, Outcome, Result, Txn};

/// The most requests that share a commit.
const TOGETHER: usize = 256;

/// How long to sleep when there is nothing to do and no lease.
const IDLE: Duration = Duration::from_secs(3600);

type Answer<T> = oneshot::Sender<Result<T>>;

/// A request.
#[derive(Debug)]
pub(crate) enum Job {
    Txn(Txn, Answer<Outcome>),
    Grant(u64, Answer<LeaseId>),
    KeepAlive(LeaseId, Answer<()>),
    Revoke(LeaseId, Answer<()>),
    Compact(u64, Answer<()>),
    /// A lease ran out.
    Expire(LeaseId),
}

/// What a request gave, until the commit has gone through.
#[derive(Debug)]
enum Given {
    Outcome(Result<Outcome>),
    Lease(LeaseId),
    Known(bool),
    Done(Result<()>),
}

#[derive(Debug)]
struct Lease {
    time: Duration,
    ends: Instant,
}

#[derive(Debug)]
pub(crate) struct Writer {
    file: Arc<File>,
    changed: revisions::Sender<u64>,
    history: u64,
    leases: BTreeMap<LeaseId, Lease>,
}

impl Writer {
    pub(crate) fn new(
        file: Arc<File>,
        opened: Opened,
        changed: revisions::Sender<u64>,
        history: u64,
    ) -> Self {
        // Whoever held a lease may not have been able to keep it alive meanwhile.
        let leases = opened.leases.into_iter().map(|(id, seconds)| (id, Lease::new(seconds)));
        let leases = leases.collect();
        Self { file, changed, history, leases }
    }

    /// Works until nobody can ask any more.
    pub(crate) fn run(mut self, todo: &mpsc::Receiver<Job>) {
        loop {
            let now = Instant::now();
            let next = self.leases.values().map(|lease| lease.ends).min();
            let wait = next.map_or(IDLE, |next| next.saturating_duration_since(now));
            let mut jobs = Vec::new();
            match todo.recv_timeout(wait) {
                Ok(job) => jobs.push(job),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            jobs.extend(todo.try_iter().take(TOGETHER));
            let jobs = self.keep_alive(jobs);
            let now = Instant::now();
            let over = self.leases.iter().filter(|(_, lease)| lease.ends <= now);
            let mut all: Vec<_> = over.map(|(id, _)| Job::Expire(*id)).collect();
            all.extend(jobs);
            if !all.is_empty() {
                self.commit(all);
            }
        }
    }

    /// What only memory knows needs no commit.
    fn keep_alive(&mut self, jobs: Vec<Job>) -> Vec<Job> {
        let mut rest = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::KeepAlive(lease, answer) => {
                    let known = self.leases.get_mut(&lease);
                    let kept = known.map(Lease::renew).ok_or(Error::LeaseGone { lease });
                    drop(answer.send(kept));
                }
                job => rest.push(job),
            }
        }
        rest
    }

    fn commit(&mut self, jobs: Vec<Job>) {
        let history = self.history;
        let written = self.file.write(|tables| {
            let mut given = Vec::with_capacity(jobs.len());
            for job in &jobs {
                given.push(act(tables, job)?);
            }
            let revision = tables.revision();
            if revision.saturating_sub(tables.compacted()?) > 2 * history {
                tables.compact(revision - history)?;
            }
            Ok((revision, given))
        });
        match written {
            Ok((revision, given)) => {
                // Watchers are told before the caller, so that he finds it in theirs.
                self.changed
                    .send_if_modified(|known| std::mem::replace(known, revision) != revision);
                for (job, given) in jobs.into_iter().zip(given) {
                    self.answer(job, given);
                }
            }
            Err(error) => jobs.into_iter().for_each(|job| self.failed(job, &error)),
        }
    }

    /// Who does not wait any more needs no answer.
    fn answer(&mut self, job: Job, given: Given) {
        match (job, given) {
            (Job::Txn(_, answer), Given::Outcome(outcome)) => drop(answer.send(outcome)),
            (Job::Grant(seconds, answer), Given::Lease(lease)) => {
                self.leases.insert(lease, Lease::new(seconds));
                drop(answer.send(Ok(lease)));
            }
            (Job::Revoke(lease, answer), Given::Known(known)) => {
                self.leases.remove(&lease);
                drop(answer.send(known.then_some(()).ok_or(Error::LeaseGone { lease })));
            }
            (Job::Expire(lease), Given::Known(_)) => drop(self.leases.remove(&lease)),
            (Job::Compact(_, answer), Given::Done(done)) => drop(answer.send(done)),
            (job, given) => unreachable!("{job:?} gave {given:?}"),
        }
    }

    fn failed(&mut self, job: Job, error: &Error) {
        let error = error.clone();
        match job {
            Job::Txn(_, answer) => drop(answer.send(Err(error))),
            Job::Grant(_, answer) => drop(answer.send(Err(error))),
            Job::KeepAlive(_, answer) | Job::Revoke(_, answer) | Job::Compact(_, answer) => {
                drop(answer.send(Err(error)));
            }
            // Tried again in a while.
            Job::Expire(lease) => {
                let ends = Instant::now() + Duration::from_secs(1);
                self.leases.entry(lease).and_modify(|lease| lease.ends = ends);
            }
        }
    }
}

fn act(tables: &mut Writing<'_>, job: &Job) -> Result<Given, Failure> {
    Ok(match job {
        Job::Txn(txn, _) => Given::Outcome(refused(tables.txn(txn))?.map(|(held, done)| Outcome {
            held,
            revision: tables.revision(),
            done,
        })),
        Job::Grant(seconds, _) => Given::Lease(tables.grant(*seconds)?),
        Job::Revoke(lease, _) | Job::Expire(lease) => Given::Known(tables.revoke(*lease)?),
        Job::Compact(revision, _) => Given::Done(refused(tables.compact(*revision))?),
        Job::KeepAlive(lease, _) => unreachable!("{lease} was kept alive without a commit"),
    })
}

/// A wrong request fails alone, a failed database fails them all.
fn refused<T>(done: Result<T, Failure>) -> Result<Result<T>, Failure> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(Failure::Store(error)) => Ok(Err(error)),
        Err(failure) => Err(failure),
    }
}

impl Lease {
    fn new(seconds: u64) -> Self {
        let time = Duration::from_secs(seconds);
        Self { time, ends: Instant::now() + time }
    }

    fn renew(&mut self) {
        self.ends = Instant::now() + self.time;
    }
}
