//! What becomes of rows.

use crate::services::bigquery::BigQuery;
use crate::world::{Stop, WIDE, World, take};
use collector::inbox::Reach;
use shared::reading::Timestamp;

pub(crate) async fn a_wide_table_is_read_on_from_where_each_node_was(server: &BigQuery) {
    let world = World::new(server).await;
    world
        .insert(
            "readings",
            "('2026-03-01 10:00:00+00', 'PUMP_1', 36, 4.5, 'x'), ('2026-03-01 11:00:00+00', 'PUMP_1', 72, NULL, NULL), \
             ('2026-03-01 10:00:00+00', 'PUMP_2', NULL, 3.25, ''), ('2026-03-01 10:00:00+00', 'Pump 3', 1, NULL, ''), \
             ('2031-03-01 10:00:00+00', 'PUMP_1', 1, NULL, ''), ('2026-03-01 11:00:00+00', 'DIST_001', 1, NULL, ''), \
             (NULL, 'PUMP_1', 3, NULL, ''), ('2026-03-01 10:00:00+00', NULL, NULL, 7, ''), \
             ('2026-03-01 10:00:00+00', 'PUMP_2', CAST('NaN' AS FLOAT64), NULL, ''), \
             ('2026-03-01 10:30:00+00', 'PUMP_2', 1e9, NULL, ''), ('2026-03-01 10:00:00.5+00', 'PUMP_1', NULL, NULL, '')",
        )
        .await;
    let inbox = world.wide();
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!(taken.failed, Vec::<String>::new());
    assert_eq!((taken.rows, taken.stored, taken.quarantined, taken.rejected), (11, 4, 1, 6), "{taken:?}");
    for (why, row) in [
        ("2031-03-01T10:00:00Z is in the future", "2031-03-01 10:00:00+00,PUMP_1,flow_rate,,1"),
        ("'' is no time", ",PUMP_1,flow_rate,,3"),
        ("no node", "2026-03-01 10:00:00+00,,pressure,,7"),
        ("is no value", "2026-03-01 10:00:00+00,PUMP_2,flow_rate,,"),
        ("L/s is no flow_rate", "2026-03-01 10:30:00+00,PUMP_2,flow_rate,,1"),
        ("'Pump 3' is no node", "2026-03-01 10:00:00+00,Pump 3"),
    ] {
        assert!(world.rejects(why, row).await, "{why}: {:?}", world.warm.inbox().rejected(100).await);
    }
    let aside = world.warm.quarantine(None, 10).await.unwrap();
    assert_eq!((aside[0].gateway.as_str(), aside[0].reason.as_str()), ("far", "not granted: DIST_001"));
    assert_eq!(world.values("PUMP_1/flow_rate").await, [(0, 10.0), (3_600, 20.0)]);
    assert_eq!(world.values("PUMP_2/pressure").await, [(0, 3.25)]);

    // New rows, one that comes late, one that comes much too late, one of a node that lags behind, a new node.
    world
        .insert(
            "readings",
            "('2026-03-01 12:00:00+00', 'PUMP_1', 3.6, NULL, ''), ('2026-03-01 10:30:00+00', 'PUMP_1', 36, NULL, ''), \
             ('2026-02-27 10:00:00+00', 'PUMP_1', 36, NULL, ''), ('2026-03-01 10:31:00+00', 'PUMP_2', NULL, 3, ''), \
             ('2026-03-01 09:00:00+00', 'PUMP_4', NULL, 3, '')",
        )
        .await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.failed.len()), (4, 0), "{taken:?}");
    let flow = [(0, 10.0), (1_800, 10.0), (3_600, 20.0), (7_200, 1.0)];
    assert_eq!(world.values("PUMP_1/flow_rate").await, flow);
    assert_eq!(world.values("PUMP_4/pressure").await, [(-3_600, 3.0)]);
    let late = world.warm.late(Timestamp(0), Timestamp(i64::MAX)).await.unwrap();
    let (pump_1, pump_4) = (world.series("PUMP_1/flow_rate").await.id, world.series("PUMP_4/pressure").await.id);
    let of = |id| late.iter().find(|(series, _)| *series == id).map_or(0, |(_, count)| *count);
    assert_eq!((of(pump_1), of(pump_4)), (2, 0), "what was there before is history");

    let mut jobs = 0;
    world.jobs(&mut jobs);
    assert_eq!(take(&inbox, Reach::Short).await.stored, 0, "nothing is new");
    let asked = world.jobs(&mut jobs);
    assert_eq!(asked.len(), 3, "one for nodes, one for what is in no place, one for rows of all nodes: {asked:?}");
    assert_eq!(take(&inbox, Reach::Long).await.stored, 1, "further back");
    assert_eq!(world.values("PUMP_1/flow_rate").await[0].0, -2 * 86_400);
    let listed = world.warm.inbox().rejected(100).await.unwrap();
    assert_eq!(listed.len(), 6, "each is told once, however often it is read: {listed:?}");

    // What stands isn't changed by a row that says otherwise.
    world.insert("readings", "('2026-03-01 12:00:00+00', 'PUMP_1', 36, NULL, '')").await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!(taken.stored, 0, "{taken:?}");
    assert!(
        world.rejects("1 stands at 2026-03-01T12:00:00Z already", "2026-03-01T12:00:00Z,PUMP_1/flow_rate,10").await
    );
}

