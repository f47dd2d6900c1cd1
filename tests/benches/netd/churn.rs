//! Attaches while others are taken away.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
};

use anyhow::{Context, Result};
use kernel::{links, netlink::Socket};

use crate::{
    Options, daemon,
    floor::{self, Floor},
    place::{settle, wait_until},
    report::{Report, Row, Samples},
    sandbox::Sandbox,
    world::{NETWORK, World},
};

/// How many are taken away.
const OTHERS: usize = 200;

/// How many may be attached meanwhile: a bridge takes no more.
const ROOM: usize = 800;

/// How many links the bare kernel deletes at a time.
const GROUP: usize = 50;

/// Attach with 200 others on their way out.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let mut world = World::new("churn")?;
    world.daemon.create("away", 77)?;
    let mut away = Floor::new("aw", 76)?;
    let (mut ours, mut bare) = (Samples::default(), Samples::default());
    let mut rounds = 0;
    while ours.len().min(bare.len()) < options.rounds / 2 && rounds < 20 {
        ours_under_churn(&mut world, rounds, &mut ours)?;
        bare_under_churn(&mut world.floor, &mut away, &mut bare)?;
        rounds += 1;
    }
    report.row(
        Row::new("attach while 200 others are detached", "ms", ours)
            .beside("bare kernel, groups of 50 deleted", bare)
            .at_most_times(1.5),
    );
    Ok(())
}

fn ours_under_churn(world: &mut World, round: usize, samples: &mut Samples) -> Result<()> {
    let base = 10_000 * (round + 1);
    let mut other = world.daemon.connect()?;
    let others = Sandbox::make(OTHERS)?;
    let mut last = None;
    for (n, sandbox) in others.iter().enumerate() {
        last = Some(daemon::attach(&mut other, "away", base + n, sandbox, Vec::new())?.1.id);
    }
    let last = format!("nd{}", &last.context("there were some")?.as_str()[..12]);
    let sandboxes = Sandbox::make(ROOM)?;
    settle(&mut world.floor.socket)?;
    let done = AtomicBool::new(false);
    let mut made = 0;
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let outcome = (0..OTHERS)
                .try_for_each(|n| daemon::detach(&mut other, "away", base + n).map(drop))
                .and_then(|()| {
                    let mut socket = Socket::route()?;
                    wait_until("the links are gone", || {
                        Ok(links::by_name(&mut socket, &last)?.is_none())
                    })
                });
            done.store(true, Relaxed);
            outcome
        });
        for (n, sandbox) in sandboxes.iter().enumerate() {
            if done.load(Relaxed) {
                break;
            }
            let n = base + OTHERS + n;
            let client = &mut world.daemon.client;
            samples.add(daemon::attach(client, NETWORK, n, sandbox, Vec::new())?.0);
            made += 1;
        }
        busy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    for n in 0..made {
        daemon::detach(&mut world.daemon.client, NETWORK, base + OTHERS + n)?;
    }
    settle(&mut world.floor.socket)
}

fn bare_under_churn(floor: &mut Floor, away: &mut Floor, samples: &mut Samples) -> Result<()> {
    let mut others = Sandbox::make(OTHERS)?;
    for sandbox in &mut others {
        away.attach(sandbox)?;
    }
    let names = away.give_up(0);
    let mut sandboxes = Sandbox::make(ROOM)?;
    settle(&mut floor.socket)?;
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let busy = scope.spawn(|| {
            let outcome =
                names.chunks(GROUP).try_for_each(|names| floor::delete(&mut away.socket, names));
            done.store(true, Relaxed);
            outcome
        });
        for sandbox in &mut sandboxes {
            if done.load(Relaxed) {
                break;
            }
            samples.add(floor.attach(sandbox)?);
        }
        busy.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    let names = floor.give_up(0);
    floor::delete(&mut floor.socket, &names)?;
    settle(&mut floor.socket)
}
