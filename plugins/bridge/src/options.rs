//! The options of bridge networks and of endpoints on them: who reads them, and in which words
//! people are told of them.

use std::collections::BTreeMap;

use cnm::options::{
    HOST_BINDING, IFNAME, IFNAME_PREFIX, IPAM, LINGER, LINK, MTU, Options, Setting,
};

/// Whether what leaves the network takes the host's address; with `false` its members keep their
/// own elsewhere.
pub const MASQUERADE: Setting = Setting {
    names: &["masquerade", "com.docker.network.bridge.enable_ip_masquerade"],
    about: "false: what leaves the network keeps its own address",
};

/// Whether frames may always turn back on its ports.
pub const HAIRPIN: Setting =
    Setting { names: &["hairpin"], about: "true: frames may leave a port by which they came" };

/// Kernel parameters of an endpoint's interface.
pub const SYSCTLS: Setting = Setting {
    names: &["sysctls", "com.docker.network.endpoint.sysctls"],
    about: "kernel parameters of its interface: net.ipv4.conf.IFNAME.log_martians=1,...",
};

/// All of them.
pub(crate) fn options() -> Options {
    Options::of(
        &[MTU, LINK, IPAM, HOST_BINDING, IFNAME_PREFIX, MASQUERADE, HAIRPIN],
        &[IFNAME, LINGER, SYSCTLS],
    )
}

/// Whether an option is on. What is no truth value is as if it were not there.
pub(crate) fn is_on(
    options: &BTreeMap<String, String>,
    setting: Setting,
    unless_told: bool,
) -> bool {
    let given = setting.given(options);
    given.and_then(|(_, text)| text.to_ascii_lowercase().parse().ok()).unwrap_or(unless_told)
}
