//! Gateways: what is known of them, their points, what they lost, and what waits for their clocks.

use super::document::NotFound;
use super::extract::Named;
use super::parameters::{Gateway as OfGateway, Page, Touching};
use super::params::{List, Params, in_order};
use super::routes::{Answered, DoubtfulList, ITEMS, ITEMS_MAX};
use super::{Api, Problem, views};
use crate::ingest::sessions::Seen;
use crate::tiers::{GatewayInfo, Parked, SeriesId, SeriesInfo};
use axum::Json;
use axum::extract::State;
use shared::ids::GatewayId;
use shared::reading::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// Parked blocks that are looked at: each may have six kilobytes.
const PARKED_MAX: u32 = 2_000;

/// Gaps
///
/// Blocks of gateways that are known to be missing, and why; the newest first. A gap gets smaller when its data turns up.
#[utoipa::path(get, path = "/api/v1/gaps", tag = "Operations", params(OfGateway, Touching, Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = List<views::Gap>, description = "The gaps.")))]
pub(super) async fn gaps(State(api): State<Api>, params: Params) -> Answered<List<views::Gap>> {
    let now = (api.sources.now)();
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let (from, to) = (params.moment("from", now)?, params.moment("to", now)?);
    let span = match (from, to) {
        (None, None) => None,
        (from, to) => Some((from.unwrap_or(Timestamp(i64::MIN)), to.unwrap_or(Timestamp(i64::MAX)))),
    };
    if let Some((from, to)) = span {
        in_order(from, to)?;
    }
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let gaps = api.sources.warm.gaps(gateway.as_ref(), span, page.needed()).await?;
    Ok(Json(page.of(gaps.iter().map(views::Gap::of))))
}

/// Gateways
///
/// Every gateway that was ever heard: when, in which version, what it says of itself, and its connection. While the warm
/// tier is away, those that connected since the collector started.
#[utoipa::path(get, path = "/api/v1/gateways", tag = "Operations", params(Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = DoubtfulList<views::Gateway>, description = "The gateways.")))]
pub(super) async fn gateways(State(api): State<Api>, params: Params) -> Answered<DoubtfulList<views::Gateway>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let seen: BTreeMap<GatewayId, Seen> = (api.sources.presence)().into_iter().collect();
    let (list, degraded) = match api.sources.warm.gateways().await {
        Ok(gateways) => {
            let view = |info: &GatewayInfo| views::Gateway::of(info, seen.get(&info.gateway));
            (page.of(gateways.iter().map(view)), Vec::new())
        }
        Err(error) => {
            let view = |(gateway, seen)| views::Gateway::seen(gateway, seen);
            let lacks = format!("{error}: gateways that didn't connect since the collector started are missing");
            (page.of(seen.iter().map(view)), vec![lacks])
        }
    };
    Ok(Json(DoubtfulList { list, degraded }))
}

/// Parked blocks
///
/// Blocks whose boot's clock isn't known, by boot, and between which moments it ran if it never learned the time.
#[utoipa::path(get, path = "/api/v1/parked", tag = "Operations", params(OfGateway, Page::<ITEMS, ITEMS>),
    responses((status = 200, body = List<views::ParkedBoot>, description = "The boots with parked blocks.")))]
pub(super) async fn parked(State(api): State<Api>, params: Params) -> Answered<List<views::ParkedBoot>> {
    let gateway = params.parsed::<GatewayId>("gateway", "gateway name")?;
    let page = params.page(ITEMS, ITEMS)?;
    let blocks = api.sources.warm.parked(gateway.as_ref(), None, PARKED_MAX).await?;
    let mut boots = BTreeMap::<_, Vec<Parked>>::new();
    let more = blocks.len() == PARKED_MAX as usize;
    for block in blocks {
        boots.entry((block.gateway.clone(), block.boot)).or_default().push(block);
    }
    let mut items = Vec::with_capacity(boots.len());
    for ((gateway, boot), blocks) in boots {
        let fix = api.sources.warm.clock_fix(&gateway, boot).await?;
        items.push(views::ParkedBoot::of(gateway, boot, &blocks, fix));
    }
    let mut list = page.of(items);
    list.truncated |= more;
    Ok(Json(list))
}

/// Points of a gateway
///
/// Every series that it writes, with its newest reading, whether that says anything about now, and what is wrong.
#[utoipa::path(get, path = "/api/v1/gateways/{gateway}/points", tag = "Operations",
    params(("gateway" = inline(GatewayId), Path, description = "The gateway's name.", example = "STATION_7"), Page::<ITEMS, ITEMS_MAX>),
    responses((status = 200, body = DoubtfulList<views::Point>, description = "The points."), NotFound))]
pub(super) async fn points(
    State(api): State<Api>,
    Named(gateway): Named<GatewayId>,
    params: Params,
) -> Answered<DoubtfulList<views::Point>> {
    let page = params.page(ITEMS, ITEMS_MAX)?;
    let known = api.directory.get().await?;
    let series: Vec<&SeriesInfo> = known.all().iter().filter(|series| series.gateway == gateway).collect();
    if series.is_empty() && !api.sources.warm.gateways().await?.iter().any(|info| info.gateway == gateway) {
        return Err(Problem::no_such("gateway", "gateway", gateway.as_str()));
    }
    let ids: Vec<SeriesId> = series.iter().map(|series| series.id).collect();
    let (newest, mut degraded) = api.history.latest(&ids).await?;
    degraded.extend(known.doubt.clone());
    let newest: HashMap<SeriesId, _> = newest.iter().map(|reading| (reading.series, reading)).collect();
    let now = (api.sources.now)();
    let point = |series: &&SeriesInfo| views::Point::of(series, newest.get(&series.id).copied(), now);
    Ok(Json(DoubtfulList { list: page.of(series.iter().map(point)), degraded }))
}
