//! An etcd on the underlay that is none of the cluster's own.

use std::process::{Child, Stdio};

use netd_tests::Namespace;

use crate::fleet::Fleet;

/// Where it is.
pub(crate) const ADDRESS: &str = "198.51.100.200";

/// It ends with the test.
pub(crate) struct Another {
    process: Child,
    pub(crate) netns: Namespace,
    /// Where it is asked.
    pub(crate) url: String,
}

impl Another {
    /// Starts one that is asked by this scheme, with these options besides.
    pub(crate) fn start(fleet: &Fleet, scheme: &str, options: &str) -> Self {
        let netns = fleet.beside(&format!("{ADDRESS}/24"));
        let url = format!("{scheme}://{ADDRESS}:2379");
        let words = format!(
            "etcd --data-dir /run/another --listen-client-urls {url} --advertise-client-urls {url} \
             --listen-peer-urls http://127.0.0.1:2380 {options}"
        );
        let mut process = netns.command(words.split_whitespace());
        process.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { process: process.spawn().unwrap(), netns, url }
    }
}

impl Drop for Another {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
