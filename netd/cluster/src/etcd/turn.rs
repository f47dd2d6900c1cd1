//! One change of etcd's members at a time: who is about to take a member out has it looked at once
//! more whether the others are a majority, when nobody else is about to.

use std::time::Duration;

use store::{Compare, Etcd, Keys, LeaseId, Op, Store, Txn};
use tokio::time::{Instant, sleep};

use crate::{Error, Layout, Result};

/// How long a turn lasts at most: longer than etcd takes to change its members.
const LIFE: Duration = Duration::from_secs(10);

/// How long it is tried to end one, and how soon again: with a member etcd's leader may have gone.
const ELECTION: Duration = Duration::from_secs(4);
const AGAIN: Duration = Duration::from_millis(200);

/// The right to change the members. It is over after a while, whatever becomes of its holder.
#[derive(Debug)]
pub struct Turn {
    store: Store,
    lease: LeaseId,
}

impl Turn {
    /// The turn, if nobody has it. What etcd then says of its members at the same endpoint is not
    /// older than what the last holder did.
    ///
    /// # Errors
    /// [`Error::Contended`] while somebody has it; when etcd is away or refuses.
    pub async fn take(etcd: &Etcd, layout: &Layout) -> Result<Self> {
        let store = Store::Etcd(etcd.clone());
        let (key, lease) = (layout.turn(), store.grant(LIFE).await?);
        let free = Compare::absent(Keys::one(key.as_str()));
        let taken = store.txn(Txn::new().when(free).then(Op::put_leased(key, "", lease))).await;
        let turn = Self { store, lease };
        match taken {
            Ok(outcome) if outcome.held => return Ok(turn),
            // It may have been done all the same.
            Ok(_) | Err(_) => turn.end().await,
        }
        taken?;
        Err(Error::Contended { what: "changing the members of etcd", attempts: 1 })
    }

    /// Lets others have it.
    pub async fn end(self) {
        let deadline = Instant::now() + ELECTION;
        loop {
            match self.store.revoke(self.lease).await {
                Err(error) if error.is_away() && Instant::now() < deadline => sleep(AGAIN).await,
                Ok(()) | Err(store::Error::LeaseGone { .. }) => return,
                Err(error) => {
                    tracing::warn!(%error, "others wait until the turn is over by itself");
                    return;
                }
            }
        }
    }
}
