//! A ping that runs while other things happen, and tells whether it lost anything.

use std::{
    fs::{self, File},
    net::IpAddr,
    path::PathBuf,
    process::Child,
    sync::atomic::{AtomicU32, Ordering},
};

use crate::{Namespace, eventually};

/// A packet every 10 ms.
#[derive(Debug)]
pub struct Ping {
    child: Child,
    output: PathBuf,
}

impl Ping {
    /// Starts to ping an address, and waits for the first answers.
    ///
    /// # Panics
    /// When there are none.
    #[track_caller]
    pub fn start(from: &Namespace, to: IpAddr) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let output = PathBuf::from(format!("/run/ping-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let file = File::create(&output).expect("/run is the test's own");
        let child = from
            .command(["stdbuf", "-oL", "ping", "-n", "-i", "0.01", &to.to_string()])
            .stdout(file)
            .spawn()
            .expect("setpriv is a part of util-linux");
        let ping = Self { child, output };
        ping.goes_on();
        ping
    }

    /// Waits until five more packets have come back.
    ///
    /// # Panics
    /// When they do not.
    #[track_caller]
    pub fn goes_on(&self) {
        let before = self.answered().last().copied().unwrap_or(0);
        eventually("the ping goes on", || {
            let now = self.answered().last().copied().unwrap_or(0);
            if now >= before + 5 { Ok(()) } else { Err(now) }
        });
    }

    /// Ends it; gives how many packets came back.
    ///
    /// # Panics
    /// When one was lost: packets are numbered, and the answers should have every number up to
    /// the last.
    #[track_caller]
    pub fn lost_none(mut self) -> usize {
        self.child.kill().expect("it is this test's process");
        self.child.wait().expect("it is this test's process");
        let answered = self.answered();
        let numbers = 1..=answered.last().copied().unwrap_or(0);
        let lost: Vec<_> = numbers.filter(|number| !answered.contains(number)).collect();
        assert!(lost.is_empty(), "of {} packets {lost:?} were lost", answered.len());
        answered.len()
    }

    fn answered(&self) -> Vec<u32> {
        let text = fs::read_to_string(&self.output).expect("/run is the test's own");
        text.lines()
            .filter_map(|line| line.split("icmp_seq=").nth(1)?.split(' ').next()?.parse().ok())
            .collect()
    }
}
