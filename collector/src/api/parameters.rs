//! Parameters, as they are described; which there are is what a request may have. What their values may be is checked by
//! [`super::params::Params`] and the handlers.

use crate::analytics::anomaly::{Kind, Severity};
use crate::history::{PIXELS_MAX, POINTS_MAX, Resolution, Way};
use serde_json::{Value, json};
use shared::ids::NAME_BYTES_MAX;
use utoipa::IntoParams;
use utoipa::openapi::Required;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};

/// A name of a gateway or a node.
const NAME: &str = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";
/// What is read as a time.
const MOMENT: &str = r"^(now(-.+)?|\d{4}-\d{2}-\d{2}([Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2}))?)$";
/// Longest text, bytes; the author and the reason of a change.
pub(super) const TEXT_MAX: usize = 500;

fn parameter(name: &str, what: &str, schema: ObjectBuilder, example: Option<Value>) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(what))
        .schema(Some(schema))
        .example(example)
        .build()
}

fn text(name: &str, what: &str, example: Option<&str>) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).max_length(Some(TEXT_MAX));
    parameter(name, what, schema, example.map(|example| json!(example)))
}

/// Of a pattern.
fn like(name: &str, what: &str, pattern: &str, example: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(pattern)).min_length(Some(1));
    parameter(name, what, schema, Some(json!(example)))
}

fn name(name: &str, what: &str, example: &str) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::String).pattern(Some(NAME)).max_length(Some(NAME_BYTES_MAX));
    parameter(name, what, schema, Some(json!(example)))
}

fn number(name: &str, what: &str, (least, most): (u32, u32), default: Option<u32>) -> Parameter {
    let schema = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(least)).maximum(Some(most));
    parameter(name, what, schema.default(default.map(|n| json!(n))), None)
}

/// One of these words; the first one when nothing is said.
fn one_of(name: &str, what: &str, words: &[&str], default: bool) -> Parameter {
    let default = default.then(|| json!(words[0]));
    let schema = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words.iter().copied()));
    parameter(name, what, schema.default(default), None)
}

fn flag(name: &str, what: &str) -> Parameter {
    parameter(name, what, ObjectBuilder::new().schema_type(Type::Boolean).default(Some(json!(false))), None)
}

fn moment(name: &str, what: &str, example: &str) -> Parameter {
    like(name, what, MOMENT, example)
}

fn from(what: &str) -> Parameter {
    moment("from", what, "now-6h")
}

fn to(what: &str) -> Parameter {
    moment("to", what, "now")
}

