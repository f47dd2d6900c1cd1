//! `netctl dns`: what the resolver answers, and why.

use std::{path::Path, process::ExitCode};

use cnm::{
    Kind,
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
                return Ok(code(&answered.result));
            }
            let mut text = format!("{}\n", answered.result);
            for record in &answered.answers {
                text += &format!("{record}\n");
            }
            for reason in &answered.why {
                text += &format!("  {reason}\n");
            }
            out::print(&text)?;
            return Ok(code(&answered.result));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What to end with: only where there is such a name it is well.
fn code(result: &str) -> ExitCode {
    let kind = match result {
        "NOERROR" => return ExitCode::SUCCESS,
        "NXDOMAIN" => Kind::NotFound,
        "REFUSED" => Kind::Denied,
        _ => Kind::Unavailable,
    };
    ExitCode::from(kind.exit_code())
}
