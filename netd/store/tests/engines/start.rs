//! Starting an engine for a test.

use std::{future::Future, time::Duration};

use netd_tests::{Etcd, World};
use store::{Change, Embedded, EmbeddedOptions, Error, EtcdOptions, Keys, Store};
use tokio::runtime;

/// How long something may take that has no limit of its own.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn block_on<F: Future>(test: F) -> F::Output {
    runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(test)
}

/// Runs a test on the embedded engine.
pub(crate) fn embedded<F: Future>(test: impl FnOnce(Store) -> F) {
    World::bare();
    block_on(test(file("/run/store", EmbeddedOptions::default())));
}

pub(crate) fn file(path: &str, options: EmbeddedOptions) -> Store {
    Store::Embedded(Embedded::open(path, options).expect("a store"))
}

/// Runs a test on etcd.
pub(crate) fn etcd<F: Future>(test: impl FnOnce(Store) -> F) {
    World::bare();
    let etcd = Etcd::start(2379, &[]);
    block_on(async {
        let store = client(&[etcd.url()]).await;
        ready(&store).await;
        test(store).await;
    });
}

pub(crate) async fn client(urls: &[String]) -> Store {
    let options = EtcdOptions { endpoints: urls.to_vec(), tls: None };
    Store::Etcd(store::Etcd::connect(options).await.expect("URLs"))
}

/// Waits until the store answers.
pub(crate) async fn ready(store: &Store) {
    let mut follow = store.follow(Keys::one("ready"), Vec::new());
    let synced = async {
        loop {
            match follow.next().await.expect("a change") {
                Change::Synced { .. } => return,
                Change::Away(error) => {
                    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    };
    soon(synced).await;
}

/// What a future gives, in time.
#[track_caller]
pub(crate) fn soon<F: Future>(what: F) -> impl Future<Output = F::Output> {
    let caller = std::panic::Location::caller();
    async move {
        let given = tokio::time::timeout(PATIENCE, what).await;
        given.unwrap_or_else(|_| panic!("too late, at {caller}"))
    }
}
