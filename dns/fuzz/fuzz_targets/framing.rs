//! Any bytes on a connection: it ends, and what came back are whole messages that an independent
//! parser (`hickory-proto`) reads, to the first of those that came, in their order.
//!
//! `cargo +nightly fuzz run framing` in `dns`.

#![no_main]

use hickory_proto::op::Message;
use libfuzzer_sys::fuzz_target;

/// The whole messages of a stream, and whether nothing is left.
fn messages(mut bytes: &[u8]) -> (Vec<&[u8]>, bool) {
    let mut messages = Vec::new();
    while let [high, low, rest @ ..] = bytes {
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        let Some(message) = rest.get(..length) else { break };
        messages.push(message);
        bytes = &rest[length..];
    }
    (messages, bytes.is_empty())
}

fuzz_target!(|bytes: &[u8]| {
    let said = dns::converse(bytes);
    let ((asked, _), (told, whole)) = (messages(bytes), messages(&said));
    assert!(whole && told.len() <= asked.len());
    for (asked, told) in asked.iter().zip(told) {
        Message::from_vec(told).expect("a reply of ours can be read");
        assert_eq!(asked[..2], told[..2]);
    }
});
