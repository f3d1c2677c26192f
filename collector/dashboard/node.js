// The page of a node: newest values, and charts of all its series over one stretch of time.

import { Chart } from "./chart.js";
import { fill, foreign, h, mark, say } from "./dom.js";
import { ago, local, moment, unit, value } from "./format.js";
import * as network from "./network.js";
import { Layers } from "./node-layers.js";
import { Span } from "./span.js";
import { seriesName, texts } from "./texts.js";

const FUTURE = 0.3; // of what is shown, when forecasts are
const FUTURE_MAX_MS = 7 * 86_400_000;
const words = texts.node;

/** Builds the page of `name`; gives back how to end it, and with `query` how to show another stretch. */
export function node(root, report, name, query) {
  const page = new Page(root, report, name, query);
  return Object.assign(() => page.end(), { query: (other) => page.span.read(other) });
}

class Page {
  constructor(root, report, name, query) {
    Object.assign(this, { root, report, name, charts: [], tiles: [] });
    this.span = new Span(network.now);
    this.foretell(query.has("forecast"));
    this.span.read(query);
    this.dirty = new Set();
    this.unlisten = [network.listen((what) => this.changed(what)), this.span.listen((why) => this.moved(why))];
    this.timer = setInterval(() => { this.tick(); this.span.tick(); }, 1000);
    this.build();
  }

  end() {
    this.unlisten.forEach((end) => end());
    clearInterval(this.timer);
    clearTimeout(this.writing);
    cancelAnimationFrame(this.frame);
    this.charts.forEach((chart) => chart.end());
    this.layers?.end();
  }