/// Several that belong together.
macro_rules! parameters {
    ($($(#[$doc:meta])* $name:ident: $($parameter:expr),+;)+) => {$(
        $(#[$doc])*
        pub(super) struct $name;
        impl IntoParams for $name {
            fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
                vec![$($parameter),+]
            }
        }
    )+};
}

parameters! {
    /// Which series, by what they are.
    Named:
        name("node", "Only of this node.", "DIST_001"),
        text("metric", "Only of this metric.", Some("flow_rate")),
        text("channel", "Only of this channel; without a value: of those that have none.", None);
    /// Which series, by number.
    Series:
        number("series", "Only the series of this number.", (0, u32::MAX), None);
    /// Series by number, one or several.
    SeveralSeries:
        like("series", "A series' number, or several with commas between them: at most 64. Instead of node and metric.",
            r"^\d{1,10}(,\d{1,10}){0,63}$", "1,2");
    /// A stretch, the last day unless something is said.
    Stretch:
        from("From when on, itself included; a day before `to` when nothing is said."),
        to("Until when, itself not included; now when nothing is said.");
    /// A stretch, or everything.
    Touching:
        from("Only what reaches beyond this moment."),
        to("Only what begins before this moment.");
    /// Which gateway.
    Gateway:
        name("gateway", "Only of this gateway.", "STATION_7");
    /// How history is shown.
    Shown:
        one_of("resolution", "How fine: readings as they are, buckets, or the finest that fits into `limit` or `pixels`.",
            &Resolution::WORDS, true),
        number("limit", "Most points; not with `pixels`.", (1, POINTS_MAX), Some(super::past::POINTS)),
        number("pixels", "How wide the chart is: readings are brought down to what it can show. With `raw` or `auto`.",
            (1, PIXELS_MAX), None),
        one_of("thin", "How they are brought down. With `pixels`.", &Way::WORDS, true),
        one_of("format", "JSON, or a CSV file of any length of one series.", &["json", "csv"], true);
    /// The format of a file.
    ExportFormat:
        one_of("format", "Which kind of file.", &["csv", "parquet"], true);
    /// Which reports.
    Reports:
        like("day", "The day of the report; the newest when nothing is said.", r"^\d{4}-\d{2}-\d{2}$", "2026-03-01"),
        name("node", "Only of this node.", "DIST_001"),
        one_of("format", "JSON or CSV.", &["json", "csv"], true);
    /// Which anomalies.
    Anomalies:
        one_of("state", "Only in this state.", &["open", "acknowledged", "closed"], false),
        one_of("kind", "Only of this kind.", &Kind::ALL.map(Kind::as_str), false),
        one_of("severity", "Only as bad as this.", &Severity::ALL.map(Severity::as_str), false);
    /// Which changes.
    Changes:
        text("who", "Only of this user or token.", Some("rossi")),
        text("what", "Only of this kind.", Some("access"));
    /// Which job.
    Job:
        text("job", "Only of this job.", Some("daily_sync"));
    /// Who makes a change, and why.
    Change:
        text("author", "Who it is; only where nobody has to log in.", Some("M. Rossi")),
        text("reason", "Why.", Some("read from the dial"));
    /// Which rows that were set aside.
    Aside:
        text("series", "Only of this series.", Some("DIST_001/flow_rate")),
        text("because", "Only those whose reason begins so.", Some("future")),
        from("Only from this moment on."),
        to("Only before this moment."),
        flag("dry", "Only say what would be done.");
    /// Which rows of inboxes that could not be taken.
    Rejects:
        name("source", "Only of this producer: `inbox` for our own table, or the name in `[[inbox]]`.", "scada"),
        text("because", "Only those whose reason begins so.", Some("no node")),
        flag("dry", "Only say what would be done.");
    /// How much of an answer to SQL.
    Rows:
        number("rows", "Most rows; `[sql] rows` when nothing is said, and never more.", (0, u32::MAX), None);
    /// How a file is read.
    File:
        flag("dry", "Only say what would be done."),
        flag("create", "Make series that aren't there."),
        text("delimiter", "What stands between columns; found out when nothing is said.", Some(";")),
        one_of("decimal", "What stands before a number's fraction; found out when nothing is said.", &[".", ","], false),
        one_of("dates", "What comes first in dates of three numbers.", &["dmy", "mdy"], false),
        text("zone", "The time zone of times without an offset.", Some("Europe/Rome")),
        one_of("fold", "What a time means that was twice in the night when clocks go back.",
            &["refuse", "earlier", "later", "order"], true),
        name("node", "The node of columns that name only a metric.", "DIST_001"),
        text("metric", "The metric of columns that name only a node.", Some("flow_rate")),
        text("unit", "The unit of columns that name none.", Some("m3/h")),
        like("map", "What single columns are, as JSON: name to `NODE/metric[/channel] [unit]`, or `-` for nothing.",
            r"^\{", r#"{"Q1":"DIST_001/flow_rate m3/h"}"#),
        number("revision", "Overrules what stands there with a lower one.", (0, crate::import::REVISION_MAX), Some(0)),
        number("first_line", "The number of the second line sent, in the whole file.", (0, u32::MAX), Some(2)),
        flag("more", "Whether another piece of the file follows: an hour that was twice may go on there."),
        like("found", "`dialect` of the answer to the piece before this one, as JSON: what is written otherwise is refused.",
            r"^\{", r#"{"delimiter":";","decimal":","}"#),
        like("last", "`last` of the answer to the piece before this one, as JSON.", r"^\{", "{}");
}

/// Which part of a list that has the newest first.
pub(super) struct NewestPage<const DEFAULT: u32, const MOST: u32>;

impl<const DEFAULT: u32, const MOST: u32> IntoParams for NewestPage<DEFAULT, MOST> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let what = "`next` of the answer before, which new items don't shift; or how many to leave out.";
        vec![
            number("limit", "Most items.", (1, MOST), Some(DEFAULT)),
            like("offset", what, r"^(\d{1,6}|(~-?\d{1,19}){1,2})$", "0"),
        ]
    }
}

/// Which part of a list.
pub(super) struct Page<const DEFAULT: u32, const MOST: u32>;

impl<const DEFAULT: u32, const MOST: u32> IntoParams for Page<DEFAULT, MOST> {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            number("limit", "Most items.", (1, MOST), Some(DEFAULT)),
            number(
                "offset",
                "How many to leave out: `next` of the answer before.",
                (0, super::params::OFFSET_MAX),
                Some(0),
            ),
        ]
    }
}
