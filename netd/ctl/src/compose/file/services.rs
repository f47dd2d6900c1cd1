//! The networks that services are on: each is one of the file's own, as Compose has it.

use serde_json::Value;

use super::{Result, Variables, Wanted, map, resolve};

/// The network that is there unless the file says what it is.
const DEFAULT: &str = "default";

/// Refuses a service that is on a network of which the file does not say what it is.
pub(super) fn check(services: Value, networks: &[Wanted], variables: &Variables) -> Result<()> {
    let is_known = |key: &str| key == DEFAULT || networks.iter().any(|network| network.key == key);
    for (service, said) in map("services", services)? {
        let mut named = said.get("networks").cloned().unwrap_or_default();
        resolve(&format!("services.{service}.networks"), &mut named, variables)?;
        let keys: Vec<String> = match named {
            Value::Object(named) => named.into_iter().map(|(key, _)| key).collect(),
            Value::Array(named) => {
                named.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect()
            }
            _ => continue,
        };
        if let Some(key) = keys.iter().find(|key| !is_known(key)) {
            return Err(format!(
                "service {service:?} refers to undefined network {key}: invalid compose project"
            ));
        }
    }
    Ok(())
}
