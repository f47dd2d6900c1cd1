//! The two things netd takes from outside: the time of day and randomness.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cnm::{EndpointId, Error, MacAddr, NetworkId, Result};

/// The time of day, as RFC 3339 in UTC with nanoseconds.
pub(crate) fn timestamp() -> String {
    humantime::format_rfc3339_nanos(SystemTime::now()).to_string()
}

/// Whether a timestamp of ours is before a time as a person writes one.
pub(crate) fn before(timestamp: &str, limit: &str) -> Result<bool> {
    Ok(moment(timestamp)? < moment(limit)?)
}

/// A time as RFC 3339, in seconds since 1970, or as how long ago it was.
fn moment(text: &str) -> Result<SystemTime> {
    let seconds = || Duration::try_from_secs_f64(text.parse().ok()?).ok();
    // What is longer ago than there are seconds is before everything.
    let ago = |ago| SystemTime::now().checked_sub(ago).unwrap_or(UNIX_EPOCH);
    humantime::parse_rfc3339_weak(text)
        .ok()
        .or_else(|| UNIX_EPOCH.checked_add(seconds()?))
        .or_else(|| humantime::parse_duration(text).ok().map(ago))
        .ok_or_else(|| {
            Error::invalid(format_args!(
                "invalid time {text:?}: it should be RFC 3339, seconds since 1970 or how long ago, \
                 such as 24h"
            ))
        })
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::internal(format_args!("the host gives no randomness: {error}")))?;
    Ok(bytes)
}

/// An id for a new network.
pub(crate) fn network_id() -> Result<NetworkId> {
    Ok(NetworkId::from_bytes(random()?))
}

/// An id for a new endpoint.
pub(crate) fn endpoint_id() -> Result<EndpointId> {
    Ok(EndpointId::from_bytes(random()?))
}

/// A unicast address of the locally administered kind (IEEE 802, U/L bit set, I/G bit clear).
pub(crate) fn mac() -> Result<MacAddr> {
    let mut bytes: [u8; 6] = random()?;
    bytes[0] = (bytes[0] & 0xfc) | 0x02;
    Ok(MacAddr(bytes))
}
