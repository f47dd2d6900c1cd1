//! Names that people and runtimes give, checked once, where they enter.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that cannot be the name it was given as.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid {what} {name:?}: {rule}")]
pub struct InvalidName {
    /// What it was to name: `name`, `container id`, `interface name`.
    pub what: &'static str,
    /// The text.
    pub name: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) {
                    Ok(Self(text))
                } else {
                    Err(InvalidName { what: $what, name: text, rule: $rule })
                }
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                Self::try_from(text.to_owned())
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

fn begins_alphanumeric(text: &str) -> bool {
    text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
}

fn dns_safe(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
}

name! {
    /// The name of a network, a container or an alias: it becomes a label in DNS.
    Name, "name",
    "it should be 1 to 63 of a-z A-Z 0-9 _ . - and begin with a letter or digit",
    |text| text.len() <= 63 && begins_alphanumeric(text) && dns_safe(text)
}

name! {
    /// What a runtime calls a container; often 64 hexadecimal digits, but any name will do.
    ContainerId, "container id",
    "it should be 1 to 128 of a-z A-Z 0-9 _ . - and begin with a letter or digit",
    |text| text.len() <= 128 && begins_alphanumeric(text) && dns_safe(text)
}

name! {
    /// The name of a link, as the kernel takes it (`dev_valid_name`, net/core/dev.c).
    IfName, "interface name",
    "it should be 1 to 15 bytes without '/', ':', '%' or white space, and neither '.' nor '..'",
    |text| !matches!(text, "" | "." | "..")
        && text.len() <= 15
        && text.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b':' | b'%'))
}

impl IfName {
    /// A name that the caller knows to be one.
    pub(crate) fn literal(text: &str) -> Self {
        debug_assert!(Self::try_from(text.to_owned()).is_ok(), "{text:?}");
        Self(text.to_owned())
    }

    /// The first interface of a container.
    pub fn eth0() -> Self {
        Self::literal("eth0")
    }

    /// The loopback link.
    pub fn lo() -> Self {
        Self::literal("lo")
    }
}

impl ContainerId {
    /// What tables show of it: the first 12 digits of 64 hexadecimal ones, which a runtime drew; what
    /// somebody chose is shown as it is, since the beginnings of two such ids are often alike.
    pub fn short(&self) -> &str {
        let is_drawn = self.0.len() == 64 && self.0.bytes().all(|b| b.is_ascii_hexdigit());
        if is_drawn { &self.0[..12] } else { &self.0 }
    }

    /// The name that it is in DNS: as tables show it, where that can be one.
    pub fn as_name(&self) -> Option<Name> {
        self.short().parse().ok()
    }
}

/// A link-layer address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// A unicast, locally administered address (IEEE 802, section 8.4) out of an id's first digits:
    /// what the host itself has on a network, and an endpoint that was given none.
    pub fn of_id(id: &str) -> Self {
        let byte = |at: usize| {
            id.get(at..at + 2).and_then(|digits| u8::from_str_radix(digits, 16).ok()).unwrap_or(0)
        };
        Self([0x02, byte(0), byte(2), byte(4), byte(6), byte(8)])
    }
}

/// A text that is no unicast link-layer address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid MAC address {0:?}: it should be a unicast address like 02:42:ac:11:00:02")]
pub struct InvalidMac(pub String);

impl FromStr for MacAddr {
    type Err = InvalidMac;

    fn from_str(text: &str) -> Result<Self, InvalidMac> {
        let invalid = || InvalidMac(text.to_owned());
        let mut bytes = [0; 6];
        let mut parts = text.split(':');
        for byte in &mut bytes {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(invalid)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| invalid())?;
        }
        let multicast = bytes[0] & 1 != 0;
        if parts.next().is_some() || multicast || bytes == [0; 6] || text.contains('+') {
            return Err(invalid());
        }
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidMac;

    fn try_from(text: String) -> Result<Self, InvalidMac> {
        text.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> Self {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for MacAddr {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "MacAddr".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "description": "A unicast link-layer address.",
            "pattern": "^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_labels_and_interface_names_are_the_kernels() {
        for good in ["a", "web", "Web_1.x-y", "0"] {
            assert!(good.parse::<Name>().is_ok(), "{good}");
        }
        for bad in ["", "-a", ".a", "a b", "a/b", "ä", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a%d", &"a".repeat(16)] {
            assert!(bad.parse::<IfName>().is_err(), "{bad}");
        }
        assert!("eth0".parse::<IfName>().is_ok());
    }

    #[test]
    fn an_id_is_shown_short_where_it_was_drawn_and_whole_where_it_was_chosen() {
        let id = |text: &str| text.parse::<ContainerId>().expect(text);
        assert_eq!(id(&"4c01DB".repeat(11)[..64]).short(), "4c01DB4c01DB");
        for whole in ["c1", "default-web-1", "default-web-2", &"ab".repeat(31), &"g".repeat(64)] {
            assert_eq!(id(whole).short(), whole);
        }
        let name = |text: &str| id(text).as_name().map(String::from);
        assert_eq!(name("default-web-1").as_deref(), Some("default-web-1"));
        assert_eq!(name(&"ab".repeat(32)).as_deref(), Some("abababababab"));
        assert_eq!(name(&"g".repeat(64)), None, "longer than a label");
    }

    #[test]
    fn a_mac_is_six_bytes_and_unicast() {
        let mac: MacAddr = "02:42:0A:00:00:01".parse().expect("valid");
        assert_eq!(mac.to_string(), "02:42:0a:00:00:01");
        for bad in [
            "",
            "02:42",
            "01:00:5e:00:00:01",
            "00:00:00:00:00:00",
            "02:42:0a:00:00:01:02",
            "02:42:0a:00:00:+1",
            "02:42:0a:00:00:g1",
        ] {
            assert!(bad.parse::<MacAddr>().is_err(), "{bad}");
        }
    }
}
