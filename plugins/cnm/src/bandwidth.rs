//! How fast an endpoint's packets may come and go.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The limits of an endpoint, in the container's words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Bandwidth {
    /// Of what comes to the container.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Limit>,
    /// Of what it sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Limit>,
}

impl Bandwidth {
    /// None where neither direction has a limit.
    pub fn of(ingress: Option<Limit>, egress: Option<Limit>) -> Option<Self> {
        (ingress.is_some() || egress.is_some()).then_some(Self { ingress, egress })
    }
}

/// A limit in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Limit {
    /// In bits a second, all of each frame counted; 8 at least.
    #[serde(deserialize_with = "a_byte_at_least")]
    #[cfg_attr(feature = "schema", schemars(range(min = 8)))]
    pub rate: u64,
    /// How many bits may go at once after a rest; the driver's choice unless told, and a frame in
    /// any case.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// What is slower would let nothing through.
const SLOWEST: u64 = 8;

fn a_byte_at_least<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let rate = u64::deserialize(deserializer)?;
    if rate < SLOWEST {
        let unexpected = serde::de::Unexpected::Unsigned(rate);
        return Err(serde::de::Error::invalid_value(unexpected, &"8 bits a second or more"));
    }
    Ok(rate)
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}bit", Metric(self.rate))?;
        self.burst.map_or(Ok(()), |burst| write!(f, ":{}bit", Metric(burst)))
    }
}

/// With the largest unit that leaves nothing over.
struct Metric(u64);

impl fmt::Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fits = UNITS.iter().find(|(_, unit)| self.0.is_multiple_of(*unit) && self.0 != 0);
        let (letter, unit) = fits.copied().unwrap_or(("", 1));
        write!(f, "{}{letter}", self.0 / unit)
    }
}

const UNITS: [(&str, u64); 4] =
    [("t", 1_000_000_000_000), ("g", 1_000_000_000), ("m", 1_000_000), ("k", 1_000)];

/// As on a command line: `RATE[:BURST]`, each a number of bits with a unit such as `10mbit`, `10m`,
/// `500kbit` or none.
impl FromStr for Limit {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::invalid(format_args!(
                "invalid rate {text:?}: it should be RATE[:BURST] in bits, like 10mbit, 500k or \
                 1gbit:8mbit, and the rate 8 at least"
            ))
        };
        let (rate, burst) = match text.split_once(':') {
            Some((rate, burst)) => (rate, Some(bits(burst).ok_or_else(invalid)?)),
            None => (text, None),
        };
        let rate = bits(rate).filter(|rate| *rate >= SLOWEST).ok_or_else(invalid)?;
        Ok(Self { rate, burst })
    }
}

fn bits(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let text = text.strip_suffix("bit").unwrap_or(&text);
    let unit = UNITS.iter().find_map(|(letter, unit)| Some((text.strip_suffix(letter)?, *unit)));
    let (number, unit) = unit.unwrap_or((text, 1));
    let is_number = !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit());
    number.parse::<u64>().ok().filter(|_| is_number)?.checked_mul(unit)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_limit_reads_as_with_tc() {
        let of = |text: &str| text.parse::<Limit>().ok().map(|limit| (limit.rate, limit.burst));
        assert_eq!(of("10mbit"), Some((10_000_000, None)));
        assert_eq!(of("10M"), Some((10_000_000, None)));
        assert_eq!(of("500kbit:64k"), Some((500_000, Some(64_000))));
        assert_eq!(of("1gbit:8mbit"), Some((1_000_000_000, Some(8_000_000))));
        assert_eq!(of("8"), Some((8, None)));
        for bad in
            ["", "7", "0", "mbit", "+8", "1.5m", "10mbps", "10m:", ":8", "99999999999t", "8 m"]
        {
            assert_eq!(of(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_lets_nothing_through_is_no_limit() {
        let of = |text: &str| serde_json::from_str::<Limit>(text);
        assert!(of(r#"{"rate":8}"#).is_ok());
        assert!(of(r#"{"rate":7}"#).is_err());
        assert!(of(r#"{"rate":0,"burst":9}"#).is_err());
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_is_read(rate in 8u64.., burst: Option<u64>) {
            let limit = Limit { rate, burst };
            prop_assert_eq!(limit.to_string().parse::<Limit>(), Ok(limit));
        }
    }
}
