//! The options of bridge networks and of endpoints on them: who reads them, and in which words
//! people are told of them.

use std::collections::BTreeMap;

use cnm::options::{
    DELIVER, DNS_PORT, GATEWAY_MODE, GATEWAY_MODE_IPV4, GATEWAY_MODE_IPV6, HOST_BINDING, IFNAME,
    IFNAME_PREFIX, IPAM, LINGER, LINK, MTU, ON_OR_OFF, OUTBOUND_IPV4, OUTBOUND_IPV6, Options,
    Setting,
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

/// Whether the members of a network reach each other.
pub(crate) const AMONG_THEMSELVES: Setting = Setting {
    names: &["icc", "com.docker.network.bridge.enable_icc"],
    about: "false: its members do not reach each other",
};

/// Links of the host from which published ports are reached at the container's own address too. A
/// colon or a comma is between two.
pub(crate) const TRUSTED: Setting = Setting {
    names: &["trusted-interfaces", "com.docker.network.bridge.trusted_host_interfaces"],
    about: "links of the host, LINK:LINK, from which published ports are reached at the \
            container's own address too",
};

/// How the endpoints of a network are joined: all on one bridge, or each routed.
pub(crate) const LAYOUT: Setting = Setting {
    names: &["layout"],
    about: "routed: takes more endpoints than the 1023 of one bridge; bridged if not given",
};

/// Whether what a container sends is compared with its addresses, of a network or an endpoint.
pub const SPOOF_CHECK: Setting =
    Setting { names: &["spoof-check"], about: "false: containers may send from any address" };

/// Kernel parameters of an endpoint's interface.
pub const SYSCTLS: Setting = Setting {
    names: &["sysctls", "com.docker.network.endpoint.sysctls"],
    about: "kernel parameters of its interface: net.ipv4.conf.IFNAME.log_martians=1,...",
};

/// What a gateway mode may be.
const GATEWAY_MODES: [&str; 4] = ["nat", "nat-unprotected", "routed", "isolated"];

/// All of them.
pub(crate) fn options() -> Options {
    Options::of(
        &[
            MTU,
            LINK,
            IPAM,
            HOST_BINDING,
            IFNAME_PREFIX,
            MASQUERADE,
            HAIRPIN,
            GATEWAY_MODE,
            GATEWAY_MODE_IPV4,
            GATEWAY_MODE_IPV6,
            AMONG_THEMSELVES,
            TRUSTED,
            OUTBOUND_IPV4,
            OUTBOUND_IPV6,
            LAYOUT,
            SPOOF_CHECK,
            DNS_PORT,
        ],
        &[IFNAME, LINGER, SYSCTLS, SPOOF_CHECK, DNS_PORT, DELIVER],
    )
    .with_values(MASQUERADE, &ON_OR_OFF)
    .with_values(HAIRPIN, &ON_OR_OFF)
    .with_values(AMONG_THEMSELVES, &ON_OR_OFF)
    .with_values(SPOOF_CHECK, &ON_OR_OFF)
    .with_values(GATEWAY_MODE, &GATEWAY_MODES)
    .with_values(GATEWAY_MODE_IPV4, &GATEWAY_MODES)
    .with_values(GATEWAY_MODE_IPV6, &GATEWAY_MODES)
    .with_endpoint_values(LINGER, &ON_OR_OFF)
    .with_endpoint_values(SPOOF_CHECK, &ON_OR_OFF)
    .with_endpoint_values(DELIVER, &["host"])
    .with_live(&[
        MTU,
        HOST_BINDING,
        IFNAME_PREFIX,
        MASQUERADE,
        HAIRPIN,
        GATEWAY_MODE,
        GATEWAY_MODE_IPV4,
        GATEWAY_MODE_IPV6,
        AMONG_THEMSELVES,
        TRUSTED,
        OUTBOUND_IPV4,
        OUTBOUND_IPV6,
        SPOOF_CHECK,
    ])
}

/// Whether an option is on. What is no truth value is as if it were not there.
pub(crate) fn is_on(
    options: &BTreeMap<String, String>,
    setting: Setting,
    unless_told: bool,
) -> bool {
    let given = setting.given(options);
    match given.map(|(_, text)| text.to_ascii_lowercase()).as_deref() {
        Some("true" | "1") => true,
        Some("false" | "0") => false,
        _ => unless_told,
    }
}
