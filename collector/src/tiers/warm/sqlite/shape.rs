//! Whether tables are what our statements rest on, and whether something lies in the way of what is stored.

use super::failed;
use crate::tiers::TierError;
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeMap, BTreeSet};

/// What a file has of tables, and what belongs to them.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    tables: BTreeMap<String, Table>,
    /// By name: of which table, and how it was made.
    indexes: BTreeMap<String, (String, String)>,
    /// Name and table.
    triggers: BTreeSet<(String, String)>,
}

#[derive(Clone, Debug, Default)]
struct Table {
    made: String,
    columns: BTreeMap<String, Column>,
}

#[derive(Clone, PartialEq, Debug)]
struct Column {
    kind: String,
    not_null: bool,
    default: Option<String>,
    /// Its place in the key; 0: none.
    key: i64,
}

/// What of it isn't as it should be.
#[derive(Debug, Default)]
pub(super) struct Differences {
    /// Nothing is stored until that is put right.
    pub(super) wrong: Vec<String>,
    /// Questions take longer.
    pub(super) missing: Vec<String>,
}

impl Shape {
    pub(super) async fn of(connection: &mut SqliteConnection) -> Result<Self, TierError> {
        let mut shape = Self::default();
        let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
        let all: Vec<(String, String, String, String)> =
            sqlx::query_as(sql).fetch_all(&mut *connection).await.map_err(failed)?;
        for (what, name, table, made) in all {
            match what.as_str() {
                "table" => drop(shape.tables.insert(name, Table { made, columns: BTreeMap::new() })),
                "index" => drop(shape.indexes.insert(name, (table, made))),
                "trigger" => drop(shape.triggers.insert((name, table))),
                _ => {} // views are nobody's business
            }
        }
        let sql = "SELECT t.name, c.name, c.type, c.\"notnull\", c.dflt_value, c.pk \
                   FROM sqlite_schema AS t JOIN pragma_table_info(t.name) AS c WHERE t.type = 'table'";
        let columns: Vec<(String, String, String, bool, Option<String>, i64)> =
            sqlx::query_as(sql).fetch_all(connection).await.map_err(failed)?;
        for (table, name, kind, not_null, default, key) in columns {
            if let Some(table) = shape.tables.get_mut(&table) {
                table.columns.insert(name, Column { kind, not_null, default, key });
            }
        }
        Ok(shape)
    }

    pub(super) fn without_table(mut self, name: &str) -> Self {
        self.tables.remove(name);
        self
    }

    pub(super) fn has_table(&self, name: &str) -> bool {
        self.tables.contains_key(name)
    }

    /// The first table that has the name of one of ours.
    pub(super) fn any_of(&self, ours: &Self) -> Option<&str> {
        self.tables.keys().find(|name| ours.has_table(name)).map(String::as_str)
    }

    /// How it differs from what this program makes.
    pub(super) fn differences(&self, ours: &Self) -> Differences {
        let mut found = Differences::default();
        for (name, table) in &ours.tables {
            match self.tables.get(name) {
                None => found.wrong.push(format!("table {name} is missing")),
                Some(there) => found.wrong.extend(table.differences(name, there)),
            }
        }
        for (name, (_, made)) in &ours.indexes {
            let there = self.indexes.get(name).map(|(_, there)| plain(there));
            if there.is_none_or(|there| there != plain(made)) {
                let list = if is_unique(made) { &mut found.wrong } else { &mut found.missing };
                list.push(format!("index {name} is missing or was altered: {made}"));
            }
        }
        for (name, (table, made)) in &self.indexes {
            if is_unique(made) && ours.has_table(table) && !ours.indexes.contains_key(name) {
                found
                    .wrong
                    .push(format!("index {name} of {table} is none of ours and refuses rows: DROP INDEX {name}"));
            }
        }
        for (name, table) in self.triggers.iter().filter(|(_, table)| ours.has_table(table)) {
            found
                .wrong
                .push(format!("trigger {name} on {table} is none of ours and may swallow rows: DROP TRIGGER {name}"));
        }
        found
    }
}

impl Table {
    fn differences(&self, name: &str, there: &Self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (column, wanted) in &self.columns {
            match there.columns.get(column) {
                None => wrong.push(format!("column {name}.{column} is missing")),
                Some(found) if found != wanted => {
                    wrong.push(format!("column {name}.{column} is {found}, not {wanted}"));
                }
                Some(_) => {}
            }
        }
        let others: Vec<_> = there.columns.iter().filter(|(column, _)| !self.columns.contains_key(*column)).collect();
        for (column, _) in others.iter().filter(|(_, column)| column.not_null && column.default.is_none()) {
            wrong.push(format!("column {name}.{column} is none of ours and refuses rows: drop it"));
        }
        // Keys and checks stand in the text only; a column more is in there, too, and harms nobody.
        if wrong.is_empty() && others.is_empty() && plain(&self.made) != plain(&there.made) {
            wrong.push(format!("table {name} was altered; it was made by {}", self.made));
        }
        wrong
    }
}

impl std::fmt::Display for Column {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.kind)?;
        f.write_str(if self.not_null { " NOT NULL" } else { "" })?;
        if let Some(default) = &self.default {
            write!(f, " DEFAULT {default}")?;
        }
        if self.key > 0 { write!(f, ", {} in the key", self.key) } else { Ok(()) }
    }
}

fn is_unique(made: &str) -> bool {
    plain(made).starts_with("CREATEUNIQUE")
}

/// Without comments, quotes and blanks, in which two texts may differ that say the same.
fn plain(made: &str) -> String {
    let lines = made.lines().map(|line| line.split_once("--").map_or(line, |(before, _)| before));
    lines.flat_map(str::chars).filter(|c| !c.is_whitespace() && *c != '"').collect()
}
