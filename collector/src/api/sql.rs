//! Read-only SQL over the archive; the answer is written while it is found.

use super::document::{NotFound, TooMuch};
use super::extract::Sent;
use super::parameters::Rows;
use super::params::Params;
use super::{Api, Problem};
use crate::sql::rows::Json;
use crate::sql::{Answer, SqlError, TEXT_BYTES_MAX};
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use futures::{StreamExt as _, stream};

/// SQL
///
/// Asks the archive by SQL: one SELECT from `readings`, with bounds on memory, time and rows. What is wrong with it is mostly
/// known before the answer begins; what fails later breaks it off, so that nobody takes it for whole.
#[utoipa::path(post, path = "/api/v1/sql", tag = "Readings", params(Rows),
    request_body(content = String, content_type = "text/plain", description = "The query.",
        example = "SELECT node, avg(value) FROM readings WHERE metric = 'flow_rate' GROUP BY node"),
    responses((status = 200, body = Object, description = "Columns and rows."), NotFound, TooMuch))]
pub(super) async fn sql(
    State(api): State<Api>,
    headers: HeaderMap,
    params: Params,
    Sent(body): Sent,
) -> Result<Response, Problem> {
    super::origin::same_origin(&headers)?;
    let rows = params.parsed::<u64>("rows", "number of rows")?;
    let Some(sql) = &api.sources.sql else {
        return Err(Problem::unknown("there is no archive of files here that SQL could be asked of".into()));
    };
    let text = std::str::from_utf8(&body).ok().filter(|text| text.len() <= TEXT_BYTES_MAX);
    let text = text.ok_or_else(|| Problem::body(format!("a query is text of {TEXT_BYTES_MAX} bytes at most")))?;
    let most = sql.settings().rows;
    let answer = sql.ask(text, Some(rows.unwrap_or(most).min(most))).await?;
    let head = Json::head(&answer.schema);
    let rest = stream::unfold(Some((answer, Json::default())), async |state| {
        let (answer, json) = state?;
        Some(match piece(answer, json).await {
            Ok((text, next)) => (Ok(text), next),
            Err(error) => {
                tracing::warn!(%error, "the answer to a query breaks off");
                (Err(std::io::Error::other(error)), None)
            }
        })
    });
    let text = stream::iter([Ok(head)]).chain(rest);
    // Compression asks once more after the end.
    Ok(([(header::CONTENT_TYPE, "application/json")], Body::from_stream(text.fuse())).into_response())
}

type Next = (String, Option<(Answer, Json)>);

async fn piece(mut answer: Answer, mut json: Json) -> Result<Next, SqlError> {
    match answer.next().await? {
        Some(batch) => {
            let text = json.rows(&batch).map_err(|error| SqlError::Refused(error.to_string()))?;
            Ok((text, Some((answer, json))))
        }
        None => Ok((Json::tail(&answer), None)),
    }
}

impl From<SqlError> for Problem {
    fn from(error: SqlError) -> Self {
        match error {
            SqlError::Refused(why) => Self::query(why),
            SqlError::TooMuch(why) => Self::too_much(why),
            SqlError::Busy(_) => Self::busy(),
            SqlError::Tier(error) => error.into(),
        }
    }
}
