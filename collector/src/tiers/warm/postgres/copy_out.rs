//! Readings by `COPY … TO STDOUT (FORMAT binary)`, the fastest way out (PostgreSQL manual, COPY, "Binary Format").

use super::fault::{failed, unavailable};
use super::pools::{self, Use};
use super::rows::{self, strange};
use super::{Layout, PostgresWarm, partitions};
use crate::tiers::{Day, Run, SeriesId, SeriesKey, StoredReading, TierError};
use futures::SinkExt as _;
use futures::TryStreamExt as _;
use futures::channel::mpsc::Sender;
use shared::reading::{Held, Quality, Timestamp};
use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use std::collections::HashMap;
use std::sync::Arc;

/// Readings of a run at most.
const RUN: usize = 8 * 1024;
/// Before the first row: a signature, flags, and an extension that is always empty.
const HEAD: usize = 19;
/// 2000-01-01, from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800_000_000;
/// One picture of all of it. What doesn't fit into memory is sorted on the server's disk.
const BEGIN: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL work_mem TO '64MB'";

type Names = HashMap<SeriesId, Arc<SeriesKey>>;

impl PostgresWarm {
    /// Reads a day and sends it away as runs. On a connection of its own: whoever gives up in the midst of it leaves it
    /// in no state to be used again.
    pub(super) async fn send_day(&self, day: Day, to: Sender<Run>) -> Result<(), TierError> {
        let layout = self.ready().await?;
        let mut connection = pools::connect(&self.settings, Use::Export).await?;
        connection.execute(BEGIN).await.map_err(failed)?;
        // Without it the archive would have a part of the day in place of all of it.
        if layout == Layout::Plain && partitions::detached(&mut connection).await?.contains(&day.0.into()) {
            return Err(unavailable(partitions::to_be_attached(day.0.into())));
        }
        let names = names(&mut connection).await?;
        let sql = format!(
            "COPY (SELECT series_id, ts, value, quality, revision FROM readings WHERE ts >= '{}' AND ts < '{}' \
             ORDER BY series_id, ts) TO STDOUT (FORMAT binary)",
            day.start(),
            day.end()
        );
        let mut pieces = connection.copy_out_raw(&sql).await.map_err(failed)?;
        let mut runs = Cutter { names, to, run: None };
        let (mut bytes, mut head, mut ended) = (Vec::new(), HEAD, false);
        while let Some(piece) = pieces.try_next().await.map_err(failed)? {
            bytes.extend_from_slice(&piece);
            let mut rest = bytes.as_slice();
            if head > 0 {
                let Some(after) = rest.get(head..) else { continue };
                (rest, head) = (after, 0);
            }
            while let Some(row) = take_row(&mut rest)?.filter(|_| !ended) {
                match row {
                    Row::Reading(reading) => runs.push(reading).await?,
                    Row::End => ended = true,
                }
            }
            let read = bytes.len() - rest.len();
            bytes.drain(..read);
        }
        drop(pieces);
        if !ended {
            return Err(unavailable(format!("{day} broke off while it was read")));
        }
        connection.execute("COMMIT").await.map_err(failed)?;
        connection.close().await.map_err(failed)?;
        runs.finish().await
    }
}

async fn names(connection: &mut PgConnection) -> Result<Names, TierError> {
    let rows = sqlx::query("SELECT series_id, node, metric, channel FROM series").fetch_all(connection).await;
    let named = |row: &sqlx::postgres::PgRow| {
        let number: i32 = row.try_get(0).map_err(failed)?;
        let series = u32::try_from(number).map_err(|_| strange(format!("series_id {number}")))?;
        Ok((SeriesId(series), Arc::new(rows::key(row)?)))
    };
    rows.map_err(failed)?.iter().map(named).collect()
}

/// Makes runs of readings that come in their order.
struct Cutter {
    names: Names,
    to: Sender<Run>,
    run: Option<Run>,
}

impl Cutter {
    async fn push(&mut self, reading: StoredReading) -> Result<(), TierError> {
        match &mut self.run {
            Some(run) if run.series == reading.series && run.readings.len() < RUN => run.readings.push(reading),
            _ => {
                self.send().await?;
                let series = reading.series;
                let key = self.names.get(&series).cloned();
                let key = key.ok_or_else(|| strange(format!("readings has series_id {series}, series hasn't")))?;
                let mut readings = Vec::with_capacity(RUN);
                readings.push(reading);
                self.run = Some(Run { series, key, readings });
            }
        }
        Ok(())
    }

