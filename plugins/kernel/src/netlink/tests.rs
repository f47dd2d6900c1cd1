use super::*;

fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
    let mut batch = Batch::new();
    batch.frame(kind, flags, "test", String::new(), |bytes| bytes.extend_from_slice(payload));
    batch.bytes
}

#[test]
fn a_batch_is_padded_and_only_its_last_message_asks_for_an_answer() {
    let mut batch = Batch::new();
    batch.frame(1, 0, "do", "a".into(), |bytes| bytes.push(7));
    batch.frame(2, 0, "do", "b".into(), |bytes| bytes.extend_from_slice(&[8; 4]));
    batch.seal(0x0102);
    #[rustfmt::skip]
    assert_eq!(
        batch.bytes,
        [
            17, 0, 0, 0, 1, 0, 1, 0, 2, 1, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0,
            20, 0, 0, 0, 2, 0, 5, 0, 3, 1, 0, 0, 0, 0, 0, 0, 8, 8, 8, 8,
        ]
    );
}

#[test]
fn a_refusal_carries_the_kernels_text() {
    let mut payload = (-17i32).to_ne_bytes().to_vec();
    payload.extend_from_slice(&[0; 16]);
    payload.extend_from_slice(&[8, 0, 1, 0, b'n', b'o', b'!', 0]);
    let bytes = message(NLMSG_ERROR, 0x300, &payload);
    let message = Messages(&bytes).next().expect("one message");
    assert_eq!(message.refusal(), Some((Errno::EEXIST, Some("no!".into()))));
}

#[test]
fn garbage_ends_the_messages() {
    for bytes in [&[][..], &[1], &[3, 0, 0, 0], &[255; 40], &[200, 0, 0, 0, 1, 0, 0, 0]] {
        assert_eq!(Messages(bytes).count(), 0, "{bytes:?}");
    }
    assert_eq!(Attributes(&[3, 0, 1, 0]).count(), 0);
    assert_eq!(Attributes(&[5, 0, 1, 0, 9]).value(1), Some(&[9][..]));
}
