use super::*;
use crate::sources::mqtt::testing::broker;
use proptest::prelude::*;
use shared::reading::Timestamp;

const NOW: i64 = 5_000_000;

fn intake(lines: &str) -> (Intake, Arc<Registry>) {
    let registry = Registry::new();
    (Intake::new(Arc::new(broker(lines)), Arc::clone(&registry)).unwrap(), registry)
}

fn message(topic: &str, payload: &str) -> Message {
    Message { topic: topic.to_owned().into(), payload: payload.to_owned().into(), ..Message::default() }
}

fn take(intake: &mut Intake, message: &Message) -> Vec<Sample> {
    intake.take(message, Arrival { now_us: NOW, waited: false })
}

const NUMBERS: &str = "topic = \"site/{node}/{metric}\"\npoint = [{ metric = \"flow_rate\", name = \"flow\" }]";
const STAMPED: &str = "topic = \"json/{node}\"\npayload = \"json\"\ntimestamp = \"ts\"\n\
    point = [{ metric = \"flow_rate\", value = \"f\" }, { metric = \"level\", value = \"l\" }]";

fn one(lines: &str, message: &Message) -> Sample {
    let samples = take(&mut intake(lines).0, message);
    assert_eq!(samples.len(), 1, "{samples:?}");
    samples[0]
}

#[test]
fn a_number_has_the_time_of_its_arrival() {
    let sample = one(NUMBERS, &message("site/PS1/flow", "12.5"));
    assert_eq!((sample.at, sample.value, sample.quality), (At::Mono(NOW), Some(12.5), Quality::GOOD));
}

