//! Any bytes on a connection: it ends, and what came back are whole messages.
//!
//! `cargo +nightly fuzz run framing` in `dns`.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut said = &*dns::converse(bytes);
    while !said.is_empty() {
        let length = usize::from(u16::from_be_bytes([said[0], said[1]]));
        said = &said[2 + length..];
    }
});
