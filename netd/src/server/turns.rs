//! Turns that connections take at what callers agree on among themselves, such as a project's networks.

use std::{cell::RefCell, collections::HashMap, sync::Arc};

use tokio::sync::{Mutex, OwnedMutexGuard};

/// Whose turn it is at what.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    at: RefCell<HashMap<String, Arc<Mutex<()>>>>,
}

impl Turns {
    /// Waits until nobody has the turn, and has it until the guard is dropped.
    pub(crate) async fn take(&self, at: &str) -> OwnedMutexGuard<()> {
        let turn = {
            let mut all = self.at.borrow_mut();
            // What nobody has or waits for any more.
            all.retain(|_, turn| Arc::strong_count(turn) > 1);
            all.entry(at.to_owned()).or_default().clone()
        };
        turn.lock_owned().await
    }
}