#[test]
fn a_redelivery_without_a_timestamp_says_so_and_with_one_is_the_same_reading() {
    let again = Message { dup: true, ..message("site/PS1/flow", "12.5") };
    assert_eq!(one(NUMBERS, &again).quality, Quality::UNCERTAIN_REDELIVERED);
    let stamped = message("json/PS1", r#"{"f": 1, "ts": 1767323045}"#);
    let first = one(STAMPED, &stamped);
    assert_eq!(first.at, At::Utc(Timestamp(1_767_323_045_000_000)));
    assert_eq!(one(STAMPED, &Message { dup: true, ..stamped }), first);
}

#[test]
fn a_retained_message_without_a_timestamp_is_no_reading_and_makes_no_point() {
    let (mut intake, registry) = intake(NUMBERS);
    assert_eq!(take(&mut intake, &Message { retain: true, ..message("site/PS1/flow", "1") }), []);
    assert!(registry.is_empty());
    let stamped = Message { retain: true, ..message("json/PS1", r#"{"f": 1, "ts": 1767323045}"#) };
    assert_eq!(one(STAMPED, &stamped).quality, Quality::GOOD);
    let unusable = Message { retain: true, ..message("json/PS1", r#"{"f": 1, "ts": 0}"#) };
    assert_eq!(take(&mut self::intake(STAMPED).0, &unusable), []);
}

#[test]
fn what_may_have_waited_without_a_timestamp_is_in_doubt() {
    let waited = Arrival { now_us: NOW, waited: true };
    let number = intake(NUMBERS).0.take(&message("site/PS1/flow", "1"), waited);
    assert_eq!(number[0].quality, Quality::UNCERTAIN_CLOCK);
    let stamped = intake(STAMPED).0.take(&message("json/PS1", r#"{"f": 1, "ts": 1767323045}"#), waited);
    assert_eq!(stamped[0].quality, Quality::GOOD);
}

#[test]
fn a_sensor_that_lost_its_time_is_heard_at_the_time_of_arrival_with_a_doubt() {
    let (mut intake, registry) = intake(STAMPED);
    let samples = take(&mut intake, &message("json/PS1", r#"{"f": 1, "ts": 12}"#));
    assert_eq!((samples[0].at, samples[0].quality), (At::Mono(NOW), Quality::UNCERTAIN_CLOCK));
    let error = registry.snapshot()[0].error.clone().unwrap();
    assert!(error.starts_with("json/PS1: the timestamp 1970-01-01T00:00:12Z"), "{error}");
}

#[test]
fn a_bad_payload_is_one_bad_reading_of_each_known_point_with_its_topic_and_start() {
    let (mut intake, registry) = intake(STAMPED);
    take(&mut intake, &message("json/PS1", r#"{"f": 1, "l": 2, "ts": 1767323045}"#));
    let samples = take(&mut intake, &message("json/PS1", "{\"f\": \u{1b}[31m"));
    assert_eq!(
        samples.iter().map(|s| (s.point.0, s.at, s.value, s.quality)).collect::<Vec<_>>(),
        [(0, At::Mono(NOW), None, Quality::BAD_PAYLOAD), (1, At::Mono(NOW), None, Quality::BAD_PAYLOAD),]
    );
    let state = &registry.snapshot()[1];
    let error = state.error.clone().unwrap();
    assert!(
        error.starts_with("json/PS1: the payload is no JSON: ") && error.ends_with("starts '{\"f\": \\u{1b}[31m'"),
        "{error}"
    );
    assert_eq!((state.readings, state.bad), (2, 1));
    take(&mut intake, &message("json/PS1", r#"{"f": 1, "l": 2, "ts": 1767323046}"#));
    assert_eq!(registry.snapshot()[1].error, None);
}

#[test]
fn nonsense_and_hostile_topics_make_no_point() {
    let (mut intake, registry) = intake(NUMBERS);
    for (topic, payload) in [
        ("site/PS1/flow", "dry"),
        ("site/PS1/flow", "NaN"),
        ("site/PS1/flow", "1e300"),
        ("site/PS1/pressure", "1"),
        ("site/P S/flow", "1"),
        ("site//flow", "1"),
        ("elsewhere", "1"),
        ("", "1"),
    ] {
        assert_eq!(take(&mut intake, &message(topic, payload)), [], "{topic} {payload}");
    }
    let no_text = Message { topic: vec![b's', 0xff].into(), ..message("", "1") };
    assert_eq!(take(&mut intake, &no_text), []);
    assert!(registry.is_empty());
}

#[test]
fn a_payload_beyond_the_limit_is_bad() {
    let (mut intake, registry) = intake(NUMBERS);
    take(&mut intake, &message("site/PS1/flow", "1"));
    let samples = take(&mut intake, &message("site/PS1/flow", &"1".repeat(256 * 1024 + 1)));
    assert_eq!(samples[0].quality, Quality::BAD_PAYLOAD);
    let error = registry.snapshot()[0].error.clone().unwrap();
    assert!(error.contains("262145 bytes, payload_max is 262144") && error.len() < 300, "{error}");
}

#[test]
fn points_beyond_the_bound_cost_nothing_but_a_count() {
    let (mut intake, registry) = intake("topic = \"{node}/{metric}\"");
    let samples: usize = (0..1010).map(|n| take(&mut intake, &message(&format!("N{n}/level"), "1")).len()).sum();
    assert_eq!((samples, registry.len()), (1000, 1000));
}

#[test]
fn another_sources_series_is_left_alone() {
    let (mut intake, registry) = intake(
        "topic = \"{x}/{metric}\"\nnode = \"A\"\nchannel = \"{x}\"\n\
        [[mqtt.subscription]]\ntopic = \"{node}/y/{metric}\"\nchannel = \"c\"",
    );
    assert_eq!(take(&mut intake, &message("c/level", "1")).len(), 1);
    assert_eq!(take(&mut intake, &message("A/y/level", "2")), []);
    assert_eq!(registry.len(), 1);
}

#[test]
fn a_sparkplug_device_goes_down_with_its_death_and_comes_back() {
    use crate::sources::mqtt::sparkplug::{Metric, Payload, Value};
    use prost::Message as _;
    let (mut intake, registry) =
        intake("topic = \"spBv1.0/G/#\"\npayload = \"sparkplug\"\npoint = [{ name = \"F\", metric = \"flow_rate\" }]");
    let mut say = |topic: &str, value: Option<f64>| {
        let metric =
            Metric { name: Some("F".into()), value: value.map(Value::Double), datatype: Some(10), ..Metric::default() };
        let metrics = value.map(|_| metric.encode_to_vec().into()).into_iter().collect();
        let payload = Payload { timestamp: Some(1_767_323_080_704), metrics, seq: None }.encode_to_vec();
        let message = Message { payload: payload.into(), ..message(topic, "") };
        take(&mut intake, &message).iter().map(|s| (s.point.0, s.value, s.quality)).collect::<Vec<_>>()
    };
    assert_eq!(say("spBv1.0/G/NBIRTH/E", Some(1.0)), [(0, Some(1.0), Quality::GOOD)]);
    assert_eq!(say("spBv1.0/G/DBIRTH/E/D", Some(2.0)), [(1, Some(2.0), Quality::GOOD)]);
    assert_eq!(say("spBv1.0/G/DBIRTH/E/D2", Some(3.0)), [(2, Some(3.0), Quality::GOOD)]);
    assert_eq!(say("spBv1.0/G/DDEATH/E/D", None), [(1, None, Quality::BAD_LINK)]);
    assert_eq!(say("spBv1.0/G/DDEATH/E/D", None), []);
    assert_eq!(say("spBv1.0/G/NDEATH/E", None), [(0, None, Quality::BAD_LINK), (2, None, Quality::BAD_LINK)]);
    assert_eq!(say("spBv1.0/G/DDATA/E/D", Some(4.0)), [(1, Some(4.0), Quality::GOOD)]);
    let sources: Vec<String> = registry.snapshot().into_iter().map(|state| state.def.source).collect();
    assert_eq!(sources, ["b/G/E: F", "b/G/E/D: F", "b/G/E/D2: F"]);
    assert_eq!(registry.snapshot()[2].error.as_deref(), Some("edge node G/E said that it is gone"));
}

proptest! {
    #[test]
    fn no_message_panics_and_every_sample_is_consistent(
        topic in "(site|json|spBv1.0)/[A-Za-z0-9 /{}+#]{0,12}", payload in prop::collection::vec(any::<u8>(), 0..80), dup: bool, retain: bool,
    ) {
        let lines = format!("{NUMBERS}\n[[mqtt.subscription]]\n{STAMPED}\n[[mqtt.subscription]]\ntopic = \"spBv1.0/#\"\npayload = \"sparkplug\"");
        let message = Message { topic: topic.into_bytes().into(), payload: payload.into(), dup, retain, receipt: None };
        for sample in take(&mut intake(&lines).0, &message) {
            prop_assert_eq!(sample.value.is_some(), sample.quality.is_usable());
            prop_assert!(sample.value.is_none_or(f64::is_finite));
        }
    }
}
