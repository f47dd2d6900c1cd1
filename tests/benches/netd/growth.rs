//! Whether the next attach costs more because of what is there already.

use anyhow::Result;
use cnm::endpoint::Port;

use crate::{
    Options,
    report::{Report, Row},
    world::{Turns, World},
};

/// So few at a time that a bridge has room for them beside 1,000.
const CHUNK: Option<usize> = Some(20);

/// With 1, 100 and 1,000 endpoints on either bridge.
pub(crate) fn endpoints(options: &Options, report: &mut Report) -> Result<()> {
    let mut world = World::silent("endpoints")?;
    let mut first = None;
    world.take_turns(10, CHUNK, |_| Vec::new())?;
    for count in [1, 100, 1000] {
        world.fill(count)?;
        let turns = world.take_turns(options.rounds / 2, CHUNK, |_| Vec::new())?;
        add(report, format!("attach beside {count} endpoints"), turns, &mut first);
    }
    Ok(())
}

/// Publishing one port, with 0, 1,000 and 10,000 published.
pub(crate) fn ports(options: &Options, report: &mut Report) -> Result<()> {
    let mut world = World::new("ports")?;
    let mut first = None;
    let one = |n: usize| vec![port(40_000 + n)];
    world.take_turns(10, CHUNK, one)?;
    let mut published = 0;
    for count in [0, 1000, 10_000] {
        while published < count {
            world.publish((published..published + 1000).map(|n| port(10_000 + n)).collect())?;
            published += 1000;
        }
        let turns = world.take_turns(options.rounds / 2, CHUNK, one)?;
        add(report, format!("attach with a port beside {count} ports"), turns, &mut first);
    }
    Ok(())
}

fn port(number: usize) -> Port {
    format!("{number}:80").parse().expect("ports below 65,536 only")
}

/// The kernel's own growth is in both, so the ratio is ours alone.
fn add(report: &mut Report, what: String, turns: Turns, first: &mut Option<f64>) {
    let row = Row::new(what, "ms", turns.ours).beside("bare kernel", turns.floor);
    let ratio = row.ratios().map_or(f64::NAN, |ratios| ratios.0);
    report.row(match *first {
        Some(first) => row.grown_at_most(first, 1.2),
        None => {
            *first = Some(ratio);
            row
        }
    });
}
