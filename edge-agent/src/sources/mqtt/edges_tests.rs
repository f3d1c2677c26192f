use super::*;
use crate::sources::mqtt::testing::sparkplug_points;
use proptest::prelude::*;

const AT: u64 = 1_767_323_080_704;

fn edges() -> Edges {
    Edges::new(["Flow", "Level"].map(Into::into).into())
}

fn both() -> Vec<Point> {
    sparkplug_points("{ name = \"Flow\", metric = \"flow_rate\" }, { name = \"Level\", metric = \"level\" }")
}

fn named(name: &str, alias: u64, value: f64) -> Metric {
    Metric {
        name: Some(name.into()),
        alias: Some(alias),
        datatype: Some(10),
        value: Some(Value::Double(value)),
        ..Metric::default()
    }
}

fn aliased(alias: u64, value: f64) -> Metric {
    Metric { alias: Some(alias), value: Some(Value::Double(value)), ..Metric::default() }
}

fn bd_seq(number: u64) -> Metric {
    Metric { name: Some("bdSeq".into()), value: Some(Value::Long(number)), ..Metric::default() }
}

fn message(seq: Option<u64>, metrics: &[Metric]) -> Bytes {
    let metrics = metrics.iter().map(|metric| Bytes::from(metric.encode_to_vec())).collect();
    Payload { timestamp: Some(AT), metrics, seq }.encode_to_vec().into()
}

#[track_caller]
fn hear(edges: &mut Edges, topic: &str, payload: &Bytes) -> Heard {
    let address = Address::of(topic).unwrap().unwrap();
    edges.hear(&address, payload, &both()).unwrap()
}

/// Point, value and quality of each reading.
fn readings(heard: &Heard) -> Vec<(usize, Option<f64>, Quality)> {
    heard.said.iter().map(|said| (said.point, said.value, said.quality)).collect()
}

#[test]
fn a_birth_names_aliases_and_data_use_them() {
    let mut edges = edges();
    let birth = message(Some(0), &[bd_seq(3), named("Flow", 1, 1.0), named("Unwanted", 2, 9.0)]);
    assert_eq!(readings(&hear(&mut edges, "spBv1.0/G/NBIRTH/E", &birth)), [(0, Some(1.0), Quality::GOOD)]);
    let device = message(Some(1), &[named("Level", 1, 2.0)]);
    assert_eq!(readings(&hear(&mut edges, "spBv1.0/G/DBIRTH/E/D", &device)), [(1, Some(2.0), Quality::GOOD)]);
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(2), &[aliased(1, 1.5), aliased(2, 9.5)]));
    assert_eq!((readings(&data), data.missed, data.unexplained), (vec![(0, Some(1.5), Quality::GOOD)], false, 0));
    let data = hear(&mut edges, "spBv1.0/G/DDATA/E/D", &message(Some(3), &[aliased(1, 2.5)]));
    assert_eq!(readings(&data), [(1, Some(2.5), Quality::GOOD)]);
}

#[test]
fn a_type_that_only_the_birth_told_is_remembered() {
    let mut edges = edges();
    let birth = Metric { datatype: Some(1), value: Some(Value::Int(0)), ..named("Flow", 1, 0.0) };
    hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(0), &[birth]));
    let by_alias = Metric { value: Some(Value::Int(0xff)), ..aliased(1, 0.0) };
    let by_name = Metric { name: Some("Flow".into()), alias: None, ..by_alias.clone() };
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(1), &[by_alias, by_name]));
    assert_eq!(readings(&data), [(0, Some(-1.0), Quality::GOOD), (0, Some(-1.0), Quality::GOOD)]);
}

#[test]
fn an_alias_that_no_birth_explained_gives_no_reading() {
    let mut edges = edges();
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(7), &[aliased(1, 1.0), named("Level", 1, 2.0)]));
    assert_eq!((readings(&data), data.unexplained), (vec![(1, Some(2.0), Quality::GOOD)], 1));
}

#[test]
fn after_a_missed_message_aliases_are_uncertain_and_names_are_not() {
    let mut edges = edges();
    hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(255), &[named("Flow", 1, 1.0)]));
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(0), &[aliased(1, 1.0)]));
    assert!(!data.missed);
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(2), &[aliased(1, 1.0), named("Flow", 1, 2.0)]));
    assert!(data.missed && data.said[0].problem.is_some());
    assert_eq!(readings(&data), [(0, Some(1.0), Quality::UNCERTAIN_SENSOR), (0, Some(2.0), Quality::GOOD)]);
    let again = hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(0), &[named("Flow", 1, 1.0)]));
    assert!(!again.missed);
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(1), &[aliased(1, 1.0)]));
    assert_eq!(readings(&data), [(0, Some(1.0), Quality::GOOD)]);
}

