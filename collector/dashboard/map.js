// The schematic map: nodes where the configuration puts them, pipes between them, values on them.

import * as alerts from "./alerts.js";
import { h, s, say, mark } from "./dom.js";
import { ago, unit, value } from "./format.js";
import * as network from "./network.js";
import { metricName, texts } from "./texts.js";

const SPACE = 44; // between two boxes
const BOX = { width: 162, height: 64 };
const EDGE = 18;
const NAME = { left: 25, width: 123 }; // in a box; on its right edge anomalies are counted
const LABEL_WIDTH = 74;
const PHONE = 14; // parts of a rem: letters on a narrow screen are as large as beside it, and the map is scrolled

/** Whether there is anything to draw. */
export const drawable = () => [...network.nodes.values()].some((node) => node.place?.at);

/** The map and how it is brought up to date. */
export function map() {
  const placed = [...network.nodes.values()].filter((node) => node.place?.at);
  const at = spread(placed);
  const [right, bottom] = [0, 1].map((axis) => Math.max(...[...at.values()].map((point) => point[axis])));
  const [width, height] = [right + BOX.width + 2 * EDGE, bottom + BOX.height + 2 * EDGE];
  const size = `${-BOX.width / 2 - EDGE} ${-BOX.height / 2 - EDGE} ${width} ${height}`;
  const pipes = placed.flatMap((node) => (node.place.to ?? []).filter((to) => at.has(to)).map((to) => pipe(node.node, to, at)));
  const boxes = placed.map((node) => box(node, at.get(node.node)));
  const picture = s("svg", { class: "map", viewBox: size, style: { "--natural": `${width / PHONE}rem`, "max-width": `${width / 10}rem` }, role: "group", "aria-label": texts.overview.map },
    s("defs", null, s("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 6, refY: 4, markerWidth: 11, markerHeight: 11, markerUnits: "userSpaceOnUse", orient: "auto" },
      s("path", { d: "M0 0L8 4L0 8Z", class: "map-arrow" }))),
    pipes.map((one) => one.element), boxes.map((one) => one.element));
  const element = h("div", { class: "map-frame scroll", tabindex: 0, role: "region", "aria-label": texts.overview.map }, picture, h("p", { class: "map-hint faint", "aria-hidden": "true" }, texts.overview.mapHint));
  new ResizeObserver(() => mark(element, "data-wide", element.scrollWidth > element.clientWidth + 1)).observe(element);
  return { element, update() { boxes.forEach((one) => one.update()); pipes.forEach((one) => one.update()); } };
}

/** Places in pixels: just so far apart that no two boxes overlap, then pressed together as far as that stays so. */
function spread(placed) {
  const points = placed.map((node) => node.place.at);
  const [left, top] = [0, 1].map((axis) => Math.min(...points.map((point) => point[axis])));
  const apart = (a, b, [x, y]) => Math.abs(a[0] - b[0]) * x >= BOX.width + SPACE || Math.abs(a[1] - b[1]) * y >= BOX.height + SPACE / 2;
  const same = (a, b) => a[0] === b[0] && a[1] === b[1];
  const fits = (scale) => points.every((a, n) => points.slice(n + 1).every((b) => same(a, b) || apart(a, b, scale)));
  let scale = 1e-6;
  while (scale < 1e6 && !fits([scale, scale])) scale *= 1.05;
  let press = 1;
  while (press > 0.4 && fits([scale, scale * press * 0.95])) press *= 0.95;
  return new Map(placed.map((node) => [node.node, [(node.place.at[0] - left) * scale, (node.place.at[1] - top) * scale * press]]));
}

