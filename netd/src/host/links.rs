//! The host's links, asked for one by one: a list of all has one for each container, at 20 kB each.

use futures_util::TryStreamExt;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use super::Host;

impl Host {
    /// A link, if it is there.
    pub(super) async fn link(&self, index: u32) -> Option<LinkMessage> {
        let mut links = self.handle.link().get().match_index(index).execute();
        links.try_next().await.ok().flatten()
    }

    /// What a link is called; its number where it is gone.
    pub(super) async fn link_name(&self, index: u32) -> String {
        let name = self.link(index).await.and_then(name);
        name.unwrap_or_else(|| format!("link {index}"))
    }
}

/// What a link is called.
pub(super) fn name(link: LinkMessage) -> Option<String> {
    link.attributes.into_iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name),
        _ => None,
    })
}
