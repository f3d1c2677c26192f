// What a series did at the same hours of the weeks before: the evidence beside an anomaly.

import { get } from "./api.js";
import { parse } from "./format.js";
import { paired, shifted, zone } from "./zone.js";

const WEEKS = 4;
const FINE_MS = 3 * 86_400_000; // longer stretches are compared by the hour
const WIDTHS = { "5m": 300, "1h": 3_600 };

/** Layers of a chart: from the lowest to the highest of these weeks, and their median. */
export async function usual(series, from, to, words, signal) {
  const resolution = to - from > FINE_MS ? "1h" : "5m";
  const local = await zone();
  const weeks = await Promise.all(Array.from({ length: WEEKS }, (_, n) => {
    const days = 7 * (n + 1);
    const iso = (at) => new Date(shifted(at, -days, local)).toISOString();
    return get("history", { series: series.series, from: iso(from), to: iso(to), resolution, limit: 2_000 }, signal).then(({ points }) => ({ points, days }));
  }));
  const width = WIDTHS[resolution];
  const byTime = new Map();
  for (const { points, days } of weeks) {
    for (const { at, average } of points) {
      const now = paired(parse(at), days, local);
      if (now === null || average === null || average === undefined) continue;
      const place = Math.round(now / 1000 / width) * width;
      byTime.set(place, [...(byTime.get(place) ?? []), average]);
    }
  }
  const points = [...byTime].filter(([, values]) => values.length >= 2).sort(([a], [b]) => a - b)
    .map(([at, values]) => ({ at: at + width / 2, sorted: values.sort((a, b) => a - b) }));
  const middle = (sorted) => (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2;
  return {
    bands: [{ points: points.map(({ at, sorted }) => [at, sorted[0], sorted.at(-1)]), colour: "usual", alpha: 0.2 }],
    lines: [{ points: points.map(({ at, sorted }) => [at, middle(sorted)]), colour: "usual", dash: [5, 4] }], stretches: [],
    tip: (at) => { const found = points.find((point) => Math.abs(point.at - at) <= width / 2); return found ? words(found.sorted[0], found.sorted.at(-1)) : null; },
  };
}
