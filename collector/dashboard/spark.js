// Sparklines: a day in the width of a word. Drawn as SVG, so that they are sharp on a wall and need no library.

import { get } from "./api.js";
import { s } from "./dom.js";
import { now } from "./network.js";
import { parse } from "./format.js";

/** How many series are asked for at a time. */
export const AT_ONCE = 64;

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const YOUNG_MS = 6 * HOUR_MS; // of a shorter past every reading counts
const SLOW_MS = 60_000;
const COLUMNS = 96; // of a day that is brought down from readings
const WIDTH = 120;
const HEIGHT = 30;

/** How a day is asked for, and how long it is between two points at most. What is read often comes summed up, which costs the
 *  collector and the network least; of a switch the hour says too little. */
const WAYS = {
  readings: { params: { resolution: "raw", pixels: COLUMNS }, gap: 2.2 * DAY_MS / COLUMNS },
  hours: { params: { resolution: "1h" }, gap: 1.5 * HOUR_MS },
  minutes: { params: { resolution: "5m" }, gap: HOUR_MS / 6 },
};
const way = ({ interval_ms, kind }) => (interval_ms === 0 || interval_ms >= SLOW_MS ? "readings" : kind === "state" ? "minutes" : "hours");

/** Asks for the lines of these series; gives number → { from, to, points: [[ms, low, high]] }. */
export async function lines(all) {
  const to = now(), found = new Map();
  const take = (series, from, points, gap) => found.set(series.series, { from, to, points, young: from > to - DAY_MS, gap: Math.max(gap, 1000 * series.stale_after_s) });
  const young = new Map();
  await Promise.all([...Map.groupBy(all, way)].map(async ([name, some]) => {
    const day = await ask(some, to - DAY_MS, WAYS[name].params);
    for (const series of some) {
      const points = day.get(series.series) ?? [], begins = points[0]?.[0];
      // What has just begun has no day yet: what there is, as it was read.
      if (begins > to - YOUNG_MS) young.set(series, begins - HOUR_MS);
      else take(series, to - DAY_MS, points, WAYS[name].gap);
    }
  }));
  if (young.size === 0) return found;
  const fine = await ask([...young.keys()], Math.min(...young.values()), WAYS.readings.params);
  for (const series of young.keys()) {
    const points = fine.get(series.series) ?? [], from = points[0]?.[0] ?? to;
    take(series, from, points, 3 * (to - Math.min(...young.values())) / COLUMNS);
  }
  return found;
}

async function ask(series, from, params) {
  const answer = await get("history", { series: series.map((one) => one.series).join(","), from: new Date(from).toISOString(), ...params });
  const states = new Set(series.filter(({ kind }) => kind === "state").map((one) => one.series));
  return new Map((answer.items ?? [answer]).filter((item) => item.points).map((item) => [item.series, item.points.map((point) =>
    "value" in point ? [parse(point.at), usable(point), usable(point)]
      : states.has(item.series) ? [parse(point.at), point.last, point.last]
        : [Math.min(parse(point.at) + HOUR_MS / 2, now()), point.min, point.max])
    .filter(([, low]) => low !== null && low !== undefined)]));
}

const usable = (point) => (point.quality === "bad" ? null : point.value);

/** Adds newest values to a line and lets go of what has left it. */
export function extend(line, at, value) {
  if (value === null || at <= (line.points.at(-1)?.[0] ?? 0)) return;
  const width = (line.to - line.from) / WIDTH;
  const last = line.points.at(-1);
  if (last && line.points.length > 1 && at - line.points.at(-2)[0] < width) {
    line.points[line.points.length - 1] = [at, Math.min(last[1], value), Math.max(last[2], value)];
  } else line.points.push([at, value, value]);
  if (!line.young) line.from += Math.max(0, at - line.to);
  line.to = Math.max(line.to, at);
  while (line.points.length > 2 && line.points[1][0] < line.from) line.points.shift();
}

/** Lowest and highest value. */
export function bounds(line) {
  let low = Infinity, high = -Infinity;
  for (const [, min, max] of line.points) { low = Math.min(low, min); high = Math.max(high, max); }
  return [low, high];
}

/** The picture; it is described beside it, so it says nothing itself. */
export function picture() {
  const area = s("path", { class: "spark-area" });
  const band = s("path", { class: "spark-band" });
  const stroke = s("path", { class: "spark-line" });
  const dot = s("circle", { class: "spark-dot", r: 0 });
  return s("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, band, stroke, dot);
}

/** Draws a line into a picture. */
export function draw(picture, line, kind) {
  const [area, band, stroke, dot] = picture.children;
  if (line.points.length < 2) { for (const part of [area, band, stroke]) part.removeAttribute("d"); dot.setAttribute("r", 0); return; }
  const [low, high] = bounds(line);
  const height = high - low;
  const x = (at) => ((at - line.from) / Math.max(1, line.to - line.from)) * (WIDTH - 4) + 1;
  const y = (value) => (height > 0 ? HEIGHT - 3 - ((value - low) / height) * (HEIGHT - 6) : HEIGHT / 2);
  let up = "", top = "", before = null, begins = 0, filled = "", spread = "";
  const highs = [], lows = [];
  const close = (at) => {
    if (top) filled += `${top}L${x(at).toFixed(1)} ${HEIGHT}L${begins} ${HEIGHT}Z`;
    if (highs.length > 1) spread += `M${highs.join("L")}L${lows.reverse().join("L")}Z`;
    highs.length = lows.length = 0;
  };
  for (const [at, min, max] of line.points) {
    const middle = y((min + max) / 2).toFixed(1), px = x(at).toFixed(1);
    if (before === null || at - before > line.gap) {
      close(before ?? at);
      begins = px;
      top = `M${px} ${middle}`;
      up += `M${px} ${middle}`;
    } else {
      const step = kind === "state" ? `H${px}V${middle}` : `L${px} ${middle}`;
      up += step;
      top += step;
    }
    if (kind === "gauge") { highs.push(`${px} ${y(max).toFixed(1)}`); lows.push(`${px} ${y(min).toFixed(1)}`); }
    before = at;
  }
  close(before);
  area.setAttribute("d", filled);
  band.setAttribute("d", spread);
  stroke.setAttribute("d", up);
  const last = line.points.at(-1);
  dot.setAttribute("r", 2.2);
  dot.setAttribute("cx", x(last[0]).toFixed(1));
  dot.setAttribute("cy", y((last[1] + last[2]) / 2).toFixed(1));
}
