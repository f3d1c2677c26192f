//! Who gets in, who doesn't, and what one connection can do to another.

mod support;

use collector::ca::{Authority, Role};
use shared::block::TimeBase;
use shared::reading::Timestamp;
use shared::wire::{Hello, Message};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// That a gateway gets in and gets an answer: the collector is well.
async fn is_well(collector: &Collector, gateway: &str) {
    let client = Client::connect(collector, gateway, hello(STREAM, 0)).await;
    assert!(client.welcome.is_some());
}

/// Until the other end closes, whatever it says before.
async fn closed(mut socket: impl AsyncReadExt + Unpin) {
    let mut sink = vec![0; 1024];
    while within(socket.read(&mut sink)).await.is_ok_and(|n| n > 0) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_of_our_authority_nobody_gets_in() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let elsewhere = Site::new(&["STATION_7"], |_| {});
    // A stranger's certificate: TLS 1.3 tells the client only after its own part of the handshake.
    let (cert, key) = (elsewhere.ca("STATION_7.pem"), elsewhere.ca("STATION_7.key"));
    let mut stranger = within(tls(collector.ingest, &site.ca("ca.pem"), &cert, &key)).await.unwrap();
    let _ = stranger.write_all(&shared::wire::encode(&Message::Hello(hello(STREAM, 0)))).await;
    closed(stranger).await;
    // A collector's certificate is none of a gateway.
    let (cert, key) = (site.ca("server.pem"), site.ca("server.key"));
    closed(within(tls(collector.ingest, &site.ca("ca.pem"), &cert, &key)).await.unwrap()).await;
    // No certificate at all.
    let anonymous = anonymous(collector.ingest, &site.ca("ca.pem")).await;
    closed(anonymous).await;
    // No TLS at all.
    let mut plain = TcpStream::connect(collector.ingest).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    closed(plain).await;
    assert!(collector.get("gateways").await["items"].as_array().unwrap().is_empty());
    is_well(&collector, "STATION_7").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_gateway_is_put_out_and_stays_out() {
    let site = Site::new(&["STATION_7", "STATION_8"], |_| {});
    let collector = site.start().await;
    let (cert, key) = (site.folder.path().join("c.pem"), site.folder.path().join("c.key"));
    std::fs::copy(site.ca("STATION_7.pem"), &cert).unwrap();
    std::fs::copy(site.ca("STATION_7.key"), &key).unwrap();
    let mut revoked = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    let mut other = Client::connect(&collector, "STATION_8", hello(STREAM, 0)).await;
    let authority = Authority::open(&site.config.ca_dir()).unwrap();
    authority.revoke("STATION_7").unwrap();
    revoked.wait_closed().await;
    closed(within(tls(collector.ingest, &site.ca("ca.pem"), &cert, &key)).await.unwrap()).await;
    let (hash, bytes) = pressure_block(1.0);
    other.send(Message::Catalogue { bytes: catalogue(&["DIST_001"]).to_bytes().into() }).await;
    other.block(1, bytes).await;
    other.wait_stored(seqs([1])).await;
    // The name gets a new certificate, and is in again.
    authority.issue("STATION_7", Role::Gateway, &[], false).unwrap();
    is_well(&collector, "STATION_7").await;
    assert_eq!(hash, catalogue(&["DIST_001"]).hash());
}

fn pressure_block(value: f64) -> (shared::catalogue::CatalogueHash, Vec<u8>) {
    let hash = catalogue(&["DIST_001"]).hash();
    (hash, block(hash, TimeBase::Utc, &[(0, now() - SECOND, value)]))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_slow_to_say_who_it_is_is_turned_away() {
    let site = Site::new(&["STATION_7"], |config| {
        config.ingest.handshake_timeout = Duration::from_millis(500).into();
    });
    let collector = site.start().await;
    let silent = TcpStream::connect(collector.ingest).await.unwrap();
    let mut half = TcpStream::connect(collector.ingest).await.unwrap();
    half.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap(); // the beginning of a ClientHello
    let without_hello = Client::dial(&collector, "STATION_7").await;
    let mut drip = Client::dial(&collector, "STATION_7").await;
    let bytes = shared::wire::encode(&Message::Hello(hello(STREAM, 0)));
    drip.wire.get_mut().write_all(&bytes[..8]).await.unwrap();
    drip.wire.get_mut().flush().await.unwrap();
    is_well(&collector, "STATION_7").await;
    closed(silent).await;
    closed(half).await;
    closed(without_hello.wire.into_inner()).await;
    closed(drip.wire.into_inner()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_and_handshakes_are_bounded() {
    let site = Site::new(&["STATION_7", "STATION_8"], |config| {
        config.ingest.connections_max = 4;
        config.ingest.handshakes_max = 2;
    });
    let collector = site.start().await;
    let first = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    let silent = async || TcpStream::connect(collector.ingest).await.unwrap();
    let (oldest, another) = (silent().await, silent().await);
    // Strangers who say nothing keep no gateway out: the oldest of them makes room.
    let second = Client::connect(&collector, "STATION_8", hello(STREAM, 0)).await;
    assert!(second.welcome.is_some());
    closed(oldest).await;
    // All four are taken now.
    let last = silent().await;
    closed(silent().await).await;
    drop((another, last));
    // As soon as the two are gone there is room again.
    let again = until(async || {
        let (cert, key) = (site.ca("STATION_8.pem"), site.ca("STATION_8.key"));
        tls(collector.ingest, &site.ca("ca.pem"), &cert, &key).await.is_ok()
    });
    assert!(again.await);
    drop((first, second));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_falls_silent_is_gone_and_one_that_gives_signs_of_life_is_not() {
    let site = Site::new(&["STATION_7", "STATION_8"], |config| {
        config.ingest.idle_timeout = Duration::from_secs(1).into();
    });
    let collector = site.start().await;
    let mut silent = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    let mut alive = Client::connect(&collector, "STATION_8", hello(STREAM, 0)).await;
    let ended = async { silent.wait_closed().await };
    tokio::pin!(ended);
    loop {
        tokio::select! {
            () = &mut ended => break,
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                alive.send(Message::Heartbeat { now: Timestamp::wall_clock() }).await;
            }
        }
    }
    let shown = until(async || collector.get("gateways").await["items"][1]["session"]["connected"] == true);
    assert!(shown.await, "{}", collector.get("gateways").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_frame_closes_that_connection_alone() {
    let site = Site::new(&["STATION_7", "STATION_8"], |_| {});
    let collector = site.start().await;
    let (mut other, _) = Client::ready(&collector, "STATION_8", &["DIST_001"]).await;
    let too_long = [5u16.to_le_bytes().as_slice(), &(5u32 << 20).to_le_bytes()].concat();
    let broken_body = [5u16.to_le_bytes().as_slice(), &3u32.to_le_bytes(), &[0xff, 0xff, 0xff]].concat();
    let unknown = [77u16.to_le_bytes().as_slice(), &0u32.to_le_bytes()].concat();
    let not_ours = shared::wire::encode(&Message::Window { bytes: 1 }).to_vec();
    let second_hello = shared::wire::encode(&Message::Hello(hello(STREAM, 0))).to_vec();
    for bytes in [too_long, broken_body, unknown, not_ours, second_hello] {
        let mut bad = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
        bad.wire.get_mut().write_all(&bytes).await.unwrap();
        bad.wire.get_mut().flush().await.unwrap();
        bad.wait_closed().await;
    }
    // Before Hello less is read, and nothing but Hello.
    for bytes in [
        [1u16.to_le_bytes().as_slice(), &(64u32 << 10).to_le_bytes()].concat(),
        shared::wire::encode(&Message::Heartbeat { now: Timestamp(0) }).to_vec(),
    ] {
        let mut bad = Client::dial(&collector, "STATION_7").await;
        bad.wire.get_mut().write_all(&bytes).await.unwrap();
        bad.wire.get_mut().flush().await.unwrap();
        bad.wait_closed().await;
    }
    // A protocol that is not spoken here.
    let mut future = Client::dial(&collector, "STATION_7").await;
    future.send(Message::Hello(Hello { version_min: 900, version_max: 901, ..hello(STREAM, 0) })).await;
    future.wait_closed().await;
    // An optional message that isn't known is nothing.
    let optional = [(0x8000u16 | 99).to_le_bytes().as_slice(), &2u32.to_le_bytes(), &[1, 2]].concat();
    other.wire.get_mut().write_all(&optional).await.unwrap();
    other.block(1, pressure_block(1.0).1).await;
    other.wait_stored(seqs([1])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_connection_of_a_gateway_takes_over() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let (mut first, _) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    first.block(1, pressure_block(1.0).1).await;
    first.wait_stored(seqs([1])).await;
    let second = Client::connect(&collector, "STATION_7", hello(STREAM, 1)).await;
    assert_eq!(second.welcome().0, seqs([1]));
    first.wait_closed().await;
    let shown = until(async || collector.get("gateways").await["items"][0]["session"]["connected"] == true);
    assert!(shown.await, "{}", collector.get("gateways").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_never_reads_holds_up_nobody() {
    let site = Site::new(&["STATION_7", "STATION_8"], |_| {});
    let collector = site.start().await;
    let (mut deaf, hash) = Client::ready(&collector, "STATION_7", &["DIST_001"]).await;
    // Refusals are the longest answers. It sends for as long as its blocks are taken, and reads nothing.
    let damaged = vec![1; 16];
    let flood = async {
        for seq in 1.. {
            let message = Message::Block { seq: shared::ids::Seq(seq), bytes: damaged.clone().into() };
            if futures::SinkExt::send(&mut deaf.wire, message).await.is_err() {
                break;
            }
        }
    };
    let neighbour = async {
        for seq in 1..=20 {
            let (mut other, _) = Client::ready(&collector, "STATION_8", &["RES_001"]).await;
            let hash = catalogue(&["RES_001"]).hash();
            other.block(seq, block(hash, TimeBase::Utc, &[(0, now() - SECOND, 1.0)])).await;
            other.wait_stored(seqs([seq])).await;
        }
    };
    tokio::select! {
        () = flood => panic!("it was cut off"),
        () = neighbour => {}
    }
    let _ = hash;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_known_of_a_gateway_is_there_after_a_restart() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let mut client = Client::connect(&collector, "STATION_7", hello(STREAM, 0)).await;
    client.send(Message::Status(status())).await;
    let heard = until(async || collector.get("gateways").await["items"][0]["status"]["points"] == 12);
    assert!(heard.await, "{}", collector.get("gateways").await);
    collector.stop().await;
    let collector = site.start().await;
    let gateways = collector.get("gateways").await;
    let gateway = &gateways["items"][0];
    assert_eq!(
        (&gateway["version"], &gateway["status"]["points_bad"]),
        (&"0.1.0-test".into(), &3.into()),
        "{gateways}"
    );
    assert!(gateway["session"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_connections_to_the_api_keep_no_gateway_out() {
    let site = Site::new(&["STATION_7"], |_| {});
    let collector = site.start().await;
    let mut silent = Vec::new();
    for _ in 0..1_200 {
        let mut socket = TcpStream::connect(collector.api).await.unwrap();
        socket.write_all(b"GET /api/v1/health HTTP/1.1\r\nHost: loc").await.unwrap();
        silent.push(socket);
    }
    is_well(&collector, "STATION_7").await;
    assert_eq!(collector.get("health").await["status"], "ok", "nor those who ask");
    let first = silent.remove(0);
    closed(first).await; // it made room for others, or said nothing for too long
}