    async fn send(&mut self) -> Result<(), TierError> {
        let Some(run) = self.run.take() else { return Ok(()) };
        self.to.send(run).await.map_err(|_| unavailable("nobody takes what is read"))
    }

    async fn finish(mut self) -> Result<(), TierError> {
        self.send().await
    }
}

enum Row {
    Reading(StoredReading),
    End,
}

/// The next row and what follows it; `None` when it isn't there whole.
fn take_row(bytes: &mut &[u8]) -> Result<Option<Row>, TierError> {
    let mut rest = *bytes;
    let Some(count) = take::<2>(&mut rest) else { return Ok(None) };
    match i16::from_be_bytes(count) {
        -1 => return Ok(Some(Row::End)),
        5 => {}
        other => return Err(unavailable(format!("a row of {other} columns instead of 5"))),
    }
    let mut fields: [Option<&[u8]>; 5] = [None; 5];
    for field in &mut fields {
        let Some(length) = take::<4>(&mut rest) else { return Ok(None) };
        if let Ok(length) = usize::try_from(i32::from_be_bytes(length)) {
            let Some((value, after)) = rest.split_at_checked(length) else { return Ok(None) };
            (*field, rest) = (Some(value), after);
        }
    }
    *bytes = rest;
    let [series, at, value, quality, revision] = fields;
    let series = i64::from(i32::from_be_bytes(fixed(series)?));
    let (quality, revision) = (i16::from_be_bytes(fixed(quality)?), i64::from_be_bytes(fixed(revision)?));
    let wrong = |_| strange(format!("a reading with series_id {series}, quality {quality}, revision {revision}"));
    Ok(Some(Row::Reading(StoredReading {
        series: SeriesId(u32::try_from(series).map_err(wrong)?),
        at: Timestamp(i64::from_be_bytes(fixed(at)?).saturating_add(EPOCH)),
        held: Held {
            value: value.map(|value| fixed(Some(value)).map(f64::from_be_bytes)).transpose()?,
            quality: Quality(u8::try_from(quality).map_err(wrong)?),
            revision: u32::try_from(revision).map_err(wrong)?,
        },
    })))
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*taken)
}

fn fixed<const N: usize>(field: Option<&[u8]>) -> Result<[u8; N], TierError> {
    let fits = field.and_then(|field| <[u8; N]>::try_from(field).ok());
    fits.ok_or_else(|| unavailable("a column of readings has another type: compare with `collector migrate --check`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(value: Option<f64>) -> Vec<u8> {
        let mut bytes = 5i16.to_be_bytes().to_vec();
        let value = value.map(f64::to_be_bytes);
        let (at, revision) = ((7i64 - EPOCH).to_be_bytes(), 4i64.to_be_bytes());
        let fields: [Option<&[u8]>; 5] = [
            Some(&3i32.to_be_bytes()),
            Some(&at),
            value.as_ref().map(<[u8; 8]>::as_slice),
            Some(&192i16.to_be_bytes()),
            Some(&revision),
        ];
        for field in fields {
            bytes.extend_from_slice(&field.map_or(-1, |f| f.len() as i32).to_be_bytes());
            bytes.extend_from_slice(field.unwrap_or_default());
        }
        bytes
    }

    #[test]
    fn rows_come_in_pieces_of_any_size() {
        let whole = [row(Some(1.5)), row(None), (-1i16).to_be_bytes().to_vec()].concat();
        for cut in 0..whole.len() {
            let (mut bytes, mut values, mut ended) = (Vec::new(), Vec::new(), false);
            for piece in [&whole[..cut], &whole[cut..]] {
                bytes.extend_from_slice(piece);
                let mut rest = bytes.as_slice();
                while let Some(row) = take_row(&mut rest).unwrap() {
                    match row {
                        Row::End => {
                            ended = true;
                            break;
                        }
                        Row::Reading(reading) => {
                            assert_eq!((reading.series, reading.at), (SeriesId(3), Timestamp(7)));
                            assert_eq!((reading.held.quality, reading.held.revision), (Quality(192), 4));
                            values.push(reading.held.value);
                        }
                    }
                }
                let read = bytes.len() - rest.len();
                bytes.drain(..read);
            }
            assert_eq!((values, ended), (vec![Some(1.5), None], true), "cut at {cut}");
        }
        assert!(take_row(&mut 6i16.to_be_bytes().as_slice()).is_err());
    }
}
