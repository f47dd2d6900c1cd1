//! The versions of the specification, and what each of them can say.

use std::fmt;

use super::keys::Keys;

/// Where a configuration says its version.
pub(super) const KEY: &str = "cniVersion";

/// Which version it is of when it does not: as the reference library has it, who names none knew of
/// none.
pub(super) const UNLESS_SAID: &str = "0.1.0";

/// A version of the Container Network Interface specification.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Version {
    V0_1_0,
    V0_2_0,
    V0_3_0,
    V0_3_1,
    V0_4_0,
    V1_0_0,
    V1_1_0,
}

impl Version {
    /// All that are spoken, oldest first.
    pub(super) const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];

    /// The newest that is spoken.
    pub(super) const NEWEST: Self = Self::V1_1_0;

    /// As a configuration writes it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of this text.
    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.as_str() == text)
    }

    /// The version that an answer to a configuration is in, whatever else is wrong with that: the
    /// newest where it cannot be told, or is not spoken.
    pub(super) fn asked_in(text: &[u8]) -> Self {
        let Ok(document) = serde_json::from_slice(text) else { return Self::NEWEST };
        let asked = Keys::root(&document).text(KEY).ok();
        asked.and_then(|text| Self::parse(text.unwrap_or(UNLESS_SAID))).unwrap_or(Self::NEWEST)
    }

    /// All that are spoken, as texts.
    pub(super) fn texts() -> Vec<&'static str> {
        Self::ALL.into_iter().map(Self::as_str).collect()
    }

    /// Whether a result has one address of each family and nothing else (`ip4`, `ip6`).
    pub(super) fn has_ip4_and_ip6(self) -> bool {
        self < Self::V0_3_0
    }

    /// Whether an address names its family (`ips[].version`).
    pub(super) fn names_families(self) -> bool {
        self < Self::V1_0_0
    }

    /// Whether interfaces and routes say more than what and where (`mtu`, `table`, …).
    pub(super) fn has_details(self) -> bool {
        self >= Self::V1_1_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_in_the_version_of_the_question() {
        for (text, version) in [
            (r#"{"cniVersion":"0.4.0","name":7}"#, Version::V0_4_0),
            (r#"{"CNIVersion":"1.0.0"}"#, Version::V1_0_0),
            ("{}", Version::V0_1_0),
            (r#"{"cniVersion":"9.9.9"}"#, Version::NEWEST),
            (r#"{"cniVersion":4}"#, Version::NEWEST),
            ("[]", Version::NEWEST),
            ("", Version::NEWEST),
        ] {
            assert_eq!(Version::asked_in(text.as_bytes()), version, "{text}");
        }
    }
}
