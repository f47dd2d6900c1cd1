use super::*;
use crate::question;

fn key(name: &str) -> Key {
    let packet = query(name);
    Key::of(&question::read(&packet).unwrap(), Arc::from([]))
}

/// An A query for a name of one label.
fn query(name: &str) -> Vec<u8> {
    let length = u8::try_from(name.len()).unwrap();
    let header = [0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, length];
    [&header[..], name.as_bytes(), &[0, 0, 1, 0, 1]].concat()
}

fn told(name: &str, ttl: u16) -> Arc<Told> {
    let mut packet = query(name);
    packet[2] |= 0x80;
    packet[7] = 1;
    packet.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0]);
    packet.extend_from_slice(&ttl.to_be_bytes());
    packet.extend_from_slice(&[0, 4, 192, 0, 2, 1]);
    Told::read(&packet).unwrap().into()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn an_answer_ages_and_is_stale_at_last() {
    let (mut cache, start) = (Cache::new(1 << 20), Instant::now());
    assert_eq!(cache.find(&key("a"), start), None);
    cache.store(key("a"), told("a", 60), start);
    let fresh = |life| Some(Found::Fresh { told: told("a", 60), life, renew: false });
    assert_eq!(cache.find(&key("A"), start), fresh(Life::Aged(0)));
    assert_eq!(cache.find(&key("a"), start + SECOND * 50), fresh(Life::Aged(50)));
    let stale = Some(Found::Stale { told: told("a", 60), life: Life::Stale(STALE_TTL) });
    assert_eq!(cache.find(&key("a"), start + SECOND * 60), stale);
    assert_eq!(cache.find(&key("a"), start + SECOND * 60 + STALE), None);
}

#[test]
fn what_is_asked_for_again_near_its_end_is_renewed_once() {
    let (mut cache, start) = (Cache::new(1 << 20), Instant::now());
    let renewed = |cache: &mut Cache, at: u32| match cache.find(&key("a"), start + SECOND * at) {
        Some(Found::Fresh { renew, .. }) => renew,
        other => panic!("{other:?}"),
    };
    cache.store(key("a"), told("a", 100), start);
    assert!(!renewed(&mut cache, 95), "nobody else has asked for it");
    assert!(renewed(&mut cache, 96));
    assert!(!renewed(&mut cache, 97), "somebody was sent for it");
    cache.store(key("a"), told("a", 9), start);
    assert!(!renewed(&mut cache, 1) && !renewed(&mut cache, 8), "too short to matter");
}

#[test]
fn memory_is_bounded_and_what_is_asked_for_stays() {
    let (mut cache, now) = (Cache::new(40_000), Instant::now());
    cache.store(key("kept"), told("kept", 60), now);
    for number in 0..10_000 {
        let name = format!("n{number}");
        cache.store(key(&name), told(&name, 60), now);
        assert!(cache.find(&key("kept"), now).is_some(), "{number}");
        assert!(cache.len() <= 40_000 / OVERHEAD);
    }
    assert!(cache.len() > 50);
    assert_eq!(cache.find(&key("n0"), now), None);
}

#[test]
fn what_may_not_be_kept_is_not() {
    let (mut cache, now) = (Cache::new(1 << 20), Instant::now());
    cache.store(key("a"), told("a", 0), now);
    assert_eq!(cache.len(), 0);
}
