//! The errors of this crate. Only sockets and threads can fail; names and answers cannot.

use std::io;

use crate::NetworkKey;

/// What can go wrong while serving names.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "it is said with its crate, dns::Error")]
#[non_exhaustive]
pub enum Error {
    /// The thread that serves, or the event loop on it, could not be started.
    #[error("cannot start the resolver's thread: {0}")]
    Start(#[source] io::Error),

    /// A socket that was handed over cannot be served.
    #[error("cannot listen on network {network}: {source}")]
    Listen {
        /// The network that the socket was for.
        network: NetworkKey,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
