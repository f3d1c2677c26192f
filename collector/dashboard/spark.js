// Sparklines: a day in the width of a word. Drawn as SVG, so that they are sharp on a wall and need no library.

import { get } from "./api.js";
import { s } from "./dom.js";
import { now } from "./network.js";
import { parse } from "./format.js";

const DAY_MS = 86_400_000;
const YOUNG_MS = 7_200_000;
const AT_ONCE = 64;
const PIXELS = 120;
const WIDTH = 120;
const HEIGHT = 30;
const BUCKET_MS = 300_000;

/** Asks for the lines of these series; gives number → { from, to, points: [[ms, low, high]] }. */
export async function lines(numbers) {
  const found = new Map();
  for (let n = 0; n < numbers.length; n += AT_ONCE) {
    const some = numbers.slice(n, n + AT_ONCE);
    const to = now();
    const day = await ask(some, { from: iso(to - DAY_MS), resolution: "5m", limit: 300 });
    const begins = Math.min(...[...day.values()].map((points) => points[0]?.[0] ?? to));
    // A network that has just begun has no day yet: what there is, as it was read.
    const young = to - begins < YOUNG_MS;
    const from = young ? begins : to - DAY_MS;
    const fine = young ? await ask(some, { from: iso(begins), resolution: "raw", pixels: PIXELS }) : day;
    const first = young ? Math.min(...[...fine.values()].map((points) => points[0]?.[0] ?? to)) : from;
    const gap = young ? Math.max(3 * (to - begins) / PIXELS, 5_000) : 2.2 * BUCKET_MS; // longer than between two points
    for (const [number, points] of fine) found.set(number, { from: first, to, points, young, gap });
  }
  return found;
}

const iso = (ms) => new Date(ms).toISOString();

async function ask(some, params) {
  const answer = await get("history", { series: some.join(","), ...params });
  return new Map((answer.items ?? [answer]).filter((item) => item.points).map((item) => [item.series, item.points.map((point) =>
    "value" in point ? [parse(point.at), usable(point), usable(point)] : [parse(point.at), point.min, point.max])
    .filter(([, low]) => low !== null && low !== undefined)]));
}

const usable = (point) => (point.quality === "bad" ? null : point.value);

/** Adds newest values to a line and lets go of what has left it. */
export function extend(line, at, value) {
  if (value === null || at <= (line.points.at(-1)?.[0] ?? 0)) return;
  const width = (line.to - line.from) / PIXELS;
  const last = line.points.at(-1);
  if (last && line.points.length > 1 && at - line.points.at(-2)[0] < width) {
    line.points[line.points.length - 1] = [at, Math.min(last[1], value), Math.max(last[2], value)];
  } else line.points.push([at, value, value]);
  if (!line.young) line.from += at - line.to;
  line.to = at;
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
  const stroke = s("path", { class: "spark-line" });
  const dot = s("circle", { class: "spark-dot", r: 0 });
  return s("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", "aria-hidden": "true" }, area, stroke, dot);
}

/** Draws a line into a picture. */
export function draw(picture, line, kind) {
  const [area, stroke, dot] = picture.children;
  if (line.points.length < 2) { for (const part of [area, stroke]) part.removeAttribute("d"); dot.setAttribute("r", 0); return; }
  const [low, high] = bounds(line);
  const height = high - low;
  const x = (at) => ((at - line.from) / Math.max(1, line.to - line.from)) * (WIDTH - 4) + 1;
  const y = (value) => (height > 0 ? HEIGHT - 3 - ((value - low) / height) * (HEIGHT - 6) : HEIGHT / 2);
  let up = "", top = "", before = null, begins = 0;
  const close = (at) => (top ? `${top}L${x(at).toFixed(1)} ${HEIGHT}L${begins} ${HEIGHT}Z` : "");
  let filled = "";
  for (const [at, min, max] of line.points) {
    const middle = y((min + max) / 2).toFixed(1), px = x(at).toFixed(1);
    if (before === null || at - before > line.gap) {
      filled += close(before ?? at);
      begins = px;
      top = `M${px} ${middle}`;
      up += `M${px} ${middle}`;
    } else {
      const step = kind === "state" ? `H${px}V${middle}` : `L${px} ${middle}`;
      up += step;
      top += step;
    }
    if (max > min && kind === "gauge") up += `M${px} ${y(min).toFixed(1)}V${y(max).toFixed(1)}M${px} ${middle}`;
    before = at;
  }
  filled += close(before);
  area.setAttribute("d", filled);
  stroke.setAttribute("d", up);
  const last = line.points.at(-1);
  dot.setAttribute("r", 2.2);
  dot.setAttribute("cx", x(last[0]).toFixed(1));
  dot.setAttribute("cy", y((last[1] + last[2]) / 2).toFixed(1));
}
