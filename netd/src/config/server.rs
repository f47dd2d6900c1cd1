//! A name server as `netd.toml` has it: an address with its port, which is 53 unless told.

use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use crate::names::PORT;

/// Where one server is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub(super) struct Server(pub(super) SocketAddr);

/// A text that is no server.
#[derive(Debug, thiserror::Error)]
#[error("invalid server {0:?}: it should be an address, or one with its port, such as 1.1.1.1:53")]
pub(super) struct NoServer(String);

impl TryFrom<String> for Server {
    type Error = NoServer;

    fn try_from(text: String) -> Result<Self, NoServer> {
        let plain = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, PORT));
        plain.or_else(|_| text.parse()).map(Self).map_err(|_| NoServer(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_has_port_53_unless_told() {
        let read = |text: &str| Server::try_from(text.to_owned());
        for (text, is) in [
            ("1.1.1.1", "1.1.1.1:53"),
            ("1.1.1.1:5353", "1.1.1.1:5353"),
            ("fd00::53", "[fd00::53]:53"),
            ("[fd00::53]:5353", "[fd00::53]:5353"),
        ] {
            assert_eq!(read(text).expect(text).0.to_string(), is);
        }
        for bad in ["", "x", "1.1.1", "1.1.1.1:", "1.1.1.1:x", "dns.example:53"] {
            let error = read(bad).expect_err(bad).to_string();
            assert!(error.contains("such as 1.1.1.1:53"), "{error}");
        }
    }
}
