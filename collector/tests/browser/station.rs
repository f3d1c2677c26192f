//! A gateway that says what it is told to say.

#![allow(unreachable_pub)] // of modules of a test

use crate::seed::{GATEWAY, catalogue, point, reads};
use crate::support::{Client, Collector, STREAM, block, hello, now, seqs, status};
use shared::block::{Row, TimeBase};
use shared::catalogue::{CatalogueHash, PointNo};
use shared::reading::{Quality, Timestamp};
use shared::wire::Message;

pub struct Station {
    client: Client,
    hash: CatalogueHash,
    seq: u64,
    harmless: bool,
}

impl Station {
    pub async fn connect(to: &Collector, harmless: bool) -> Self {
        let mut client = Client::connect(to, GATEWAY, hello(STREAM, 0)).await;
        let catalogue = catalogue(harmless);
        client.send(Message::Catalogue { bytes: catalogue.to_bytes().into() }).await;
        client.send(Message::Status(status())).await;
        Self { client, hash: catalogue.hash(), seq: 0, harmless }
    }

    /// As agents do: newest values at once, and the same in a block.
    pub async fn say(&mut self, values: &[(&str, &str, f64)]) {
        self.seq += 1;
        let at = now();
        let mut readings: Vec<_> = values.iter().map(|(n, m, value)| (point(n, m), at, *value)).collect();
        readings.sort_by_key(|(point, ..)| *point);
        let row = |(point, at, value): &(u32, i64, f64)| Row {
            point: PointNo(*point),
            at: Timestamp(*at),
            value: Some(*value),
            quality: Quality::GOOD,
        };
        let rows = readings.iter().map(row).collect();
        self.client.send(Message::Live { catalogue: self.hash, rows }).await;
        let bytes = block(self.hash, TimeBase::Utc, &readings);
        self.client.block(self.seq, bytes).await;
        self.client.wait_stored(seqs([self.seq])).await;
    }

    pub async fn fail(&mut self, node: &str, metric: &str) {
        let row = Row {
            point: PointNo(point(node, metric)),
            at: Timestamp(now()),
            value: None,
            quality: Quality::BAD_TIMEOUT,
        };
        self.client.send(Message::Live { catalogue: self.hash, rows: vec![row] }).await;
    }

    /// Every series once.
    pub async fn say_all(&mut self) {
        let mut values = [
            ("RES_001", "flow_rate", 71.5),
            ("RES_001", "level", 3.4),
            ("PUMP_001", "running", 1.0),
            ("DIST_001", "flow_rate", 33.3),
            ("DIST_001", "pressure", 4.2),
            ("DIST_001", "total_volume", 1_234.5),
            ("DIST_002", "flow_rate", 34.1),
            ("DIST_002", "pressure", 3.9),
            ("DIST_003", "flow_rate", 10.2),
            ("DIST_003", "pressure", 4.84),
        ];
        if self.harmless {
            values.iter_mut().for_each(|(node, metric, value)| *value = reads(node, metric, now()));
        }
        self.say(&values).await;
    }
}
