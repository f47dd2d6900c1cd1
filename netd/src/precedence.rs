//! Attaches go before detaches: somebody waits to start a container, nobody for what is over. A
//! detach that comes while attaches are under way begins after them, and after at most
//! [`PATIENCE`].

use std::{cell::Cell, rc::Rc, time::Duration};

use tokio::{sync::Notify, time};

/// The longest that a detach lets attaches pass, one after the other.
const PATIENCE: Duration = Duration::from_millis(3);

/// How many attaches are under way.
#[derive(Debug, Default)]
pub(crate) struct Precedence {
    attaches: Cell<usize>,
    ended: Notify,
}

impl Precedence {
    /// There is an attach under way until what this gives is dropped.
    pub(crate) fn attach(self: &Rc<Self>) -> UnderWay {
        self.attaches.set(self.attaches.get() + 1);
        UnderWay(self.clone())
    }

    /// Returns when no attach is under way, or who asks has waited long enough.
    pub(crate) async fn give(&self) {
        if self.attaches.get() > 0 {
            drop(time::timeout(PATIENCE, self.ended.notified()).await);
        }
    }
}

/// An attach for which detaches wait.
#[derive(Debug)]
pub(crate) struct UnderWay(Rc<Precedence>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Precedence { attaches, ended } = &*self.0;
        attaches.set(attaches.get() - 1);
        if attaches.get() == 0 {
            ended.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    /// Whether it would still wait.
    async fn waits(given: &mut (impl Future<Output = ()> + Unpin)) -> bool {
        tokio::select! {
            biased;
            () = given => false,
            () = std::future::ready(()) => true,
        }
    }

    #[tokio::test]
    async fn a_detach_waits_for_the_last_attach_and_only_so_long() {
        let precedence = Rc::new(Precedence::default());
        assert!(!waits(&mut pin!(precedence.give())).await, "nothing is under way");

        let (first, second) = (precedence.attach(), precedence.attach());
        let mut given = pin!(precedence.give());
        assert!(waits(&mut given).await);
        drop(first);
        assert!(waits(&mut given).await);
        drop(second);
        assert!(!waits(&mut given).await);

        let _stays = precedence.attach();
        precedence.give().await;
    }
}
