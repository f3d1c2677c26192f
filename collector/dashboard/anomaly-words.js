// An anomaly in words.

import { ago, length, number, parse, unit } from "./format.js";
import * as network from "./network.js";
import { texts } from "./texts.js";

const words = texts.anomalies;
const FINEST = 0.01; // averages have more digits than anybody wants

/** Open ones have the colour of their severity. */
export const badgeState = (one) => ({ open: one.severity === "critical" ? "bad" : "stale", acknowledged: "none", closed: "good" })[one.state];

/** `18.2 L/s instead of 12.0`; nothing when there is nothing to compare. */
export function against(one) {
  const { resolution } = network.series.get(one.series) ?? {};
  const show = (held) => number(held, Math.max(resolution ?? 0, FINEST));
  if (one.seen === null) return "";
  return one.expected === null ? `${show(one.seen)} ${unit(one)}` : words.against(`${show(one.seen)} ${unit(one)}`, show(one.expected));
}

/** Since when it goes on, or how long it took and how long that is ago. */
export function when(one) {
  const [start, last] = [parse(one.start), parse(one.last)];
  if (one.end === null) return words.goesOn(length((network.now() - start) / 1000));
  return words.ended(length(Math.max(60, (last - start) / 1000)), ago(parse(one.end), network.now()));
}
