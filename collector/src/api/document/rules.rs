//! What the document says about a route is what holds for it.

use super::{COST, OF_PEOPLE, ROLE, each};
use crate::access::Role;
use crate::api::rates::Cost;
use axum::http::Method;
use std::collections::{BTreeSet, HashMap};
use utoipa::openapi::path::ParameterIn;
use utoipa::openapi::{OpenApi, RefOr};

/// What holds for a path and a method.
pub(in crate::api) struct Rule {
    /// The least role; `None`: nobody has to say who it is.
    pub(in crate::api) role: Option<Role>,
    /// It is for people who have logged in.
    pub(in crate::api) of_people: bool,
    /// The parameters it takes.
    pub(in crate::api) parameters: BTreeSet<String>,
    /// How it is limited.
    pub(in crate::api) cost: Option<Cost>,
}

/// All of them.
pub(in crate::api) struct Rules(HashMap<String, Vec<(Method, Rule)>>);

impl Rules {
    /// As they are described.
    pub(in crate::api) fn of(document: &OpenApi) -> Self {
        let mut rules = HashMap::<String, Vec<_>>::new();
        each(&mut document.paths.clone(), |method, path, operation| {
            let said = |name| operation.extensions.as_ref().and_then(|all| all.get(name)).cloned();
            let parameters = operation.parameters.iter().flatten().filter_map(|parameter| match parameter {
                RefOr::T(parameter) if parameter.parameter_in == ParameterIn::Query => Some(parameter.name.clone()),
                _ => None,
            });
            let rule = Rule {
                role: said(ROLE).and_then(|role| serde_json::from_value(role).ok()),
                of_people: said(OF_PEOPLE).is_some(),
                parameters: parameters.collect(),
                cost: said(COST).and_then(|cost| serde_json::from_value(cost).ok()),
            };
            rules.entry(path.to_owned()).or_default().push((method.clone(), rule));
        });
        Self(rules)
    }

    /// What holds there.
    pub(in crate::api) fn of_route(&self, method: &Method, path: &str) -> Option<&Rule> {
        let method = if method == Method::HEAD { &Method::GET } else { method };
        let (_, rule) = self.0.get(path)?.iter().find(|(known, _)| known == method)?;
        Some(rule)
    }
}