pub(crate) async fn a_node_that_comes_back_is_read_from_where_it_was(server: &BigQuery) {
    let world = World::new(server).await;
    let row =
        |day: u32, node: &str, value: u32| format!("('2026-02-{day:02} 10:00:00+00', '{node}', NULL, {value}, '')");
    world.insert("readings", &[row(1, "PUMP_1", 1), row(1, "PUMP_2", 1), row(1, "PUMP_3", 1)].join(", ")).await;
    let inbox = world.wide();
    assert_eq!(take(&inbox, Reach::Short).await.stored, 3);
    let all: Vec<String> = (2..=28).map(|day| row(day, "PUMP_1", 2)).collect();
    world.insert("readings", &all.join(", ")).await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.failed.len()), (27, 0), "{taken:?}");
    // PUMP_2 comes back with all that it kept, PUMP_3 has sent the beginning of it so far, PUMP_4 had its time long ago.
    let mut back: Vec<String> = (2..=28).map(|day| row(day, "PUMP_2", 3)).collect();
    back.extend([row(2, "PUMP_3", 3), row(3, "PUMP_3", 3), row(1, "PUMP_4", 4)]);
    world.insert("readings", &back.join(", ")).await;
    let mut jobs = 0;
    world.jobs(&mut jobs);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.failed.len()), (27, 0), "{taken:?}");
    let asked = world.jobs(&mut jobs);
    assert_eq!(asked.len(), 4, "nodes; those that are abreast; days and rows of the other: {asked:?}");
    assert_eq!(world.values("PUMP_2/pressure").await.len(), 28);
    assert_eq!(take(&inbox, Reach::Short).await.stored, 0);
    let taken = take(&inbox, Reach::Long).await;
    assert_eq!((taken.stored, taken.failed.len()), (3, 0), "daily_sync finds whatever there is: {taken:?}");
    assert_eq!((world.values("PUMP_3/pressure").await.len(), world.values("PUMP_4/pressure").await.len()), (3, 1));
    let marks = world.warm.inbox().marks(&"far".parse().unwrap()).await.unwrap();
    let mut marks: Vec<_> = marks.iter().map(|mark| (mark.node.as_str(), mark.until.as_str())).collect();
    marks.sort_unstable();
    let expected = [
        ("PUMP_1", "2026-02-28 10:00:00+00"),
        ("PUMP_2", "2026-02-28 10:00:00+00"),
        ("PUMP_3", "2026-02-03 10:00:00+00"),
        ("PUMP_4", "2026-02-01 10:00:00+00"),
    ];
    assert_eq!(marks, expected);
}

