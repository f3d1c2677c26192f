//! Tests of the whole format.

use super::*;
use crate::ids::{BootId, hex, unhex};
use crate::reading::sanitise;
use proptest::prelude::*;

const CATALOGUE: CatalogueHash = CatalogueHash([7; 16]);
const SECOND: i64 = 1_000_000;
const START: i64 = 1_700_000_000 * SECOND;

fn row(point: u32, at: i64, value: f64) -> Row {
    Row { point: PointNo(point), at: Timestamp(at), value: Some(value), quality: Quality::GOOD }
}

fn bad(point: u32, at: i64) -> Row {
    Row { point: PointNo(point), at: Timestamp(at), value: None, quality: Quality::BAD_TIMEOUT }
}

fn block_of(rows: &[(Row, Option<i8>)]) -> Encoded {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    for (row, exponent) in rows {
        assert!(builder.push(*row, *exponent), "{row:?} fits");
    }
    builder.finish(CATALOGUE).unwrap()
}

/// A small block with every kind of column.
fn mixed() -> Encoded {
    let mut rows = Vec::new();
    for tick in 0..6 {
        let at = START + tick * 10 * SECOND;
        rows.push((row(0, at, 12.5 + tick as f64 * 0.07), Some(-2)));
        rows.push((if tick == 3 { bad(1, at) } else { row(1, at, 3.21) }, Some(-2)));
        rows.push((row(4, at, (tick as f64).sqrt()), None));
        if tick % 2 == 0 {
            rows.push((row(9, at + 5_000, std::f64::consts::PI), None));
        }
    }
    rows.push((bad(11, START), Some(0)));
    block_of(&rows)
}

/// What decoding must give: made consistent, rounded to the resolution, by point and time.
fn expected(rows: &[(Row, Option<i8>)]) -> Vec<Row> {
    let rounded = |(row, exponent): &(Row, Option<i8>)| {
        let (value, quality) = sanitise(row.value, row.quality);
        let exponent = exponent.filter(|exponent| exponent.unsigned_abs() <= 22);
        let nearest = |value| exponent.and_then(|e| Some(values::unscale(values::scale(value, e)?, e)));
        Row { value: value.map(|value| nearest(value).unwrap_or(value)), quality, ..*row }
    };
    sorted(rows.iter().map(rounded).collect())
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| (row.point, row.at, row.quality.0, row.value.map(f64::to_bits)));
    rows
}

/// Corrects length and checksum, as a writer with a fault of its own would.
fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let body = bytes.len() - 4;
    bytes[4..6].copy_from_slice(&((body + 4) as u16).to_le_bytes());
    let sum = crc32c::crc32c(&bytes[..body]).to_le_bytes();
    bytes[body..].copy_from_slice(&sum);
    bytes
}

fn any_value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|n| Some(f64::from(n) / 100.0)),
        2 => Just(Some(1.5)),
        1 => any::<f64>().prop_map(Some),
        1 => any::<f32>().prop_map(|v| Some(f64::from(v))),
        1 => (1i64 << 49..1 << 51).prop_map(|n| Some(n as f64)),
        1 => Just(None),
    ]
}

fn any_rows() -> impl Strategy<Value = Vec<(Row, Option<i8>)>> {
    let at = prop_oneof![
        6 => (0i64..40).prop_map(|tick| START + tick * 10 * SECOND),
        2 => (0i64..100_000_000).prop_map(|micros| START + micros),
        1 => any::<i64>(),
    ];
    let quality = prop_oneof![6 => Just(0u8), 1 => any::<u8>()];
    let exponent = prop_oneof![6 => Just(Some(-2i8)), 2 => Just(None), 1 => any::<i8>().prop_map(Some)];
    let point = prop_oneof![8 => 0u32..12, 1 => any::<u32>()];
    let one = (point, at, any_value(), quality, exponent).prop_map(|(point, at, value, quality, exponent)| {
        (Row { point: PointNo(point), at: Timestamp(at), value, quality: Quality(quality) }, exponent)
    });
    prop::collection::vec(one, 1..600)
}

/// Many points on two buses, polled a few times: what they say beside their values is most of such a block.
fn many_points() -> impl Strategy<Value = Vec<(Row, Option<i8>)>> {
    let exponent = prop_oneof![Just(Some(0i8)), Just(Some(-1))]; // raw values, counted generously, would hide the rest
    let point = (exponent, 1u32..4, 0u8..20);
    (prop::collection::vec(point, 100..400), 100usize..1600).prop_map(|(points, count)| {
        let rows = (0i64..).flat_map(|tick| {
            points.iter().scan(0, move |number, (exponent, step, quality)| {
                *number += step;
                let value = (*quality > 0).then(|| f64::from(*number % 5) + tick as f64);
                let (at, quality) = (Timestamp(START + tick * SECOND + i64::from(*number > 300)), Quality::GOOD);
                Some((Row { point: PointNo(*number), at, value, quality }, *exponent))
            })
        });
        rows.take(count).collect()
    })
}

