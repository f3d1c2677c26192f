//! What is acknowledged when, and what comes again.

use crate::listening::{Listening, broker};
use crate::mosquitto::Mosquitto;
use crate::{SITES, STAMPED, V5, V311, listen, stamped};
use edge_agent::sample::{At, Batch};
use shared::reading::Quality;
use std::collections::{BTreeSet, VecDeque};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

fn value(batch: &Batch) -> i64 {
    batch.samples[0].value.expect("a value") as i64
}

fn done(batch: Batch) {
    batch.done.expect("somebody waits").send(()).expect("still waits");
}

#[tokio::test]
async fn acknowledgements_leave_after_done_and_in_order() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let mut listening = listen(&mut mosquitto, &format!("{protocol}{STAMPED}")).await;
        for number in 1..=3 {
            mosquitto.publish("stamped/A", &stamped(number), &["-q", "1"]);
        }
        let (first, second, third) = (listening.next().await, listening.next().await, listening.next().await);
        done(second);
        // Something that would have overtaken an acknowledgement, had there been one.
        mosquitto.publish("stamped/A", &stamped(4), &["-q", "0"]);
        assert_eq!(value(&listening.next().await), 4);
        assert_eq!(mosquitto.count(&["Received PUBACK from edge"]), 0);
        done(first);
        mosquitto.saw(&["Received PUBACK from edge (Mid: 1"]).await;
        mosquitto.saw(&["Received PUBACK from edge (Mid: 2"]).await;
        assert_eq!(mosquitto.count(&["Received PUBACK from edge"]), 0);
        done(third);
        mosquitto.saw(&["Received PUBACK from edge (Mid: 3"]).await;
    }
}

#[tokio::test]
async fn what_was_not_stored_comes_again_after_a_stop() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let lines = format!("{protocol}{SITES}{STAMPED}");
        let mut listening = listen(&mut mosquitto, &lines).await;
        mosquitto.publish("stamped/A", &stamped(1), &["-q", "1"]);
        mosquitto.publish("site/A/flow", "36", &["-q", "1"]);
        let (stored, number) = (listening.next().await, listening.next().await);
        let at = stored.samples[0].at;
        assert!(stored.done.is_some() && number.done.is_some());
        listening.stop().await;
        mosquitto.saw(&["Received DISCONNECT from edge"]).await;
        assert_eq!(mosquitto.count(&["Received PUBACK from edge"]), 0);
        let mut listening = listen(&mut mosquitto, &lines).await;
        let again = listening.sample().await;
        assert_eq!((again.at, again.value, again.quality), (at, Some(1.0), Quality::GOOD), "the same reading");
        let again = listening.sample().await;
        assert_eq!((again.value, again.quality), (Some(10.0), Quality::UNCERTAIN_REDELIVERED));
        mosquitto.saw(&["Received PUBACK from edge (Mid: 2"]).await;
        listening.stop().await;
        let mut listening = listen(&mut mosquitto, &lines).await;
        mosquitto.publish("stamped/A", &stamped(2), &["-q", "1"]);
        assert_eq!(listening.sample().await.value, Some(2.0), "what was acknowledged doesn't come again");
    }
}

#[tokio::test]
async fn a_refusal_of_the_disk_makes_the_broker_send_again() {
    let mut mosquitto = Mosquitto::start();
    let mut listening = listen(&mut mosquitto, STAMPED).await;
    mosquitto.publish("stamped/A", &stamped(1), &["-q", "1"]);
    mosquitto.publish("stamped/A", &stamped(2), &["-q", "1"]);
    let (refused, second) = (listening.next().await, listening.next().await);
    drop(refused.done);
    let again = listening.next().await;
    assert_eq!(value(&again), 1);
    // It belongs to the first connection: nothing may be acknowledged for it on the second.
    let _ = second.done.expect("somebody waits").send(());
    let second = listening.next().await;
    assert_eq!(value(&second), 2);
    mosquitto.publish("stamped/A", &stamped(3), &["-q", "0"]);
    assert_eq!(value(&listening.next().await), 3);
    assert_eq!(mosquitto.count(&["Received PUBACK from edge"]), 0);
    done(again);
    mosquitto.saw(&["Received PUBACK from edge (Mid: 1"]).await;
    done(second);
    mosquitto.saw(&["Received PUBACK from edge (Mid: 2"]).await;
}

/// Publishes the numbers below `count`, one message each, at QoS 1.
async fn publish_many(port: u16, count: usize) {
    let many: String = (0..count).map(|number| format!("{number}\n")).collect();
    let publishing = tokio::task::spawn_blocking(move || {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-p", &port.to_string(), "-t", "many/A", "-q", "1", "-l"]).stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(many.as_bytes()).unwrap();
        assert!(child.wait().unwrap().success());
    });
    publishing.await.unwrap();
}

