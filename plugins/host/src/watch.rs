//! Watching over the resolver's address: the kernel tells of addresses that come and go. That it is gone is
//! told to netd, whose sync puts it back: this decides and changes nothing.

use std::{
    net::Ipv4Addr,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::Duration,
};

use cnm::{driver::Disturbed, plugin::Teller};
use kernel::netlink::monitor::Addresses;

use crate::resolver;

/// How long a sync is waited for before the same is told again, at first; twice as long each time.
const PATIENCE: Duration = Duration::from_millis(100);

/// The longest of these waits, and of those after what the kernel refuses.
const LONGEST: Duration = Duration::from_secs(60);

/// The thread that watches, and what is to be there.
#[derive(Debug)]
pub(crate) struct Watch {
    wanted: Arc<Mutex<Option<Ipv4Addr>>>,
}

impl Watch {
    /// Begins to watch over this address, in the calling thread's network namespace, until the process
    /// ends.
    pub(crate) fn start(teller: Teller, wanted: Option<Ipv4Addr>) -> kernel::Result<Self> {
        let wanted = Arc::new(Mutex::new(wanted));
        let watcher =
            Watcher { wanted: Arc::clone(&wanted), addresses: Addresses::open()?, teller };
        thread::Builder::new()
            .name("watch".to_owned())
            .stack_size(256 << 10)
            .spawn(move || watcher.work())
            .map_err(|error| kernel::Error::io("start", "the watch", &error))?;
        Ok(Self { wanted })
    }

    /// Watches over this address, or none.
    pub(crate) fn over(&self, wanted: Option<Ipv4Addr>) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }
}

struct Watcher {
    wanted: Arc<Mutex<Option<Ipv4Addr>>>,
    addresses: Addresses,
    teller: Teller,
}

impl Watcher {
    fn work(&self) {
        let mut patience = PATIENCE;
        loop {
            let again = match self.missing() {
                Ok(None) => {
                    patience = PATIENCE;
                    None
                }
                Ok(Some(address)) => {
                    let what = vec![format!("the address {address} of lo is gone")];
                    if self.teller.disturbed(&Disturbed { what }).is_err() {
                        return;
                    }
                    Some(patience)
                }
                Err(error) => {
                    eprintln!("cannot watch over the resolver's address: {error}");
                    Some(LONGEST)
                }
            };
            if again.is_some() {
                patience = (patience * 2).min(LONGEST);
            }
            if let Err(error) = self.addresses.wait(again) {
                eprintln!("cannot watch over the resolver's address: {error}");
                thread::park_timeout(LONGEST);
            }
        }
    }

    /// The address that is to be there and is not.
    fn missing(&self) -> kernel::Result<Option<Ipv4Addr>> {
        let wanted = *self.wanted.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wanted) = wanted else { return Ok(None) };
        Ok((!resolver::is_there(wanted)?).then_some(wanted))
    }
}
