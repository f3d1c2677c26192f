use super::*;
use crate::sources::mqtt::config::Payload;
use crate::sources::mqtt::testing::subscription;
use proptest::prelude::*;
use shared::reading::Timestamp;

fn number_of(point: &str, payload: &str) -> Result<(Option<f64>, Quality), String> {
    let subscription = subscription(&format!("point = [{{ {point} }}]"));
    number(payload.as_bytes(), &subscription.points[0])
}

#[track_caller]
fn good(point: &str, payload: &str, value: f64) {
    assert_eq!(number_of(point, payload), Ok((Some(value), Quality::GOOD)), "{payload}");
}

#[test]
fn a_number_is_read_alone_or_with_the_unit_that_is_configured() {
    good("metric = \"flow_rate\", unit = \"m3/h\"", "36", 10.0);
    good("metric = \"flow_rate\", unit = \"m3/h\"", " 36 m3/h\n", 10.0);
    good("metric = \"level\", scale = 0.1, offset = -1.0", "-1.5e1", -2.5);
    good("metric = \"running\", unit = \"1\"", "1", 1.0);
    let other = number_of("metric = \"flow_rate\", unit = \"m3/h\"", "36 L/s").unwrap_err();
    assert_eq!(other, "the payload is no number, alone or in m3/h");
    for wrong in ["", "  ", "12,5", "0x10", "1 2", "12.5.1", "--1"] {
        assert!(number_of("metric = \"level\"", wrong).is_err(), "{wrong}");
    }
}

#[test]
fn only_a_state_is_true_or_false() {
    for (word, value) in [("true", 1.0), ("ON", 1.0), ("Off", 0.0), ("false", 0.0), ("1", 1.0)] {
        good("metric = \"running\"", word, value);
    }
    assert!(number_of("metric = \"level\"", "on").unwrap_err().contains("level is no state"));
    assert!(number_of("metric = \"running\"", "perhaps").is_err());
}

#[test]
fn nan_infinity_and_nonsense_are_bad_and_large_integers_uncertain() {
    for text in ["NaN", "inf", "-infinity"] {
        assert_eq!(number_of("metric = \"level\"", text), Ok((None, Quality::BAD_NOT_A_NUMBER)), "{text}");
    }
    assert_eq!(number_of("metric = \"level\"", "1e9"), Ok((None, Quality::BAD_OUT_OF_RANGE)));
    let total = number_of("metric = \"total_volume\", range = [0, 1e18]", "9007199254740993");
    assert_eq!(total, Ok((Some(9_007_199_254_740_992.0), Quality::UNCERTAIN_PRECISION)));
}

fn read_json(lines: &str, payload: &str) -> Result<Vec<Said>, String> {
    let subscription = subscription(&format!("payload = \"json\"\n{lines}"));
    let Payload::Json(rules) = &subscription.payload else { panic!("no json") };
    let points: Vec<_> = subscription.points.iter().enumerate().collect();
    json(payload.as_bytes(), rules, &points)
}

const TWO: &str = "timestamp = \"ts\"\nquality = { path = \"q\", good = [\"OK\", 192], bad = [0, \"FAIL\"] }\n\
    point = [{ metric = \"flow_rate\", value = \"flow.v\" }, { metric = \"pressure\", value = \"p[1]\", unit = \"kPa\" }]";

