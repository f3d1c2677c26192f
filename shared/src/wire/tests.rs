//! Wire: golden bytes, round trips, and what happens to everything that is no message.

mod golden;
mod hostile;

use super::*;
use crate::catalogue::PointNo;
use crate::ranges::SeqRange;
use crate::reading::{Quality, sanitise};
use crate::spool::GapReason;
use bytes::BytesMut;
use proptest::prelude::*;
use tokio_util::codec::{Decoder, Encoder};

/// All messages in the bytes, as they are at the end of a connection.
fn decode_all(bytes: &[u8]) -> Result<Vec<Message>, WireError> {
    let (mut codec, mut from, mut messages) = (Codec::new(), BytesMut::from(bytes), Vec::new());
    while let Some(message) = codec.decode_eof(&mut from)? {
        messages.push(message);
    }
    Ok(messages)
}

fn envelope(kind: u16, body: &[u8]) -> Vec<u8> {
    let mut bytes = kind.to_le_bytes().to_vec();
    bytes.extend((body.len() as u32).to_le_bytes());
    bytes.extend(body);
    bytes
}

fn seqs() -> impl Strategy<Value = SeqRanges> {
    prop::collection::vec((1u64..1 << 40, 0u64..1000), 0..6)
        .prop_map(|all| all.into_iter().map(|(first, n)| SeqRange::new(Seq(first), Seq(first + n))).collect())
}
fn moment() -> impl Strategy<Value = Timestamp> {
    any::<i64>().prop_map(Timestamp)
}
fn seq() -> impl Strategy<Value = Seq> {
    (1..=SEQ_MAX.0).prop_map(Seq)
}
fn some_bytes() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}
fn hash() -> impl Strategy<Value = CatalogueHash> {
    any::<[u8; 16]>().prop_map(CatalogueHash)
}
fn clock() -> impl Strategy<Value = ClockState> {
    prop_oneof![Just(ClockState::Trusted), Just(ClockState::Untrusted)]
}
fn fix() -> impl Strategy<Value = Fix> {
    prop_oneof![
        any::<i64>().prop_map(|offset_us| Fix::Known { offset_us }),
        (moment(), moment()).prop_map(|(a, b)| Fix::Unknown { not_before: a.min(b), not_after: a.max(b) }),
    ]
}
fn row() -> impl Strategy<Value = Row> {
    (any::<u32>(), moment(), any::<Option<f64>>(), any::<u8>()).prop_map(|(point, at, value, quality)| {
        let (value, quality) = sanitise(value, Quality(quality));
        Row { point: PointNo(point), at, value, quality }
    })
}
fn gap() -> impl Strategy<Value = Gap> {
    let reason = prop_oneof![
        Just(GapReason::Overflow),
        Just(GapReason::Thinned),
        Just(GapReason::Damage),
        Just(GapReason::WriteFailed),
        Just(GapReason::Rejected)
    ];
    (seq(), seq(), prop::option::of((moment(), moment())), reason).prop_map(|(a, b, span, reason)| Gap {
        seqs: SeqRange::new(a.min(b), a.max(b)),
        span: span.map(|(a, b)| (a.min(b), a.max(b))),
        reason,
    })
}

fn message() -> impl Strategy<Value = Message> {
    let hello = (1u16..9, 9u16..99, any::<u64>(), 0..=SEQ_MAX.0, any::<[u8; 16]>(), clock(), ".{0,20}", moment())
        .prop_map(|(version_min, version_max, stream, highest, boot, clock, agent_version, now)| {
            let (stream, highest, boot) = (StreamId(stream), Seq(highest), BootId(boot));
            Message::Hello(Hello { version_min, version_max, stream, highest, boot, clock, agent_version, now })
        });
    let hashes = prop::collection::vec(hash(), 0..5);
    let welcome = (any::<u16>(), ".{0,20}", seqs(), seqs(), 0..=SEQ_MAX.0, hashes, moment(), any::<u32>()).prop_map(
        |(version, collector, stored, committed, highest, catalogues, server_time, window_bytes)| Message::Welcome {
            version,
            collector,
            stored,
            committed,
            highest_known: Seq(highest),
            catalogues,
            server_time,
            window_bytes,
        },
    );
    let counts = (any::<u32>(), any::<u32>(), any::<u64>(), any::<u64>(), any::<u64>());
    let status = (moment(), counts, prop::option::of(moment()), clock(), ".{0,20}").prop_map(
        |(now, (points, points_bad, spool_bytes, spool_records, uptime_s), oldest_unsent, clock, version)| {
            Message::Status(Status {
                now,
                points,
                points_bad,
                spool_bytes,
                spool_records,
                oldest_unsent,
                uptime_s,
                clock,
                version,
            })
        },
    );
    let rows = prop::collection::vec(row(), 0..20);
    prop_oneof![
        hello,
        welcome,
        status,
        some_bytes().prop_map(|bytes| Message::Catalogue { bytes }),
        (any::<[u8; 16]>(), fix()).prop_map(|(boot, fix)| Message::ClockFix { boot: BootId(boot), fix }),
        (seq(), some_bytes()).prop_map(|(seq, bytes)| Message::Block { seq, bytes }),
        gap().prop_map(Message::Gap),
        (hash(), rows).prop_map(|(catalogue, rows)| Message::Live { catalogue, rows }),
        seqs().prop_map(Message::Stored),
        seqs().prop_map(Message::Committed),
        (seqs(), any::<u8>(), ".{0,40}", any::<bool>()).prop_map(|(seqs, reason, detail, retry)| {
            Message::Reject { seqs, reason: RejectReason::from(reason), detail, retry }
        }),
        any::<u32>().prop_map(|bytes| Message::Window { bytes }),
        moment().prop_map(|now| Message::Heartbeat { now }),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_however_it_is_cut_into_pieces(
        messages in prop::collection::vec(message(), 1..6),
        piece in 1usize..200,
    ) {
        let mut bytes = BytesMut::new();
        for message in &messages {
            let one = encode(message);
            Codec::new().encode(message.clone(), &mut bytes).unwrap();
            prop_assert_eq!(&bytes[bytes.len() - one.len()..], &one[..]);
        }
        let (mut codec, mut from, mut read) = (Codec::new(), BytesMut::new(), Vec::new());
        for piece in bytes.chunks(piece) {
            from.extend_from_slice(piece);
            while let Some(message) = codec.decode(&mut from).unwrap() {
                read.push(message);
            }
        }
        prop_assert!(from.is_empty());
        prop_assert_eq!(read, messages);
    }
}

#[test]
fn a_reason_that_is_not_known_is_kept_by_number() {
    for code in 0..=u8::MAX {
        assert_eq!(u8::from(RejectReason::from(code)), code);
    }
    assert_eq!(RejectReason::from(200).to_string(), "reason 200");
}

#[tokio::test]
async fn messages_cross_a_connection_and_its_end_is_clean() {
    use futures::{SinkExt, StreamExt};
    let (left, right) = tokio::io::duplex(7);
    let mut sender = tokio_util::codec::Framed::new(left, Codec::new());
    let mut receiver = tokio_util::codec::Framed::new(right, Codec::new());
    let sent: Vec<Message> = golden::goldens().into_iter().map(|(message, _)| message).collect();
    let all = sent.clone();
    let task = tokio::spawn(async move {
        for message in all {
            sender.send(message).await.unwrap();
        }
    });
    let mut received = Vec::new();
    while let Some(message) = receiver.next().await {
        received.push(message.unwrap());
    }
    task.await.unwrap();
    assert_eq!(received, sent);
}
