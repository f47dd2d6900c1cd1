//! The errors of this crate. Sockets and threads can fail, and a name can be none; answers cannot
//! fail.

use std::io;

/// What can go wrong while names are given or served.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is said with its crate, dns::Error")]
#[non_exhaustive]
pub enum Error {
    /// The thread that serves, or the event loop on it, could not be started.
    #[error("cannot start the resolver's thread: {0}")]
    Start(#[source] io::Error),

    /// A name has a label that DNS has no room for, or an empty one.
    #[error(
        "{name:?} cannot be a name in DNS: each part between dots has 1 to 63 characters, and \
         {label:?} does not"
    )]
    Label {
        /// The name.
        name: String,
        /// The part of it.
        label: String,
    },

    /// A question has no name, or one that cannot be written as it was.
    #[error(
        "{name:?} cannot be asked for: it should be a name of letters, digits, - and _ with dots between, \
         an address, or . for the root; names with other letters are said as xn--..."
    )]
    Unsayable {
        /// What was given.
        name: String,
    },

    /// A name is longer than DNS has room for.
    #[error("{name} has {length} characters, and a name in DNS at most 253: choose a shorter one")]
    Name {
        /// The name, with its network's and the domain.
        name: String,
        /// Its length.
        length: usize,
    },

    /// A name is one for which netd has an answer of its own.
    #[error(
        "{name} is no name for a container or a network: netd itself answers for what is at or below \
         {zone}; choose another"
    )]
    Own {
        /// The name.
        name: String,
        /// The zone that it is in.
        zone: String,
    },

    /// A domain was given servers of its own, and nobody is asked for what is below it.
    #[error(
        "no server is ever asked for names at or below {domain}: netd itself answers for what is at or \
         below {zone}; leave it out"
    )]
    Stub {
        /// The domain.
        domain: String,
        /// The zone that it is in.
        zone: String,
    },

    /// A domain means something else to programs and resolvers, which would not ask for it.
    #[error(
        "{domain} cannot be the domain of networks: programs and resolvers have an answer of their own \
         for it; choose another, such as netd"
    )]
    Domain {
        /// The domain.
        domain: String,
    },

    /// A name is an address, which nobody asks for.
    #[error("{name} is no name for a container or a network: it is an address; choose another")]
    Address {
        /// The name.
        name: String,
    },

    /// There is no such type of records.
    #[error("{kind:?} is no type of records: it should be one like A, AAAA, PTR or SRV")]
    Type {
        /// What was given.
        kind: String,
    },

    /// A socket that was handed over cannot be served.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Where, as far as the kernel says.
        address: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
