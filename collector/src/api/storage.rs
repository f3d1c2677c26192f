//! What each tier holds, and what that takes: counted when somebody asks, and not again for some minutes.

use super::Api;
use super::routes::Answered;
use crate::tiers::TierError;
use crate::tiers::cold::rows::Day;
use axum::Json;
use axum::extract::State;
use serde::Serialize;
use shared::reading::Timestamp;
use std::time::Duration;
use tokio::time::Instant;
use utoipa::ToSchema;

/// How long what was counted holds.
const HOLDS: Duration = Duration::from_secs(300);

/// What was counted, and until when it holds.
pub(super) type Counted = tokio::sync::Mutex<Option<(Instant, Storage)>>;

/// What the tiers hold.
#[derive(Clone, Serialize, ToSchema)]
pub(super) struct Storage {
    /// When it was counted.
    at: Timestamp,
    hot: Holds,
    warm: Holds,
    /// Null when there is no archive.
    cold: Option<Holds>,
}

/// What a tier holds.
#[derive(Clone, Default, Serialize, ToSchema)]
struct Holds {
    /// About so many readings; null when it can't tell.
    readings: Option<u64>,
    /// In so many bytes: of memory in the hot tier, with all that lies beside readings in the warm one.
    bytes: Option<u64>,
    /// Why it can't tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Holds {
    fn of(counted: Result<(u64, Option<u64>), TierError>) -> Self {
        match counted {
            Ok((readings, bytes)) => Self { readings: Some(readings), bytes, error: None },
            Err(error) => Self { error: Some(error.to_string()), ..Self::default() },
        }
    }

    fn is_known(&self) -> bool {
        self.error.is_none()
    }
}

/// What the tiers hold
///
/// Readings and bytes of each tier, about, as of some minutes ago at most.
#[utoipa::path(get, path = "/api/v1/storage", tag = "Operations",
    responses((status = 200, body = Storage, description = "What the tiers hold.")))]
pub(super) async fn storage(State(api): State<Api>) -> Answered<Storage> {
    let mut counted = api.storage.lock().await;
    if let Some((until, storage)) = &*counted
        && Instant::now() < *until
    {
        return Ok(Json(storage.clone()));
    }
    let storage = count(&api).await;
    let whole = storage.hot.is_known() && storage.warm.is_known() && storage.cold.as_ref().is_none_or(Holds::is_known);
    *counted = whole.then(|| (Instant::now() + HOLDS, storage.clone()));
    Ok(Json(storage))
}

async fn count(api: &Api) -> Storage {
    let (hot, warm) = (&api.sources.hot, &api.sources.warm);
    let hot = async { hot.state().await.map(|state| (state.readings, state.bytes)) };
    let in_warm = async {
        let (readings, state) = futures::try_join!(warm.count_readings(), warm.state())?;
        Ok((readings, state.bytes))
    };
    let cold = async {
        let cold = api.sources.cold.as_ref()?;
        // The account of days knows what was read back from there.
        let counted = futures::try_join!(warm.days().days(Day::FIRST, Day::LAST.next()), cold.state());
        let counted = counted.map(|(days, state)| {
            (days.iter().filter_map(|day| day.cold).map(|proof| proof.rows).sum::<u64>(), state.bytes)
        });
        Some(Holds::of(counted))
    };
    let (hot, in_warm, cold) = futures::join!(hot, in_warm, cold);
    Storage { at: (api.sources.now)(), hot: Holds::of(hot), warm: Holds::of(in_warm), cold }
}