/// A disk that stores nothing until `most` messages are under way, and then everything: all must come, in order.
async fn check_under_way(mosquitto: &mut Mosquitto, lines: &str, count: usize, most: usize) {
    let lines = format!("{lines}[[mqtt.subscription]]\ntopic = \"many/{{node}}\"\npoint = [{{ metric = \"state\" }}]");
    let mut listening = listen(mosquitto, &lines).await;
    publish_many(mosquitto.port, count).await;
    let mut under_way = VecDeque::new();
    while under_way.len() < most {
        under_way.push_back(listening.next().await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await; // time for one too many
    assert!(listening.waiting().is_none(), "more than {most} under way");
    for number in 0..count {
        let batch = match under_way.pop_front() {
            Some(batch) => batch,
            None => listening.next().await,
        };
        assert_eq!(value(&batch), number as i64);
        done(batch);
    }
    mosquitto.saw(&["Received PUBACK from edge"]).await;
    listening.stop().await;
}

/// Its default of 20 waits for our acknowledgements, and so does what we ask of a version 5 broker.
#[tokio::test]
async fn a_broker_with_a_full_window_waits_and_then_sends_on() {
    check_under_way(&mut Mosquitto::start(), V311, 300, 20).await;
    check_under_way(&mut Mosquitto::start(), &format!("{V5}inflight_max = 5\n"), 300, 5).await;
}

/// A broker without a window of its own: what waits for the disk is bounded all the same.
#[tokio::test]
async fn at_most_a_thousand_messages_wait_for_the_disk() {
    let endless = "allow_anonymous true\nmax_inflight_messages 0\nmax_queued_messages 0";
    check_under_way(&mut Mosquitto::with(endless, |_| {}), V311, 2500, 1000).await;
}

#[tokio::test]
async fn what_waited_at_the_broker_without_a_timestamp_is_in_doubt() {
    let mut mosquitto = Mosquitto::start();
    let lines = format!("{SITES}{STAMPED}");
    listen(&mut mosquitto, &lines).await.stop().await;
    mosquitto.saw(&["Received DISCONNECT from edge"]).await;
    mosquitto.publish("site/A/flow", "36", &["-q", "1"]);
    mosquitto.publish("stamped/A", &stamped(1), &["-q", "1"]);
    let mut listening = Listening::start(broker(mosquitto.port, &lines));
    let sample = listening.sample().await;
    assert_eq!((sample.value, sample.quality), (Some(10.0), Quality::UNCERTAIN_CLOCK));
    assert!(matches!(sample.at, At::Mono(_)));
    assert_eq!(listening.sample().await.quality, Quality::GOOD);
}

#[tokio::test]
async fn without_a_session_nothing_waits() {
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let lines = format!("{protocol}session = \"0s\"\n{STAMPED}");
        listen(&mut mosquitto, &lines).await.stop().await;
        mosquitto.saw(&["Received DISCONNECT from edge"]).await;
        mosquitto.publish("stamped/A", &stamped(1), &["-q", "1"]);
        let mut listening = listen(&mut mosquitto, &lines).await;
        mosquitto.publish("stamped/A", &stamped(2), &["-q", "1"]);
        assert_eq!(listening.sample().await.value, Some(2.0));
    }
}

/// The must-show: whatever restarts in the middle, every message that its publisher was told is taken is a reading
/// in the end, at its own time.
#[tokio::test]
async fn nothing_with_its_own_timestamp_is_lost_when_broker_and_agent_restart() {
    const MESSAGES: i64 = 120;
    for protocol in [V311, V5] {
        let mut mosquitto = Mosquitto::start();
        let lines = format!("{protocol}{STAMPED}");
        let mut listening = listen(&mut mosquitto, &lines).await;
        let (mut taken, mut stored) = (BTreeSet::new(), BTreeSet::new());
        let mut under_way: VecDeque<Batch> = VecDeque::new();
        let mut store = |batch: Batch| {
            stored.insert((batch.samples[0].at_us(), value(&batch)));
            let _ = batch.done.expect("somebody waits").send(());
        };
        for number in 0..MESSAGES {
            match number {
                // In the middle of what is under way: the broker, the agent, and the broker while the agent is away.
                30 => {
                    mosquitto.stop();
                    mosquitto.start_again();
                }
                60 => {
                    listening.stop().await;
                    under_way.clear();
                    listening = Listening::start(broker(mosquitto.port, &lines));
                }
                90 => {
                    listening.stop().await;
                    under_way.clear();
                    mosquitto.stop();
                    mosquitto.start_again();
                    listening = Listening::start(broker(mosquitto.port, &lines));
                }
                _ => {}
            }
            if mosquitto.try_publish("stamped/A", &stamped(number), &["-q", "1"]) {
                taken.insert(number);
            }
            under_way.extend(listening.waiting());
            if under_way.len() > 5 {
                under_way.drain(..3).for_each(&mut store);
            }
        }
        under_way.drain(..).for_each(&mut store);
        assert_eq!(taken.len() as i64, MESSAGES, "the publisher was always served");
        while !taken.iter().all(|number| stored.iter().any(|(_, value)| value == number)) {
            let batch = listening.next().await;
            stored.insert((batch.samples[0].at_us(), value(&batch)));
            let _ = batch.done.expect("somebody waits").send(());
        }
        assert_eq!(stored.len() as i64, MESSAGES, "each once: a redelivery has the same time");
    }
}

trait AtUs {
    fn at_us(&self) -> i64;
}
impl AtUs for edge_agent::sample::Sample {
    fn at_us(&self) -> i64 {
        let At::Utc(at) = self.at else { panic!("{self:?} has no time of its own") };
        at.0
    }
}
