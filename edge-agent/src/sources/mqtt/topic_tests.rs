use super::*;
use proptest::prelude::*;

fn pattern(text: &str) -> Pattern {
    text.parse().unwrap_or_else(|problem| panic!("{text}: {problem}"))
}

#[track_caller]
fn captured(text: &str, topic: &str, expected: Option<&[(&str, &str)]>) {
    assert_eq!(pattern(text).captures(topic).as_deref(), expected, "{text} on {topic}");
}

#[test]
fn named_levels_are_captured_and_subscribed_to_as_wildcards() {
    captured("site/{node}/{metric}", "site/PS1/flow", Some(&[("node", "PS1"), ("metric", "flow")]));
    captured("site/{node}/{metric}", "site/PS1", None);
    captured("site/{node}/{metric}", "site/PS1/flow/x", None);
    captured("+/{node}/#", "a/PS1", Some(&[("node", "PS1")]));
    captured("+/{node}/#", "a/PS1/x/y", Some(&[("node", "PS1")]));
    captured("a/{b}", "a/", Some(&[("b", "")]));
    assert_eq!(pattern("site/{node}/+/#").filter(), "site/+/+/#");
    assert_eq!(pattern("site/{node}/+").filled(&vec![("node", "PS1")]), "site/PS1/+");
}

#[test]
fn the_brokers_own_topics_are_not_matched_by_a_wildcard_at_the_start() {
    captured("#", "$SYS/broker/uptime", None);
    captured("{node}/x", "$SYS/x", None);
    captured("$SYS/#", "$SYS/broker/uptime", Some(&[]));
    assert!(!pattern("#").covers(&pattern("$SYS/#")) && !pattern("#").overlaps(&pattern("$SYS/#")));
}

#[test]
fn what_is_no_pattern_is_refused_in_words() {
    for (text, with) in [
        ("", "1 to 65535 bytes"),
        ("a/#/b", "only be at the end"),
        ("a/b+", "a whole level"),
        ("a/x{node}", "a whole level"),
        ("a/{Node}", "a-z 0-9 _"),
        ("a/{}", "a-z 0-9 _"),
        ("{node}/{node}", "twice"),
        ("$share/g/a", "one of several agents"),
    ] {
        let problem = text.parse::<Pattern>().unwrap_err();
        assert!(problem.contains(with), "{text}: {problem}");
    }
}

#[test]
fn covering_and_overlapping_follow_the_filters() {
    for (a, b, a_covers_b, overlap) in [
        ("a/+", "a/b", true, true),
        ("a/{x}", "a/+", true, true),
        ("a/#", "a", true, true),
        ("a/#", "a/+/c", true, true),
        ("a/+/c", "a/#", false, true),
        ("a/+", "+/b", false, true),
        ("a/+", "a/b/c", false, false),
        ("a", "b", false, false),
        ("+/+", "a", false, false),
    ] {
        let (a, b) = (pattern(a), pattern(b));
        assert_eq!(a.covers(&b), a_covers_b, "{} covers {}", a.filter(), b.filter());
        assert_eq!((a.overlaps(&b), b.overlaps(&a)), (overlap, overlap), "{} and {}", a.filter(), b.filter());
    }
}

#[test]
fn templates_put_levels_together() {
    let template: Template = "{site}_{sensor}-x".parse().unwrap();
    assert_eq!(template.render(&vec![("sensor", "7"), ("site", "A")]).unwrap(), "A_7-x");
    assert_eq!(template.render(&vec![("site", "A")]), None);
    assert!(!template.is_fixed() && "PS1".parse::<Template>().unwrap().is_fixed());
    for wrong in ["{", "}", "{a", "a}{b}", "{A}", "{}"] {
        assert!(wrong.parse::<Template>().is_err(), "{wrong}");
    }
}

fn level() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("a"), Just("b"), Just("+"), Just("{x}"), Just("")]
}

fn patterns() -> impl Strategy<Value = Pattern> {
    (prop::collection::vec(level(), 1..4), any::<bool>()).prop_filter_map("captured twice", |(mut levels, rest)| {
        if rest {
            levels.push("#");
        }
        levels.join("/").parse().ok()
    })
}

proptest! {
    #[test]
    fn what_covers_and_overlaps_agrees_with_what_matches(
        a in patterns(), b in patterns(), topic in prop::collection::vec(prop_oneof![Just("a"), Just("b"), Just("c"), Just("")], 1..5)
    ) {
        let topic = topic.join("/");
        prop_assume!(!topic.is_empty());
        let (in_a, in_b) = (a.captures(&topic).is_some(), b.captures(&topic).is_some());
        prop_assert!(!(a.covers(&b) && in_b && !in_a));
        prop_assert!(!(in_a && in_b && !a.overlaps(&b)));
    }

    #[test]
    fn no_text_and_no_topic_panics(text in ".{0,40}", topic in ".{0,40}") {
        if let Ok(pattern) = text.parse::<Pattern>() {
            let _ = pattern.captures(&topic);
        }
        let _ = text.parse::<Template>();
    }
}
