use super::*;
use crate::sources::mqtt::testing::sparkplug_points;
use proptest::prelude::*;
use shared::reading::Timestamp;

fn state() -> Point {
    sparkplug_points("{ metric = \"state\", range = [-1e20, 1e20] }").remove(0)
}

fn metric(datatype: u32, value: Value) -> Metric {
    Metric { datatype: Some(datatype), value: Some(value), ..Metric::default() }
}

#[track_caller]
fn number(datatype: u32, value: Value, expected: f64) {
    let said = said(0, &state(), &metric(datatype, value), Some(datatype), None).unwrap();
    assert_eq!((said.value, said.quality), (Some(expected), Quality::GOOD), "{datatype} {value:?}");
}

/// Worked out by hand from the protobuf encoding and `sparkplug_b.proto`, not taken from our own output.
#[test]
fn golden_bytes_of_a_birth_are_read() {
    let golden = [
        0x08, 0x80, 0xb0, 0xa8, 0xe5, 0xb7, 0x33, // 1: timestamp 1767323080704
        0x12, 0x19, // 2: a metric of 25 bytes
        0x0a, 0x04, b'F', b'l', b'o', b'w', // 1: name
        0x10, 0x07, // 2: alias 7
        0x18, 0x80, 0xb0, 0xa8, 0xe5, 0xb7, 0x33, // 3: timestamp
        0x20, 0x01, // 4: Int8
        0x38, 0x00, // 7: not null
        0x50, 0xff, 0xff, 0xff, 0xff, 0x0f, // 10: -1, sign-extended to 32 bits
        0x18, 0x2a, // 3: seq 42
        0x22, 0x01, b'u', // 4: uuid, which nobody asked for
    ];
    let payload = Payload::decode(golden.as_slice()).unwrap();
    assert_eq!((payload.timestamp, payload.seq), (Some(1_767_323_080_704), Some(42)));
    let metric = Metric::decode(payload.metrics[0].clone()).unwrap();
    assert_eq!((metric.name.as_deref(), metric.alias, metric.datatype), (Some("Flow"), Some(7), Some(1)));
    let said = said(0, &state(), &metric, metric.datatype, payload.timestamp).unwrap();
    assert_eq!((said.value, said.stamp), (Some(-1.0), Stamp::Own(Timestamp(1_767_323_080_704_000))));
}

#[test]
fn every_numeric_type_is_read_however_it_is_signed_and_wherever_it_lies() {
    for (datatype, bits) in [(1, 0xff_u32), (1, u32::MAX), (2, 0xffff), (2, u32::MAX), (3, u32::MAX)] {
        number(datatype, Value::Int(bits), -1.0);
        number(datatype, Value::Long(bits.into()), -1.0);
    }
    number(3, Value::Long(u64::MAX), -1.0);
    number(4, Value::Long(u64::MAX), -1.0);
    number(5, Value::Int(255), 255.0);
    number(6, Value::Int(65_535), 65_535.0);
    number(7, Value::Int(u32::MAX), 4_294_967_295.0);
    number(7, Value::Long(u32::MAX.into()), 4_294_967_295.0);
    number(8, Value::Long(1 << 53), 9_007_199_254_740_992.0);
    number(9, Value::Float(1.5), 1.5);
    number(10, Value::Double(-0.25), -0.25);
    number(11, Value::Boolean(true), 1.0);
    let large = said(0, &state(), &metric(8, Value::Long(u64::MAX)), Some(8), None).unwrap();
    assert_eq!((large.value, large.quality), (Some(18_446_744_073_709_551_615.0), Quality::UNCERTAIN_PRECISION));
}

#[test]
fn what_is_no_number_is_a_bad_payload_and_null_a_sensor_fault() {
    let bad = |metric: &Metric, datatype| said(0, &state(), metric, datatype, None).unwrap();
    let none = Metric { value: None, ..metric(12, Value::Int(0)) };
    assert_eq!(bad(&none, Some(12)).quality, Quality::BAD_PAYLOAD);
    assert_eq!(bad(&metric(13, Value::Long(1)), Some(13)).quality, Quality::BAD_PAYLOAD);
    assert_eq!(bad(&metric(0, Value::Int(1)), None).quality, Quality::BAD_PAYLOAD);
    assert_eq!(bad(&metric(9, Value::Float(f32::NAN)), Some(9)).quality, Quality::BAD_NOT_A_NUMBER);
    let null = Metric { is_null: Some(true), ..none };
    assert_eq!(bad(&null, Some(9)).quality, Quality::BAD_SENSOR_FAULT);
}

#[test]
fn the_quality_property_counts() {
    let with = |code: u32| {
        let values = vec![PropertyValue::default(), PropertyValue { int_value: Some(code), long_value: None }];
        let properties = Some(PropertySet { keys: vec!["x".into(), "Quality".into()], values });
        said(0, &state(), &Metric { properties, ..metric(5, Value::Int(1)) }, Some(5), None).unwrap().quality
    };
    assert_eq!(
        [192, 0, 500, 7].map(with),
        [Quality::GOOD, Quality::BAD_SENSOR_FAULT, Quality::BAD_LINK, Quality::UNCERTAIN_SENSOR,]
    );
}

#[test]
fn what_waited_must_have_its_own_time_and_what_is_transient_is_not_stored() {
    let sent = Some(1_767_323_080_704);
    let one = metric(5, Value::Int(1));
    let historical = Metric { is_historical: Some(true), ..one.clone() };
    assert_eq!(said(0, &state(), &historical, Some(5), sent), None);
    let stamped = Metric { timestamp: Some(1_767_000_000_000), ..historical };
    let own = Stamp::Own(Timestamp(1_767_000_000_000_000));
    assert_eq!(said(0, &state(), &stamped, Some(5), sent).unwrap().stamp, own);
    assert_eq!(said(0, &state(), &Metric { is_transient: Some(true), ..one }, Some(5), sent), None);
}

#[test]
fn topics_are_taken_apart() {
    let of = |topic| Address::of(topic);
    let device = of("spBv1.0/G/DDATA/E/D").unwrap().unwrap();
    assert_eq!(device.captures(), [("group", "G"), ("edge", "E"), ("node", "D"), ("device", "D")]);
    let edge = of("spBv1.0/G/NBIRTH/E").unwrap().unwrap();
    assert_eq!((edge.kind, edge.captures()), (Kind::Birth, vec![("group", "G"), ("edge", "E"), ("node", "E")]));
    for other in ["spBv1.0/STATE/scada", "spBv1.0/G/NCMD/E", "spBv1.0/G/DCMD/E/D"] {
        assert_eq!(of(other), Ok(None), "{other}");
    }
    for wrong in ["spBv1.0", "spBv1.0/G/NDATA/E/D", "spBv1.0/G/DDATA/E", "spBv1.0/G/DDATA/E/D/x", "x/G/NDATA/E", ""] {
        assert!(of(wrong).is_err(), "{wrong}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..100), topic in ".{0,30}") {
        let _ = Address::of(&topic);
        if let Ok(metric) = Metric::decode(bytes.as_slice())
            && let Some(said) = said(0, &state(), &metric, metric.datatype, None)
        {
            prop_assert_eq!(said.value.is_some(), said.quality.is_usable());
        }
    }
}
