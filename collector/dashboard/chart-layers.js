// What lies under and over the lines of a chart: what is expected, levels, and stretches that are marked. Times are seconds.

import { parse } from "./format.js";

const HOUR_S = 3_600;

/** Nothing. Bands are `{ points: [[at, low, high]], colour, alpha }`, lines `{ points: [[at, value]], colour, dash }`, stretches
 *  `{ from, to, colour }`; `tip(at)` gives words for the pointer, or null. */
export const noLayers = () => ({ bands: [], lines: [], stretches: [], tip: () => null });

/** Several as one. */
export const together = (...all) => ({
  bands: all.flatMap((one) => one.bands), lines: all.flatMap((one) => one.lines), stretches: all.flatMap((one) => one.stretches),
  tip: (at) => all.map((one) => one.tip(at)).find(Boolean) ?? null,
});

/** A forecast: both intervals, and what is most likely. */
export function forecast(item, tip) {
  const points = item.points.map((point) => ({ ...point, at: parse(point.at) / 1000 + HOUR_S / 2 }));
  const band = (low, high, alpha) => ({ points: points.map((point) => [point.at, point[low], point[high]]), colour: "forecast", alpha });
  return { bands: [band("low90", "high90", 0.13), band("low50", "high50", 0.2)],
    lines: [{ points: points.map(({ at, value }) => [at, value]), colour: "forecast", dash: [6, 4] }], stretches: [],
    tip: (at) => { const found = points.find((point) => Math.abs(point.at - at) <= HOUR_S / 2); return found ? tip(found) : null; } };
}

/** Lowest and highest value with what is drawn in from..to. */
export function extent(layers, from, to, low, high) {
  const take = (at, ...values) => { if (at >= from && at <= to) for (const value of values) { low = Math.min(low ?? value, value); high = Math.max(high ?? value, value); } };
  layers.bands.forEach(({ points }) => points.forEach(([at, least, most]) => take(at, least, most)));
  layers.lines.forEach(({ points }) => points.forEach(([at, value]) => take(at, value)));
  return [low, high];
}

/** Draws within the plot. */
function inside(u, draw) {
  const { ctx, bbox } = u;
  ctx.save();
  ctx.beginPath();
  ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
  ctx.clip();
  draw(ctx, bbox, (at) => u.valToPos(at, "x", true), (value) => u.valToPos(value, "y", true));
  ctx.restore();
}

/** Before the lines. */
export function under(u, layers, colour) {
  inside(u, (ctx, bbox, x, y) => {
    for (const { from, to, colour: name } of layers.stretches) {
      const [left, right] = [x(from), Math.max(x(to), x(from) + 3 * devicePixelRatio)];
      ctx.fillStyle = colour(name);
      ctx.globalAlpha = 0.11;
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
      ctx.globalAlpha = 0.95;
      ctx.fillRect(left, bbox.top, right - left, 4 * devicePixelRatio);
    }
    for (const { points, colour: name, alpha } of layers.bands) {
      if (points.length === 0) continue;
      ctx.fillStyle = colour(name);
      ctx.globalAlpha = alpha;
      ctx.beginPath();
      points.forEach(([at, , high]) => ctx.lineTo(x(at), y(high)));
      [...points].reverse().forEach(([at, low]) => ctx.lineTo(x(at), y(low)));
      ctx.fill();
    }
  });
}

/** After the lines; `now` is where the future begins. */
export function over(u, layers, colour, now) {
  inside(u, (ctx, bbox, x, y) => {
    const dot = devicePixelRatio;
    for (const { points, colour: name, dash } of layers.lines) {
      ctx.strokeStyle = colour(name);
      ctx.lineWidth = 1.6 * dot;
      ctx.setLineDash((dash ?? []).map((part) => part * dot));
      ctx.beginPath();
      points.forEach(([at, value]) => ctx.lineTo(x(at), y(value)));
      ctx.stroke();
    }
    if (u.scales.x.max - now > (u.scales.x.max - u.scales.x.min) * 0.01) {
      ctx.strokeStyle = colour("faint");
      ctx.lineWidth = dot;
      ctx.setLineDash([2 * dot, 3 * dot]);
      ctx.beginPath();
      ctx.moveTo(x(now), bbox.top);
      ctx.lineTo(x(now), bbox.top + bbox.height);
      ctx.stroke();
    }
  });
}