fn rows_of_any_kind() -> impl Strategy<Value = Vec<(Row, Option<i8>)>> {
    prop_oneof![3 => any_rows(), 1 => many_points()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn every_row_comes_back_and_every_block_fits(rows in rows_of_any_kind(), in_order in any::<bool>(), boot in any::<[u8; 16]>()) {
        let mut rows = rows;
        if in_order {
            rows.sort_by_key(|(row, _)| row.at);
        }
        let base = if boot[0] & 1 == 0 { TimeBase::Utc } else { TimeBase::SinceBoot(BootId(boot)) };
        let mut builder = BlockBuilder::new(base);
        let mut builders = Vec::new();
        for (row, exponent) in &rows {
            if !builder.push(*row, *exponent) {
                builders.push(std::mem::replace(&mut builder, BlockBuilder::new(base)));
                prop_assert!(builder.push(*row, *exponent), "an empty block takes any row");
            }
        }
        builders.push(builder);
        let mut back = Vec::new();
        for builder in builders {
            let bits_max = builder.bits_max;
            let block = builder.finish(CATALOGUE).unwrap();
            prop_assert!(block.bytes.len() as u64 * 8 <= bits_max, "{} bytes, {bits_max} bits", block.bytes.len());
            prop_assert!(block.bytes.len() <= BLOCK_BYTES_MAX);
            prop_assert_eq!(read_header(&block.bytes), Ok(block.header));
            prop_assert_eq!(block.header.base, base);
            let decoded = decode(&block.bytes).unwrap();
            prop_assert_eq!(decoded.header, block.header);
            prop_assert!(decoded.rows.is_sorted_by_key(|row| (row.point, row.at)));
            back.extend(decoded.rows);
        }
        let bits = |rows: Vec<Row>| rows.into_iter().map(|r| (r.point, r.at, r.quality, r.value.map(f64::to_bits))).collect::<Vec<_>>();
        prop_assert_eq!(bits(sorted(back)), bits(expected(&rows)));
    }

    #[test]
    fn a_multiple_of_the_resolution_comes_back_as_the_nearest_double(n in -(1i64 << 50)..1 << 50, places in 0u32..=15) {
        let exponent = -(places as i8);
        let nearest: f64 = format!("{n}e-{places}").parse().unwrap();
        let block = block_of(&[(row(0, START, nearest), Some(exponent))]);
        prop_assert_eq!(decode(&block.bytes).unwrap().rows[0].value, Some(nearest + 0.0));
    }

    #[test]
    fn bytes_from_anywhere_give_an_error_or_a_block_within_bounds(noise in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&noise);
        // With everything around it right, so that the noise reaches the columns.
        let whole = mixed().bytes;
        let damaged = sealed([&whole[..32], &noise, &[0; 4]].concat());
        if let Ok(block) = decode(&damaged) {
            prop_assert!(block.rows.len() <= READINGS_MAX);
        }
    }
}

#[test]
fn the_bytes_are_golden() {
    let block = mixed();
    assert_eq!(hex(&block.bytes), GOLDEN);
    assert_eq!(decode(&block.bytes).unwrap().rows.len(), block.header.readings as usize);
}
/// Also read back by a decoder written in Python from the module's description alone.
const GOLDEN: &str = concat!(
    "544c4201840007070707070707070707070707070707001600401e18240a060080e1eb173020002b8100028138",
    "2000543fd882787ddddc88001c080800120816028180000000000000000c227ffcdcb504f333f9de6e667a2dc9",
    "1c4eeecf83efffbb67ae8584cab9f6f8dde6e5fd2bc1602200490fdaa22168c1028041702020772f84fc"
);

#[test]
fn a_block_without_rows_is_none() {
    let builder = BlockBuilder::new(TimeBase::Utc);
    assert!(builder.is_empty());
    assert_eq!(builder.finish(CATALOGUE), None);
}

#[test]
fn every_truncation_and_every_extension_is_refused() {
    let bytes = mixed().bytes;
    for end in 0..bytes.len() {
        assert!(decode(&bytes[..end]).is_err(), "cut at {end}");
        if end > 10 {
            // The same with a checksum that fits: what is missing must be noticed too.
            assert!(
                decode(&sealed([&bytes[..end], &[0; 4]].concat())).is_err() || end == bytes.len() - 4,
                "cut at {end}"
            );
        }
    }
    assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
    assert!(decode(&sealed([&bytes[..], &[0]].concat())).is_err());
}

#[test]
fn every_flipped_bit_is_noticed_and_none_panics_even_with_a_right_checksum() {
    let bytes = mixed().bytes;
    for bit in 0..bytes.len() * 8 {
        let mut flipped = bytes.to_vec();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&flipped).is_err(), "bit {bit}");
        assert!(read_header(&flipped).is_err(), "bit {bit}");
        let _ = decode(&sealed(flipped));
    }
}

