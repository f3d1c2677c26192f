//! Clauses that the parser knows and DataFusion passes over without a word: an answer would be taken for what it isn't.

use datafusion::sql::sqlparser::ast::{GroupByExpr, Query, Select, TableFactor, Visit, Visitor};
use std::ops::ControlFlow::{self, Break, Continue};

/// The first of them in a statement.
pub(super) fn clause(statement: &impl Visit) -> Option<&'static str> {
    statement.visit(&mut Clauses).break_value()
}

struct Clauses;

/// The first that is there.
fn first<const N: usize>(clauses: [(&'static str, bool); N]) -> ControlFlow<&'static str> {
    clauses.into_iter().find(|(_, is_there)| *is_there).map_or(Continue(()), |(name, _)| Break(name))
}

impl Visitor for Clauses {
    type Break = &'static str;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Self::Break> {
        first([
            ("FOR UPDATE and FOR SHARE", !query.locks.is_empty()),
            ("FOR XML and FOR JSON", query.for_clause.is_some()),
            ("SETTINGS", query.settings.is_some()),
            ("FORMAT", query.format_clause.is_some()),
        ])
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Self::Break> {
        let (GroupByExpr::All(modifiers) | GroupByExpr::Expressions(_, modifiers)) = &select.group_by;
        first([
            ("what follows GROUP BY without brackets (write GROUP BY ROLLUP (…))", !modifiers.is_empty()),
            ("PREWHERE", select.prewhere.is_some()),
            ("CONNECT BY", !select.connect_by.is_empty()),
            ("DISTRIBUTE BY", !select.distribute_by.is_empty()),
            ("a modifier of SELECT", select.select_modifiers.as_ref().is_some_and(|all| all.is_any_set())),
            ("SELECT AS", select.value_table_mode.is_some()),
        ])
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<Self::Break> {
        match table {
            TableFactor::Table { sample, version, with_hints, index_hints, partitions, with_ordinality, .. } => {
                first([
                    ("TABLESAMPLE", sample.is_some()),
                    ("another version of a table", version.is_some()),
                    ("a hint to a table", !with_hints.is_empty() || !index_hints.is_empty()),
                    ("PARTITION", !partitions.is_empty()),
                    ("WITH ORDINALITY", *with_ordinality),
                ])
            }
            TableFactor::Derived { sample, .. } => first([("TABLESAMPLE", sample.is_some())]),
            _ => Continue(()),
        }
    }
}
