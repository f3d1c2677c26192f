//! What people say about nodes, for the dashboard's map: names, places, and where the water goes. Nothing else depends
//! on it.

use crate::config::ValueError;
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

    /// Checks what types can't.
    ///
    /// # Errors
    /// For the first value that can't be used.
    pub fn check(&self) -> Result<(), ValueError> {
        for (node, place) in &self.0 {
            let wrong = |key: &str, why: &str| Err(ValueError::new("nodes", format!("{node}.{key}"), why));
            if place.name.as_ref().is_some_and(|name| name.chars().count() > NAME_CHARS_MAX) {
                return wrong("name", "at most 60 characters are possible");
            }
            if place.at.is_some_and(|(x, y)| !x.is_finite() || !y.is_finite()) {
                return wrong("at", "two numbers are needed");
            }
            if place.to.len() > TO_MAX {
                return wrong("to", "at most 64 nodes are possible");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_drawn_is_refused_by_name() {
        let places = |text: &str| toml::from_str::<Places>(text).unwrap();
        assert_eq!(places("A = { name = 'Old town', at = [1, 2.5], to = ['B'], inflow = true }").check(), Ok(()));
        let wrong = places("A = { at = [nan, 0.0] }").check().unwrap_err().to_string();
        assert!(wrong.contains("A.at"), "{wrong}");
        let long = places(&format!("A = {{ name = '{}' }}", "x".repeat(61))).check().unwrap_err().to_string();
        assert!(long.contains("A.name"), "{long}");
        assert!(toml::from_str::<Places>("A = { nmae = 'x' }").is_err());
    }
}
