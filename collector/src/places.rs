//! What people say about nodes, for the dashboard's map: names, places, and where the water goes. Nothing else depends
//! on it.

use crate::config::Mistakes;
use serde::{Deserialize, Serialize};
use shared::ids::NodeId;
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// Longest name, characters.
const NAME_CHARS_MAX: usize = 60;
/// Most pipes that leave a node.
const TO_MAX: usize = 64;

/// A node.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Place {
    /// What people call it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it is drawn: to the right, downwards; in any unit, since only the proportions matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<(f64, f64)>,
    /// The nodes that its water flows to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<NodeId>,
    /// Whether its flow is flow into the network.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub inflow: bool,
}

/// `[nodes]`
#[derive(Clone, PartialEq, Debug, Default, Deserialize)]
#[serde(transparent)]
pub struct Places(BTreeMap<NodeId, Place>);

impl Places {
    /// What is said about a node.
    #[must_use]
    pub fn get(&self, node: &NodeId) -> Option<&Place> {
        self.0.get(node)
    }

    /// What can't be used.
    #[must_use]
    pub fn mistakes(&self) -> Mistakes {
        let mut found = Mistakes::default();
        for (node, place) in &self.0 {
            let key = |key: &str| format!("nodes.{node}.{key}");
            let name = place.name.as_deref().unwrap_or_default();
            let short = name.chars().count() <= NAME_CHARS_MAX;
            found.unless(short, &key("name"), format_args!("\"{name}\""), "at most 60 characters are possible");
            let (x, y) = place.at.unwrap_or_default();
            let drawn = x.is_finite() && y.is_finite();
            found.unless(drawn, &key("at"), format_args!("[{x}, {y}]"), "two numbers are needed");
            let count = place.to.len();
            found.unless(count <= TO_MAX, &key("to"), format_args!("{count} nodes"), "at most 64 are possible");
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_refused_by_name() {
        let places = |text: &str| toml::from_str::<Places>(text).unwrap();
        assert_eq!(
            places("A = { name = 'Old town', at = [1, 2.5], to = ['B'], inflow = true }").mistakes().keys().len(),
            0
        );
        let wrong = places("A = { at = [nan, 0.0] }").mistakes().keys().join(" ");
        assert!(wrong.contains("A.at"), "{wrong}");
        let long = places(&format!("A = {{ name = '{}' }}", "x".repeat(61))).mistakes().keys().join(" ");
        assert!(long.contains("A.name"), "{long}");
        assert!(toml::from_str::<Places>("A = { nmae = 'x' }").is_err());
    }
}
