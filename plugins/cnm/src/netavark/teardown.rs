//! `teardown`: takes a container off one network, by netd's own records, whatever became of the
//! namespace, of Podman's addresses and of earlier calls.

use super::document::Teardown;
use crate::{
    Error, Result,
    driver::Info,
    endpoint::{Detach, Detached},
    fault,
    plugin::front,
    plugin::making::exactly,
};

/// Always succeeds as far as netd goes: when it is not there, it hears of it at its next start. What
/// netd took off is told; nothing is where it is away.
pub(super) fn teardown(info: &Info, given: &Teardown) -> Result<Option<Detached>> {
    let detach = Detach {
        network: Some(exactly(&given.network.name)),
        container: exactly(given.container_id.as_str()),
        // Where the driver gives no interface there is one endpoint, on lo.
        ifname: info.capabilities.addresses.then(|| given.network_options.interface_name.clone()),
    };
    fault::point("front.detach.before-call");
    let detached = match super::connect().and_then(|mut client| client.call(&detach)) {
        Err(error) if super::is_away(&error) => {
            let spool = front::socket().with_file_name("spool");
            front::spool_detach(&spool, &detach).map_err(|io| {
                Error::unavailable(format_args!(
                    "{error}; and the teardown cannot be kept in {}: {io}",
                    spool.display()
                ))
            })?;
            None
        }
        outcome => Some(outcome?),
    };
    fault::point("front.detach.before-answer");
    Ok(detached)
}
