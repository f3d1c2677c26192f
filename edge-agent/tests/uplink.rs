//! The uplink against a collector that says what the test wants, over real TLS on loopback.
#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod support;

use bytes::Bytes;
use edge_agent::catalogues::Catalogues;
use edge_agent::clock::{BUILT, Clock, FakeTime, Trust};
use edge_agent::live::Live;
use edge_agent::registry::{PointDef, Registry};
use edge_agent::uplink::{self, Current, Delivered, Parts};
use edge_agent::vitals::Vitals;
use futures::{SinkExt, StreamExt};
use shared::block::{BlockBuilder, Row, TimeBase};
use shared::catalogue::{Catalogue, Class, Entry, PointNo};
use shared::ids::{BootId, NodeId, Seq};
use shared::metric::Kind;
use shared::ranges::{SeqRange, SeqRanges};
use shared::reading::{Quality, Timestamp};
use shared::spool::{GapReason, Options, Record, Spool, WhenFull};
use shared::wire::{ClockState, Codec, Fix, Hello, Message, RejectReason};
use std::sync::Arc;
use std::time::Duration;
use support::Pki;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::codec::Framed;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const WINDOW: u32 = 1 << 20;

/// An agent's uplink with a spool of its own, and the listener it connects to.
struct Bench {
    dir: tempfile::TempDir,
    pki: Pki,
    listener: TcpListener,
    spool: Spool,
    catalogue: Arc<Catalogue>,
    live: Arc<Live>,
    appended: watch::Sender<u64>,
    stop: CancellationToken,
}

fn entry() -> Entry {
    Entry {
        node: NodeId::new("DIST_001").unwrap(),
        metric: "pressure".into(),
        channel: String::new(),
        kind: Kind::Gauge,
        unit: "bar".into(),
        resolution_exp: None,
        interval_ms: 1000,
        silence_ms_max: 0,
        class: Class::Raw,
    }
}

impl Bench {
    async fn new() -> Self {
        Self::with(Pki::new((2024, 1, 1), (2090, 1, 1)), Clock::unrecorded()).await
    }

    async fn with(pki: Pki, clock: Clock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { bytes_max: 32 << 20, disk_free_min: 0, when_full: WhenFull::DropOldest };
        let (spool, _) = Spool::open(&dir.path().join("spool"), options).unwrap();
        let catalogues = Arc::new(Catalogues::open(&dir.path().join("catalogues")).unwrap());
        let (registry, live) = (Registry::new(), Arc::new(Live::default()));
        registry.point(PointDef { entry: entry(), deadband: None, source: "test".into() }).unwrap();
        let catalogue = registry.catalogue();
        catalogues.keep(&catalogue).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (appended, stop) = (watch::Sender::new(0), CancellationToken::new());
        let parts = Parts {
            spool: spool.clone(),
            catalogues,
            clock,
            vitals: Arc::new(Vitals::default()),
            appended: appended.subscribe(),
            current: watch::Sender::new(Current { registry, live: live.clone() }).subscribe(),
            delivered: Arc::new(Delivered::default()),
            live_interval: Duration::from_millis(50),
        };
        let collectors = vec![format!("localhost:{}", listener.local_addr().unwrap().port())];
        let config = pki.uplink(collectors);
        tokio::spawn(uplink::run(config, parts, stop.clone()));
        Self { dir, pki, listener, spool, catalogue, live, appended, stop }
    }

    /// Blocks with so many readings each; the seqs they got.
    fn append(&self, blocks: u64, readings: i64) -> Vec<Seq> {
        let seqs = self.spool.append((0..blocks).map(|_| self.block(TimeBase::Utc, readings)).collect()).unwrap();
        self.appended.send_replace(self.spool.highest().0);
        seqs
    }

