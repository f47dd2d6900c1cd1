//! The address at which other nodes reach this host: whether the host has it still.

use cnm::Kind;

use crate::netd::Netd;

impl Netd {
    /// One sentence when no link has the address that the cluster knows of this host.
    pub(crate) async fn unreached(&self) -> Option<String> {
        let cluster = self.cluster().filter(|cluster| !cluster.is_removed())?;
        let address = cluster.kept.borrow().address;
        let missing = self.host.underlay_of(address).await.err()?;
        // What cannot be looked up may be there.
        (missing.kind == Kind::Invalid).then(|| {
            format!(
                "no link of this host has the address {address}, at which the other nodes of its \
                 cluster send to it: containers here and there do not reach each other; give it to \
                 a link again, or leave the cluster and join it with another"
            )
        })
    }
}
