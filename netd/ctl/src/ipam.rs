//! `netctl ipam`: how many addresses are taken.

use std::{path::Path, process::ExitCode};

use cnm::{client::Client, ipam::ListPools};

use crate::{
    args::{Format, IpamCommand},
    out::{self, Outcome},
    table::{Table, cell},
};

/// Does one of the commands.
pub(crate) fn ipam(socket: &Path, command: &IpamCommand) -> Outcome {
    let IpamCommand::Ls(Format { json }) = command;
    let found = Client::connect(socket)?.call(&ListPools {})?;
    if *json {
        out::json(&found)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&[
        "NETWORK",
        "SUBNET",
        "BLOCK",
        "GATEWAY",
        "LEASED",
        "QUARANTINED",
        "RESERVED",
        "USABLE",
    ]);
    for pool in found.pools {
        table.row([
            pool.network_name.to_string(),
            pool.subnet.to_string(),
            cell(pool.block),
            cell(pool.gateway),
            pool.leased.to_string(),
            pool.quarantined.to_string(),
            pool.reserved.to_string(),
            usable(pool.usable),
        ]);
    }
    out::print(&table.text())?;
    Ok(ExitCode::SUCCESS)
}

/// The largest number stands for all that are larger.
fn usable(count: u64) -> String {
    if count == u64::MAX { "2^64 or more".to_owned() } else { count.to_string() }
}
