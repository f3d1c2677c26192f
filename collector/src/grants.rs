//! Which gateway may write which nodes. What isn't granted is refused: there is no default grant.

use serde::Deserialize;
use shared::ids::{GatewayId, NodeId};
use std::collections::BTreeMap;

/// A node name with `*` for any run of characters and `?` for one.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "String")]
pub struct Pattern(Box<str>);

/// Why a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is no node pattern: letters, digits, _ . - and the wildcards * and ? are allowed, at most 64 of them")]
pub struct PatternError(String);

impl TryFrom<String> for Pattern {
    type Error = PatternError;
    fn try_from(text: String) -> Result<Self, PatternError> {
        let known = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-*?".contains(&b));
        if text.is_empty() || text.len() > shared::ids::NAME_BYTES_MAX || !known {
            return Err(PatternError(text.chars().take(80).collect()));
        }
        Ok(Self(text.into()))
    }
}

impl Pattern {
    /// Whether the node's name is one of those meant.
    #[must_use]
    pub fn matches(&self, node: &NodeId) -> bool {
        let (pattern, name) = (self.0.as_bytes(), node.as_str().as_bytes());
        // Greedy with one way back, to the last star: linear memory, and no pattern makes it exponential.
        let (mut p, mut n, mut star) = (0, 0, None);
        while n < name.len() {
            match pattern.get(p) {
                Some(b'*') => {
                    star = Some((p, n));
                    p += 1;
                }
                Some(&c) if c == b'?' || c == name[n] => {
                    p += 1;
                    n += 1;
                }
                _ => match &mut star {
                    Some((at, from)) => {
                        *from += 1;
                        (p, n) = (*at + 1, *from);
                    }
                    None => return false,
                },
            }
        }
        pattern[p..].iter().all(|c| *c == b'*')
    }
}

/// All grants.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Grants(BTreeMap<GatewayId, Vec<Pattern>>);

impl Grants {
    /// Whether this gateway may write this node.
    #[must_use]
    pub fn allows(&self, gateway: &GatewayId, node: &NodeId) -> bool {
        self.0.get(gateway).is_some_and(|patterns| patterns.iter().any(|p| p.matches(node)))
    }

    /// Whether this gateway may write anything at all.
    #[must_use]
    pub fn knows(&self, gateway: &GatewayId) -> bool {
        self.0.get(gateway).is_some_and(|patterns| !patterns.is_empty())
    }

    /// Every gateway and the patterns it is granted.
    pub fn iter(&self) -> impl Iterator<Item = (&GatewayId, Vec<&str>)> {
        self.0.iter().map(|(gateway, patterns)| (gateway, patterns.iter().map(|p| &*p.0).collect()))
    }

    /// How many gateways have grants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody has any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, node: &str) -> bool {
        Pattern::try_from(pattern.to_string()).unwrap().matches(&NodeId::new(node).unwrap())
    }

    #[test]
    fn stars_and_question_marks_stand_for_what_they_say() {
        for (pattern, node, expected) in [
            ("DIST_001", "DIST_001", true),
            ("DIST_001", "DIST_0012", false),
            ("DIST_*", "DIST_001", true),
            ("DIST_*", "DIST_", true),
            ("DIST_*", "RES_001", false),
            ("*", "ANY", true),
            ("DIST_00?", "DIST_007", true),
            ("DIST_00?", "DIST_00", false),
            ("*_A*_B", "X_A_Y_A_B", true),
            ("*ab", "aab", true),
            ("a*b*c", "abcbcd", false),
        ] {
            assert_eq!(matches(pattern, node), expected, "{pattern} {node}");
        }
    }

    #[test]
    fn only_what_is_granted_is_allowed() {
        let grants: Grants = toml::from_str("STATION_7 = ['DIST_00?', 'RES_*']\nSTATION_8 = []").unwrap();
        let (station, node) = (|n: &str| GatewayId::new(n).unwrap(), |n: &str| NodeId::new(n).unwrap());
        assert!(grants.allows(&station("STATION_7"), &node("DIST_001")));
        assert!(!grants.allows(&station("STATION_7"), &node("PUMP_1")));
        assert!(!grants.allows(&station("STATION_8"), &node("DIST_001")));
        assert!(!grants.allows(&station("STRANGER"), &node("DIST_001")));
        assert!(!grants.knows(&station("STATION_8")));
    }

    #[test]
    fn a_pattern_that_can_match_no_node_is_refused_by_name() {
        let error = toml::from_str::<Grants>("STATION_7 = ['DIST 1']").unwrap_err().to_string();
        assert!(error.contains("'DIST 1' is no node pattern"), "{error}");
    }

    proptest! {
        #[test]
        fn agrees_with_the_obvious_recursion(pattern in "[ab*?]{1,8}", node in "[ab]{1,10}") {
            fn slow(p: &[u8], n: &[u8]) -> bool {
                match (p.first(), n.first()) {
                    (None, None) => true,
                    (Some(b'*'), _) => slow(&p[1..], n) || (!n.is_empty() && slow(p, &n[1..])),
                    (Some(c), Some(d)) if *c == b'?' || c == d => slow(&p[1..], &n[1..]),
                    _ => false,
                }
            }
            prop_assert_eq!(matches(&pattern, &node), slow(pattern.as_bytes(), node.as_bytes()));
        }
    }
}
