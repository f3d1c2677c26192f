//! What a broken or hostile peer may send costs its connection, never more.

use super::golden::{bytes_of, goldens};
use super::*;

const REQUIRED_UNKNOWN: u16 = 99;
const OPTIONAL_UNKNOWN: u16 = OPTIONAL | 99;

fn undecodable(kind: u16, body: &[u8]) -> bool {
    matches!(decode_all(&envelope(kind, body)), Err(WireError::Undecodable { .. }))
}

#[test]
fn a_connection_that_ends_inside_a_message_is_noticed_at_every_byte() {
    for (message, golden) in goldens() {
        let bytes = bytes_of(&golden);
        for cut in 1..bytes.len() {
            let mut from = BytesMut::from(&bytes[..cut]);
            assert!(matches!(Codec::new().decode(&mut from), Ok(None)), "{message:?} cut at {cut}");
            assert!(matches!(decode_all(&bytes[..cut]), Err(WireError::Truncated)), "{message:?} cut at {cut}");
        }
    }
    assert_eq!(decode_all(&[]).unwrap(), []);
}

#[test]
fn a_body_that_is_too_short_or_too_long_is_refused_at_every_byte() {
    for (message, golden) in goldens() {
        let bytes = bytes_of(&golden);
        let (kind, body) = (u16::from_le_bytes([bytes[0], bytes[1]]), &bytes[ENVELOPE_BYTES..]);
        for cut in 0..body.len() {
            assert!(undecodable(kind, &body[..cut]), "{message:?} with {cut} bytes of body");
        }
        assert!(undecodable(kind, &[body, &[0]].concat()), "{message:?} with a byte more");
    }
}

#[test]
fn every_single_bit_flip_of_every_message_gives_a_message_or_an_error() {
    for (_, golden) in goldens() {
        let bytes = bytes_of(&golden);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let _ = decode_all(&flipped);
        }
    }
}

