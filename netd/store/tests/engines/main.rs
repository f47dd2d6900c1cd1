//! Both engines: what they have to do alike, and what becomes of a follower when etcd fails.

mod etcd;
mod model;
mod start;
mod suite;
