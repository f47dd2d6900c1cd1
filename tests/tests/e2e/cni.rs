//! netd's plugins as runtimes of the Container Network Interface execute them.

mod chains;
mod failing;
mod faults;
mod moved;
mod networks;
mod ranges;
mod refusing;
mod runtime;
mod sweeping;
mod verbs;
mod weaknesses;
