use super::*;

/// A directory of this test's own, gone with it.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("netd-store-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory");
        Self(path)
    }

    fn open(&self) -> Result<Stores, Error> {
        Stores::open(&self.0.join("state"), &self.0.join("run"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).expect("removed");
    }
}

fn network(byte: u8) -> Network {
    Network {
        id: NetworkId::from_bytes([byte; 32]),
        name: format!("n{byte}").parse().expect("a name"),
        driver: "bridge".into(),
        created: "2026-01-02T03:04:05.000000006Z".into(),
        subnets: vec![],
        internal: true,
        predefined: false,
        link: None,
        mtu: Some(1400),
        overlay: None,
        options: BTreeMap::new(),
        labels: BTreeMap::from([("a".into(), "b".into())]),
        idempotency_key: None,
    }
}

#[test]
fn what_is_written_is_read_after_a_restart() {
    let scratch = Scratch::new("restart");
    let stores = scratch.open().expect("new");
    stores.put_network(&network(1)).expect("written");
    stores.put_network(&network(2)).expect("written");
    let four: IpAddr = "10.0.0.9".parse().expect("an address");
    let six: IpAddr = "fd00::9".parse().expect("an address");
    stores.put_sticky(&network(1).id, "web", four).expect("written");
    stores.put_sticky(&network(1).id, "web", six).expect("written");
    stores.put_sticky(&network(2).id, "web", four).expect("written");
    stores.remove_network(&network(2).id, &[("web".into(), four)]).expect("removed");
    drop(stores);
    let stored = scratch.open().expect("there").load().expect("read");
    assert_eq!(stored.networks, [network(1)]);
    let sticky = |address| (network(1).id, "web".to_owned(), address);
    assert_eq!(stored.sticky, [sticky(four), sticky(six)]);
    assert!(stored.endpoints.is_empty() && stored.sandboxes.is_empty());
}

#[test]
fn another_schema_is_refused_by_name() {
    let scratch = Scratch::new("schema");
    let stores = scratch.open().expect("new");
    stores.durable.change(&[(META, "schema", Some("99".into()))]).expect("written");
    drop(stores);
    let error = scratch.open().expect_err("refused").to_string();
    assert!(error.contains("netd.redb has schema 99"), "{error}");
}

#[test]
fn a_foreign_file_is_refused_and_left_alone() {
    let scratch = Scratch::new("foreign");
    let path = scratch.0.join("state/netd.redb");
    fs::create_dir_all(scratch.0.join("state")).expect("a directory");
    fs::write(&path, "somebody else's").expect("written");
    let error = scratch.open().expect_err("refused").to_string();
    assert!(error.contains("netd.redb is damaged, or a file of something else"), "{error}");
    assert!(error.contains("put back a copy, or move it aside"), "{error}");
    assert_eq!(fs::read_to_string(&path).expect("read"), "somebody else's");
}

#[test]
fn a_damaged_row_is_named() {
    let scratch = Scratch::new("row");
    let stores = scratch.open().expect("new");
    stores.durable.change(&[(NETWORKS, "x", Some("{".into()))]).expect("written");
    let error = stores.load().expect_err("damaged").to_string();
    assert!(error.contains("networks x"), "{error}");
}

#[test]
fn what_an_earlier_netd_kept_for_a_spelling_is_kept_for_the_name() {
    let scratch = Scratch::new("spelling");
    let stores = scratch.open().expect("new");
    let id = network(1).id;
    stores.put_network(&network(1)).expect("written");
    let [first, second]: [IpAddr; 2] =
        ["10.0.0.8", "10.0.0.9"].map(|address| address.parse().expect("an address"));
    for (owner, address) in [("Web", first), ("DB", first)] {
        let key = format!("{id}/4/{owner}");
        stores.durable.change(&[(STICKY, &key, Some(text(&address)))]).expect("written");
    }
    // The name got another address since.
    stores.put_sticky(&id, "web", second).expect("written");
    drop(stores);
    let stores = scratch.open().expect("there");
    let kept = [(id.clone(), "db".to_owned(), first), (id.clone(), "web".to_owned(), second)];
    assert_eq!(stores.load().expect("read").sticky, kept);
    drop(stores);
    // Once and for all, so that they go with their network.
    let stores = scratch.open().expect("there");
    let rows = stores.durable.rows::<IpAddr>(STICKY, "sticky").expect("read");
    assert_eq!(rows, [(format!("{id}/4/db"), first), (format!("{id}/4/web"), second)]);
    let owners = kept.map(|(_, owner, address)| (owner, address));
    stores.remove_network(&id, &owners).expect("removed");
    drop(stores);
    assert!(scratch.open().expect("there").load().expect("read").sticky.is_empty());
}
