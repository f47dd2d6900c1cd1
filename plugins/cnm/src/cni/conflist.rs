//! The list of plugins that puts the containers of a runtime on a network of netd's.

use serde_json::json;

use super::version::Version;
use crate::network::Network;

/// The configuration list of a network, as a runtime reads it from its directory. Everything about
/// the network is netd's, so the list says no more than which it is, and what a runtime may ask for.
pub fn conflist(network: &Network) -> String {
    // A runtime that knows no list of versions takes the first, which all of them have.
    let versions: Vec<_> =
        Version::ALL.into_iter().filter(|version| *version >= Version::V0_4_0).collect();
    let versions: Vec<_> = versions.into_iter().map(Version::as_str).collect();
    let addressed = !network.subnets.is_empty();
    // Of the drivers with addresses one publishes no ports, nor limits what comes to a container.
    let on_bridge = addressed && network.driver != "macvlan";
    let (published, bandwidth) = (on_bridge && !network.internal, on_bridge);
    let mut capabilities = serde_json::Map::new();
    for (name, has) in [
        ("portMappings", published),
        ("ips", addressed),
        ("mac", addressed),
        ("aliases", addressed),
        ("dns", addressed),
        ("bandwidth", bandwidth),
    ] {
        if has {
            capabilities.insert(name.to_owned(), json!(true));
        }
    }
    let mut plugin = json!({"type": format!("netd-{}", network.driver)});
    if !capabilities.is_empty() {
        plugin["capabilities"] = capabilities.into();
    }
    let list = json!({
        "cniVersion": versions.first(),
        "cniVersions": versions,
        "name": network.name,
        "plugins": [plugin],
    });
    let mut text = serde_json::to_string_pretty(&list).expect("maps with text keys only");
    text.push('\n');
    text
}
