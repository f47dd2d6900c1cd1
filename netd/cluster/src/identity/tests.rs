use std::os::unix::fs::PermissionsExt;

use super::*;

fn node(digit: char) -> NodeId {
    digit.to_string().repeat(25).parse().expect("a node")
}

fn authority() -> Authority {
    let cluster = "c".repeat(25).parse().expect("a cluster");
    Authority::new(&cluster, SystemTime::now()).expect("a CA")
}

fn identity(authority: &Authority, node: NodeId, role: Role) -> Identity {
    let (key, request) = new_request(&node).expect("a key");
    let request = Request::from_pem(&request).expect("a request");
    let addresses = vec!["127.0.0.1".parse().expect("an address")];
    let subject = Subject { node, role, addresses };
    let certificate = authority.sign(&request, &subject, SystemTime::now()).expect("signed");
    Identity { ca: authority.certificate().to_owned(), certificate, key }
}

#[test]
fn a_certificate_says_whose_it_is_and_how_long() {
    let authority = authority();
    let identity = identity(&authority, node('a'), Role::Worker);
    let facts = identity.facts().expect("facts");
    assert_eq!(facts.node, node('a'));
    assert_eq!(facts.until - facts.from, (LIFE + SKEW).as_secs());
    let (life, signed) = (LIFE.as_secs(), facts.from + SKEW.as_secs());
    for digit in "abcdefghij".chars() {
        let at = Facts { node: node(digit), ..facts.clone() }.renew_at() - signed;
        assert!(at >= life / 2 && at <= life * 4 / 5, "{at} of {life}");
    }
}

#[test]
fn a_clock_that_is_hours_behind_finds_it_good() {
    let authority = authority();
    let now =
        SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970").as_secs();
    let (_, ca) =
        x509_parser::pem::parse_x509_pem(authority.certificate().as_bytes()).expect("PEM");
    let ca = ca.parse_x509().expect("a certificate").validity().not_before.timestamp();
    let node = identity(&authority, node('a'), Role::Manager).facts().expect("facts").from;
    for from in [u64::try_from(ca).expect("after 1970"), node] {
        assert!(now - from >= 12 * 3600, "{from} is {} seconds ago", now - from);
    }
}

#[test]
fn a_certificate_and_its_key_are_replaced_together() {
    let path = std::env::temp_dir().join(format!("cluster-next-{}", std::process::id()));
    let directory = Directory::new(&path);
    let authority = authority();
    let [old, new] = [0; 2].map(|_| identity(&authority, node('a'), Role::Worker));
    let begin = |steps: usize| {
        directory.keep(&old).expect("kept");
        // As far as a crash let it come: the key, the certificate, the key in its place.
        std::fs::write(path.join("next-key.pem"), &new.key).expect("written");
        if steps > 0 {
            std::fs::write(path.join("next.pem"), &new.certificate).expect("written");
        }
        if steps > 1 {
            std::fs::rename(path.join("next-key.pem"), path.join("node-key.pem")).expect("there");
        }
        directory.identity().expect("read").expect("somebody")
    };
    assert_eq!([0, 1, 2].map(begin), [old.clone(), new.clone(), new.clone()]);
    directory.keep(&old).expect("kept");
    assert_eq!(directory.identity().expect("read"), Some(old.clone()));
    std::fs::remove_dir_all(&path).expect("it is there");
}

#[test]
fn the_request_does_not_choose_who_it_is_for() {
    let authority = authority();
    let (key, request) = new_request(&node('m')).expect("a key");
    let request = Request::from_pem(&request).expect("a request");
    let subject = Subject { node: node('w'), role: Role::Worker, addresses: Vec::new() };
    let certificate = authority.sign(&request, &subject, SystemTime::now()).expect("signed");
    let ca = authority.certificate().to_owned();
    assert_eq!(Identity { ca, certificate, key }.facts().expect("facts").node, node('w'));
    assert!(Request::from_pem("-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n").is_err());
}

#[test]
fn an_authority_is_the_same_after_being_kept() {
    let authority = authority();
    let (certificate, key) = (authority.certificate().to_owned(), authority.key().to_owned());
    let kept = Authority::from_pem(certificate, key).expect("a CA");
    assert_eq!(kept.digest().expect("digest"), authority.digest().expect("digest"));
    assert_ne!(self::authority().digest().expect("digest"), kept.digest().expect("digest"));
}

#[test]
fn files_are_kept_for_root_only() {
    let path = std::env::temp_dir().join(format!("cluster-files-{}", std::process::id()));
    let directory = Directory::new(&path);
    assert_eq!(directory.identity().expect("none yet"), None);
    let authority = authority();
    let identity = identity(&authority, node('a'), Role::Manager);
    directory.keep(&identity).expect("kept");
    directory.keep_authority(&authority).expect("kept");
    assert_eq!(directory.identity().expect("read").as_ref(), Some(&identity));
    let read = directory.authority().expect("read").expect("a CA");
    assert_eq!(read.key(), authority.key());
    for entry in std::fs::read_dir(&path).expect("a directory") {
        let mode = entry.expect("an entry").metadata().expect("metadata").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
    directory.forget().expect("forgotten");
    assert_eq!(directory.identity().expect("none"), None);
    std::fs::remove_dir_all(path).expect("it is there");
}
