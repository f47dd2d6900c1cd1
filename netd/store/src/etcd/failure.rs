//! What etcd and the way to it say when something fails, as errors of the store.

use std::{error::Error as _, io, iter};

use etcd_client::Error as Failed;

use crate::{Error, LeaseId};

/// gRPC's codes (grpc/grpc, doc/statuscodes.md), as far as etcd uses them.
mod code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const RESOURCE_EXHAUSTED: i32 = 8;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const FAILED_PRECONDITION: i32 = 9;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

/// What is behind an error, one after the other.
fn causes(error: &Failed) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    let first = match error {
        Failed::GRpcStatus(status) => status.source(),
        Failed::TransportError(error) => error.source(),
        _ => None,
    };
    iter::successors(first, |error| (*error).source())
}

/// The words of an error and of what is behind it.
pub(crate) fn words(error: &Failed) -> String {
    let mut words = match error {
        Failed::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    for cause in causes(error) {
        let more = cause.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
    }
    words
}

/// The same for people: what the system says of the way to etcd, or etcd of the request. The words
/// of the libraries in between say nothing to whoever is to put it right.
fn plain(error: &Failed, words: &str) -> String {
    let of_system = causes(error).find_map(|cause| {
        let io = cause.downcast_ref::<io::Error>()?;
        match io.kind() {
            io::ErrorKind::ConnectionRefused => Some("nobody listens there".to_owned()),
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
                Some("there is no way there".to_owned())
            }
            io::ErrorKind::TimedOut => Some(LATE.to_owned()),
            io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
            | io::ErrorKind::UnexpectedEof => Some(BROKEN.to_owned()),
            _ => io.raw_os_error().map(|_| io.to_string()),
        }
    });
    let own = causes(error).next().is_none() && !LIBRARIES.iter().any(|word| words.contains(word));
    match of_system {
        Some(said) => said,
        None if words.contains("not valid yet") || words.contains("expired") => {
            "a certificate is not good at this time, or a clock is wrong".into()
        }
        None if is_certificate(words) => {
            "one of the two does not know the other's certificate".into()
        }
        None if words.to_ascii_lowercase().contains("timeout") => LATE.to_owned(),
        None if own => words.to_owned(),
        None => BROKEN.to_owned(),
    }
}

const LATE: &str = "no answer in time";
const BROKEN: &str = "the connection broke off";

/// By what the words of a library are known that stands between netd and etcd.
const LIBRARIES: [&str; 6] =
    ["transport error", "h2 ", "http2", "hyper", "connection error", "grpc-status"];

/// What the two ends of TLS say of each other's certificates.
fn is_certificate(words: &str) -> bool {
    words.contains("invalid peer certificate") || words.contains("fatal alert")
}

/// Whether the way to etcd ended before the request was on it.
fn not_sent(error: &Failed) -> bool {
    let decided = causes(error).find_map(|cause| match cause.downcast_ref::<io::Error>() {
        Some(error) => Some(matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
                | io::ErrorKind::AddrNotAvailable
        )),
        None => cause.to_string().contains("connect error").then_some(true),
    });
    decided.unwrap_or(false)
}

/// Whether somebody's rights were changed between a request's coming and its turn. etcd has one
/// revision for the rights of all, and does nothing of what came under an older one.
pub(crate) fn is_overtaken(words: &str) -> bool {
    words.contains("revision of auth store is old")
}

/// The error of the store that a failed request to `endpoint` is.
pub(crate) fn of(endpoint: &str, error: &Failed) -> Error {
    let (endpoint, words) = (endpoint.to_owned(), words(error));
    let why = plain(error, &words);
    tracing::debug!(endpoint, words, "etcd failed");
    if is_certificate(&words) {
        return Error::Denied { endpoint, why };
    }
    if matches!(error, Failed::LeaseKeepAliveError(said) if said == "lease not found") {
        return Error::LeaseGone { lease: LeaseId(0) };
    }
    let Failed::GRpcStatus(status) = error else {
        let sent = !not_sent(error);
        return Error::Unavailable { endpoint, why, sent };
    };
    if is_overtaken(&words) {
        return Error::Overtaken { endpoint };
    }
    let says = |some: &str| words.contains(some);
    match i32::from(status.code()) {
        code::OUT_OF_RANGE if says("compacted") => Error::Compacted { asked: 0, oldest: 0 },
        code::OUT_OF_RANGE if says("future revision") => Error::Future { asked: 0 },
        code::NOT_FOUND if says("lease not found") => Error::LeaseGone { lease: LeaseId(0) },
        code::RESOURCE_EXHAUSTED if says("space exceeded") => Error::NoSpace { endpoint },
        code::PERMISSION_DENIED | code::UNAUTHENTICATED => Error::Denied { endpoint, why },
        // A certificate whose name etcd does not know is a caller without a name.
        code::INVALID_ARGUMENT if says("user name is empty") || says("authentication failed") => {
            Error::Denied { endpoint, why }
        }
        code::INVALID_ARGUMENT
            if says("duplicate key") || says("too large") || says("too many") =>
        {
            Error::Invalid { why }
        }
        code::FAILED_PRECONDITION | code::NOT_FOUND | code::INVALID_ARGUMENT => {
            Error::Refused { endpoint, why }
        }
        _ => {
            // Said by a member that proposed nothing.
            let nothing = ["no leader", "too many requests", "not supported for learner"];
            let sent = !(nothing.into_iter().any(says) || not_sent(error));
            Error::Unavailable { endpoint, why, sent }
        }
    }
}

/// Tells which revision was asked for, which etcd does not.
pub(crate) fn at(error: Error, asked: Option<u64>) -> Error {
    match (error, asked) {
        (Error::Compacted { oldest, .. }, Some(asked)) => Error::Compacted { asked, oldest },
        (Error::Future { .. }, Some(asked)) => Error::Future { asked },
        (error, _) => error,
    }
}

/// Tells which lease was meant, which etcd does not.
pub(crate) fn leased(error: Error, lease: Option<LeaseId>) -> Error {
    match (error, lease) {
        (Error::LeaseGone { .. }, Some(lease)) => Error::LeaseGone { lease },
        (error, _) => error,
    }
}
