//! What etcd and the way to it say when something fails, as errors of the store.

use std::{error::Error as _, io};

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

/// The words of an error and of what is behind it.
pub(crate) fn words(error: &Failed) -> String {
    let mut words = match error {
        Failed::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    let mut source = match error {
        Failed::GRpcStatus(status) => status.source(),
        Failed::TransportError(error) => error.source(),
        _ => None,
    };
    while let Some(error) = source {
        let more = error.to_string();
        if !words.contains(&more) {
            words = format!("{words}: {more}");
        }
        source = error.source();
    }
    words
}

/// Whether the way to etcd ended before the request was on it.
fn not_sent(error: &Failed) -> bool {
    let mut source = match error {
        Failed::GRpcStatus(status) => status.source(),
        Failed::TransportError(error) => error.source(),
        _ => None,
    };
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable
                    | io::ErrorKind::AddrNotAvailable
            );
        }
        if error.to_string().contains("connect error") {
            return true;
        }
        source = error.source();
    }
    false
}

/// The error of the store that a failed request to `endpoint` is.
pub(crate) fn of(endpoint: &str, error: &Failed) -> Error {
    let (endpoint, why) = (endpoint.to_owned(), words(error));
    // What the two ends of TLS say of each other's certificates.
    if why.contains("invalid peer certificate") || why.contains("fatal alert") {
        return Error::Denied { endpoint, why };
    }
    if matches!(error, Failed::LeaseKeepAliveError(said) if said == "lease not found") {
        return Error::LeaseGone { lease: LeaseId(0) };
    }
    let Failed::GRpcStatus(status) = error else {
        let sent = !not_sent(error);
        return Error::Unavailable { endpoint, why, sent };
    };
    let says = |words: &str| why.contains(words);
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
            let sent = !(says("no leader") || says("too many requests") || not_sent(error));
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
