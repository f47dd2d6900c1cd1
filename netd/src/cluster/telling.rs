//! Telling the overlay driver of other hosts: what changes, what is to be told again, and everything. One at a
//! time has the telling; only who tells of changes tells again what the driver refused.

use std::rc::Rc;

use cnm::{Error, Result, peers::ChangePeers};
use tokio::time::sleep;

use super::{
    Cluster, DRIVER, Instant,
    peers::News,
    tasks::{AGAIN, REFUSED, breath},
};
use crate::netd::Netd;

/// That the driver does not know of other hosts, among netd's problems.
pub(super) const UNTOLD: &str = "other hosts";

impl Netd {
    /// Tells the driver what changes elsewhere; many changes in one call when they come fast.
    pub(super) async fn tell_driver_of_changes(self: Rc<Self>, cluster: Rc<Cluster>) {
        loop {
            cluster.tell.notified().await;
            let began = Instant::now();
            self.tell_driver(&cluster).await;
            sleep(breath(began)).await;
        }
    }

    /// Tells the driver what is untold, once. What it refuses is left to who tells it of changes.
    pub(super) async fn tell_driver_now(self: Rc<Self>, cluster: Rc<Cluster>) {
        let _telling = cluster.telling.lock().await;
        if self.tell_news(&cluster).await.is_err() {
            cluster.tell.notify_one();
        }
    }

    /// Tells the driver what is untold, until nothing is. For the one who tells it.
    pub(super) async fn tell_driver(self: &Rc<Self>, cluster: &Rc<Cluster>) {
        let mut pause = AGAIN;
        loop {
            let telling = cluster.telling.lock().await;
            let told = self.tell_news(cluster).await;
            drop(telling);
            match told {
                Ok(Some(_)) => pause = AGAIN,
                Ok(None) => return,
                Err(_) => {
                    sleep(AGAIN).await;
                    // What comes meanwhile may be what it wanted for.
                    let wait = tokio::time::timeout(pause - AGAIN, cluster.tell.notified());
                    drop(wait.await);
                    pause = (pause * 2).min(REFUSED);
                }
            }
        }
    }

    /// Tells the driver all there is of other hosts, once; how many rows were not as they should be.
    async fn tell_driver_again(self: &Rc<Self>, cluster: &Rc<Cluster>) -> Result<usize> {
        let _telling = cluster.telling.lock().await;
        let mut told = self.tell_news(cluster).await;
        // What is told so for the first time is news, and nothing that had to be put right.
        if told.is_ok() {
            cluster.untold.borrow_mut().everything();
            told = self.tell_news(cluster).await;
        }
        if told.is_err() {
            cluster.tell.notify_one();
        }
        Ok(told?.unwrap_or_default())
    }

    /// Tells the driver what is untold, if anything is: how many rows were not as they should be. For who has
    /// the telling.
    async fn tell_news(self: &Rc<Self>, cluster: &Rc<Cluster>) -> Result<Option<usize>> {
        let any_up = {
            let registry = self.registry.borrow();
            registry.networks().any(|entry| entry.shared.as_ref().is_some_and(|s| s.up))
        };
        let news = if any_up {
            let view = cluster.view.borrow();
            cluster.untold.borrow_mut().take(&view, |network| self.is_up(network))
        } else {
            // Everything is told to the first network that comes up.
            None
        };
        let Some(News { call, about }) = news else {
            self.problems.borrow_mut().remove(UNTOLD);
            return Ok(None);
        };
        match self.tell_peers(call).await {
            // A name that resolves before there is a way to its address has whoever asks wait
            // for the next attempt of ARP, which is a second later.
            Ok(rows) => {
                self.problems.borrow_mut().remove(UNTOLD);
                self.publish(cluster, &about);
                Ok(Some(rows))
            }
            Err(error) => {
                cluster.untold.borrow_mut().everything();
                let message = format!("other hosts are not reached as they should be: {error}");
                let error = Error { message, ..error };
                self.problem(UNTOLD, &error);
                Err(error)
            }
        }
    }

    async fn tell_peers(self: &Rc<Self>, call: ChangePeers) -> Result<usize> {
        let driver = self.driver(DRIVER)?;
        let (mut rows, complete) = (0, call.complete);
        for part in call.parts() {
            rows += driver.call(&part).await?.rows;
        }
        tracing::debug!(rows, complete, "the driver knows of other hosts");
        // What is told otherwise was news.
        Ok(if complete { rows } else { 0 })
    }

    /// The driver has started, or is to look at all it has done: it is told everything again.
    pub(crate) fn driver_started(&self, driver: &str) {
        if driver == DRIVER
            && let Some(cluster) = self.cluster()
        {
            cluster.untold.borrow_mut().everything();
            cluster.tell.notify_one();
        }
    }

    /// As [`Netd::driver_started`], and waits for it: how many rows of the kernel were not as they should be.
    pub(crate) async fn tell_of_others_again(self: &Rc<Self>, driver: &str) -> Result<usize> {
        match self.cluster() {
            Some(cluster) if driver == DRIVER => self.tell_driver_again(&cluster).await,
            _ => Ok(0),
        }
    }
}
