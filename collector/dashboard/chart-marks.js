// From an answer of the API to what a chart draws: lines with holes where nothing is known, and marks on what is missing
// or bad. Pure; times are seconds, as the chart library wants them.

import { parse } from "./format.js";

const WIDTHS = { "5m": 300, "1h": 3_600, "1d": 86_400 };
const MOST = 0.5; // of a bucket: the mean of less would be a jump beside one of which more is known
const KNOWN = 0.98; // of a bucket: a reading that comes a little late is no hole

/** An empty shape. */
export const nothing = () => ({ times: [], middle: [], low: [], high: [], marks: [], resolution: "raw", points: [] });

/** The shape of an answer about `series` in from..to; `column` is how long a pixel is. */
export function shape(answer, series, [from, to], column, now) {
  return answer.resolution === "raw" ? raw(answer, series, from, Math.min(to, now), column) : buckets(answer, series, from, Math.min(to, now));
}

function raw(answer, series, from, to, column) {
  const found = nothing();
  const holds = Math.max(series.stale_after_s, 2.5 * column);
  let before = null;
  for (const point of answer.points) {
    const at = parse(point.at) / 1000;
    if (at - (before ?? from) > holds) {
      // A value holds for a while; then nothing is known any more.
      const ends = before === null ? from : before + Math.min(holds, series.stale_after_s);
      hole(found, ends, at);
    }
    const usable = point.quality !== "bad" && point.value !== null;
    add(found, at, usable ? point.value : null, null, null);
    if (!usable) {
      extend(found, "bad", at, at + Math.min(holds, Math.max(series.interval_ms / 1000, column)), 1);
    } else if (point.quality === "uncertain") {
      extend(found, "uncertain", at, at + Math.max(series.interval_ms / 1000, column), 1);
    }
    found.points.push({ at, value: point.value, quality: point.quality, reason: point.reason, bad: usable ? 0 : 1, uncertain: point.quality === "uncertain" ? 1 : 0 });
    before = at;
  }
  if (to - (before ?? from) > holds) extend(found, "missing", before === null ? from : before + Math.min(holds, series.stale_after_s), to, 1);
  return found;
}

function buckets(answer, series, from, to) {
  const found = nothing();
  const width = WIDTHS[answer.resolution];
  found.resolution = answer.resolution;
  const centre = series.kind === "state" ? 0 : width / 2;
  let next = Math.floor(from / width) * width;
  const most = answer.points.map((point) => point.covered_s >= MOST * width);
  for (const [n, point] of answer.points.entries()) {
    const at = parse(point.at) / 1000;
    // What a counter grew while nobody knew of it isn't of the bucket in which it is heard of again.
    const unknown = series.kind === "counter" && at > next && n > 0 && at - next > width;
    if (at > next) hole(found, next, at);
    const middle = series.kind === "counter" ? point.increase : series.kind === "state" ? point.last : point.average;
    const band = series.kind !== "counter";
    const little = series.kind === "gauge" && !most[n] && (most[n - 1] || most[n + 1]);
    if (!little) add(found, at + centre, unknown ? null : middle ?? null, band ? point.min ?? null : null, band ? point.max ?? null : null);
    const { bad, uncertain } = point.count;
    const all = bad + uncertain + point.count.good + point.count.manual;
    const known = point.covered_s / Math.max(1, Math.min(width, to - at));
    if (bad > 0) extend(found, "bad", at, at + width, Math.max(0.25, bad / all));
    else if (known < KNOWN) extend(found, "missing", at, at + width, 1 - known);
    else if (uncertain > 0) extend(found, "uncertain", at, at + width, Math.max(0.25, uncertain / all));
    found.points.push({ at, width, known: Math.min(1, known), value: middle, low: point.min, high: point.max, quality: bad > 0 ? "bad" : uncertain > 0 ? "uncertain" : "good", bad, uncertain });
    next = at + width;
  }
  if (to > next) extend(found, "missing", next, to, 1);
  return found;
}

function add(found, at, middle, low, high) {
  found.times.push(at);
  found.middle.push(middle);
  found.low.push(low);
  found.high.push(high);
}

function hole(found, from, to) {
  if (found.times.length > 0) add(found, from > found.times.at(-1) ? from : found.times.at(-1) + 1e-3, null, null, null);
  extend(found, "missing", from, to, 1);
}

/** Adds a mark, or makes the last one longer when it goes on. */
function extend(found, kind, from, to, strength) {
  const last = found.marks.at(-1);
  if (last && last.kind === kind && Math.abs(last.strength - strength) < 0.15 && from <= last.to + 1e-3) last.to = Math.max(last.to, to);
  else if (to > from) found.marks.push({ kind, from, to, strength });
}

/** Adds a newest value to readings. */
export function append(found, series, newest) {
  const at = newest.at / 1000;
  if (found.resolution !== "raw" || at <= (found.times.at(-1) ?? -Infinity)) return;
  const last = found.marks.at(-1);
  if (last?.kind === "missing" && last.to >= at - series.stale_after_s && last.from < at) last.to = Math.min(last.to, at);
  const usable = newest.quality !== "bad" && newest.value !== null;
  add(found, at, usable ? newest.value : null, null, null);
  if (!usable) extend(found, "bad", at, at + Math.max(series.interval_ms / 1000, 1), 1);
  found.points.push({ at, value: newest.value, quality: newest.quality, reason: newest.reason, bad: usable ? 0 : 1, uncertain: 0 });
}

/** What lies in from..to: lowest, highest, last, how many are bad or uncertain, and for which part a value is known. */
export function summary(found, from, to, now) {
  const sum = { low: null, high: null, last: null, bad: 0, uncertain: 0, known: null };
  found.times.forEach((at, n) => {
    if (at < from || at > to || found.middle[n] === null) return;
    const [min, max] = [found.low[n] ?? found.middle[n], found.high[n] ?? found.middle[n]];
    sum.low = sum.low === null ? min : Math.min(sum.low, min);
    sum.high = sum.high === null ? max : Math.max(sum.high, max);
    sum.last = found.middle[n];
  });
  for (const { at, width = 0, bad, uncertain } of found.points) {
    if (at + width < from || at > to) continue;
    sum.bad += bad;
    sum.uncertain += uncertain;
  }
  const length = Math.min(to, now) - from;
  const inside = (one, other) => Math.max(0, Math.min(other, to, now) - Math.max(one, from));
  const missing = found.marks.filter(({ kind }) => kind !== "uncertain").reduce((all, mark) => all + inside(mark.from, mark.to), 0);
  const buckets = found.points.reduce((all, { at, width, known }) => all + inside(at, at + width) * known, 0);
  if (length > 0) sum.known = found.resolution === "raw" ? 1 - missing / length : buckets / length;
  return sum;
}

/** The number of the time that is closest. */
export function closest(times, at) {
  let low = 0, high = times.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (times[middle] < at) low = middle + 1; else high = middle;
  }
  return low > 0 && at - times[low - 1] < times[low] - at ? low - 1 : low;
}
