// How charts are scaled, labelled and shaded.

import { texts } from "./texts.js";

/** Room above and below; a flat line stands in the middle; bars stand on zero. */
export function range(low, high, series, bars) {
  if (low === null || high === null) return [0, 1];
  if (series.kind === "state") return [Math.min(0, low) - 0.1, Math.max(1, high) + 0.1];
  if (bars) return [Math.min(0, low), Math.max(high, (series.resolution ?? 0.001) * 10) * 1.08];
  const least = Math.max((series.resolution ?? 0) * 8, series.kind === "gauge" ? Math.abs(high) * 0.002 : 0, 1e-9);
  const room = Math.max((high - low) * 0.1, (least - (high - low)) / 2);
  return [low - room, high + room];
}

/** The text beside the axis. */
export function axisNumber(at, series, splits) {
  if (series.metric === "running") return at === 0 ? texts.off : at === 1 ? texts.on : "";
  const step = splits.length > 1 ? splits[1] - splits[0] : 1;
  const places = [0, 1, 2, 3, 4, 5, 6].find((n) => Math.abs(step * 10 ** n - Math.round(step * 10 ** n)) < 1e-6) ?? 6;
  return at.toLocaleString(texts.locale, { minimumFractionDigits: places, maximumFractionDigits: places });
}

const format = (options) => new Intl.DateTimeFormat(texts.locale, options);
const SECONDS = format({ hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const MINUTES = format({ hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const DAYS = format({ day: "numeric", month: "short" });
const MONTHS = format({ month: "short", year: "numeric" });

/** The text below the axis: as much as is needed, and the day where it changes. */
export function tick(at, before, step) {
  const date = new Date(at * 1000);
  if (step >= 86_400 * 27) return MONTHS.format(date);
  if (step >= 86_400) return DAYS.format(date);
  const time = (step >= 60 ? MINUTES : SECONDS).format(date);
  const day = DAYS.format(date);
  return before === undefined || DAYS.format(new Date(before * 1000)) !== day ? `${time}\n${day}` : time;
}

/** Slanted lines along the bottom of a plot. */
export function hatch(ctx, x, bbox, width, dot, colour) {
  const [bottom, height] = [bbox.top + bbox.height, 8 * dot];
  ctx.strokeStyle = colour;
  ctx.lineWidth = dot;
  ctx.save();
  ctx.beginPath();
  ctx.rect(x, bottom - height, width, height);
  ctx.clip();
  ctx.beginPath();
  for (let at = x - height - ((x - height) % (5 * dot)); at < x + width; at += 5 * dot) { ctx.moveTo(at, bottom); ctx.lineTo(at + height, bottom - height); }
  ctx.stroke();
  ctx.restore();
}