#[test]
fn an_unknown_version_says_so() {
    let mut bytes = mixed().bytes.to_vec();
    bytes[3] = 2;
    assert_eq!(decode(&sealed(bytes)), Err(BlockError::Version(2)));
}

#[test]
fn a_small_block_that_claims_the_most_rows_allocates_no_more_than_those() {
    // One point, constant, on schedule: nothing but counts, so the most rows that few bytes can mean.
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    let mut at = START;
    while builder.push(row(0, at, 1.0), Some(-2)) {
        at += SECOND;
    }
    assert_eq!(builder.len(), READINGS_MAX);
    let block = builder.finish(CATALOGUE).unwrap();
    assert!(block.bytes.len() < 80, "{} bytes", block.bytes.len());
    assert_eq!(decode(&block.bytes).unwrap().rows.len(), READINGS_MAX);
}

/// The part of a full block that its bytes fill.
fn filled(rows: impl Iterator<Item = Row>) -> f64 {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    for row in rows {
        if !builder.push(row, Some(-2)) {
            return builder.finish(CATALOGUE).unwrap().bytes.len() as f64 / BLOCK_BYTES_MAX as f64;
        }
    }
    panic!("it never was full");
}

#[test]
fn a_block_of_many_points_is_full_when_it_says_so() {
    let noise = |n: i64| {
        let mixed = n.wrapping_mul(6_364_136_223_846_793_005);
        ((mixed ^ mixed >> 29).wrapping_mul(0x5851_f42d_4c95_7f2d) >> 60) as f64 / 100.0
    };
    let tick = |n: i64, late: i64| START + n / 1000 * SECOND + n % 10 * late;
    let polled = |n: i64| row((n % 1000) as u32, tick(n, 0), 4.0 + noise(n));
    let in_turns = |n: i64| row((n % 10 * 100 + n / 10 % 100) as u32, tick(n, 700), 4.0 + noise(n));
    let by_themselves = |n: i64| row((n % 300) as u32, START + n * 12_345, 4.0 + noise(n));
    assert!(filled((0..).map(polled)) > 0.95, "{}", filled((0..).map(polled)));
    assert!(filled((0..).map(in_turns)) > 0.9, "{}", filled((0..).map(in_turns)));
    assert!(filled((0..).map(by_themselves)) > 0.85, "{}", filled((0..).map(by_themselves)));
}

#[test]
fn a_row_that_does_not_fit_leaves_the_block_as_it_was() {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    let mut taken = Vec::new();
    let mut state = 1u64;
    let refused = loop {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let next = row(taken.len() as u32 % 7, START + (state >> 30) as i64, f64::from_bits(state >> 2));
        if !builder.push(next, None) {
            break next;
        }
        taken.push((next, None));
    };
    assert!(!builder.push(row(999, refused.at.0 + 1, 0.1 + 0.2), None));
    assert_eq!(builder.len(), taken.len());
    let block = builder.finish(CATALOGUE).unwrap();
    assert!(block.bytes.len() > BLOCK_BYTES_MAX * 8 / 10, "only {} bytes used", block.bytes.len());
    assert_eq!(sorted(decode(&block.bytes).unwrap().rows), expected(&taken));
}

#[test]
fn decimals_that_were_not_announced_take_no_more_than_those_that_were() {
    let rows = |exponent| -> Vec<_> {
        (0..60).map(|i| (row(0, START + i * SECOND, f64::from((i * i * 37 % 400) as i32) / 10.0), exponent)).collect()
    };
    assert_eq!(block_of(&rows(None)).bytes.len(), block_of(&rows(Some(-1))).bytes.len());
}

#[test]
fn a_point_that_misses_readings_does_not_repeat_the_timestamps_of_the_others() {
    let with = |missed: i64| {
        let ticks = (0..200).flat_map(|tick| (0..4).map(move |point| (point, tick)));
        let kept = ticks.filter(|(point, tick)| *point != 2 || *tick < 150 || tick % 10 >= missed);
        let rows: Vec<_> = kept.map(|(point, tick)| (row(point, START + tick * SECOND, 1.0), Some(0))).collect();
        block_of(&rows).bytes.len()
    };
    assert!(with(1) - with(0) < 30, "{} against {}", with(1), with(0));
}

#[test]
fn the_header_can_be_read_by_its_description() {
    let bytes = mixed().bytes;
    assert_eq!(&bytes[..4], b"TLB\x01");
    assert_eq!(usize::from(u16::from_le_bytes([bytes[4], bytes[5]])), bytes.len());
    assert_eq!(Some(bytes[6..22].try_into().unwrap()), unhex::<16>(&CATALOGUE.to_string()));
    assert_eq!(bytes[22..24], [0, 22]);
    assert_eq!(bytes[24..32], START.to_le_bytes());
}
