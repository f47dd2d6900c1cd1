//! DEL and GC: what goes, goes by netd's own records, whatever became of the namespace, of the
//! configuration and of earlier results.

use super::{
    Call, config, connect,
    delegate::Delegate,
    environment::Verb,
    refusal::{Refusal, Result},
    translate,
};
use crate::{
    Error, Kind, Reply, Request,
    client::Client,
    driver::Driver,
    endpoint::{Detach, Detached, ListEndpoints},
    fault,
    plugin::front,
};

/// How many endpoints are taken off with one line at most.
const AT_ONCE: usize = 500;

/// Always succeeds as far as netd goes: when it is not there, it hears of it at its next start.
/// Another plugin's failure to take its address back is told, since nobody else would ask again.
pub(super) fn del(call: &Call<'_, impl Driver>) -> Result<String> {
    let attachment = call.attachment()?;
    let detach = Detach {
        network: Some(translate::exactly(&call.header.name)),
        container: translate::exactly(attachment.container.as_str()),
        // Where the driver gives no interface there is one endpoint, on lo.
        ifname: call.has_interfaces().then(|| attachment.ifname.clone()),
    };
    fault::point("front.detach.before-call");
    let outcome = connect().and_then(|mut client| client.call(&detach).map(drop));
    if let Err(error) = outcome {
        if error.kind != Kind::Unavailable {
            return Err(error.into());
        }
        let spool = front::socket().with_file_name("spool");
        front::spool_detach(&spool, &detach).map_err(|io| {
            Error::unavailable(format_args!(
                "{error}; and the DEL cannot be kept in {}: {io}",
                spool.display()
            ))
        })?;
    }
    if let Some(kind) = &call.header.delegate {
        match Delegate::find(kind, &call.environment.path, call.text) {
            Ok(delegate) => drop(delegate.run(Verb::Del)?),
            // Who is not there takes nothing back, however often it is asked for.
            Err(refusal) => eprintln!("its address is not taken back: {}", refusal.msg),
        }
    }
    fault::point("front.detach.before-answer");
    Ok(String::new())
}

/// Takes off the network what a runtime of this dialect attached and no longer knows. When it does
/// not say what it knows, nothing goes.
pub(super) fn gc(call: &Call<'_, impl Driver>) -> Result<String> {
    if let Some(valid) = config::valid_attachments(call.header)? {
        let mut client = connect()?;
        let network = translate::exactly(&call.header.name);
        let list = ListEndpoints { network: Some(network.clone()), container: None };
        let endpoints = match client.call(&list) {
            Err(error) if error.kind == Kind::NotFound => Vec::new(),
            found => found?.endpoints,
        };
        let has_interfaces = call.has_interfaces();
        let is_valid = |container: &str, ifname: &str| {
            let mut valid = valid.iter();
            valid.any(|(id, name)| id == container && (!has_interfaces || name == ifname))
        };
        let stale: Vec<_> = endpoints
            .into_iter()
            .filter(|endpoint| endpoint.labels.contains_key(translate::LABEL))
            .filter(|e| !is_valid(e.container.id.as_str(), e.ifname.as_str()))
            .map(|endpoint| Detach {
                network: Some(network.clone()),
                container: translate::exactly(endpoint.container.id.as_str()),
                ifname: Some(endpoint.ifname),
            })
            .collect();
        for stale in stale.chunks(AT_ONCE) {
            detach_all(&mut client, stale)?;
        }
    }
    if let Some(kind) = &call.header.delegate {
        Delegate::find(kind, &call.environment.path, call.text)?.run(Verb::Gc)?;
    }
    Ok(String::new())
}

/// Takes several off with one line.
fn detach_all(client: &mut Client, detaches: &[Detach]) -> Result<()> {
    let requests: Vec<_> = (1..)
        .zip(detaches)
        .map(|(id, detach): (u64, _)| Request::new(id, detach).to_line().trim_end().to_owned())
        .collect();
    let answer = client.exchange(&format!("[{}]\n", requests.join(",")), &[])?;
    let replies: Vec<Reply<Detached>> = serde_json::from_str(&answer).map_err(|error| {
        Refusal::new(Refusal::INTERNAL, format_args!("netd's answer is not understood: {error}"))
    })?;
    for reply in replies {
        reply.outcome()?;
    }
    Ok(())
}
