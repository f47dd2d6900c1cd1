//! The host's own etcd is kept running where nobody else does: systemd starts a unit again that
//! has ended, and a process without it netd has to.

use std::{
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use ::cluster::etcd::{Began, Machine};
use cnm::{Error, Result};
use tokio::time::sleep;

use super::{Cluster, Kept, Place};
use crate::netd::Netd;

/// How often it is looked at, and the longest wait after it ended at once, again and again.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is wrong with it, among netd's problems.
const PROBLEM: &str = "etcd";

/// Whether it is over with the host's own etcd. Who starts or ends it has this meanwhile: nobody
/// starts it again that is being ended for good, on data that are being removed.
#[derive(Clone, Debug, Default)]
pub(super) struct Over(Arc<Mutex<bool>>);

impl Over {
    /// Starts it unless it runs, or it is over with it.
    pub(super) fn ensure(&self, machine: &Machine) -> ::cluster::Result<Option<Began>> {
        let over = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *over { Ok(None) } else { machine.ensure().map(Some) }
    }

    fn end(&self, machine: &Machine) -> ::cluster::Result<()> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        machine.stop()
    }
}

impl Netd {
    /// Starts the host's own etcd whenever it has ended, for as long as it is polled.
    pub(super) async fn keep_etcd(self: Rc<Self>, cluster: Rc<Cluster>) {
        let mut pause = LOOK;
        loop {
            sleep(pause).await;
            let machine = {
                let kept = cluster.kept.borrow();
                Cluster::machine(&cluster.place, &kept, &self.config)
            };
            if machine.systemd {
                return;
            }
            // One that others took out of the cluster ends, and would again.
            if cluster.leaving.get() {
                continue;
            }
            let over = cluster.etcd_is_over.clone();
            let ensured = tokio::task::spawn_blocking(move || {
                let ended = machine.running().is_none().then(|| machine.last_words());
                (over.ensure(&machine), ended)
            });
            let Ok((began, ended)) = ensured.await else { return };
            match began {
                Ok(None) => return,
                Ok(Some(Began::Adopted(_))) => {
                    pause = LOOK;
                    self.problems.borrow_mut().remove(PROBLEM);
                }
                Ok(Some(Began::Started(pid))) => {
                    tracing::warn!(pid, "the host's own etcd had ended, and was started again");
                    // It had been started at the last look already.
                    if let Some(said) = ended.filter(|_| pause > LOOK) {
                        let why = format!("the host's own etcd ends soon after each start: {said}");
                        self.problems.borrow_mut().insert(PROBLEM.to_owned(), why);
                    }
                    pause = (pause * 2).min(LONGEST);
                }
                Err(error) => {
                    let error = Error::from(error);
                    tracing::error!(%error, "the host's own etcd does not run");
                    self.problems.borrow_mut().insert(PROBLEM.to_owned(), error.to_string());
                    pause = (pause * 2).min(LONGEST);
                }
            }
        }
    }

    /// Ends the host's own etcd for good, and waits until it has ended.
    pub(super) async fn stop_etcd(&self, place: &Place, kept: &Kept, over: &Over) {
        let machine = Cluster::machine(place, kept, &self.config);
        let over = over.clone();
        match tokio::task::spawn_blocking(move || over.end(&machine)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the host's own etcd does not end"),
            Err(error) => tracing::warn!(%error, "the host's own etcd is not ended"),
        }
    }

    /// Ends an etcd of which nobody knows, as an end of netd in the middle of a beginning leaves one. Its
    /// files stay until there is a next membership: they may be all that is left of a damaged one.
    ///
    /// # Errors
    /// When the host gives no randomness.
    pub(super) async fn stop_remnants(&self, place: &Place) -> Result<()> {
        if place.is_there() {
            tracing::warn!("there are files of a cluster, and this host is in none");
            self.stop_etcd(place, &Kept::of_nobody()?, &Over::default()).await;
        }
        Ok(())
    }

    /// What a beginning or an end of a membership left behind that was broken off: nothing of it is
    /// to be taken for a part of the next one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub(super) async fn clear_remnants(&self, place: &Place) -> Result<()> {
        if !place.is_there() {
            return Ok(());
        }
        tracing::info!("what is left of another membership is removed");
        self.stop_etcd(place, &Kept::of_nobody()?, &Over::default()).await;
        place.forget()
    }
}
