use super::*;
use proptest::prelude::*;

const SAME: Conversion = Conversion { factor: 1.0, offset: 0.0 };
const ANY: (f64, f64) = (f64::MIN, f64::MAX);

fn plain(kind: ValueType, order: WordOrder) -> Decoding {
    Decoding { kind, order, scaling: Scaling::new(1.0, 0.0), conversion: SAME, range: ANY }
}

#[track_caller]
fn reads(kind: ValueType, order: WordOrder, words: &[u16], value: f64) {
    assert_eq!(plain(kind, order).words(words), (Some(value), Quality::GOOD), "{kind:?} {order:?}");
}

#[test]
fn every_word_order_finds_the_same_number() {
    use WordOrder::*;
    reads(ValueType::U32, Abcd, &[0x0102, 0x0304], f64::from(0x0102_0304));
    reads(ValueType::U32, Badc, &[0x0201, 0x0403], f64::from(0x0102_0304));
    reads(ValueType::U32, Cdab, &[0x0304, 0x0102], f64::from(0x0102_0304));
    reads(ValueType::U32, Dcba, &[0x0403, 0x0201], f64::from(0x0102_0304));
    reads(ValueType::F32, Cdab, &[0x0000, 0x42f6], 123.0);
    let big = 0x0001_0203_0405_0607_u64 as f64;
    reads(ValueType::U64, Abcd, &[0x0001, 0x0203, 0x0405, 0x0607], big);
    reads(ValueType::U64, Badc, &[0x0100, 0x0302, 0x0504, 0x0706], big);
    reads(ValueType::U64, Cdab, &[0x0607, 0x0405, 0x0203, 0x0001], big);
    reads(ValueType::U64, Dcba, &[0x0706, 0x0504, 0x0302, 0x0100], big);
    reads(ValueType::U16, Badc, &[0x3412], f64::from(0x1234));
}

#[test]
fn bits_flags_and_decimal_digits() {
    reads(ValueType::Bit(3), WordOrder::Abcd, &[0b1000], 1.0);
    reads(ValueType::Bit(3), WordOrder::Abcd, &[0b0111], 0.0);
    reads(ValueType::Bool, WordOrder::Abcd, &[7], 1.0);
    reads(ValueType::Bcd16, WordOrder::Abcd, &[0x1234], 1234.0);
    reads(ValueType::Bcd32, WordOrder::Cdab, &[0x5678, 0x1234], 12_345_678.0);
    assert_eq!(plain(ValueType::Bcd16, WordOrder::Abcd).words(&[0x12a4]), (None, Quality::BAD_PAYLOAD));
    assert_eq!(plain(ValueType::Bool, WordOrder::Abcd).flag(true), (Some(1.0), Quality::GOOD));
}

#[test]
fn nan_infinity_and_a_short_answer_are_bad() {
    let f32_ = plain(ValueType::F32, WordOrder::Abcd);
    assert_eq!(f32_.words(&[0x7fc0, 0]), (None, Quality::BAD_NOT_A_NUMBER));
    assert_eq!(f32_.words(&[0x7f80, 0]), (None, Quality::BAD_NOT_A_NUMBER));
    assert_eq!(f32_.words(&[0xff80, 0]), (None, Quality::BAD_NOT_A_NUMBER));
    assert_eq!(f32_.words(&[0x4000]), (None, Quality::BAD_PAYLOAD));
}

#[test]
fn integers_beyond_2_to_the_53_are_uncertain() {
    let i64_ = plain(ValueType::I64, WordOrder::Abcd);
    let words = |number: i64| number.to_be_bytes().chunks(2).map(|p| u16::from_be_bytes([p[0], p[1]])).collect();
    let read = |number: i64| {
        i64_.words(&{
            let w: Vec<u16> = words(number);
            w
        })
    };
    assert_eq!(read(1 << 53), (Some(9_007_199_254_740_992.0), Quality::GOOD));
    assert_eq!(read(-(1 << 53)), (Some(-9_007_199_254_740_992.0), Quality::GOOD));
    assert_eq!(read((1 << 53) + 1).1, Quality::UNCERTAIN_PRECISION);
    assert_eq!(read(i64::MIN).1, Quality::UNCERTAIN_PRECISION);
}

#[test]
fn scale_offset_unit_and_range_apply_in_that_order() {
    let mut point = plain(ValueType::I16, WordOrder::Abcd);
    point.scaling = Scaling::new(0.1, -2.0);
    point.conversion = Conversion { factor: 10.0, offset: 1.0 };
    assert_eq!(point.words(&[123]), (Some(104.0), Quality::GOOD));
    point.range = (0.0, 100.0);
    assert_eq!(point.words(&[123]), (None, Quality::BAD_OUT_OF_RANGE));
}

#[test]
fn a_decimal_scale_gives_the_decimal_number() {
    let tenth = Scaling::new(0.1, 0.0);
    assert_eq!(tenth.apply(123.0), 12.3);
    assert_eq!(Scaling::new(-0.01, 0.0).apply(7.0), -0.07);
    assert_eq!(Scaling::new(0.3, 0.0).apply(10.0), 3.0);
    assert_eq!(Scaling::new(0.0, 5.0).apply(10.0), 5.0);
}

proptest! {
    #[test]
    fn what_is_written_in_an_order_reads_back_in_it(bits in any::<u64>(), order in 0usize..4) {
        let order = WordOrder::ALL[order];
        // Written by the definition: big-endian bytes, then whole-value and per-register swaps.
        let mut bytes = bits.to_be_bytes();
        if matches!(order, WordOrder::Dcba) { bytes.reverse(); }
        if matches!(order, WordOrder::Badc) { bytes.chunks_mut(2).for_each(<[u8]>::reverse); }
        if matches!(order, WordOrder::Cdab) { bytes.reverse(); bytes.chunks_mut(2).for_each(<[u8]>::reverse); }
        let words: Vec<u16> = bytes.chunks(2).map(|p| u16::from_be_bytes([p[0], p[1]])).collect();
        prop_assert_eq!(raw(ValueType::U64, order, &words), Ok(Raw::Integer(bits.into())));
        prop_assert_eq!(raw(ValueType::I64, order, &words), Ok(Raw::Integer((bits as i64).into())));
        if let Ok(Raw::Float(value)) = raw(ValueType::F64, order, &words) {
            prop_assert_eq!(value.to_bits(), bits);
        }
    }

    #[test]
    fn no_registers_whatever_give_a_number_that_is_none(words in proptest::collection::vec(any::<u16>(), 0..6), kind in 0usize..12, order in 0usize..4) {
        use ValueType::*;
        let kind = [Bool, Bit(15), U16, I16, U32, I32, U64, I64, F32, F64, Bcd16, Bcd32][kind];
        let (value, quality) = plain(kind, WordOrder::ALL[order]).words(&words);
        prop_assert_eq!(value.is_some(), quality.is_usable());
        prop_assert!(value.is_none_or(f64::is_finite));
    }
}
