//! The bytes of version 1, worked out by hand from the tables in `wire` and the postcard specification: numbers
//! are varints (7 bits per byte, lowest first; signed ones zigzag), lists and texts start with their length,
//! options with 0 or 1, enums with the number of the variant; `u8` and `f64` are plain. Never change a line here:
//! agents in the field speak it.

use super::*;

const BOOT: &str = "000102030405060708090a0b0c0d0e0f";
const HASH: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn boot() -> BootId {
    BootId(std::array::from_fn(|n| n as u8))
}
fn set(ranges: &[(u64, u64)]) -> SeqRanges {
    ranges.iter().map(|(first, last)| SeqRange::new(Seq(*first), Seq(*last))).collect()
}

/// Every message with its bytes: type, length, body.
pub(super) fn goldens() -> Vec<(Message, String)> {
    let hello = Hello {
        version_min: 1,
        version_max: 300,
        stream: StreamId(258),
        highest: Seq(5),
        boot: boot(),
        clock: ClockState::Untrusted,
        agent_version: "1.0".into(),
        now: Timestamp(1_000_000),
    };
    let welcome = Message::Welcome {
        version: 1,
        collector: "c1".into(),
        stored: set(&[(1, 3), (7, 7)]),
        committed: set(&[]),
        highest_known: Seq(7),
        catalogues: vec![CatalogueHash([0xbb; 16])],
        server_time: Timestamp(-1),
        window_bytes: 65_536,
    };
    let status = Status {
        now: Timestamp(1),
        points: 20,
        points_bad: 1,
        spool_bytes: 1024,
        spool_records: 3,
        oldest_unsent: Some(Timestamp(0)),
        uptime_s: 60,
        clock: ClockState::Trusted,
        version: "x".into(),
    };
    let rows = vec![
        Row { point: PointNo(1), at: Timestamp(2), value: Some(1.5), quality: Quality::GOOD },
        Row { point: PointNo(2), at: Timestamp(3), value: None, quality: Quality::BAD_TIMEOUT },
    ];
    let gap = |span, reason| Message::Gap(Gap { seqs: SeqRange::new(Seq(2), Seq(4)), span, reason });
    let reject =
        Message::Reject { seqs: set(&[(9, 9)]), reason: RejectReason::NotGranted, detail: "no".into(), retry: false };
    let unknown = Fix::Unknown { not_before: Timestamp(1), not_after: Timestamp(2) };
    vec![
        (Message::Hello(hello), format!("0100 1e000000 01 ac02 8202 05 {BOOT} 01 03312e30 80897a")),
        (welcome, format!("0200 20000000 01 026331 02 0103 0707 00 07 01 {HASH} 01 808004")),
        (Message::Catalogue { bytes: Bytes::from_static(&[1, 0]) }, "0300 03000000 02 0100".into()),
        (Message::ClockFix { boot: boot(), fix: Fix::Known { offset_us: -1 } }, format!("0400 12000000 {BOOT} 00 01")),
        (Message::ClockFix { boot: boot(), fix: unknown }, format!("0400 13000000 {BOOT} 01 02 04")),
        (
            Message::Block { seq: Seq(128), bytes: Bytes::from_static(&[0xde, 0xad]) },
            "0500 05000000 8001 02 dead".into(),
        ),
        (gap(Some((Timestamp(1), Timestamp(2))), GapReason::Overflow), "0600 06000000 02 04 01 02 04 00".into()),
        (gap(None, GapReason::Thinned), "0600 04000000 02 04 00 01".into()),
        (gap(None, GapReason::Damage), "0600 04000000 02 04 00 02".into()),
        (gap(None, GapReason::WriteFailed), "0600 04000000 02 04 00 03".into()),
        (gap(None, GapReason::Rejected), "0600 04000000 02 04 00 04".into()),
        (
            Message::Live { catalogue: CatalogueHash([0xbb; 16]), rows },
            format!("0700 21000000 {HASH} 02 01 04 01 000000000000f83f 00 02 06 00 81"),
        ),
        (Message::Status(status), "0800 0c000000 02 14 01 8008 03 0100 3c 00 0178".into()),
        (Message::Stored(set(&[(1, 2)])), "0900 03000000 01 0102".into()),
        (Message::Committed(set(&[(1, 1)])), "0a00 03000000 01 0101".into()),
        (reject, "0b00 08000000 01 0909 02 026e6f 00".into()),
        (Message::Window { bytes: 16_384 }, "0c00 03000000 808001".into()),
        (Message::Heartbeat { now: Timestamp(1) }, "0f80 01000000 02".into()),
    ]
}

/// The bytes behind hexadecimal with spaces.
pub(super) fn bytes_of(golden: &str) -> Vec<u8> {
    let digits: String = golden.split_whitespace().collect();
    assert!(digits.len().is_multiple_of(2), "{golden}");
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn every_message_has_the_bytes_of_version_1() {
    for (message, golden) in goldens() {
        let golden = bytes_of(&golden);
        assert_eq!(crate::ids::hex(&encode(&message)), crate::ids::hex(&golden), "{message:?}");
        assert_eq!(decode_all(&golden).unwrap(), [message]);
    }
}

#[test]
fn no_message_lacks_golden_bytes() {
    let mut kinds: Vec<u16> =
        goldens().iter().map(|(m, _)| encode(m)).map(|b| u16::from_le_bytes([b[0], b[1]])).collect();
    kinds.dedup();
    let expected: Vec<u16> = (1..=12).chain([OPTIONAL | 15]).collect();
    assert_eq!(kinds, expected);
    // A new message must be added here, and with it above.
    for (message, _) in goldens() {
        match message {
            Message::Hello(_) | Message::Welcome { .. } | Message::Catalogue { .. } | Message::ClockFix { .. } => {}
            Message::Block { .. } | Message::Gap(_) | Message::Live { .. } | Message::Status(_) => {}
            Message::Stored(_) | Message::Committed(_) | Message::Reject { .. } => {}
            Message::Window { .. } | Message::Heartbeat { .. } => {}
        }
    }
}
