//! The built netctl against a netd that only answers: what it asks, what it prints, how it ends.

mod asking;
mod changing;
mod compose;
mod fake;
mod installing;
mod podman;
mod running;
mod sandboxes;
