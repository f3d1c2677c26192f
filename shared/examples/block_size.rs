//! Bytes a reading takes in a block, beside Influx line protocol and JSON, both through gzip.
//!
//! `block_size [--json]`. The station is made up, with a fixed seed: 10 flows
//! and 10 pressures every 10 s, noise 0.3 % around a slow daily course, resolution 0.01. Each batch is encoded
//! by itself, as it would have to be sent.

#[path = "figures/mod.rs"]
mod figures;

use figures::{Budget, figure};
use flate2::{Compression, write::GzEncoder};
use shared::block::{BLOCK_BYTES_MAX, BlockBuilder, Row, TimeBase, decode};
use shared::catalogue::{CatalogueHash, PointNo};
use shared::reading::{MICROS_PER_SECOND, Quality, Timestamp};
use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

const POINTS: u32 = 20;
const INTERVAL_S: i64 = 10;
const HOURS: i64 = 24;
const START_S: i64 = 1_767_225_600;

/// A small generator of our own, so that the figures are the same everywhere and for ever.
struct Noise(u64);

impl Noise {
    fn uniform(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Nearly normal, mean 0, deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

/// All readings by time, as a poll of the whole station gives them.
fn station(noise: &mut Noise) -> Vec<Row> {
    let mut rows = Vec::new();
    for tick in 0..HOURS * 3600 / INTERVAL_S {
        let day = (tick * INTERVAL_S) as f64 / 86_400.0 * std::f64::consts::TAU;
        for point in 0..POINTS {
            let phase = f64::from(point) * 0.7;
            let course = match point < 10 {
                true => (20.0 + 8.0 * f64::from(point)) * (1.0 + 0.3 * (day + phase).sin()), // L/s
                false => 2.5 + 0.4 * f64::from(point - 10) + 0.2 * (day + phase).cos(),      // bar
            };
            let value = course * (1.0 + 0.003 * noise.normal());
            rows.push(Row {
                point: PointNo(point),
                at: Timestamp((START_S + tick * INTERVAL_S) * MICROS_PER_SECOND),
                value: Some((value * 100.0).round() / 100.0),
                quality: Quality::GOOD,
            });
        }
    }
    rows
}

fn name(row: &Row) -> (&'static str, &'static str, u32) {
    match row.point.0 {
        point @ 0..10 => ("flow_rate", "L/s", point),
        point => ("pressure", "bar", point - 10),
    }
}

fn gzip(text: &str) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).map_or(0, |bytes| bytes.len())
}

fn influx(rows: &[Row]) -> String {
    rows.iter().fold(String::new(), |mut text, row| {
        let (metric, _, number) = name(row);
        let value = row.value.unwrap_or_default();
        let _ = writeln!(text, "{metric},node=DIST_{number:03} value={value},quality=0i {}000", row.at.0);
        text
    })
}

fn json(rows: &[Row]) -> String {
    let all: Vec<_> = rows
        .iter()
        .map(|row| {
            let (metric, unit, number) = name(row);
            serde_json::json!({"node_id": format!("DIST_{number:03}"), "metric": metric, "unit": unit,
                "timestamp": row.at.to_string(), "value": row.value, "quality": "good"})
        })
        .collect();
    serde_json::Value::from(all).to_string()
}

/// As few blocks as take all rows.
fn blocks(rows: &[Row]) -> Vec<bytes::Bytes> {
    let mut builder = BlockBuilder::new(TimeBase::Utc);
    let mut done = Vec::new();
    for row in rows {
        if !builder.push(*row, Some(-2)) {
            let full = std::mem::replace(&mut builder, BlockBuilder::new(TimeBase::Utc));
            done.extend(full.finish(CatalogueHash([0; 16])));
            assert!(builder.push(*row, Some(-2)), "an empty block takes any row");
        }
    }
    done.extend(builder.finish(CatalogueHash([0; 16])));
    done.into_iter().map(|encoded| encoded.bytes).collect()
}

fn main() {
    let (as_json, _) = figures::arguments();
    let seed = 42;
    let rows = station(&mut Noise(seed));
    let sizes: Vec<_> = [(10, None), (60, Some(2.5)), (600, Some(1.2)), (3600, None)]
        .into_iter()
        .flat_map(|(age_s, bound)| sizes(&rows, age_s, bound.map_or(Budget::None, Budget::AtMost)))
        .collect();
    let station = format!("a station of {POINTS} points every {INTERVAL_S} s for {HOURS} h, made up, seed {seed}");
    figures::print(&station, &sizes, as_json);
    let times: Vec<_> = [120, 1200, 2000].into_iter().flat_map(|readings| times(&rows, readings)).collect();
    figures::print("the same, one core", &times, as_json);
}

fn sizes(rows: &[Row], age_s: i64, budget: Budget) -> [figures::Figure; 3] {
    let (mut ours, mut lines, mut objects) = (0, 0, 0);
    for batch in rows.chunks((age_s / INTERVAL_S) as usize * POINTS as usize) {
        let encoded = blocks(batch);
        assert!(encoded.iter().all(|bytes| bytes.len() <= BLOCK_BYTES_MAX));
        ours += encoded.iter().map(bytes::Bytes::len).sum::<usize>();
        lines += gzip(&influx(batch));
        objects += gzip(&json(batch));
    }
    let per_reading = |what: &str, bytes: usize, budget: Budget| {
        figure(format!("{what} of {age_s} s"), bytes as f64 / rows.len() as f64, "bytes a reading", budget)
    };
    [
        per_reading("blocks", ours, budget),
        per_reading("  Influx lines, gzip,", lines, Budget::None),
        per_reading("  JSON, gzip,", objects, Budget::None),
    ]
}

fn times(rows: &[Row], batch: usize) -> [figures::Figure; 3] {
    let (mut push, mut finish, mut read, mut readings) = (0, 0, 0, 0);
    for batch in rows.chunks_exact(batch) {
        let mut builder = BlockBuilder::new(TimeBase::Utc);
        let start = Instant::now();
        let taken = batch.iter().filter(|row| builder.push(**row, Some(-2))).count();
        push += start.elapsed().as_nanos();
        let start = Instant::now();
        let encoded = builder.finish(CatalogueHash([0; 16]));
        finish += start.elapsed().as_nanos();
        let start = Instant::now();
        let back = encoded.and_then(|encoded| decode(&encoded.bytes).ok()).map_or(0, |block| block.rows.len());
        read += start.elapsed().as_nanos();
        assert_eq!(back, taken, "every row comes back");
        readings += taken as u128;
    }
    [("push", push), ("finish", finish), ("decode", read)].map(|(what, nanos)| {
        let name = format!("{what}, {batch} readings a block");
        figure(name, (nanos / readings) as f64, "ns a reading", Budget::None)
    })
}
