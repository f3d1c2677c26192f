//! Statements and their parts. Nothing in them comes from outside but names that the settings have checked, numbers and
//! moments.

use super::table::COLUMNS;
use crate::tiers::{Day, SeriesId};
use shared::reading::{Quality, Timestamp};

/// The moments that BigQuery has.
const FIRST: Timestamp = Timestamp(-62_135_596_800_000_000);
const LAST: Timestamp = Timestamp(253_402_300_799_999_999);

/// A moment as a constant, so that partitions are pruned by it.
fn moment(at: Timestamp) -> String {
    let at = at.clamp(FIRST, LAST);
    let seconds = at.0.div_euclid(1_000_000) - Day::of(at).start().0 / 1_000_000;
    let (hour, minute, second, micros) = (seconds / 3_600, seconds / 60 % 60, seconds % 60, at.0.rem_euclid(1_000_000));
    format!("TIMESTAMP '{} {hour:02}:{minute:02}:{second:02}.{micros:06}+00:00'", Day::of(at))
}

/// `from <= ts < to`, on the column `ts`.
pub(super) fn within(ts: &str, from: Timestamp, to: Timestamp) -> String {
    // Only so is the last moment of all within.
    let last = to.plus_micros(-1);
    format!("{ts} >= {} AND {ts} <= {}", moment(from), moment(last))
}

fn day_within(ts: &str, day: Day) -> String {
    within(ts, day.start(), day.end())
}

/// All columns of all rows, from a table or several.
fn from_all(tables: &[String]) -> String {
    let each: Vec<String> = tables.iter().map(|table| format!("SELECT {COLUMNS} FROM {table}")).collect();
    format!("({})", each.join(" UNION ALL "))
}

const ROW: &str = "series, node, metric, channel, UNIX_MICROS(ts) AS micros, value, quality, revision, row_hash";

/// All rows of tables that hold nothing else than one day.
pub(super) fn staged_rows(tables: &[String]) -> String {
    format!("SELECT {ROW} FROM {} ORDER BY series, micros", from_all(tables))
}

/// All rows of a day.
pub(super) fn day_rows(table: &str, day: Day) -> String {
    format!("SELECT {ROW} FROM {table} WHERE {} ORDER BY series, micros", day_within("ts", day))
}

/// How many rows a day has, and the XOR of the hashes that stand beside them.
pub(super) fn day_proof(table: &str, day: Day) -> String {
    format!("SELECT COUNT(*) AS n, BIT_XOR(row_hash) AS x FROM {table} WHERE {}", day_within("ts", day))
}

/// The rows of `staged` in the place of all that a day has, in one step.
pub(super) fn swap(table: &str, day: Day, staged: &[String]) -> String {
    if staged.is_empty() {
        return format!("DELETE FROM {table} WHERE {}", day_within("ts", day));
    }
    format!(
        "MERGE {table} T USING {} S ON FALSE WHEN NOT MATCHED BY SOURCE AND {} THEN DELETE \
         WHEN NOT MATCHED BY TARGET THEN INSERT ({COLUMNS}) VALUES ({COLUMNS})",
        from_all(staged),
        day_within("T.ts", day)
    )
}

/// Notes that a day is held.
pub(super) fn hold(days: &str, day: Day) -> String {
    format!(
        "MERGE {days} T USING (SELECT DATE '{day}' AS day) S ON T.day = S.day \
         WHEN NOT MATCHED THEN INSERT (day) VALUES (day)"
    )
}

const READING: &str = "series, UNIX_MICROS(ts) AS micros, value, quality, revision";

/// The readings of a series with `from <= ts < to`, ascending.
pub(super) fn range(table: &str, series: SeriesId, (from, to): (Timestamp, Timestamp), count_max: u32) -> String {
    let within = within("ts", from, to);
    format!("SELECT {READING} FROM {table} WHERE {within} AND series = {} ORDER BY micros LIMIT {count_max}", series.0)
}

/// The last reading of a series with `from <= ts < to`.
pub(super) fn last(table: &str, series: SeriesId, (from, to): (Timestamp, Timestamp), usable: bool) -> String {
    let usable =
        if usable { format!(" AND value IS NOT NULL AND quality IN ({})", usable_qualities()) } else { String::new() };
    let within = within("ts", from, to);
    format!(
        "SELECT {READING} FROM {table} WHERE {within} AND series = {}{usable} ORDER BY micros DESC LIMIT 1",
        series.0
    )
}

fn usable_qualities() -> String {
    let usable = (0..=u8::MAX).filter(|byte| Quality(*byte).is_usable());
    usable.map(|byte| byte.to_string()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_constants_that_bigquery_has() {
        let day: Day = "2024-10-05".parse().unwrap();
        assert_eq!(moment(day.end().plus_micros(-1)), "TIMESTAMP '2024-10-05 23:59:59.999999+00:00'");
        assert_eq!(moment(Timestamp(-1)), "TIMESTAMP '1969-12-31 23:59:59.999999+00:00'");
        assert_eq!(moment(Timestamp(i64::MIN)), "TIMESTAMP '0001-01-01 00:00:00.000000+00:00'");
        assert_eq!(moment(Timestamp(i64::MAX)), "TIMESTAMP '9999-12-31 23:59:59.999999+00:00'");
        assert_eq!((Day::FIRST.start(), Day::LAST.end().plus_micros(-1)), (FIRST, LAST));
    }

    #[test]
    fn whatever_reads_or_changes_readings_says_which_days() {
        let (day, span) = (Day(20_001), (Day(20_001).start(), Day(20_002).end()));
        for sql in [
            day_rows("t", day),
            day_proof("t", day),
            swap("t", day, &[]),
            swap("t", day, &["s".into()]),
            range("t", SeriesId(1), span, 5),
            last("t", SeriesId(1), span, true),
        ] {
            assert!(sql.contains("ts >= TIMESTAMP '2024-10-05 00:00:00.000000+00:00'"), "{sql}");
        }
    }
}