pub(crate) async fn a_long_table_with_local_times_is_read_by_the_same_rules(server: &BigQuery) {
    let world = World::new(server).await;
    let fields = "timestamp DATETIME, node_id STRING, what STRING, v FLOAT, flag STRING, rev INTEGER";
    world.table("long", fields, true).await;
    let rows = "('2026-03-01 11:00:00', 'PUMP_1', 'PORTATA', 36, NULL, NULL), \
                ('2026-03-01 11:00:00', 'PUMP_1', 'pressure', 4.5, 'good', NULL), \
                ('2026-03-01 11:01:00', 'PUMP_1', 'PORTATA', 72, NULL, 0), \
                ('2026-03-01 11:01:00', 'PUMP_1', 'LIVELLO', 1, NULL, NULL), \
                ('2026-03-01 11:02:00', 'PUMP_1', 'pressure', NULL, NULL, NULL), \
                ('2026-03-02 12:00:00', 'PUMP_1', 'pressure', 1, NULL, NULL)";
    world.insert("long", rows).await;
    let mapping = "metric = 'what'\nvalue = 'v'\nquality = 'flag'\nrevision = 'rev'\nzone = 'Europe/Rome'\n\
                   columns = { PORTATA = 'flow_rate [m3/h]' }";
    let inbox = world.inbox(&world.mapped("long", mapping), Stop::Never);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.rejected, taken.failed.len()), (3, 3, 0), "{taken:?}");
    assert_eq!(world.values("PUMP_1/flow_rate").await, [(0, 10.0), (60, 20.0)], "11 o'clock in Rome");
    for why in ["there is no metric 'LIVELLO'", "'' is no value", "2026-03-02T11:00:00Z is in the future"] {
        assert!(world.rejects(why, "2026-03-0").await, "{why}: {:?}", world.warm.inbox().rejected(100).await);
    }
    assert_eq!(take(&inbox, Reach::Long).await.stored, 0, "once");
    // A correction is what has a higher revision.
    world.insert("long", "('2026-03-01 11:01:00', 'PUMP_1', 'PORTATA', 108, NULL, 1)").await;
    assert_eq!(take(&inbox, Reach::Short).await.stored, 1);
    assert_eq!(world.values("PUMP_1/flow_rate").await, [(0, 10.0), (60, 30.0)]);
}

pub(crate) async fn rows_are_read_in_the_order_in_which_they_came(server: &BigQuery) {
    let world = World::new(server).await;
    let fields = "timestamp TIMESTAMP, node_id STRING, flow FLOAT, press FLOAT, came TIMESTAMP";
    world.table("arrivals", fields, false).await;
    let row = |at: &str, node: &str, press: u32, came: &str| {
        let came = if came.is_empty() { "NULL".into() } else { format!("'2026-03-01 {came}:00+00'") };
        format!("('{at}:00+00', {node}, NULL, {press}, {came})")
    };
    let rows = [
        row("2026-03-01 10:00", "'PUMP_1'", 1, "10:01"),
        row("2026-03-01 10:00", "'PUMP_2'", 2, "10:00"),
        row("2026-03-01 10:00", "NULL", 3, "10:02"),
        row("2027-03-01 10:00", "'PUMP_2'", 4, "10:02"),
        row("2026-03-01 10:05", "'PUMP_3'", 5, ""),
    ];
    world.insert("arrivals", &rows.join(", ")).await;
    let inbox = world.inbox(&world.mapped("arrivals", &format!("received = 'came'\n{WIDE}")), Stop::Never);
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.quarantined, taken.rejected, taken.failed.len()), (3, 1, 1, 0), "{taken:?}");
    assert!(world.rejects("no node", "2026-03-01 10:00:00+00,,pressure,,3").await);
    assert_eq!(world.values("PUMP_3/pressure").await, [(300, 5.0)], "nobody knows when it came");
    // Months late, of a node that has newer ones: no window would be long enough.
    world.insert("arrivals", &row("2025-11-01 10:00", "'PUMP_1'", 6, "10:03")).await;
    let taken = take(&inbox, Reach::Short).await;
    assert_eq!((taken.stored, taken.failed.len()), (1, 0), "{taken:?}");
    assert_eq!(world.values("PUMP_1/pressure").await.len(), 2);
    let marks = world.warm.inbox().marks(&"far".parse().unwrap()).await.unwrap();
    assert_eq!((marks.len(), marks[0].until.as_str()), (1, "2026-03-01 10:03:00+00"));
    assert_eq!(take(&inbox, Reach::Long).await.stored, 0, "once");
}
