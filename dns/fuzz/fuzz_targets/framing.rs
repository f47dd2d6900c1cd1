//! Any bytes on a connection: it ends, and what came back are whole messages that an independent
//! parser (`hickory-proto`) reads, each to one of those that came, in whatever order.
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
    let mut ids: Vec<_> = asked.iter().filter_map(|message| message.get(..2)).collect();
    for told in told {
        Message::from_vec(told).expect("a reply of ours can be read");
        let own = ids.iter().position(|id| *id == &told[..2]).expect("somebody asked for it");
        ids.swap_remove(own);
    }
});
