//! What leads questions inside a container to the resolver, for drivers: an endpoint is one without it
//! too, so what cannot be done is said and no more.

use kernel::{Error, netns::Netns, resolver};

/// Leads them to a port, in the calling thread's namespace; whether that was made now.
pub fn lead(port: Option<u16>) -> bool {
    match port.map(resolver::lead) {
        Some(Ok(made)) => made,
        Some(Err(error)) => {
            eprintln!("names do not resolve inside: {error}");
            false
        }
        None => false,
    }
}

/// Leads them nowhere any more, in a namespace.
pub fn lead_nowhere(home: &Netns, netns: &Netns) {
    if let Err(error) = netns.inside(home, resolver::lead_nowhere).and_then(|left| left) {
        stays(&error);
    }
}

/// The same in the one that a path leads to, if that is the one of `cookie`
/// ([`DetachEndpoint::netns`](cnm::driver::DetachEndpoint)).
pub fn forget(home: &Netns, path: &str, cookie: Option<u64>) {
    match resolver::forget(home, path, cookie) {
        // With the container it went by itself.
        Ok(()) | Err(Error::NoNamespace(_)) => {}
        Err(error) => stays(&error),
    }
}

fn stays(error: &Error) {
    eprintln!("what leads to the resolver inside stays: {error}");
}