proptest! {
    #[test]
    fn flipped_bits_never_panic_and_what_is_read_can_be_written(
        message in message(),
        flips in prop::collection::vec(any::<prop::sample::Index>(), 1..8),
    ) {
        let mut bytes = encode(&message).to_vec();
        for flip in flips {
            let bit = flip.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        for message in decode_all(&bytes).unwrap_or_default() {
            prop_assert_eq!(decode_all(&encode(&message)).unwrap(), vec![message]);
        }
    }

    #[test]
    fn any_body_of_any_type_never_panics(
        kind in prop_oneof![0u16..16, Just(OPTIONAL | 15), any::<u16>()],
        body in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        for message in decode_all(&envelope(kind, &body)).unwrap_or_default() {
            prop_assert_eq!(decode_all(&encode(&message)).unwrap(), vec![message]);
        }
    }
}

#[test]
fn an_unknown_optional_message_is_skipped_without_being_kept() {
    let window = Message::Window { bytes: 1 };
    let skipped = envelope(OPTIONAL_UNKNOWN, &vec![7; 100_000]);
    let bytes = [&encode(&window)[..], &skipped, &encode(&window)].concat();
    assert_eq!(decode_all(&bytes).unwrap(), [window.clone(), window.clone()]);
    let (mut codec, mut from, mut read) = (Codec::new(), BytesMut::new(), 0);
    for piece in bytes.chunks(1000) {
        from.extend_from_slice(piece);
        while codec.decode(&mut from).unwrap().is_some() {
            read += 1;
        }
        assert!(from.len() < 1000 && from.capacity() < 10_000, "{} bytes are held", from.capacity());
    }
    assert_eq!(read, 2);
    assert!(matches!(decode_all(&skipped[..50_000]), Err(WireError::Truncated)));
}

#[test]
fn an_unknown_required_message_is_refused_before_its_body_has_come() {
    let bytes = envelope(REQUIRED_UNKNOWN, &[0; 100]);
    assert!(matches!(
        Codec::new().decode(&mut BytesMut::from(&bytes[..ENVELOPE_BYTES])),
        Err(WireError::UnknownRequired(REQUIRED_UNKNOWN))
    ));
}

#[test]
fn reserved_types_are_refused_as_unknown() {
    for kind in [0, 13, 14, 15] {
        assert!(matches!(decode_all(&envelope(kind, &[])), Err(WireError::UnknownRequired(k)) if k == kind));
    }
}

#[test]
fn an_oversize_message_is_refused_at_its_envelope_without_taking_room() {
    for kind in [5, REQUIRED_UNKNOWN, OPTIONAL_UNKNOWN] {
        for bytes in [BODY_BYTES_MAX as u32 + 1, u32::MAX] {
            let mut from = BytesMut::from(&envelope(kind, &[])[..2]);
            from.extend_from_slice(&bytes.to_le_bytes());
            let before = from.capacity();
            let error = Codec::new().decode(&mut from).unwrap_err();
            assert!(matches!(error, WireError::Oversize { bytes: b, .. } if b == bytes as usize), "{error}");
            assert!(from.capacity() <= before);
        }
    }
}

#[test]
fn no_room_is_taken_for_a_length_that_is_only_claimed() {
    let mut from = BytesMut::from(&envelope(5, &[])[..2]);
    from.extend_from_slice(&(BODY_BYTES_MAX as u32).to_le_bytes());
    assert!(matches!(Codec::new().decode(&mut from), Ok(None)));
    assert!(from.capacity() < 1024, "{}", from.capacity());
    // 2^63 - 1 elements in a body of a few bytes: asking for the room would end the program.
    let many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert!(undecodable(9, &many), "Stored");
    assert!(undecodable(3, &many), "Catalogue");
    assert!(undecodable(7, &[&[0xbb; 16][..], &many].concat()), "Live");
    assert!(undecodable(2, &[&[1][..], &many].concat()), "Welcome");
}

#[test]
fn a_lower_limit_holds_until_it_is_lifted() {
    let message = Message::Catalogue { bytes: vec![0; 2000].into() };
    let mut from = BytesMut::from(&encode(&message)[..]);
    let mut codec = Codec::with_limit(1000);
    assert!(matches!(codec.decode(&mut from), Err(WireError::Oversize { max: 1000, .. })));
    codec.set_limit(usize::MAX);
    assert_eq!(codec.decode(&mut from).unwrap(), Some(message));
}

#[test]
fn a_message_at_the_cap_passes_and_one_beyond_is_not_sent() {
    let catalogue = |bytes: usize| Message::Catalogue { bytes: vec![0; bytes].into() };
    let most = BODY_BYTES_MAX - 4; // four bytes say how many
    let mut bytes = BytesMut::new();
    Codec::new().encode(catalogue(most), &mut bytes).unwrap();
    assert_eq!(decode_all(&bytes).unwrap(), [catalogue(most)]);
    let before = bytes.len();
    let refused = Codec::new().encode(catalogue(most + 1), &mut bytes);
    assert!(matches!(refused, Err(WireError::Oversize { .. })));
    assert_eq!(bytes.len(), before, "nothing of it is left in the buffer");
}

#[test]
fn seqs_that_nothing_could_count_on_with_are_refused() {
    let top = |seq: u64| postcard::to_stdvec(&vec![(seq, seq)]).unwrap();
    assert!(!undecodable(9, &top(SEQ_MAX.0)));
    for kind in [9, 10] {
        assert!(undecodable(kind, &top(SEQ_MAX.0 + 1)));
        assert!(undecodable(kind, &top(u64::MAX)));
        assert!(undecodable(kind, &top(0)));
        assert!(undecodable(kind, &[2, 5, 6, 1, 2]), "not ascending");
        assert!(undecodable(kind, &[1, 6, 5]), "backward");
    }
    assert!(undecodable(5, &[0, 0]), "Block 0");
    assert!(undecodable(6, &[4, 2, 0, 0]), "a Gap that runs backward");
    assert!(undecodable(6, &[0, 2, 0, 0]), "a Gap from 0");
    assert!(undecodable(6, &[2, 4, 1, 4, 2, 0]), "a Gap whose time runs backward");
    assert!(undecodable(6, &[2, 4, 0, 5]), "a Gap for no known reason");
}

#[test]
fn a_live_value_that_is_no_number_arrives_as_bad() {
    let live = |value: f64, quality: Quality| {
        let row = Row { point: PointNo(1), at: Timestamp(1), value: Some(value), quality };
        let bytes = encode(&Message::Live { catalogue: CatalogueHash([0; 16]), rows: vec![row] });
        let Message::Live { rows, .. } = decode_all(&bytes).unwrap().remove(0) else { panic!("no Live") };
        (rows[0].value, rows[0].quality)
    };
    assert_eq!(live(f64::NAN, Quality::GOOD), (None, Quality::BAD_NOT_A_NUMBER));
    assert_eq!(live(f64::INFINITY, Quality::GOOD), (None, Quality::BAD_NOT_A_NUMBER));
    assert_eq!(live(1.0, Quality::BAD_TIMEOUT), (None, Quality::BAD_TIMEOUT));
    assert_eq!(live(1.0, Quality::GOOD), (Some(1.0), Quality::GOOD));
}
