//! STATUS and VERSION: whether an ADD would succeed, and in which words it may be asked for.

use serde_json::{Value, json};

use super::{
    Call, connect,
    delegate::Delegate,
    environment::Verb,
    refusal::{Refusal, Result},
    version::Version,
};
use crate::{
    driver::Driver,
    ipam::{ListPools, Pool},
    system::GetVersion,
};

/// Prints nothing when an ADD would succeed, as far as can be told.
pub(super) fn status(call: &Call<'_, impl Driver>) -> Result<String> {
    // Containers go on without netd, but nobody answers for their names.
    let away = |error: crate::Error| Refusal::new(Refusal::DEGRADED, error);
    let mut client = connect().map_err(away)?;
    if let Some(kind) = &call.header.delegate {
        client.call(&GetVersion {}).map_err(away)?;
        Delegate::find(kind, &call.environment.path, call.text)?.run(Verb::Status)?;
        return Ok(String::new());
    }
    let pools = client.call(&ListPools {}).map_err(away)?.pools;
    let name = &call.header.name;
    // Where a block is full there may be another one.
    let is_own = |pool: &&Pool| pool.network_name.as_str() == name && pool.block.is_none();
    let own: Vec<_> = pools.iter().filter(is_own).collect();
    let full = own.iter().find(|pool| {
        // What waits after its last owner is given out when there is nothing else.
        let has_none = |pool: &Pool| pool.available == 0;
        let set = |pool: &Pool| (pool.subnet.is_ipv4(), pool.set);
        own.iter().filter(|other| set(other) == set(pool)).all(|other| has_none(other))
    });
    match full {
        None => Ok(String::new()),
        Some(pool) => Err(Refusal::new(
            Refusal::UNAVAILABLE,
            format_args!(
                "no address of {} is left on network {name}: {} are taken",
                pool.subnet, pool.leased
            ),
        )),
    }
}

/// What VERSION prints: it needs no configuration, and repeats the version of one that it gets.
pub(super) fn versions(text: &[u8]) -> String {
    let document: Option<Value> = serde_json::from_slice(text).ok();
    let asked = document.as_ref().and_then(|document| document.get("cniVersion")?.as_str());
    let version = asked.and_then(Version::parse).unwrap_or(Version::NEWEST);
    json!({"cniVersion": version.as_str(), "supportedVersions": Version::texts()}).to_string()
}
