//! Identifiers that netd makes: 64 lower-case hexadecimal digits, as Docker's are.

use std::{fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::IfName;

/// A text that is no identifier.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid id {0:?}: it should be 64 lower-case hexadecimal digits")]
pub struct InvalidId(pub String);

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(#[cfg_attr(feature = "schema", schemars(regex(pattern = "^[0-9a-f]{64}$")))] Arc<str>);

        impl $name {
            /// The identifier that 32 random bytes make.
            pub fn from_bytes(bytes: [u8; 32]) -> Self {
                let digit = |b: u8| char::from(if b < 10 { b'0' + b } else { b'a' + b - 10 });
                let text: String = bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect();
                Self(text.into())
            }

            /// All 64 digits.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The first 12 digits, which tables and link names show.
            pub fn short(&self) -> &str {
                self.0.get(..12).unwrap_or(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;

            fn try_from(text: String) -> Result<Self, InvalidId> {
                let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
                if text.len() == 64 && text.bytes().all(hex) {
                    Ok(Self(text.into()))
                } else {
                    Err(InvalidId(text))
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;

            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.short())
            }
        }
    };
}

id! {
    /// One network.
    NetworkId
}

id! {
    /// One sandbox on one network.
    EndpointId
}

impl EndpointId {
    /// What every host-side link of an endpoint is called: `nd` and 12 digits of the id, so that
    /// netd's links are known as its own after any crash.
    pub fn link_name(&self) -> IfName {
        IfName::literal(&format!("nd{}", self.short()))
    }

    /// What the container's end of an endpoint is called that is delivered on the host: `nc` and 12
    /// digits of the id. Who moves it gives it its name.
    pub fn delivered_name(&self) -> IfName {
        IfName::literal(&format!("nc{}", self.short()))
    }
}

impl NetworkId {
    /// What a network's own link is called unless it is told otherwise: `br-` and 12 digits.
    pub fn link_name(&self) -> IfName {
        IfName::literal(&format!("br-{}", self.short()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_64_lower_case_hex_digits() {
        let id = EndpointId::from_bytes([0xab; 32]);
        assert_eq!(id.short(), "abababababab");
        assert_eq!(id.link_name().as_str(), "ndabababababab");
        assert_eq!(id.as_str().parse(), Ok(id));
        for bad in ["", "ab", &"AB".repeat(32), &"g".repeat(64), &"a".repeat(65)] {
            assert_eq!(bad.parse::<NetworkId>(), Err(InvalidId(bad.into())));
        }
    }
}
