// Anomalies that nobody has taken care of yet: counted in the menu, on the overview, and at their nodes.

import { get } from "./api.js";

const LIST_MAX = 500;
const listeners = new Set();

/** Those in the state `open`, the latest first; `null` while that isn't known. */
export let open = null;

/** Tells of changes; gives back how to end it. */
export function listen(tell) {
  listeners.add(tell);
  return () => listeners.delete(tell);
}

/** Asks anew. */
export async function load() {
  const { items } = await get("anomalies", { state: "open", limit: LIST_MAX });
  const key = (all) => JSON.stringify(all?.map((one) => [one.id, one.severity, one.end]));
  const same = key(open) === key(items);
  open = items;
  if (!same) listeners.forEach((tell) => tell());
}

/** Those of a node. */
export const ofNode = (node) => (open ?? []).filter((one) => one.node === node);

/** `critical`, `warning`, or `null` when there is none. */
export const worst = (items) => (items.some((one) => one.severity === "critical") ? "critical" : items.length > 0 ? "warning" : null);
