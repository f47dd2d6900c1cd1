//! What tests ask netd over its socket, in as few words as they think it.

use cnm::{
    Error, Kind, Result,
    client::Client,
    endpoint::{Attach, Detach, Detached, Endpoint, ListEndpoints},
    ipam::{ListPools, Pool},
    network::{CreateNetwork, Network},
    system::{GetStatus, Status},
};

/// The requests that most tests make.
pub trait Asking {
    /// Makes a network of which only the name is said.
    fn create(&mut self, name: &str) -> Network;

    /// Makes a network with one subnet.
    fn create_on(&mut self, name: &str, subnet: &str) -> Network;

    /// Puts a container on a network.
    fn attach(&mut self, attach: &Attach) -> Endpoint;

    /// Takes a container off all networks.
    fn detach(&mut self, container: &str) -> Detached;

    /// All endpoints.
    fn endpoints(&mut self) -> Vec<Endpoint>;

    /// All pools.
    fn pools(&mut self) -> Vec<Pool>;

    /// How netd is.
    fn status(&mut self) -> Status;
}

impl Asking for Client {
    #[track_caller]
    fn create(&mut self, name: &str) -> Network {
        granted(self.call(&CreateNetwork::named(name)))
    }

    #[track_caller]
    fn create_on(&mut self, name: &str, subnet: &str) -> Network {
        let subnet = subnet.parse().expect("the test's own subnet");
        let subnets = vec![cnm::network::Subnet::new(subnet)];
        granted(self.call(&CreateNetwork { subnets, ..CreateNetwork::named(name) }))
    }

    #[track_caller]
    fn attach(&mut self, attach: &Attach) -> Endpoint {
        granted(self.call(attach))
    }

    #[track_caller]
    fn detach(&mut self, container: &str) -> Detached {
        granted(self.call(&Detach { network: None, container: container.to_owned(), ifname: None }))
    }

    #[track_caller]
    fn endpoints(&mut self) -> Vec<Endpoint> {
        granted(self.call(&ListEndpoints { network: None, container: None })).endpoints
    }

    #[track_caller]
    fn pools(&mut self) -> Vec<Pool> {
        granted(self.call(&ListPools {})).pools
    }

    #[track_caller]
    fn status(&mut self) -> Status {
        granted(self.call(&GetStatus {}))
    }
}

#[track_caller]
fn granted<T>(outcome: Result<T>) -> T {
    outcome.unwrap_or_else(|error| panic!("{:?}: {error}: {:?}", error.kind, error.operands))
}

/// The kind of a refusal.
///
/// # Panics
/// When it was none.
#[track_caller]
pub fn kind_of<T: std::fmt::Debug>(outcome: Result<T>) -> (Kind, Error) {
    let error = outcome.expect_err("it should be refused");
    (error.kind, error)
}
