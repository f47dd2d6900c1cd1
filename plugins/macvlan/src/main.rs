//! The executable `netd-macvlan`: a session of netd's on standard input and output, or a runtime's
//! plugin that asks netd.

use std::process::ExitCode;

fn main() -> ExitCode {
    cnm::plugin::main(netd_macvlan::Macvlan::default())
}
