//! `netctl dns`: what the resolver answers, and why.

use std::{path::Path, process::ExitCode};

use cnm::{
    client::Client,
    dns::{LogQueries, QueryName},
};

use crate::{
    args::{DnsCommand, Switch},
    out::{self, Outcome},
};

/// Does one of the commands.
pub(crate) fn dns(socket: &Path, command: DnsCommand) -> Outcome {
    let mut client = Client::connect(socket)?;
    match command {
        DnsCommand::Log { each } => {
            client.call(&LogQueries { each: matches!(each, Switch::On) })?;
        }
        DnsCommand::Query(query) => {
            let call = QueryName { name: query.name, kind: query.kind, from: query.from };
            let answered = client.call(&call)?;
            if query.output.json {
                out::json(&answered)?;
                return Ok(ExitCode::SUCCESS);
            }
            let mut text = format!("{}\n", answered.result);
            for record in &answered.answers {
                text += &format!("{record}\n");
            }
            for reason in &answered.why {
                text += &format!("  {reason}\n");
            }
            out::print(&text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