    fn block(&self, base: TimeBase, readings: i64) -> Record {
        let mut builder = BlockBuilder::new(base);
        for n in 0..readings {
            let noise = (n.wrapping_mul(6_364_136_223_846_793_005) >> 11) as f64 / 1e9;
            let at = Timestamp(1_800_000_000_000_000 + n * 1_000_000);
            assert!(builder.push(Row { point: PointNo(0), at, value: Some(noise), quality: Quality::GOOD }, None));
        }
        Record { payload: builder.finish(self.catalogue.hash()).unwrap().bytes, span: None }
    }

    /// The next connection, and what it begins with.
    async fn accept(&self) -> (Peer, Hello) {
        let acceptor = TlsAcceptor::from(self.pki.server());
        loop {
            let (tcp, _) = within(self.listener.accept()).await.unwrap();
            // A client that doesn't like the certificate comes back when it has thought about it.
            let Ok(tls) = acceptor.accept(tcp).await else { continue };
            let mut framed = Framed::new(tls, Codec::new());
            match within(framed.next()).await {
                Some(Ok(Message::Hello(hello))) => return (Peer(framed), hello),
                Some(other) => panic!("Hello comes first, not {other:?}"),
                None => {}
            }
        }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
        assert!(self.dir.path().exists());
    }
}

async fn within<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, wait).await.expect("it takes too long")
}

struct Peer(Framed<TlsStream<TcpStream>, Codec>);

fn welcome(stored: &[u64], committed: &[u64], highest_known: u64) -> Message {
    Message::Welcome {
        version: 1,
        collector: "test".into(),
        stored: set(stored),
        committed: set(committed),
        highest_known: Seq(highest_known),
        catalogues: Vec::new(),
        server_time: Timestamp::wall_clock(),
        window_bytes: WINDOW,
    }
}

fn set(seqs: &[u64]) -> SeqRanges {
    seqs.iter().map(|seq| Seq(*seq)).collect()
}

impl Peer {
    async fn say(&mut self, message: Message) {
        within(self.0.send(message)).await.unwrap();
    }

    async fn hear(&mut self) -> Message {
        within(self.0.next()).await.expect("the connection is open").unwrap()
    }

    /// The next message of a kind that the test is about; whatever else may come in between is passed over.
    async fn next<T>(&mut self, wanted: impl Fn(Message) -> Option<T>) -> T {
        loop {
            if let Some(found) = wanted(self.hear().await) {
                return found;
            }
        }
    }

    async fn blocks(&mut self, count: usize) -> Vec<u64> {
        let mut seqs = Vec::new();
        while seqs.len() < count {
            seqs.push(self.next(block).await.0.0);
        }
        seqs
    }

