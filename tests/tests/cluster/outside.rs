//! A cluster whose etcd is another's, reached over TLS.

use std::{fs, path::Path};

use cnm::{
    Kind,
    cluster::{EtcdTls, InitCluster},
};
use netd_tests::{Asking as _, eventually, kind_of};

use crate::another::{ADDRESS, Another};
use crate::fleet::{Fleet, reaches, resolves, underlay};

/// A certificate of the CA in `/run`, with its key, both as files.
fn certificate(name: &str) {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    netd_tests::run(&format!(
        "openssl req {key} -keyout /run/{name}.key -out /run/{name}.csr -subj /CN={name}"
    ));
    let usage = format!("subjectAltName=IP:{ADDRESS}\nextendedKeyUsage=serverAuth,clientAuth\n");
    fs::write("/run/usage", usage).unwrap();
    netd_tests::run(&format!(
        "openssl x509 -req -in /run/{name}.csr -CA /run/ca.pem -CAkey /run/ca.key -CAcreateserial \
         -out /run/{name}.pem -days 2 -extfile /run/usage"
    ));
}

/// One that takes those with a certificate of its CA.
fn begin(fleet: &Fleet) -> Another {
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    netd_tests::run(&format!(
        "openssl req -x509 {key} -keyout /run/ca.key -out /run/ca.pem -subj /CN=outside -days 2"
    ));
    certificate("server");
    certificate("client");
    let options = "--cert-file /run/server.pem --key-file /run/server.key --trusted-ca-file /run/ca.pem \
                   --client-cert-auth";
    Another::start(fleet, "https", options)
}

#[test]
fn another_etcd_is_used_over_tls() {
    let mut fleet = Fleet::bare(2);
    let outside = begin(&fleet);
    let url = outside.url.clone();
    let advertise = underlay(0).to_string();
    let init = ["cluster", "init", "--json", "--advertise-addr", &advertise, "--etcd", &url];
    // Without the means it is refused, and so are means that have no use.
    let refused = fleet.hosts[0].netctl(&init);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("--etcd-ca"), "{refused:?}");
    let read = |name: &str| fs::read_to_string(Path::new("/run").join(name)).unwrap();
    let own =
        EtcdTls { ca: read("ca.pem"), certificate: read("client.pem"), key: read("client.key") };
    let plain = InitCluster {
        advertise: Some(underlay(0)),
        etcd: vec!["http://198.51.100.200:2379".to_owned()],
        etcd_tls: Some(own),
        ..InitCluster::default()
    };
    let (kind, error) = kind_of(fleet.hosts[0].client().call(&plain));
    assert_eq!(kind, Kind::Invalid, "{error}");

    let files = ["--etcd-ca", "/run/ca.pem", "--etcd-cert", "/run/client.pem"];
    let words = [&init[..], &files, &["--etcd-key", "/run/client.key"]].concat();
    let begun = fleet.hosts[0].netctl(&words);
    let joined: cnm::cluster::Joined = serde_json::from_str(begun.success()).unwrap();
    fleet.join(1, &joined.token.unwrap()).unwrap();
    assert_eq!(fleet.status(1).store, [url]);
    fleet.create("shop");
    let (a, b) = (fleet.run(0, "shop", "a"), fleet.run(1, "shop", "b"));
    resolves(&a, "b", &[b.ip()]);
    resolves(&b, "a", &[a.ip()]);
    reaches(&a.container.netns, b.ip());
    // Nobody else reads the key.
    for host in 0..2 {
        let kept = fleet.hosts[host].state_dir().join("cluster/membership.json");
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(kept).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }
    // A netd that starts anew still knows it.
    fleet.hosts[1].kill();
    fleet.hosts[1].start();
    let c = fleet.run(0, "shop", "c");
    resolves(&b, "c", &[c.ip()]);
    let leave = cnm::cluster::LeaveCluster { force: false };
    fleet.hosts[1].client().detach(&b.container.id);
    eventually("a worker leaves", || fleet.hosts[1].client().call(&leave));
}
