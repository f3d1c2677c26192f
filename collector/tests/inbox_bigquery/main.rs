//! Tables of other producers in BigQuery become readings by the rules of everything else, once, whatever is away or stopped.

#![allow(clippy::unwrap_used)] // helpers of tests, which clippy.toml exempts only inside #[test]

mod faults;
#[path = "../services/mod.rs"]
mod services;
#[path = "../support/mod.rs"]
mod support;
mod taken;
mod world;

use services::bigquery::BigQuery;

/// One server for all of it: it is dear to start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_in_bigquery() {
    let server = BigQuery::start().await;
    Box::pin(taken::a_wide_table_is_read_on_from_where_each_node_was(&server)).await;
    Box::pin(taken::a_node_that_comes_back_is_read_from_where_it_was(&server)).await;
    Box::pin(taken::a_long_table_with_local_times_is_read_by_the_same_rules(&server)).await;
    Box::pin(taken::rows_are_read_in_the_order_in_which_they_came(&server)).await;
    Box::pin(faults::whatever_is_stopped_when_every_row_is_there_once(&server)).await;
    Box::pin(faults::while_bigquery_is_away_other_inboxes_go_on(&server)).await;
    Box::pin(faults::every_question_is_bounded_and_only_asks(&server)).await;
    Box::pin(faults::check_names_what_is_wrong(&server)).await;
}
