//! The executable `netd-overlay`: a session of netd's on standard input and output, or a runtime's
//! plugin that asks netd.

use std::process::ExitCode;

fn main() -> ExitCode {
    cnm::plugin::main(netd_overlay::Overlay::default())
}
