//! Ports of a container that the host answers for: one, or as many in a row.

use std::{fmt, net::IpAddr, ops::RangeInclusive, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::Error;

/// The protocols whose ports can be published.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// Transmission Control Protocol.
    #[default]
    Tcp,
    /// User Datagram Protocol.
    Udp,
    /// Stream Control Transmission Protocol.
    Sctp,
}

impl Protocol {
    /// Its number in an IP header.
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

/// In capitals or not, as Docker has it.
impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid(format_args!(
                "invalid protocol {text:?}: it should be tcp, udp or sctp"
            ))),
        }
    }
}

/// Ports of a container that the host answers for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Port {
    /// The protocol; tcp unless told.
    #[serde(default)]
    pub protocol: Protocol,
    /// The host's address; all of them unless told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The host's port, or the first of them; 0 asks for one that is free, or so many in a row.
    #[serde(default)]
    pub host_port: u16,
    /// The last port that it may be of the host, where it is to be any that is free from `host_port` on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_port_to: Option<u16>,
    /// The container's port, or the first of them.
    #[serde(deserialize_with = "not_0")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub container_port: u16,
    /// How many in a row there are; one unless told.
    #[serde(default = "one", skip_serializing_if = "is_one", deserialize_with = "not_0")]
    #[cfg_attr(feature = "schema", schemars(range(min = 1)))]
    pub count: u16,
}

fn one() -> u16 {
    1
}

fn is_one(count: &u16) -> bool {
    *count == 1
}

/// Nobody can listen on port 0.
fn not_0<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<u16, D::Error> {
    std::num::NonZero::<u16>::deserialize(deserializer).map(std::num::NonZero::get)
}

impl Port {
    /// The host's ports.
    pub fn host_ports(&self) -> RangeInclusive<u16> {
        self.run(self.host_port)
    }

    /// The container's ports.
    pub fn container_ports(&self) -> RangeInclusive<u16> {
        self.run(self.container_port)
    }

    fn run(&self, first: u16) -> RangeInclusive<u16> {
        first..=first.saturating_add(self.count.saturating_sub(1))
    }

    /// Whether none of its ports is beyond the last there is.
    pub fn is_possible(&self) -> bool {
        let more = self.count.saturating_sub(1);
        [self.host_port, self.container_port].iter().all(|first| first.checked_add(more).is_some())
    }

    /// Whether host and container count alike, so that no port becomes another.
    pub fn is_straight(&self) -> bool {
        self.host_port == self.container_port
    }
}

/// A port, or the first and the last of several.
fn run(f: &mut fmt::Formatter<'_>, ports: &RangeInclusive<u16>) -> fmt::Result {
    write!(f, "{}", ports.start())?;
    if ports.start() == ports.end() { Ok(()) } else { write!(f, "-{}", ports.end()) }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        match self.host_port_to {
            Some(last) => run(f, &(self.host_port..=last))?,
            None => run(f, &self.host_ports())?,
        }
        f.write_str("->")?;
        run(f, &self.container_ports())?;
        write!(f, "/{}", self.protocol)
    }
}

/// What ports there are; a single 0 of the host is any that is free.
const RANGE: &str = "ports are 1 to 65535";

