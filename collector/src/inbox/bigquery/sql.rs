//! Questions to a table. Nothing in them comes from outside but names of columns, which stand there as they were found,
//! names of nodes, which are written so that they can't be anything else, numbers and moments.

use super::access::Address;
use super::moment;
use super::shape::{self, Shape};
use crate::inbox::rows::CELL_MAX;
use crate::inbox::settings::ForeignInbox;
use crate::inbox::store::NODES_MAX;
use std::fmt::Write as _;

/// A table's columns as questions name them.
pub(super) struct Columns {
    from: String,
    /// What rows are read by, a moment.
    place: String,
    /// The node as it is compared.
    node: String,
    micros: String,
    /// What is read of a row: node, place, moment, cells.
    row: String,
    is_local: bool,
    by_arrival: bool,
}

impl Columns {
    pub(super) fn new(table: &ForeignInbox, address: &Address, shape: Shape) -> Self {
        let (time, place, node) = (quoted(&table.time), quoted(shape::place(table)), quoted(&table.node));
        let by_arrival = table.received.is_some();
        let micros = |column: &str, is_local| match is_local {
            true => format!("UNIX_MICROS(TIMESTAMP({column}))"),
            false => format!("UNIX_MICROS({column})"),
        };
        let is_local = shape.is_local && !by_arrival;
        let (micros, time) = (micros(&place, is_local), micros(&time, shape.is_local));
        let cells = table.read_columns().enumerate();
        let cells: String = cells.map(|(n, (_, name))| format!(", {} AS c{n}", text(&quoted(name)))).collect();
        Self {
            from: address.quoted(),
            row: format!("{} AS node, {micros} AS micros, {time} AS time{cells}", text(&node)),
            node: if shape.node_is_text { node } else { format!("CAST({node} AS STRING)") },
            place,
            micros,
            is_local,
            by_arrival,
        }
    }

    fn constant(&self, micros: i64) -> String {
        moment::constant(micros, self.is_local)
    }

    /// Rows from a moment on, and those without one.
    fn window(&self, from: Option<i64>) -> String {
        let Self { place, .. } = self;
        format!("({place} IS NULL OR {place} >= {})", self.constant(from.unwrap_or(i64::MIN)))
    }

    /// Of each node its newest moment up to `until`, and how many rows have a later one or none.
    pub(super) fn nodes(&self, from: Option<i64>, until: i64) -> String {
        let Self { from: table, place, node, micros, .. } = self;
        let until = self.constant(until);
        format!(
            "SELECT {} AS node, MAX(IF({place} <= {until}, {micros}, NULL)) AS newest, \
             COUNTIF({place} IS NULL OR {place} > {until}) AS astray FROM {table} WHERE {} \
             GROUP BY 1 ORDER BY 1 LIMIT {}",
            text(node),
            self.window(from),
            NODES_MAX + 1
        )
    }

    fn of(&self, nodes: Option<&[&str]>, (from, to): (Option<i64>, i64)) -> String {
        let Self { from: table, place, node, .. } = self;
        let (from, to) = (self.constant(from.unwrap_or(i64::MIN)), self.constant(to));
        let mut text = format!("FROM {table} WHERE {place} >= {from} AND {place} <= {to}");
        if let Some(nodes) = nodes {
            let nodes: Vec<String> = nodes.iter().map(|node| literal(node)).collect();
            let _ = write!(text, " AND {node} IN ({})", nodes.join(", "));
        }
        text
    }

    /// How many rows each day has, from a moment up to another.
    pub(super) fn days(&self, nodes: Option<&[&str]>, span: (Option<i64>, i64)) -> String {
        let rows = self.of(nodes, span);
        format!("SELECT DIV({}, 86400000000) AS day, COUNT(*) AS n {rows} GROUP BY 1 ORDER BY 1", self.micros)
    }

    /// Rows from a moment up to another, by node and moment, or as they came; of all nodes, or of these.
    pub(super) fn rows(&self, nodes: Option<&[&str]>, span: (Option<i64>, i64)) -> String {
        let order = if self.by_arrival { "2" } else { "1, 2" };
        format!("SELECT {} {} ORDER BY {order}", self.row, self.of(nodes, span))
    }

