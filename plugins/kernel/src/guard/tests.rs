use super::*;

fn speaker(address: &str) -> Speaker {
    Speaker { mac: [2, 0, 0, 1, 2, 3], address: address.parse().expect("an address") }
}

#[test]
fn a_speaker_is_told_from_his_key() {
    for address in ["10.0.0.2", "fd00::2", "::", "255.255.255.255"] {
        let speaker = speaker(address);
        assert_eq!(Speaker::parse(&speaker.key(7)), Some((7, speaker)));
    }
}

#[test]
fn who_has_ipv6_may_say_so_before_there_is_an_address() {
    let of = |addresses: &[&str]| {
        let addresses = addresses.iter().map(|address| address.parse().expect("an address"));
        Door::speakers([2, 0, 0, 1, 2, 3], addresses)
    };
    assert_eq!(of(&["10.0.0.2"]), [speaker("10.0.0.2")].into());
    assert_eq!(of(&["fd00::2"]), [speaker("fd00::2"), speaker("::")].into());
}

#[test]
fn every_jump_of_the_programs_leads_somewhere() {
    let set = std::fs::File::open("/dev/null").expect("there is one");
    assert!(program::speakers(set.as_fd(), set.as_fd()).len() < 512);
    assert!(program::no_ipv6().len() < 16);
}
