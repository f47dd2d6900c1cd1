//! A network to join, and what is to be had there: `NETWORK`, or `name=NETWORK,KEY=VALUE,…` as on
//! Docker's command line.

use std::{net::IpAddr, str::FromStr};

use cnm::{Error, IfName, MacAddr, Name};

use super::{
    Wanted,
    values::{Pair, pair},
};

/// A network and what an endpoint on it is to have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Join {
    /// The network.
    pub(crate) network: String,
    addresses: Vec<IpAddr>,
    aliases: Vec<Name>,
    ifname: Option<IfName>,
    mac: Option<MacAddr>,
    gateway_priority: Option<i32>,
    options: Vec<Pair>,
}

impl Join {
    /// What is wanted beside what is said with the network, which goes before it.
    pub(crate) fn with(&self, mut wanted: Wanted) -> Wanted {
        let own = self.clone();
        if !own.addresses.is_empty() {
            wanted.addresses = own.addresses;
        }
        wanted.aliases.extend(own.aliases);
        wanted.options.extend(own.options);
        wanted.ifname = own.ifname.or(wanted.ifname);
        wanted.mac = own.mac.or(wanted.mac);
        wanted.gateway_priority = own.gateway_priority.unwrap_or(wanted.gateway_priority);
        wanted
    }
}

impl FromStr for Join {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        if !text.contains('=') {
            return Ok(Self { network: text.to_owned(), ..Self::default() });
        }
        let mut join = Self::default();
        for field in text.split(',') {
            let (key, value) = pair(field)?;
            let invalid = |error: &dyn std::fmt::Display| {
                Error::invalid(format_args!("invalid {key} {value:?} of a network: {error}"))
            };
            match key.as_str() {
                "name" => join.network.clone_from(&value),
                "ip" | "ip6" => join.addresses.push(value.parse().map_err(|e| invalid(&e))?),
                "alias" => join.aliases.push(value.parse().map_err(|e| invalid(&e))?),
                "ifname" => join.ifname = Some(value.parse().map_err(|e| invalid(&e))?),
                "mac-address" | "mac" => join.mac = Some(value.parse().map_err(|e| invalid(&e))?),
                "gw-priority" => {
                    join.gateway_priority = Some(value.parse().map_err(|e| invalid(&e))?);
                }
                "driver-opt" | "opt" => join.options.push(pair(&value)?),
                _ => {
                    return Err(Error::invalid(format_args!(
                        "invalid field {key:?} of a network: it should be name, ip, ip6, alias, \
                         ifname, mac-address, gw-priority or driver-opt"
                    )));
                }
            }
        }
        if join.network.is_empty() {
            return Err(Error::invalid(format_args!(
                "no name of a network in {text:?}: it should be like name=app,gw-priority=1"
            )));
        }
        Ok(join)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_is_joined_as_it_is_said_with_it() {
        let plain: Join = "app".parse().expect("a network");
        assert_eq!(plain.network, "app");
        let join: Join =
            "name=app,ip=10.0.0.9,ip6=fd00::9,alias=www,gw-priority=-5,driver-opt=a=b,ifname=lan0"
                .parse()
                .expect("a network");
        let wanted = Wanted {
            addresses: vec!["10.0.0.7".parse().expect("an address")],
            aliases: vec!["web".parse().expect("a name")],
            gateway_priority: 3,
            sticky: true,
            ..Wanted::default()
        };
        assert_eq!(plain.with(wanted.clone()).gateway_priority, 3);
        let joined = join.with(wanted);
        assert_eq!((join.network.as_str(), joined.gateway_priority), ("app", -5));
        let addresses: Vec<_> = joined.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["10.0.0.9", "fd00::9"]);
        assert_eq!(joined.aliases.len(), 2);
        assert_eq!(joined.options, [("a".to_owned(), "b".to_owned())]);
        assert!(joined.sticky && joined.ifname.is_some());
        for bad in ["ip=10.0.0.1", "name=", "name=a,ip=x", "name=a,gw-priority=high", "name=a,b=c"]
        {
            assert!(bad.parse::<Join>().is_err(), "{bad}");
        }
    }
}
