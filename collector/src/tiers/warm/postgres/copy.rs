//! Rows by `COPY … FROM STDIN (FORMAT binary)`, the fastest way in (PostgreSQL manual, COPY, "Binary Format").

use super::rows::number;
use super::time::PgTime;
use crate::tiers::StoredReading;
use sqlx::PgConnection;

/// Rows are sent when they fill so many bytes.
const CHUNK: usize = 256 * 1024;
const SIGNATURE: &[u8] = b"PGCOPY\n\xff\r\n\0";

/// One row.
struct Row<'a>(&'a mut Vec<u8>);

impl Row<'_> {
    fn field(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    fn null(&mut self) {
        self.0.extend_from_slice(&(-1i32).to_be_bytes());
    }
}

/// Gives the number of rows that were written.
async fn copy(
    connection: &mut PgConnection,
    sql: &'static str,
    readings: &[StoredReading],
) -> Result<u64, sqlx::Error> {
    let mut copy = connection.copy_in_raw(sql).await?;
    let mut bytes = Vec::with_capacity(CHUNK + 256);
    bytes.extend_from_slice(SIGNATURE);
    bytes.extend_from_slice(&[0; 8]); // no flags, no extension of the header
    for reading in readings {
        encode(reading, &mut Row(&mut bytes));
        if bytes.len() >= CHUNK {
            copy.send(bytes.as_slice()).await?;
            bytes.clear();
        }
    }
    bytes.extend_from_slice(&(-1i16).to_be_bytes());
    copy.send(bytes.as_slice()).await?;
    copy.finish().await
}

fn encode(reading: &StoredReading, row: &mut Row<'_>) {
    row.0.extend_from_slice(&5i16.to_be_bytes());
    row.field(&number(reading.series).to_be_bytes());
    row.field(&i16::from(reading.held.quality.0).to_be_bytes());
    row.field(&PgTime(reading.at).to_wire());
    match reading.held.value {
        Some(value) => row.field(&value.to_be_bytes()),
        None => row.null(),
    }
    row.field(&i64::from(reading.held.revision).to_be_bytes());
}

/// Into `readings`; fails when a key is there already.
pub(super) async fn readings(connection: &mut PgConnection, readings: &[StoredReading]) -> Result<u64, sqlx::Error> {
    let sql = "COPY readings (series_id, quality, ts, value, revision) FROM STDIN (FORMAT binary)";
    copy(connection, sql, readings).await
}

/// Into `staged_readings`.
pub(super) async fn staged(connection: &mut PgConnection, readings: &[StoredReading]) -> Result<u64, sqlx::Error> {
    let sql = "COPY staged_readings (series_id, quality, ts, value, revision) FROM STDIN (FORMAT binary)";
    copy(connection, sql, readings).await
}