function pipe(from, to, at) {
  const [a, b] = [at.get(from), at.get(to)];
  const [dx, dy] = [b[0] - a[0], b[1] - a[1]];
  // From edge to edge of the boxes, bent in the middle.
  const sideways = Math.abs(dx) >= BOX.width;
  const [sx, sy] = sideways ? [Math.sign(dx) * BOX.width / 2, 0] : [0, Math.sign(dy) * BOX.height / 2];
  const [x1, y1, x2, y2] = [a[0] + sx, a[1] + sy, b[0] - sx - Math.sign(sx) * 7, b[1] - sy - Math.sign(sy) * 7];
  const path = sideways
    ? `M${x1} ${y1}C${(x1 + x2) / 2} ${y1} ${(x1 + x2) / 2} ${y2} ${x2} ${y2}`
    : `M${x1} ${y1}C${x1} ${(y1 + y2) / 2} ${x2} ${(y1 + y2) / 2} ${x2} ${y2}`;
  const flowing = s("path", { d: path, class: "pipe-flow" });
  const element = s("g", { class: "pipe", "aria-hidden": "true" }, s("path", { d: path, class: "pipe-wall", "marker-end": "url(#arrow)" }), flowing);
  // It moves while the node that it leads to measures flow, or the one it comes from does.
  const flow = (name) => network.nodes.get(name)?.series.find((one) => one.metric === "flow_rate");
  return { element, update() {
    const meter = flow(to) ?? flow(from);
    const moving = meter && network.state(meter) === "good" && Math.abs(meter.newest.value) > 0.05;
    mark(element, "data-moving", Boolean(moving));
  } };
}

/** The two values that say most about a node: of what is switched, whether it runs, and else what is measured and counted. */
function shown({ series }) {
  const of = (kind) => series.filter((one) => one.kind === kind);
  const [first, ...gauges] = of("gauge");
  return [first, ...of("state"), ...gauges, ...of("counter")].filter(Boolean).slice(0, 2);
}

/** Makes a text end in … where its place ends. Only what is on the screen has a length: until then it says false. */
function cut(element, place) {
  if (element.getComputedTextLength() === 0) return false;
  const letters = [...element.textContent];
  while (letters.length > 1 && element.getComputedTextLength() > place) {
    letters.pop();
    element.textContent = `${letters.join("").trimEnd()}…`;
  }
  return true;
}

function box(node, [x, y]) {
  const full = node.place.name ?? node.node;
  const name = s("text", { class: "map-name", x: -BOX.width / 2 + NAME.left, y: -12 }, full);
  const lines = shown(node).map((one, n) => ({ one,
    label: s("text", { class: "map-label", x: -BOX.width / 2 + 10, y: 6 + n * 16 }, metricName(one.metric)),
    value: s("text", { class: "map-value", x: BOX.width / 2 - 10, y: 6 + n * 16, "text-anchor": "end" }) }));
  const dot = s("circle", { class: "map-dot", cx: -BOX.width / 2 + 13, cy: -16, r: 4.5 });
  const count = s("text", { y: 4 });
  const alert = s("g", { class: "map-alert", transform: `translate(${BOX.width / 2 - 4} ${-BOX.height / 2 + 4})` }, s("circle", { r: 10 }), count);
  const title = s("title");
  let fits = false;
  const link = s("a", { href: `#/node/${encodeURIComponent(node.node)}`, class: "map-node", transform: `translate(${x} ${y})` }, title,
    s("rect", { x: -BOX.width / 2, y: -BOX.height / 2, width: BOX.width, height: BOX.height, rx: 10 }), dot, name,
    lines.flatMap((line) => [line.label, line.value]), alert);
  return { element: link, update() {
    const state = network.nodeState(node);
    fits ||= cut(name, NAME.width) && lines.every(({ label }) => cut(label, LABEL_WIDTH));
    mark(link, "data-state", state);
    const open = alerts.ofNode(node.node);
    mark(alert, "display", open.length === 0 ? "none" : null);
    mark(alert, "data-severity", alerts.worst(open));
    say(count, String(open.length));
    const seen = network.nodeSeen(node);
    say(title, [`${full === node.node ? full : `${full} (${node.node})`}: ${texts.quality[state]}`, ago(Number.isFinite(seen) ? seen : null, network.now()), open.length > 0 && texts.anomalies.openCount(open.length)].filter(Boolean).join(", "));
    for (const { one, value: text } of lines) {
      const held = one.newest?.value;
      say(text, held === undefined || held === null ? texts.noValue : `${value(one, held)} ${unit(one)}`);
      mark(text, "data-state", network.state(one));
    }
  } };
}
