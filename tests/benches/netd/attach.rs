//! Attach and detach at netd's socket beside the bare kernel: one caller, nothing else going on.

use std::{env, process::Command};

use anyhow::Result;

use crate::{
    Options,
    report::{Report, Row},
    world::World,
};

/// Attach and detach.
pub(crate) fn measure(options: &Options, report: &mut Report) -> Result<()> {
    let mut world = World::new("attach")?;
    // Both have done everything once before it counts.
    world.take_turns(10, None, |_| Vec::new())?;
    let turns = world.take_turns(options.rounds, None, |_| Vec::new())?;
    let p50 = turns.floor.percentile(50);
    report.row(
        Row::new("attach at the socket", "ms", turns.ours)
            .beside("bare kernel", turns.floor)
            .at_most_times(1.5)
            .at_most_times_late(2.0),
    );
    report.row(Row::new("detach at the socket", "ms", turns.detach).at_most(1.0));
    if let Some(program) = env::var_os("KERNEL_LIMIT") {
        let output = Command::new(program).args(["phases", "300"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let row = text.lines().find(|line| line.contains("attach =")).unwrap_or("nothing");
        report.note(format!("the bare kernel's {p50:.3} ms, elsewhere: {}", row.trim()));
    }
    Ok(())
}