    /// Whether no block comes while other things do.
    async fn hears_no_block_until_live(&mut self, bench: &Bench) -> bool {
        let row = Row { point: PointNo(0), at: Timestamp(7), value: Some(1.0), quality: Quality::GOOD };
        // Again and again: what is put while nobody listens isn't kept.
        let putting = async {
            loop {
                bench.live.put(&[row]);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let hearing = self.next(|message| match message {
            Message::Live { .. } => Some(true),
            Message::Block { .. } => Some(false),
            _ => None,
        });
        tokio::select! {
            heard = hearing => heard,
            () = putting => false,
        }
    }
}

fn block(message: Message) -> Option<(Seq, Bytes)> {
    if let Message::Block { seq, bytes } = message { Some((seq, bytes)) } else { None }
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_lost_its_disk_gets_everything_again_that_was_not_committed() {
    let bench = Bench::new().await;
    bench.append(10, 3);
    let (mut peer, hello) = bench.accept().await;
    assert_eq!((hello.stream, hello.highest, hello.clock), (bench.spool.stream(), Seq(10), ClockState::Trusted));
    peer.say(welcome(&[], &[], 0)).await;
    assert_eq!(peer.blocks(10).await, (1..=10).collect::<Vec<_>>());
    peer.say(Message::Stored(set(&[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]))).await;
    peer.say(Message::Committed(set(&[1, 2, 3, 4]))).await;
    until("committed blocks leave the disk", || bench.spool.held().count() == 6).await;
    drop(peer);

    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[], &[1, 2, 3, 4], 10)).await;
    assert_eq!(peer.blocks(6).await, (5..=10).collect::<Vec<_>>());
    drop(peer);

    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[6, 7, 8], &[], 10)).await;
    assert_eq!(peer.blocks(3).await, [5, 9, 10], "what it has isn't sent");
    assert!(peer.hears_no_block_until_live(&bench).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_is_preceded_by_its_catalogue_and_that_is_sent_once() {
    let bench = Bench::new().await;
    bench.append(2, 3);
    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[], &[], 0)).await;
    let mut kinds = Vec::new();
    while kinds.len() < 3 {
        match peer.hear().await {
            Message::Catalogue { bytes } => {
                assert_eq!(Catalogue::from_bytes(&bytes).unwrap(), *bench.catalogue);
                kinds.push("catalogue");
            }
            Message::Block { .. } => kinds.push("block"),
            _ => {}
        }
    }
    assert_eq!(kinds, ["catalogue", "block", "block"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_block_refused_for_good_becomes_a_gap_and_one_refused_for_its_catalogue_is_sent_with_it() {
    let bench = Bench::new().await;
    bench.append(2, 3);
    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[], &[], 0)).await;
    peer.blocks(2).await;
    let reject = |seq, reason, retry| Message::Reject { seqs: set(&[seq]), reason, detail: "test".into(), retry };
    peer.say(reject(2, RejectReason::UnknownCatalogue, true)).await;
    let mut catalogue = false;
    loop {
        match peer.hear().await {
            Message::Catalogue { .. } => catalogue = true,
            Message::Block { seq: Seq(2), .. } => break,
            _ => {}
        }
    }
    assert!(catalogue, "the catalogue goes first");
    peer.say(reject(1, RejectReason::NotGranted, false)).await;
    let gap = peer.next(|m| if let Message::Gap(gap) = m { Some(gap) } else { None }).await;
    assert_eq!((gap.seqs, gap.reason), (SeqRange::one(Seq(1)), GapReason::Rejected));
    assert_eq!(bench.spool.held(), set(&[2]));
    peer.say(Message::Committed(set(&[1, 2]))).await;
    until("the gap is forgotten once the collector has it", || bench.spool.gaps().is_empty()).await;
    until("and the block is released", || bench.spool.held().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_restored_from_an_old_image_starts_a_new_stream() {
    let bench = Bench::new().await;
    bench.append(3, 3);
    let (mut peer, old) = bench.accept().await;
    peer.say(welcome(&[1, 2, 3], &[1, 2, 3], 50)).await;
    let (mut peer, new) = bench.accept().await;
    assert_ne!(new.stream, old.stream);
    assert_eq!(new.highest, Seq(3));
    peer.say(welcome(&[], &[], 0)).await;
    assert_eq!(peer.blocks(3).await, [1, 2, 3], "what the image held is sent under the new stream");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_window_of_nothing_stops_blocks_and_leaves_newest_values_alone() {
    let bench = Bench::new().await;
    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[], &[], 0)).await;
    assert!(peer.hears_no_block_until_live(&bench).await);
    peer.say(Message::Window { bytes: 0 }).await;
    // The next answer shows that the window was heard.
    peer.say(Message::Stored(set(&[]))).await;
    assert!(peer.hears_no_block_until_live(&bench).await);
    bench.append(3, 3);
    for _ in 0..5 {
        assert!(peer.hears_no_block_until_live(&bench).await);
    }
    peer.say(Message::Window { bytes: WINDOW }).await;
    assert_eq!(peer.blocks(3).await, [1, 2, 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_block_overtakes_the_backlog() {
    let bench = Bench::new().await;
    bench.append(500, 600);
    let (mut peer, _) = bench.accept().await;
    peer.say(welcome(&[], &[], 0)).await;
    peer.blocks(1).await;
    let new = bench.append(1, 3)[0];
    let mut before = 0;
    loop {
        let (seq, _) = peer.next(block).await;
        if seq == new {
            break;
        }
        before += 1;
        // Answered one by one, so that the lane never stands still: only overtaking ends this early.
        peer.say(Message::Stored(set(&[seq.0]))).await;
    }
    assert!(before < 300, "{before} of 500 blocks of the backlog came first");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_boots_in_1970_connects_learns_the_time_and_says_what_its_readings_mean() {
    // The certificate is younger than the program: at the latest certain time it isn't valid yet.
    let issued = BUILT.plus_micros(30 * 86_400_000_000);
    let day = time::OffsetDateTime::from_unix_timestamp(issued.0 / 1_000_000).unwrap();
    let pki = Pki::new((day.year(), day.month().into(), day.day()), (2090, 1, 1));
    let clocks = tempfile::tempdir().unwrap();
    let hands = FakeTime::running(5_000_000, Timestamp(5_000_000));
    let boot = BootId([7; 16]);
    let clock = Clock::open_fake(clocks.path(), Trust::Auto, boot, hands).unwrap();
    let bench = Bench::with(pki, clock.clone()).await;
    bench.spool.append(vec![bench.block(TimeBase::SinceBoot(boot), 3)]).unwrap();
    bench.appended.send_replace(1);

    let (mut peer, hello) = bench.accept().await;
    assert_eq!((hello.boot, hello.clock), (boot, ClockState::Untrusted));
    let server_time = issued.plus_micros(86_400_000_000);
    let Message::Welcome { version, collector, stored, committed, highest_known, catalogues, window_bytes, .. } =
        welcome(&[], &[], 0)
    else {
        unreachable!()
    };
    peer.say(Message::Welcome {
        version,
        collector,
        stored,
        committed,
        highest_known,
        catalogues,
        server_time,
        window_bytes,
    })
    .await;
    let mut fix = None;
    loop {
        match peer.hear().await {
            Message::ClockFix { boot, fix: said } => fix = Some((boot, said)),
            Message::Block { .. } if fix.is_some() => break,
            Message::Block { .. } => panic!("the clock fix goes before the boot's blocks"),
            _ => {}
        }
    }
    let offset_us = clock.offset_us().expect("the time is known");
    assert_eq!(fix, Some((boot, Fix::Known { offset_us })));
    let off = clock.utc().unwrap().since(server_time);
    assert!((0..PATIENCE.as_micros() as i64).contains(&off), "{off} us from what the collector said");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_checked_while_the_time_is_unknown() {
    // Ran out before the program was built: whatever the clock says, that is in the past.
    let pki = Pki::new((2020, 1, 1), (2021, 1, 1));
    let clocks = tempfile::tempdir().unwrap();
    let hands = FakeTime::running(5_000_000, Timestamp(5_000_000));
    let clock = Clock::open_fake(clocks.path(), Trust::Auto, BootId([7; 16]), hands).unwrap();
    let bench = Bench::with(pki, clock.clone()).await;
    let acceptor = TlsAcceptor::from(bench.pki.server());
    for _ in 0..3 {
        let (tcp, _) = within(bench.listener.accept()).await.unwrap();
        assert!(acceptor.accept(tcp).await.is_err(), "an expired certificate is refused");
    }
    assert!(!clock.is_trusted());
}

/// `status` says it also while nobody is connected.
#[tokio::test]
async fn the_oldest_block_that_no_collector_has_is_known_without_a_session() {
    let (bench, delivered) = (Bench::new().await, Delivered::default());
    assert_eq!(delivered.oldest_lacking(&bench.spool), None);
    let seqs = bench.append(3, 1);
    delivered.add(&SeqRanges::from_iter([seqs[0], seqs[1]]));
    assert_eq!(delivered.oldest_lacking(&bench.spool), Some(Timestamp(1_800_000_000_000_000)));
    delivered.add(&SeqRanges::from_iter([seqs[2]]));
    assert_eq!(delivered.oldest_lacking(&bench.spool), None);
}
