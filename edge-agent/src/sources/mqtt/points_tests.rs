use super::*;
use crate::sources::mqtt::testing::broker;

fn points(lines: &str) -> Result<(Points, Arc<Registry>), RegistryError> {
    let registry = Registry::new();
    Ok((Points::new(Arc::new(broker(lines)), Arc::clone(&registry))?, registry))
}

fn at<'a>(captures: Captures<'a>) -> Place<'a> {
    Place { subscription: 0, captures, origin: None }
}

#[test]
fn what_is_configured_whole_exists_at_once_and_the_rest_when_it_turns_up() {
    let lines = "topic = \"site/{node}/{metric}\"\n[[mqtt.subscription]]\ntopic = \"ps1/{metric}\"\nnode = \"PS1\"\n\
                 point = [{ metric = \"level\", name = \"l\" }]";
    let (mut points, registry) = points(lines).unwrap();
    let sources = || registry.snapshot().into_iter().map(|state| state.def.source).collect::<Vec<_>>();
    assert_eq!(sources(), ["b/ps1/l"]);
    let place = at(vec![("node", "A"), ("metric", "flow_rate")]);
    let slot = points.find_or_add(&place, 0).unwrap();
    assert_eq!((points.find_or_add(&place, 0).unwrap(), points.find(&place, 0)), (slot, Some(slot)));
    assert_eq!(sources(), ["b/ps1/l", "b/site/A/flow_rate"]);
}

#[test]
fn names_that_are_none_and_points_beyond_the_bound_are_refused() {
    let (mut points, registry) = points("topic = \"{node}/{metric}\"").unwrap();
    let mut add = |node: &str| points.find_or_add(&at(vec![("node", node), ("metric", "x")]), 0);
    assert!(matches!(add("a b"), Err(Refusal::Name(_))));
    assert!(matches!(add(&"x".repeat(10_000)), Err(Refusal::Name(text)) if text.len() < 300));
    for number in 0..1000 {
        add(&format!("N{number}")).unwrap();
    }
    assert_eq!(add("ONE_MORE"), Err(Refusal::Full(1000)));
    assert_eq!(registry.len(), 1000);
}

#[test]
fn two_topics_for_one_series_are_told_apart() {
    let twice = points(
        "topic = \"a\"\nnode = \"N\"\npoint = [{ metric = \"level\" }]\n[[mqtt.subscription]]\ntopic = \"b\"\nnode = \"N\"\npoint = [{ metric = \"level\" }]",
    );
    let error = twice.err().unwrap().to_string();
    assert!(error.contains("b/a") && error.contains("b/b"), "{error}");
}

#[test]
fn a_point_is_told_once_that_its_link_is_down() {
    let lines = "topic = \"t\"\nnode = \"N\"\ninterval = \"10s\"\npoint = [{ metric = \"level\" }]\n\
                 [[mqtt.subscription]]\ntopic = \"u\"\nnode = \"N\"\npoint = [{ metric = \"ph\" }]";
    let (mut points, _) = points(lines).unwrap();
    let numbers = |overdue: Vec<(PointNo, usize)>| overdue.into_iter().map(|(number, _)| number.0).collect::<Vec<_>>();
    let mut at = |s: i64| numbers(points.overdue(s * 1_000_000, |_| Some(0)));
    assert_eq!([at(9), at(10), at(11), at(59), at(60), at(100)], [vec![], vec![0], vec![], vec![], vec![1], vec![]]);
    points.heard(Slot(0));
    assert_eq!(numbers(points.overdue(200_000_000, |_| Some(195_000_000))), Vec::<u32>::new());
    assert_eq!(numbers(points.overdue(205_000_000, |_| Some(195_000_000))), [0]);
    points.heard(Slot(0));
    assert_eq!(
        numbers(points.overdue(999_000_000, |subscription| (subscription == 1).then_some(0))),
        Vec::<u32>::new()
    );
}
