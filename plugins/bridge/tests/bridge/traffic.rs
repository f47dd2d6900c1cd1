//! The firewall, tried with traffic on the paths that users' traffic takes.