#[test]
fn a_lost_connection_may_have_missed_a_birth() {
    let mut edges = edges();
    hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(0), &[named("Flow", 1, 1.0)]));
    edges.doubt();
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(9), &[aliased(1, 1.0)]));
    assert_eq!((readings(&data), data.missed), (vec![(0, Some(1.0), Quality::UNCERTAIN_SENSOR)], false));
}

#[test]
fn a_death_counts_unless_a_birth_came_after_its_session() {
    let mut edges = edges();
    hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(0), &[bd_seq(4), named("Flow", 1, 1.0)]));
    let late = hear(&mut edges, "spBv1.0/G/NDEATH/E", &message(None, &[bd_seq(3)]));
    assert!(!late.death);
    assert!(hear(&mut edges, "spBv1.0/G/NDEATH/E", &message(None, &[bd_seq(4)])).death);
    let data = hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(1), &[aliased(1, 1.0)]));
    assert_eq!(data.unexplained, 1);
}

#[test]
fn a_device_dies_alone_and_with_its_edge_node() {
    let mut edges = edges();
    hear(&mut edges, "spBv1.0/G/NBIRTH/E", &message(Some(0), &[named("Flow", 1, 1.0)]));
    hear(&mut edges, "spBv1.0/G/DBIRTH/E/D", &message(Some(1), &[named("Level", 2, 1.0)]));
    assert!(hear(&mut edges, "spBv1.0/G/DDEATH/E/D", &message(Some(2), &[])).death);
    let data = message(Some(3), &[aliased(2, 1.0)]);
    assert_eq!(hear(&mut edges, "spBv1.0/G/DDATA/E/D", &data).unexplained, 1);
    assert_eq!(readings(&hear(&mut edges, "spBv1.0/G/NDATA/E", &message(Some(4), &[aliased(1, 1.0)]))).len(), 1);
}

#[test]
fn hostile_births_are_refused_before_they_fill_the_memory() {
    let mut edges = edges();
    let birth = message(Some(0), &[]);
    let mut refused = 0;
    for number in 0..BIRTHS_MAX + 10 {
        let topic = format!("spBv1.0/G/NBIRTH/E{number}");
        refused += usize::from(edges.hear(&Address::of(&topic).unwrap().unwrap(), &birth, &both()).is_err());
    }
    assert!(refused > 0 && edges.edges.len() <= BIRTHS_MAX, "{refused}");
    let long = format!("spBv1.0/G/NBIRTH/{}", "x".repeat(300));
    assert!(edges.hear(&Address::of(&long).unwrap().unwrap(), &birth, &both()).is_err());
    let many = message(None, &vec![Metric::default(); MESSAGE_METRICS_MAX + 1]);
    assert!(edges.hear(&Address::of("spBv1.0/G/NDATA/E").unwrap().unwrap(), &many, &both()).is_err());
    let (data, known) = (message(Some(0), &[]), edges.edges.len());
    for number in 0..1000 {
        let topic = format!("spBv1.0/G/NDATA/F{number}");
        let _ = edges.hear(&Address::of(&topic).unwrap().unwrap(), &data, &both());
    }
    assert_eq!(edges.edges.len(), known, "data alone make no edge node known");
}

proptest! {
    #[test]
    fn no_payload_panics(payloads in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..60)), 1..8)) {
        let topics = ["NBIRTH/E", "NDATA/E", "NDEATH/E", "DBIRTH/E/D", "DDATA/E/D"];
        let (mut edges, points) = (edges(), both());
        for (topic, payload) in payloads {
            let topic = format!("spBv1.0/G/{}", topics[topic]);
            let _ = edges.hear(&Address::of(&topic).unwrap().unwrap(), &payload.into(), &points);
        }
    }

    #[test]
    fn damaged_births_never_panic(place in 0usize..200, bit in 0u8..8, cut in 0usize..200) {
        let mut bytes = message(Some(0), &[bd_seq(1), named("Flow", 1, 1.0), named("Level", 2, 2.0)]).to_vec();
        let place = place % bytes.len();
        bytes[place] ^= 1 << bit;
        bytes.truncate(cut.max(1));
        let address = Address::of("spBv1.0/G/NBIRTH/E").unwrap().unwrap();
        let _ = edges().hear(&address, &bytes.into(), &both());
    }
}
