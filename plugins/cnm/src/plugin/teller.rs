//! What a driver's session says without being asked.

use std::io::{self, Write as _};

use serde::Serialize;

use crate::{driver::Disturbed, message};

/// The way to tell netd something, for any thread of a session.
#[derive(Clone, Debug)]
pub struct Teller(());

#[derive(Serialize)]
struct Notification<'a> {
    jsonrpc: &'static str,
    method: &'static str,
    params: &'a Disturbed,
}

impl Teller {
    /// That of a process whose standard output is the session's.
    pub(crate) fn of_session() -> Self {
        Self(())
    }

    /// Says that something is not as it was left.
    ///
    /// # Errors
    /// What `write(2)` refuses: nobody listens any more.
    pub fn disturbed(&self, disturbed: &Disturbed) -> io::Result<()> {
        let method = Disturbed::METHOD;
        let line = message::line(&Notification { jsonrpc: "2.0", method, params: disturbed });
        let mut output = io::stdout().lock();
        output.write_all(line.as_bytes())?;
        output.flush()
    }
}