  changed(what) {
    if (what === "structure") return this.build();
    what.forEach((number) => this.dirty.add(number));
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  build() {
    this.charts.forEach((chart) => chart.end());
    this.layers?.end();
    this.charts = [];
    if (!network.known) return fill(this.root, h("h1", null, this.name), h("p", { class: "faint" }, words.loading));
    const node = network.nodes.get(this.name);
    if (!node) {
      return fill(this.root, h("section", { class: "alone" }, h("h1", null, words.unknown(this.name)), h("p", null, words.unknownHow), h("a", { class: "button", href: "#/" }, words.back)));
    }
    this.node = node;
    const label = network.nodeName(node.node);
    document.title = `${label} · ${texts.title}`;
    this.dot = h("span", { class: "dot" });
    this.age = h("span", { class: "age" });
    this.head = h("div", { class: "node-head" }, h("a", { class: "button small", href: "#/" }, "← ", words.back), this.dot, h("h1", null, foreign(label)),
      label === node.node ? null : h("code", null, node.node), this.age, this.chooser());
    this.tiles = node.series.map(tile);
    this.charts = node.series.map((series) => new Chart(series, this.span, this.report, { below: h("ul", { class: "chart-notes" }) }));
    this.layers = new Layers(this.name, this.charts, this.span, this.report);
    this.layers.forecasts = this.forecasts;
    fill(this.root, this.head,
      h("section", { "aria-label": words.values }, h("ul", { class: "tiles" }, this.tiles.map((one) => one.element))),
      this.tools(), h("div", { class: "charts" }, this.charts.map((chart) => chart.element)), h("p", { class: "faint help" }, words.help));
    this.charts.forEach((chart) => chart.load());
    this.moved("set");
    this.tick();
  }

  chooser() {
    const options = [...network.nodes.keys()].map((one) => h("option", { value: one, selected: one === this.name }, network.nodeName(one) === one ? one : `${network.nodeName(one)} (${one})`));
    return h("select", { "aria-label": words.choose, class: "choose", onchange: (event) => { location.hash = `#/node/${encodeURIComponent(event.target.value)}?${this.span.write()}`; } }, options);
  }

  tools() {
    const { span } = this;
    this.spans = texts.spans.map(([name, seconds]) => h("button", { type: "button", data: { seconds }, onclick: () => span.follow(seconds * 1000) }, name));
    const button = (sign, name, act) => h("button", { type: "button", "aria-label": name, title: name, onclick: act }, sign);
    this.follow = h("button", { type: "button", class: "follow", onclick: () => span.follow() }, words.follow);
    this.from = h("input", { type: "datetime-local", step: 1, id: "from" });
    this.to = h("input", { type: "datetime-local", step: 1, id: "to" });
    const show = (event) => { event.preventDefault(); const [a, b] = [Date.parse(this.from.value), Date.parse(this.to.value)]; if (a < b) span.set(a, b); };
    this.when = h("summary", { class: "button" });
    this.custom = h("details", { class: "custom" }, this.when, h("form", { onsubmit: show, "aria-label": words.custom },
      h("label", { for: "from" }, words.from), this.from, h("label", { for: "to" }, words.to), this.to, h("button", { type: "submit" }, words.show)));
    this.compare = h("input", { type: "checkbox", id: "week", onchange: () => this.charts.forEach((chart) => { chart.compare = this.compare.checked; chart.load(); }) });
    const future = h("input", { type: "checkbox", id: "future", checked: this.forecasts, onchange: () => { this.foretell(future.checked); this.layers.forecasts = this.forecasts; span.follow(); } });
    return h("div", { class: "toolbar" },
      h("div", { class: "buttons", role: "group", "aria-label": words.range }, this.spans),
      h("div", { class: "buttons" }, button("‹", words.earlier, () => span.pan(-0.5)), button("›", words.later, () => span.pan(0.5)),
        button("+", words.closer, () => span.zoom(0.5)), button("−", words.wider, () => span.zoom(2)), this.follow),
      this.custom, h("label", { class: "check", for: "week" }, this.compare, h("span", { class: "week-key", "aria-hidden": "true" }), words.week),
      h("label", { class: "check", for: "future" }, future, h("span", { class: "future-key", "aria-hidden": "true" }), words.forecast));
  }

  /** Charts reach into the future when forecasts are wanted. */
  foretell(wanted) {
    this.forecasts = wanted;
    this.span.ahead = wanted ? (length) => Math.min(length * FUTURE, FUTURE_MAX_MS) : () => 0;
  }

  /** The stretch of time is another one. */
  moved(why) {
    if (!this.spans) return;
    const { span } = this;
    mark(this.follow, "aria-pressed", span.following);
    this.spans.forEach((button) => mark(button, "aria-pressed", span.following && Math.abs(span.length / 1000 - button.dataset.seconds) < 1));
    say(this.when, `${moment(span.from)} – ${moment(span.to)}`);
    if (!this.custom.open) [this.from.value, this.to.value] = [local(span.from), local(span.to)];
    if (why === "tick") return;
    clearTimeout(this.writing);
    this.writing = setTimeout(() => history.replaceState(null, "", `#/node/${encodeURIComponent(this.name)}?${span.write()}${this.forecasts ? "&forecast" : ""}`), 300);
  }

  draw() {
    this.charts.forEach((chart) => { if (this.dirty.has(chart.series.series)) chart.live(); });
    this.dirty.clear();
    this.tick();
  }

  tick() {
    if (!this.node || !this.dot) return;
    const state = network.nodeState(this.node), seen = network.nodeSeen(this.node);
    mark(this.head, "data-state", state);
    say(this.dot, texts.quality[state]);
    say(this.age, ago(Number.isFinite(seen) ? seen : null, network.now()));
    this.tiles.forEach((one) => one.update());
  }
}

function tile(series) {
  const text = h("strong");
  const note = h("span", { class: "note" });
  const measure = h("span", { class: "unit" }, unit(series));
  const element = h("li", { class: "tile" }, h("span", { class: "figure-title" }, seriesName(series)),
    h("span", { class: "tile-value" }, text, " ", measure), note);
  return { element, update() {
    const { newest } = series;
    const state = network.state(series);
    mark(element, "data-state", state);
    const held = newest?.value ?? null;
    say(text, held === null ? texts.noValue : value(series, held));
    measure.hidden = held === null;
    const quality = newest?.quality === "manual" && state === "good" ? "manual" : state;
    say(note, newest ? `${texts.quality[quality]}${newest.reason && state !== "good" ? ` (${newest.reason})` : ""}, ${ago(newest.at, network.now())}` : texts.age.never);
  } };
}
