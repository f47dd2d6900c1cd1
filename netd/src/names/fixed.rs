//! The listeners at addresses that the configuration names: one for the containers of all networks,
//! one for the host's own programs. Nobody can be led elsewhere from there: where another program has
//! the port, it is tried again until that has gone.

use std::{net::SocketAddr, rc::Rc, time::Duration};

use dns::At;

use super::{HOST, PORT, kept_name};
use crate::netd::Netd;

/// How often it is tried again to listen where it could not.
const AGAIN: Duration = Duration::from_secs(1);

/// Whom one is for.
#[derive(Clone, Copy, Debug)]
enum Fixed {
    /// The containers of all networks. The address itself is the business of the driver of the
    /// host's own namespace.
    All,
    /// The host's own programs.
    Host,
}

impl Fixed {
    fn at(self) -> At {
        match self {
            Self::All => At::Shared,
            Self::Host => At::Host,
        }
    }

    /// Under what its sockets are kept over a restart.
    fn name(self) -> &'static str {
        match self {
            Self::All => "shared",
            Self::Host => HOST,
        }
    }

    /// Under what its trouble is known.
    fn about(self) -> &'static str {
        match self {
            Self::All => "dns link-local",
            Self::Host => "dns host",
        }
    }

    fn problem(self, address: SocketAddr, why: &str) -> String {
        match self {
            Self::All => format!("names do not resolve at {address}: {why}"),
            Self::Host => format!("names do not resolve for the host at {address}: {why}"),
        }
    }
}

impl Netd {
    /// Makes names resolve at these addresses, where that is wanted.
    pub(super) fn resolve_at_fixed(self: &Rc<Self>) {
        for fixed in [Fixed::All, Fixed::Host] {
            if self.listen_at_fixed(fixed).is_err() {
                self.try_again(fixed);
            }
        }
        if self.config.dns_host.is_none() {
            self.hook_into_the_host();
        }
    }

    /// As [`Netd::resolve_at_fixed`], now, for those where it could not be done: a sentence for each
    /// where it can.
    pub(crate) fn resolve_at_fixed_again(self: &Rc<Self>) -> Vec<String> {
        let again = [Fixed::All, Fixed::Host].into_iter().filter_map(|fixed| {
            let address = self.listen_at_fixed(fixed).ok()??;
            Some(format!("answer for names at {address} again"))
        });
        again.collect()
    }

    /// Where it is wanted that netd answers, whatever networks there are.
    pub(super) fn fixed_resolvers(&self) -> Vec<SocketAddr> {
        [Fixed::All, Fixed::Host].into_iter().filter_map(|fixed| self.wanted_at(fixed)).collect()
    }

    fn wanted_at(&self, fixed: Fixed) -> Option<SocketAddr> {
        match fixed {
            Fixed::All => {
                self.config.dns_link_local.map(|address| SocketAddr::new(address.into(), PORT))
            }
            Fixed::Host => self.config.dns_host,
        }
    }

    /// Gives the address, where it was not listened on before and is now.
    fn listen_at_fixed(self: &Rc<Self>, fixed: Fixed) -> Result<Option<SocketAddr>, ()> {
        let Some(address) = self.wanted_at(fixed) else { return Ok(None) };
        let server = &self.resolver.server;
        if !server.addresses(&fixed.at()).is_empty() {
            return Ok(None);
        }
        let sockets = self.resolver.kept.open(address, &kept_name(fixed.name()));
        let listening = sockets.map_err(|error| format!("cannot listen there: {error}")).and_then(
            |(udp, tcp)| server.listen(fixed.at(), udp, tcp).map_err(|error| error.to_string()),
        );
        match listening {
            Ok(()) => {
                self.problems.borrow_mut().remove(fixed.about());
                if matches!(fixed, Fixed::Host) {
                    self.hook_into_the_host();
                }
                Ok(Some(address))
            }
            Err(why) => {
                let problem = fixed.problem(address, &why);
                let known =
                    self.problems.borrow_mut().insert(fixed.about().to_owned(), problem.clone());
                if known.is_none() {
                    tracing::warn!("{problem}");
                }
                Err(())
            }
        }
    }

    /// Tries again until it succeeds or all names resolve no more.
    fn try_again(self: &Rc<Self>, fixed: Fixed) {
        let netd = Rc::downgrade(self);
        tokio::task::spawn_local(async move {
            loop {
                tokio::time::sleep(AGAIN).await;
                let Some(netd) = netd.upgrade().filter(|netd| !netd.resolver.unhooked.get()) else {
                    return;
                };
                match netd.listen_at_fixed(fixed) {
                    Ok(Some(address)) => {
                        tracing::info!(%address, "names resolve there again");
                        return;
                    }
                    // Somebody else has seen to it.
                    Ok(None) => return,
                    Err(()) => {}
                }
            }
        });
    }
}
