//! That this host lives: a row under a lease, the one thing of the cluster that goes by itself.

use std::{rc::Rc, time::Duration};

use ::cluster::{
    Key,
    rows::{self, Live, Schema},
};
use ::store::{Error, LeaseId, Op, Txn};
use tokio::time::sleep;

use super::{Cluster, Instant, tasks::FULL};

/// How long the row stays without a word of this host, and how often there is one.
const LIFE: Duration = Duration::from_secs(10);
const WORD: Duration = Duration::from_secs(3);

/// How soon it is asked again in which epoch this host is.
const SOON: Duration = Duration::from_millis(20);

/// How soon it is tried again.
const AGAIN: Duration = Duration::from_millis(300);

impl Cluster {
    /// Says that this host lives, for as long as it is polled.
    pub(super) async fn live(self: Rc<Self>) {
        let mut lease = None;
        let mut said = None;
        let mut kept = Instant::now();
        loop {
            let epoch = self.epoch.get();
            let outcome = match (lease, epoch) {
                // Only who knows in which epoch it is can say that it lives in it.
                (_, None) => {
                    if kept.elapsed() >= WORD {
                        self.keep_former().await;
                        kept = Instant::now();
                    }
                    sleep(SOON).await;
                    continue;
                }
                (Some(lease), Some(epoch)) if said == Some(epoch) => {
                    self.store.keep_alive(lease).await.map(|()| lease)
                }
                (_, Some(epoch)) => self.say(epoch).await.inspect(|_| said = Some(epoch)),
            };
            match outcome {
                Ok(kept) => {
                    lease = Some(kept);
                    sleep(WORD).await;
                }
                Err(Error::LeaseGone { .. }) => {
                    lease = None;
                    said = None;
                }
                Err(error) => {
                    tracing::debug!(%error, "liveness not said");
                    let full = matches!(error, Error::NoSpace { .. });
                    sleep(if full { FULL } else { AGAIN }).await;
                }
            }
        }
    }

    /// What the netd before this one said stands until this one is heard, which may be long where the
    /// store is full or no manager is there: the containers are the same.
    async fn keep_former(&self) {
        let key = self.layout.key(&Key::Live(self.node.clone()));
        let kept = async {
            let Some(row) = self.store.get(key).await? else { return Ok(()) };
            let same = rows::read::<Live>(&row).is_ok_and(|live| live.boot == boot());
            match row.lease.filter(|_| same) {
                Some(lease) => self.store.keep_alive(lease).await,
                None => Ok(()),
            }
        };
        if let Err::<(), Error>(error) = kept.await {
            tracing::debug!(%error, "liveness is not kept");
        }
    }

    async fn say(&self, epoch: u64) -> Result<LeaseId, Error> {
        let lease = self.store.grant(LIFE).await?;
        let live = Live {
            schema: Schema::default(),
            epoch,
            boot: boot(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let key = self.layout.key(&Key::Live(self.node.clone()));
        let put = Op::put_leased(key, rows::write(&live), lease);
        let away = Op::delete(self.layout.key(&Key::Away(self.node.clone())));
        self.store.txn(Txn::new().then(put).then(away)).await?;
        Ok(lease)
    }
}

/// This boot of the host.
fn boot() -> String {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim().to_owned()
}
