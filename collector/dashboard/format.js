// Numbers, times and lengths of time for people. Pure.

import { texts } from "./texts.js";

const STEPS = [["y", 31_536_000], ["d", 86_400], ["h", 3_600], ["min", 60], ["s", 1]];
const NUMBERS = new Map();

function digits(low, high) {
  const key = low + "/" + high;
  if (!NUMBERS.has(key)) {
    NUMBERS.set(key, new Intl.NumberFormat(texts.locale, { minimumFractionDigits: low, maximumFractionDigits: high }));
  }
  return NUMBERS.get(key);
}

/** Decimals that a value deserves: what its sensor resolves, and no more than its size makes sensible. */
export function decimals(value, resolution) {
  const size = Math.abs(value);
  const sensible = size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3;
  const resolved = resolution > 0 ? Math.max(0, Math.min(6, Math.round(-Math.log10(resolution)))) : sensible;
  return Math.min(sensible, resolved);
}

/** A value without its unit. */
export function number(value, resolution) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (value !== 0 && Math.abs(value) < 0.001 && !(resolution > 0)) return value.toPrecision(2);
  const places = decimals(value, resolution);
  return digits(places, places).format(value);
}

/** The unit as it is shown: counts and states have none. */
export const unit = (series) => (series.unit === "1" ? "" : series.unit);

/** A series' value in words, without unit. */
export function value(series, held) {
  if (held === null || held === undefined) return "–";
  if (series.metric === "running") return held > 0 ? texts.on : texts.off;
  return number(held, series.resolution);
}

/** `1,204` */
export const whole = (n) => (n === null || n === undefined ? "–" : digits(0, 0).format(n));

/** `98.2 %`; never rounded up to a hundred. */
export function percent(share) {
  if (share === null || share === undefined || !Number.isFinite(share)) return "–";
  const value = share >= 1 ? 100 : Math.min(share * 100, 99.9);
  return `${digits(0, 1).format(value)} %`;
}

/** `1.5 GB` */
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  const names = ["B", "kB", "MB", "GB", "TB"];
  let place = 0;
  while (n >= 1000 && place < names.length - 1) { n /= 1000; place += 1; }
  return `${digits(0, n < 10 && place > 0 ? 1 : 0).format(n)} ${names[place]}`;
}

/** `3 min`, `2 h 5 min`; seconds in. */
export function length(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 1) return seconds === 0 ? `0 ${texts.units.s}` : `${Math.max(1, Math.round(seconds * 1000))} ${texts.units.ms}`;
  const place = STEPS.findIndex(([, step]) => seconds >= step);
  const [name, step] = STEPS[place];
  const main = Math.floor(seconds / step);
  const next = STEPS[place + 1];
  const rest = next && main < 10 && name !== "min" ? Math.floor((seconds - main * step) / next[1]) : 0;
  return `${main} ${texts.units[name]}${rest ? ` ${rest} ${texts.units[next[0]]}` : ""}`;
}

/** `2 s ago`; both in milliseconds. */
export function ago(at, now) {
  if (at === null || at === undefined) return texts.age.never;
  const seconds = (now - at) / 1000;
  if (Math.abs(seconds) < 1.5) return texts.age.now;
  return seconds < 0 ? texts.age.ahead(length(-seconds)) : texts.age.ago(length(seconds));
}

const MOMENT = new Intl.DateTimeFormat(texts.locale, { dateStyle: "medium", timeStyle: "medium" });
const CLOCK = new Intl.DateTimeFormat(texts.locale, { timeStyle: "medium" });

/** Date and time here. */
export const moment = (ms) => (ms === null || ms === undefined ? "–" : MOMENT.format(ms));

/** Time of day here. */
export const clock = (ms) => CLOCK.format(ms);

/** Milliseconds of a time as the API writes it; `null` stays. */
export const parse = (text) => (text ? Date.parse(text) : null);

/** What `<input type="datetime-local">` takes: the time here. */
export function local(ms) {
  const at = new Date(ms - new Date(ms).getTimezoneOffset() * 60_000);
  return at.toISOString().slice(0, 19);
}