    /// Rows that are in no place: later than `until`, or without moment or node.
    pub(super) fn astray(&self, from: Option<i64>, until: i64, count_max: u32) -> String {
        let Self { from: table, place, node, row, .. } = self;
        let (window, until) = (self.window(from), self.constant(until));
        let nobodys = if self.by_arrival { String::new() } else { format!(" OR IFNULL({node}, '') = ''") };
        format!(
            "SELECT {row} FROM {table} WHERE {window} AND ({place} IS NULL OR {place} > {until}{nobodys}) LIMIT {count_max}"
        )
    }
}

/// A name as a statement takes it; [`super::shape`] made sure of it.
fn quoted(name: &str) -> String {
    format!("`{}`", name.replace(['`', '\\'], ""))
}

fn text(column: &str) -> String {
    format!("SUBSTR(CAST({column} AS STRING), 1, {CELL_MAX})")
}

/// A text as a constant: whatever has a meaning in a statement stands there by its number.
pub(super) fn literal(text: &str) -> String {
    let mut literal = String::from("'");
    for c in text.chars() {
        match c {
            c if c.is_ascii_alphanumeric() || " _.-".contains(c) => literal.push(c),
            c => {
                let _ = write!(literal, "\\U{:08X}", u32::from(c));
            }
        }
    }
    literal + "'"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(is_local: bool, more: &str) -> Columns {
        let table = format!("name = 's'\ntable = 'p.d.t'\n{more}quality = 'flag'\ncolumns = {{ flow = 'flow_rate' }}");
        let address = Address { project: "p".into(), dataset: "d".into(), table: "t".into() };
        Columns::new(&toml::from_str(&table).unwrap(), &address, Shape { is_local, node_is_text: !is_local })
    }

    #[test]
    fn every_question_says_which_span_of_time() {
        let (utc, from, to) = (columns(false, ""), Some(1_772_359_200_000_000), 1_772_445_600_000_000);
        let since = "`timestamp` >= TIMESTAMP '2026-03-01 10:00:00+00'";
        let (days, rows) = (utc.days(Some(&["PUMP_1"]), (from, to)), utc.rows(None, (from, to)));
        for sql in [&utc.nodes(from, to), &days, &rows, &utc.astray(from, to, 9)] {
            assert!(sql.contains(since) && sql.contains("2026-03-02 10:00:00+00"), "{sql}");
        }
        assert!(rows.contains("SUBSTR(CAST(`flag` AS STRING), 1, 300) AS c1 FROM `p.d.t` WHERE"), "{rows}");
        assert!(days.contains("AND `node_id` IN ('PUMP_1')"), "{days}");
        assert!(utc.rows(None, (None, to)).contains(">= TIMESTAMP '0001-01-01 00:00:00+00'"));
        let arrived = columns(false, "received = 'came'\n");
        let (rows, astray) = (arrived.rows(None, (from, to)), arrived.astray(from, to, 9));
        assert!(rows.contains("UNIX_MICROS(`came`) AS micros, UNIX_MICROS(`timestamp`) AS time"), "{rows}");
        assert!(rows.contains("`came` >= TIMESTAMP '2026-03-01") && rows.ends_with("ORDER BY 2"), "{rows}");
        assert!(!astray.contains("IFNULL(`node_id`"), "they are read as they came: {astray}");
        let local = columns(true, "").rows(Some(&["7"]), (from, to));
        assert!(local.contains("UNIX_MICROS(TIMESTAMP(`timestamp`)) AS micros"), "{local}");
        assert!(local.contains("DATETIME '2026-03-01 10:00:00' AND"), "{local}");
        assert!(local.contains("CAST(`node_id` AS STRING) IN ('7')"), "{local}");
    }

    #[test]
    fn a_name_is_nothing_but_a_name() {
        assert_eq!(literal("Pump_1.a-b"), "'Pump_1.a-b'");
        assert_eq!(literal("'; DROP\\\n"), "'\\U00000027\\U0000003B DROP\\U0000005C\\U0000000A'");
        assert_eq!(literal("è"), "'\\U000000E8'");
        assert_eq!(quoted("a`; DROP"), "`a; DROP`");
    }
}
