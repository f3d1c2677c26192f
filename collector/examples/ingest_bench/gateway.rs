//! A gateway that has its blocks ready and sends them as fast as it may.

use crate::site::Site;
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use rustls_pki_types::ServerName;
use shared::block::{BlockBuilder, Row, TimeBase};
use shared::catalogue::{Catalogue, Class, Entry, PointNo};
use shared::ids::{BootId, NodeId, Seq, StreamId};
use shared::metric::Kind;
use shared::ranges::SeqRanges;
use shared::reading::{Quality, Timestamp};
use shared::wire::{ClockState, Codec, Hello, Message};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::codec::Framed;

pub(crate) const SERIES_EACH: usize = 100;
pub(crate) const READINGS_EACH: usize = 500;

/// How fast a gateway sends.
#[derive(Clone, Copy)]
pub(crate) enum Pace {
    /// As its window allows.
    Window,
    /// So many blocks ahead of the commits.
    Ahead(u64),
}

/// Every connection has a stream of its own.
static STREAMS: AtomicU64 = AtomicU64::new(0);

type Wire = Framed<TlsStream<TcpStream>, Codec>;

pub(crate) struct Gateway {
    to: SplitSink<Wire, Message>,
    from: SplitStream<Wire>,
    window: usize,
    /// Bytes of the blocks without an answer.
    in_flight: HashMap<u64, usize>,
    bytes: usize,
    sent: u64,
    committed: SeqRanges,
}

pub(crate) fn name(gateway: usize) -> String {
    format!("STATION_{gateway}")
}

pub(crate) fn catalogue(gateway: usize) -> Result<Catalogue> {
    let entry = |n: usize| {
        Ok(Entry {
            node: NodeId::new(&format!("DIST_{gateway:03}"))?,
            metric: if n.is_multiple_of(2) { "flow_rate" } else { "pressure" }.into(),
            channel: format!("c{n}"),
            kind: Kind::Gauge,
            unit: if n.is_multiple_of(2) { "L/s" } else { "bar" }.into(),
            resolution_exp: Some(-2),
            interval_ms: 1_000,
            silence_ms_max: 0,
            class: Class::Raw,
        })
    };
    Ok(Catalogue::new((0..SERIES_EACH).map(entry).collect::<Result<_>>()?)?)
}

/// Blocks of all points at `start` and every `step` microseconds from there on: a level and noise of a few hundredths.
pub(crate) fn blocks(gateway: usize, count: u64, start: Timestamp, step: i64) -> Result<Vec<Bytes>> {
    let hash = catalogue(gateway)?.hash();
    let mut noise = (gateway as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mut at = start;
    (0..count)
        .map(|_| {
            let mut builder = BlockBuilder::new(TimeBase::Utc);
            while builder.len() < READINGS_EACH {
                for n in 0..SERIES_EACH {
                    noise ^= noise << 13;
                    noise ^= noise >> 7;
                    noise ^= noise << 17;
                    let value = Some((400 + 10 * n as u64 + noise % 8) as f64 / 100.0);
                    let row = Row { point: PointNo(n as u32), at, value, quality: Quality::GOOD };
                    anyhow::ensure!(builder.push(row, Some(-2)), "a block has room for {READINGS_EACH} readings");
                }
                at = at.plus_micros(step);
            }
            Ok(builder.finish(hash).context("a block")?.bytes)
        })
        .collect()
}

impl Gateway {
    pub(crate) async fn connect(site: &Site, gateway: usize) -> Result<Self> {
        let file = |kind: &str| site.ca(&format!("{}.{kind}", name(gateway)));
        let time = Arc::new(rustls::time_provider::DefaultTimeProvider);
        let config = shared::tls::client_config(&site.ca("ca.pem"), &file("pem"), &file("key"), time)?;
        let tcp = TcpStream::connect(site.ingest()?).await?;
        tcp.set_nodelay(true)?;
        let tls = tokio_rustls::TlsConnector::from(config).connect(ServerName::try_from("localhost")?, tcp).await?;
        let mut wire = Framed::new(tls, Codec::new());
        wire.send(Message::Hello(Hello {
            version_min: 1,
            version_max: 1,
            stream: StreamId(0xbe7c + STREAMS.fetch_add(1, Ordering::Relaxed)),
            highest: Seq(0),
            boot: BootId([7; 16]),
            clock: ClockState::Trusted,
            agent_version: "bench".into(),
            now: Timestamp::wall_clock(),
        }))
        .await?;
        let Some(Ok(Message::Welcome { window_bytes, .. })) = wire.next().await else { bail!("no Welcome") };
        wire.send(Message::Catalogue { bytes: catalogue(gateway)?.to_bytes().into() }).await?;
        let (to, from) = wire.split();
        Ok(Self {
            to,
            from,
            window: window_bytes as usize,
            in_flight: HashMap::new(),
            bytes: 0,
            sent: 0,
            committed: SeqRanges::new(),
        })
    }

    /// Sends these, until all are stored.
    pub(crate) async fn send(&mut self, blocks: Vec<Bytes>, pace: Pace) -> Result<()> {
        for bytes in blocks {
            while !self.may_send(bytes.len(), pace) {
                self.to.flush().await?;
                self.hear().await?;
            }
            self.sent += 1;
            self.bytes += bytes.len();
            self.in_flight.insert(self.sent, bytes.len());
            self.to.feed(Message::Block { seq: Seq(self.sent), bytes }).await?;
        }
        self.to.flush().await?;
        while !self.in_flight.is_empty() {
            self.hear().await?;
        }
        Ok(())
    }

    fn may_send(&self, bytes: usize, pace: Pace) -> bool {
        let ahead = match pace {
            Pace::Window => true,
            Pace::Ahead(blocks) => self.sent < self.committed.count() + blocks,
        };
        ahead && self.bytes + bytes <= self.window
    }

    /// How many blocks are known to be committed.
    #[allow(dead_code)] // not every benchmark asks
    pub(crate) fn committed(&self) -> u64 {
        self.committed.count()
    }

    pub(crate) async fn wait_committed(&mut self, blocks: u64) -> Result<()> {
        while self.committed.count() < blocks {
            self.hear().await?;
        }
        Ok(())
    }

    async fn hear(&mut self) -> Result<()> {
        match self.from.next().await.context("the collector closed the connection")?? {
            Message::Stored(seqs) => {
                for seq in seqs.iter().flat_map(|range| range.first.0..=range.last.0) {
                    self.bytes -= self.in_flight.remove(&seq).unwrap_or(0);
                }
            }
            Message::Committed(seqs) => self.committed.extend(&seqs),
            Message::Heartbeat { .. } => {}
            other => bail!("{other:?} from a collector"),
        }
        Ok(())
    }
}