#[test]
fn one_message_has_many_metrics_and_its_own_time() {
    let said = read_json(TWO, r#"{"ts": 1767323045678, "flow": {"v": 12.5}, "p": [1, 450], "q": "ok"}"#).unwrap();
    let own = Stamp::Own(Timestamp(1_767_323_045_678_000));
    assert_eq!(
        said,
        [Said::new(0, Ok((Some(12.5), Quality::GOOD)), own.clone()), Said::new(1, Ok((Some(4.5), Quality::GOOD)), own)]
    );
}

#[test]
fn what_is_not_in_a_message_is_no_reading_but_a_message_without_anything_is_bad() {
    let said = read_json(TWO, r#"{"ts": 1767323045678, "p": [1, 450]}"#).unwrap();
    assert_eq!(said.iter().map(|one| one.point).collect::<Vec<_>>(), [1]);
    let nothing = read_json(TWO, r#"{"ts": 1767323045678, "flwo": {"v": 1}}"#).unwrap_err();
    assert_eq!(nothing, "there is nothing at \"flow.v\", \"p[1]\"");
}

#[test]
fn the_sensor_says_how_good_it_is() {
    let quality = |q: &str| {
        let one =
            read_json(TWO, &format!(r#"{{"ts": 1767323045678, "flow": {{"v": 1}}, "q": {q}}}"#)).unwrap().remove(0);
        (one.value, one.quality)
    };
    assert_eq!(quality("192"), (Some(1.0), Quality::GOOD));
    assert_eq!(quality("\"drifting\""), (Some(1.0), Quality::UNCERTAIN_SENSOR));
    assert_eq!(quality("0"), (None, Quality::BAD_SENSOR_FAULT));
    assert_eq!(quality("\"fail\""), (None, Quality::BAD_SENSOR_FAULT));
}

#[test]
fn null_is_a_sensor_fault_and_what_is_no_number_a_bad_payload() {
    let one = |v: &str| read_json(TWO, &format!(r#"{{"ts": 1767323045678, "flow": {{"v": {v}}}}}"#)).unwrap().remove(0);
    assert_eq!(one("null").quality, Quality::BAD_SENSOR_FAULT);
    assert_eq!(one("\"12.5\"").value, Some(12.5));
    for wrong in ["{}", "[1]", "\"dry\"", "true"] {
        let said = one(wrong);
        assert_eq!((said.value, said.quality), (None, Quality::BAD_PAYLOAD), "{wrong}");
        assert!(said.problem.is_some() && matches!(said.stamp, Stamp::Own(_)), "{wrong}");
    }
}

#[test]
fn a_missing_or_impossible_timestamp_leaves_the_reading() {
    for payload in [r#"{"flow": {"v": 1}}"#, r#"{"flow": {"v": 1}, "ts": 0}"#, r#"{"flow": {"v": 1}, "ts": "noon"}"#] {
        let said = read_json(TWO, payload).unwrap().remove(0);
        assert!(matches!(said.stamp, Stamp::Unusable(_)) && said.value == Some(1.0), "{said:?}");
    }
}

#[test]
fn an_array_can_hold_a_message_in_each_element() {
    let lines = "each = \"data\"\ntimestamp = \"t\"\npoint = [{ metric = \"level\", value = \"v\" }]";
    let said = read_json(lines, r#"{"t": 1767323047, "data": [{"t": 1767323045, "v": 1}, {"v": 2}]}"#).unwrap();
    let at = |s: i64| Stamp::Own(Timestamp(s * 1_000_000));
    assert_eq!(
        said.iter().map(|one| (one.value, one.stamp.clone())).collect::<Vec<_>>(),
        [(Some(1.0), at(1_767_323_045)), (Some(2.0), at(1_767_323_047)),]
    );
    assert!(read_json(lines, r#"{"data": {}}"#).unwrap_err().contains("no array at data"));
    assert_eq!(read_json(lines, r#"{"data": []}"#), Ok(Vec::new()));
    let many = format!(r#"{{"data": [{}0]}}"#, "0,".repeat(EACH_MAX));
    assert!(read_json(lines, &many).unwrap_err().contains("are the most"));
}

#[test]
fn what_is_shown_of_a_payload_is_short_and_plain() {
    assert_eq!(excerpt(b"{\"a\": 'b'}"), "{\"a\": 'b'}");
    assert_eq!(excerpt(b"\x00\xff\x1b[31m\n"), "\\0\\xff\\u{1b}[31m\\n");
    let long = excerpt("ä".repeat(100).as_bytes());
    assert!(long.ends_with('…') && long.chars().count() == 33, "{long}");
}

proptest! {
    #[test]
    fn no_payload_panics_and_no_number_is_nan(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[-+0-9.einfNaN{}\\[\\]\":,]{0,60}") {
        let point = &subscription("point = [{ metric = \"total_volume\", unit = \"L\" }]").points[0];
        for payload in [bytes.as_slice(), text.as_bytes()] {
            if let Ok((value, quality)) = number(payload, point) {
                prop_assert!(value.is_none_or(f64::is_finite));
                prop_assert_eq!(value.is_some(), quality.is_usable());
            }
            let _ = excerpt(payload);
        }
    }

    #[test]
    fn any_json_is_read_or_refused(value in tree()) {
        let rules = subscription(&format!("payload = \"json\"\n{TWO}"));
        let Payload::Json(json_rules) = &rules.payload else { panic!("no json") };
        let points: Vec<_> = rules.points.iter().enumerate().collect();
        if let Ok(said) = json(value.to_string().as_bytes(), json_rules, &points) {
            prop_assert!(said.iter().all(|one| one.value.is_some() == one.quality.is_usable()));
        }
    }
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-z0-9.]{0,6}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        let key = prop_oneof![Just("ts"), Just("flow"), Just("v"), Just("p"), Just("q")];
        let object = prop::collection::vec((key, inner.clone()), 0..5);
        prop_oneof![
            prop::collection::vec(inner, 0..4).prop_map(Value::from),
            object.prop_map(|fields| fields
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<serde_json::Map<_, _>>()
                .into()),
        ]
    })
}
