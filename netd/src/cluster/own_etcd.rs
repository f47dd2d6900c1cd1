//! The host's own etcd is kept running where nobody else does: systemd starts a unit again that
//! has ended, and a process without it netd has to.

use std::{rc::Rc, time::Duration};

use ::cluster::etcd::Began;
use cnm::Error;
use tokio::time::sleep;

use super::Cluster;
use crate::netd::Netd;

/// How often it is looked at, and the longest wait after it ended at once, again and again.
const LOOK: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// What is wrong with it, among netd's problems.
const PROBLEM: &str = "etcd";

impl Netd {
    /// Starts the host's own etcd whenever it has ended, for as long as it is polled.
    pub(super) async fn keep_etcd(self: Rc<Self>, cluster: Rc<Cluster>) {
        let mut pause = LOOK;
        loop {
            sleep(pause).await;
            let machine = {
                let kept = cluster.kept.borrow();
                Cluster::machine(&cluster.place, &kept, &self.config.run_dir)
            };
            if machine.systemd {
                return;
            }
            let Ok(began) = tokio::task::spawn_blocking(move || machine.ensure()).await else {
                return;
            };
            match began {
                Ok(Began::Adopted(_)) => {
                    pause = LOOK;
                    self.problems.borrow_mut().remove(PROBLEM);
                }
                Ok(Began::Started(pid)) => {
                    tracing::warn!(pid, "the host's own etcd had ended, and was started again");
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
}