/// As on a command line: `[[host_ip:]host_ports:]container_ports[/protocol]`, each a port or two
/// with a dash between them, the first and the last. Several of the host for one of the container are a
/// choice.
impl FromStr for Port {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = || {
            Error::invalid(format_args!(
                "invalid port {text:?}: it should be [[HOST_IP:]HOST_PORT:]PORT[/PROTOCOL], where a \
                 port can be FIRST-LAST"
            ))
        };
        let (ports, protocol) = match text.rsplit_once('/') {
            Some((ports, protocol)) => (ports, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let wrong = |why| Error::invalid(format_args!("invalid port {text:?}: {why}"));
        let run = |text: &str| -> Result<(u16, u16), Error> {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            let number = |text: &str| {
                let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                text.parse::<u16>().map_err(|_| if is_number { wrong(RANGE) } else { invalid() })
            };
            let (first, last) = (number(first)?, number(last)?);
            let more =
                last.checked_sub(first).ok_or_else(|| wrong("its last is before its first"))?;
            Ok((first, more.checked_add(1).ok_or_else(|| wrong(RANGE))?))
        };
        let (host, (container_port, count)) = match ports.rsplit_once(':') {
            Some((host, container)) => (host, run(container)?),
            None => ("", run(ports)?),
        };
        let (host_ip, host) = match host.rsplit_once(':') {
            Some((ip, port)) => {
                let ip = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']')).unwrap_or(ip);
                (Some(ip.parse().map_err(|_| invalid())?), port)
            }
            None => (None, host),
        };
        let (host_port, as_many) = if host.is_empty() { (0, count) } else { run(host)? };
        if container_port == 0 || (host_port == 0 && as_many > 1 && !host.is_empty()) {
            return Err(wrong(RANGE));
        }
        // As Docker has it: one port of the container, at any of these that is free.
        let is_choice = count == 1 && as_many > 1;
        if as_many != count && host_port != 0 && !is_choice {
            return Err(Error::invalid(format_args!(
                "invalid port {text:?}: {as_many} ports of the host are not {count} of the container"
            )));
        }
        let host_port_to = is_choice.then(|| host_port + (as_many - 1));
        Ok(Self { protocol, host_ip, host_port, host_port_to, container_port, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_reads_as_on_dockers_command_line() {
        let port = |text: &str| text.parse::<Port>().map(|p| p.to_string());
        assert_eq!(port("8080:80").as_deref(), Ok("8080->80/tcp"));
        assert_eq!(port("53:5353/udp").as_deref(), Ok("53->5353/udp"));
        assert_eq!(port("9:9/sctp").as_deref(), Ok("9->9/sctp"));
        assert_eq!(port("9:9/TCP").as_deref(), Ok("9->9/tcp"));
        assert_eq!(port("127.0.0.1:8080:80").as_deref(), Ok("127.0.0.1:8080->80/tcp"));
        assert_eq!(port("[::1]:8080:80").as_deref(), Ok("[::1]:8080->80/tcp"));
        assert_eq!(port("80").as_deref(), Ok("0->80/tcp"));
        assert_eq!(port("127.0.0.1::80").as_deref(), Ok("127.0.0.1:0->80/tcp"));
        assert_eq!(port("0:80").as_deref(), Ok("0->80/tcp"));
        for bad in ["", "0", "80:", "80:0", "x:80", "70000:80", "80:80/icmp", "1.2.3:80:80"] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_port_is_said() {
        for (bad, why) in [
            ("99999:80", "ports are 1 to 65535"),
            ("80:0", "ports are 1 to 65535"),
            ("80:99999999999", "ports are 1 to 65535"),
            ("0-9:80", "ports are 1 to 65535"),
            ("8100-8000:80", "its last is before its first"),
            ("http:80", "it should be [[HOST_IP:]HOST_PORT:]PORT[/PROTOCOL]"),
            ("8080:", "it should be [[HOST_IP:]HOST_PORT:]PORT[/PROTOCOL]"),
        ] {
            let said = bad.parse::<Port>().expect_err(bad).message;
            assert!(said.starts_with(&format!("invalid port {bad:?}: {why}")), "{said}");
        }
    }

    #[test]
    fn ports_in_a_row_read_as_their_first_and_last() {
        let port = |text: &str| text.parse::<Port>();
        let shown = |text: &str| port(text).map(|p| p.to_string());
        assert_eq!(shown("8000-8009:80-89").as_deref(), Ok("8000-8009->80-89/tcp"));
        assert_eq!(shown("[::]:7-9:7-9/udp").as_deref(), Ok("[::]:7-9->7-9/udp"));
        assert_eq!(shown("1-65535:1-65535").as_deref(), Ok("1-65535->1-65535/tcp"));
        let run = port("8000-8009:80-89").expect("ports");
        assert_eq!((run.host_ports(), run.container_ports()), (8000..=8009, 80..=89));
        assert!(!run.is_straight() && run.is_possible());
        assert!(!Port { host_port: 65530, ..run }.is_possible());
        assert_eq!(port("80-89").map(|p| (p.host_port, p.count)), Ok((0, 10)));
        let any = port("8000-8009:80").expect("one of ten");
        assert_eq!((any.host_port, any.host_port_to, any.count), (8000, Some(8009), 1));
        assert_eq!(
            shown("127.0.0.1:8000-8009:80/udp").as_deref(),
            Ok("127.0.0.1:8000-8009->80/udp")
        );
        assert_eq!(port("8000-8000:80").map(|p| p.host_port_to), Ok(None));
        for bad in [
            "9-8:9-8",
            "1-3:1-2",
            "8000-8009:80-81",
            "0-9:0-9",
            "0-9:80",
            "0-3:1-4",
            "1-:1",
            "1-2-3:1-3",
        ] {
            assert!(port(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn one_port_is_written_as_ever() {
        let one: Port = "8080:80".parse().expect("a port");
        let written = serde_json::to_value(one).expect("JSON");
        let expected =
            serde_json::json!({"protocol": "tcp", "host_port": 8080, "container_port": 80});
        assert_eq!(written, expected);
        assert_eq!(serde_json::from_value::<Port>(expected).expect("a port"), one);
        let none = serde_json::json!({"container_port": 80, "count": 0});
        assert!(serde_json::from_value::<Port>(none).is_err());
    }
}
