//! Keeps the processors from falling asleep while a container is being attached or detached. Such
//! a call changes hands four times, and each time whoever is next has to be woken: on a processor
//! that has halted that takes longer than what netd itself does.

use std::{
    cell::{Cell, RefCell},
    fs::File,
    io::Write,
    rc::Rc,
};

/// Where a process says how late its wake-ups may come (Linux,
/// Documentation/power/pm_qos_interface.rst): a number of microseconds, in the machine's byte
/// order, for as long as the file is open or until another is written.
const DEVICE: &str = "/dev/cpu_dma_latency";

/// As soon as possible.
const AT_ONCE: i32 = 0;

/// `PM_QOS_DEFAULT_VALUE` (linux/pm_qos.h): as late as they like.
const WHENEVER: i32 = -1;

/// The device, and for how many calls it is asked.
#[derive(Debug, Default)]
pub(crate) struct Awake {
    device: RefCell<Option<File>>,
    calls: Cell<usize>,
}

impl Awake {
    /// Opens the device. Without one, processors sleep when they like.
    pub(crate) fn open() -> Rc<Self> {
        let device = File::options().write(true).open(DEVICE);
        if let Err(error) = &device {
            tracing::debug!(%error, "processors may sleep: cannot open {DEVICE}");
        }
        Rc::new(Self { device: RefCell::new(device.ok()), calls: Cell::new(0) })
    }

    /// They stay awake until what this gives is dropped.
    pub(crate) fn hold(self: &Rc<Self>) -> Held {
        self.calls.set(self.calls.get() + 1);
        if self.calls.get() == 1 {
            self.ask(AT_ONCE);
        }
        Held(self.clone())
    }

    fn ask(&self, latency: i32) {
        let mut device = self.device.borrow_mut();
        if let Some(file) = device.as_mut()
            && let Err(error) = file.write_all(&latency.to_ne_bytes())
        {
            tracing::debug!(%error, "processors may sleep");
            *device = None;
        }
    }
}

/// Somebody for whom the processors stay awake.
#[derive(Debug)]
pub(crate) struct Held(Rc<Awake>);

impl Drop for Held {
    fn drop(&mut self) {
        let awake = &self.0;
        awake.calls.set(awake.calls.get() - 1);
        if awake.calls.get() == 0 {
            awake.ask(WHENEVER);
        }
    }
}
