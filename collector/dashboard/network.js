// What is known of the network: nodes, series, newest values. Pages read it and are told when it changes.

import { get } from "./api.js";
import { parse } from "./format.js";

/** node → { node, place, series: [series] }, by name. */
export const nodes = new Map();
/** number → series, with `newest: { at, value, quality, reason }`. */
export const series = new Map();
/** Words on what the lists lack. */
export let degraded = [];
/** Whether the lists were ever there. */
export let known = false;

/** When the collector was last heard, by its clock. */
export let heard = 0;

let ahead = 0; // the collector's clock against ours, ms
const early = new Map(); // newest values that came before the list that names their series
const listeners = new Set();

/** Tells of changes with `structure` or the set of series that have news; gives back how to end it. */
export function listen(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

const changed = (what) => listeners.forEach((tell) => tell(what));

/** The collector's time, ms. */
export const now = () => Date.now() + ahead;

/** Takes the collector's time from an answer. */
export function setClock(text) {
  const at = parse(text);
  if (at === null) return;
  ahead = at - Date.now();
  heard = at;
}

/** What people call a node. */
export const nodeName = (node) => nodes.get(node)?.place?.name ?? node;

/** Asks which nodes and series there are. */
export async function load() {
  // At first with values: the live feed takes a moment, in which nothing should look as if it were missing.
  const first = known ? null : get("latest", { limit: 10_000 }).catch(() => null);
  const [all, places, latest] = await Promise.all([get("series", { limit: 10_000 }), get("nodes", { limit: 10_000 }), first]);
  const before = new Set(series.keys());
  const place = new Map(places.items.map((node) => [node.node, node.place]));
  let fresh = before.size !== all.items.length;
  for (const one of all.items) {
    fresh ||= !before.has(one.series);
    series.set(one.series, Object.assign(series.get(one.series) ?? { newest: null }, one)); // pages hold on to it
    before.delete(one.series);
  }
  before.forEach((gone) => series.delete(gone));
  degraded = [...new Set([...all.degraded, ...places.degraded])];
  if (!fresh && known) return;
  known = true;
  nodes.clear();
  const sorted = [...series.values()].sort(byName);
  for (const one of sorted) {
    if (!nodes.has(one.node)) nodes.set(one.node, { node: one.node, place: place.get(one.node), series: [] });
    nodes.get(one.node).series.push(one);
  }
  changed("structure");
  offer(latest?.items ?? []);
  offer([...early.values()]);
  early.clear();
}

/** Metrics that say most come first. */
const ORDER = ["flow_rate", "level", "pressure", "running", "chlorine", "temperature", "power"];
function byName(a, b) {
  const rank = (one) => (ORDER.indexOf(one.metric) + 1 || ORDER.length + 1) + (one.kind === "counter" ? 100 : 0);
  return a.node.localeCompare(b.node, undefined, { numeric: true }) || rank(a) - rank(b)
    || a.metric.localeCompare(b.metric) || a.channel.localeCompare(b.channel);
}

/** Takes newest values; one that is older than what is known changes nothing. */
export function offer(items) {
  const news = new Set();
  for (const item of items) {
    const one = series.get(item.series);
    const at = parse(item.at);
    if (!one) early.set(item.series, item);
    if (!one || (one.newest && one.newest.at > at)) continue;
    const same = one.newest && one.newest.at === at && one.newest.value === item.value && one.newest.quality === item.quality;
    if (same) continue;
    one.newest = { at, value: item.value, quality: item.quality, reason: item.reason };
    news.add(one.series);
  }
  if (news.size > 0) changed(news);
  return news;
}

/** `missing`, `stale`, `bad`, `uncertain` or `good`: how far a newest value can be trusted now. */
export function state(one) {
  if (!one.newest) return "missing";
  if (now() - one.newest.at > one.stale_after_s * 1000) return "stale";
  return one.newest.quality === "manual" ? "good" : one.newest.quality;
}

const WORST = ["bad", "missing", "stale", "uncertain", "good"];

/** The worst state among a node's series. */
export function nodeState(node) {
  const states = new Set(node.series.map(state));
  return WORST.find((one) => states.has(one)) ?? "missing";
}

/** When anything of the node was last heard, ms. */
export const nodeSeen = (node) => node.series.reduce((seen, one) => Math.max(seen, one.newest?.at ?? -Infinity), -Infinity);

/** The series whose flow is flow into the network: those of inflow nodes, else of channels called inlet. */
export function inflow() {
  const flows = [...series.values()].filter((one) => one.metric === "flow_rate");
  const named = flows.filter((one) => nodes.get(one.node)?.place?.inflow);
  return named.length > 0 ? named : flows.filter((one) => one.channel === "inlet");
}
