// Anomalies that nobody has taken care of yet: counted in the menu, on the overview, and at their nodes. The live feed tells
// of them; while there is none they are asked for.

import { get } from "./api.js";

const LIST_MAX = 500;
const listeners = new Set();
let fed = 0; // how often the feed told
let known = new Map(); // number → anomaly, the latest first; the feed tells of acknowledged ones, too

/** Those in the state `open`, the latest first; `null` while that isn't known. */
export let open = null;

/** Tells of changes; gives back how to end it. */
export function listen(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

function become(all) {
  known = new Map(all.sort((a, b) => b.start.localeCompare(a.start) || b.id - a.id).map((one) => [one.id, one]));
  open = all.filter((one) => one.state === "open");
  listeners.forEach((tell) => tell());
}

/** Asks anew. */
export async function load() {
  const before = fed;
  const { items } = await get("anomalies", { state: "open", limit: LIST_MAX });
  if (fed !== before) return; // what it told meanwhile is newer
  const key = (all) => JSON.stringify(all?.map((one) => [one.id, one.severity, one.end]));
  if (key(open) !== key(items)) become(items);
}

/** Takes what the feed tells: all of them, or what has changed. */
export function take({ whole, items, gone }) {
  fed += 1;
  const next = whole ? new Map() : new Map(known);
  for (const one of items) next.set(one.id, one);
  for (const id of gone) next.delete(id);
  become([...next.values()]);
}

/** Those of a node. */
export const ofNode = (node) => (open ?? []).filter((one) => one.node === node);

/** `critical`, `warning`, or `null` when there is none. */
export const worst = (items) => (items.some((one) => one.severity === "critical") ? "critical" : items.length > 0 ? "warning" : null);
