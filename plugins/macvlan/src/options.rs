//! The options of macvlan networks, each under Docker's names and ours.

use cnm::options::{
    DELIVER, DNS_PORT, IFNAME, IFNAME_PREFIX, IPAM, LINGER, MTU, ON_OR_OFF, Options, Setting,
};

/// What the macvlans hang on.
pub(crate) const PARENT: Setting = Setting {
    names: &["parent", "com.docker.network.parent"],
    about: "a link of the host's, or NAME.VID for a VLAN of one; the default route's if not given",
};

/// How they see each other.
pub(crate) const MODE: Setting = Setting {
    names: &["mode", "macvlan_mode", "com.docker.network.macvlan_mode"],
    about: "bridge, private, vepa or passthru",
};

/// How many broadcasts may wait to be copied.
pub(crate) const QUEUE: Setting = Setting {
    names: &["bcqueuelen", "bc_queue_len"],
    about: "how many broadcasts may wait to be copied to one macvlan",
};

/// Whether host and containers are to reach each other.
pub(crate) const HOST_ACCESS: Setting = Setting {
    names: &["host-access"],
    about: "true: the host and the containers reach each other",
};

/// All of them.
pub(crate) fn options() -> Options {
    Options::of(
        &[PARENT, MODE, QUEUE, HOST_ACCESS, MTU, IPAM, IFNAME_PREFIX],
        &[IFNAME, LINGER, DNS_PORT, DELIVER],
    )
    .with_values(MODE, &["bridge", "private", "vepa", "passthru"])
    .with_values(HOST_ACCESS, &ON_OR_OFF)
    .with_endpoint_values(LINGER, &ON_OR_OFF)
    .with_endpoint_values(DELIVER, &["host"])
}
