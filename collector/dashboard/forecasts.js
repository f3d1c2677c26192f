// Forecasts: what every series is expected to be, a day or a week ahead, and how right that was so far.

import { get } from "./api.js";
import { Chart } from "./chart.js";
import { forecast } from "./chart-layers.js";
import { fill, foreign, h, mark, say, table } from "./dom.js";
import { ago, clock, moment, number, parse, percent, unit, whole } from "./format.js";
import { choice } from "./forms.js";
import * as network from "./network.js";
import { foretold } from "./node-layers.js";
import { may } from "./session.js";
import { Span } from "./span.js";
import { metricName, seriesName, texts } from "./texts.js";

const DAY_MS = 86_400_000;
const HOUR_MS = 3_600_000;
const EVERY_MS = 60_000;
const AT_ONCE = 12; // charts, until more are wanted
const LIST_MAX = 200;
const LENGTHS = { 24: 2 * DAY_MS, 168: 14 * DAY_MS };
const words = texts.forecasts;

/** Builds the page. Gives back how to end it, and with `query` how to show another part. */
export function forecasts(root, report, _, query) {
  const page = new Page(root, report, query);
  return Object.assign(() => page.end(), { query: (other) => page.go(other) });
}

class Page {
  constructor(root, report, query) {
    Object.assign(this, { report, charts: [], items: null, most: AT_ONCE });
    this.tools = h("div", { class: "toolbar" });
    this.body = h("div", { class: "charts" }, h("div", { class: "chart waiting" }), h("div", { class: "chart waiting" }));
    this.rest = h("div", { class: "row" });
    this.accuracy = h("section", { class: "part", "aria-labelledby": "accuracy-title", hidden: true });
    fill(root, h("h1", { class: "unseen" }, texts.pages.forecasts), this.tools, this.body, this.rest, this.accuracy);
    this.unlisten = network.listen((what) => { if (what === "structure") this.load(); });
    this.timers = [setInterval(() => this.span.tick(), 1000), setInterval(() => { if (!document.hidden) this.load(); }, EVERY_MS)];
    this.go(query);
  }

  end() {
    this.unlisten();
    this.timers.forEach(clearInterval);
    this.charts.forEach((chart) => chart.end());
  }

  go(query) {
    this.node = query.get("node") ?? "";
    this.metric = query.get("metric") ?? "";
    this.hours = query.get("hours") === "168" ? 168 : 24;
    this.span = new Span(network.now);
    this.span.ahead = (length) => length / 2;
    this.span.follow(LENGTHS[this.hours]);
    this.items = null;
    this.most = AT_ONCE;
    this.load();
  }

  address(change) {
    const { node, metric, hours } = { ...this, ...change };
    const query = new URLSearchParams(Object.entries({ node, metric, hours: hours === 24 ? "" : hours }).filter(([, held]) => held));
    return `#/forecasts${query.size ? `?${query}` : ""}`;
  }

  choices() {
    const one = (name, label, options) => {
      const select = choice(options, this[name], () => { location.hash = this.address({ [name]: select.value }); });
      return h("label", { class: "filter" }, h("span", null, label), select);
    };
    const metrics = [...new Set([...network.series.values()].filter(({ kind }) => kind !== "state").map(({ metric }) => metric))].sort();
    fill(this.tools,
      h("div", { class: "buttons", role: "group", "aria-label": words.ahead }, Object.keys(LENGTHS).map((hours) =>
        h("button", { type: "button", "aria-pressed": String(Number(hours) === this.hours), onclick: () => { location.hash = this.address({ hours: Number(hours) }); } }, words.lengths[hours]))),
      one("node", texts.anomalies.node, [["", words.allNodes], ...[...network.nodes.keys()].map((node) => [node, network.nodeName(node)])]),
      one("metric", words.metric, [["", words.allMetrics], ...metrics.map((metric) => [metric, metricName(metric)])]),
      h("ul", { class: "chart-notes keys" }, Object.entries(words.keys).map(([name, text]) => h("li", null, h("span", { class: `key ${name}`, "aria-hidden": "true" }), text))));
  }

  async load() {
    if (!network.known) return;
    try {
      const items = await this.wanted();
      const key = JSON.stringify([items.map((item) => [item.series, item.made_at]), network.series.size]);
      this.report("forecasts", null);
      if (this.items && key === this.key) return;
      this.key = key;
      this.items = items.filter((item) => network.series.has(item.series));
      this.draw();
    } catch (error) {
      this.report("forecasts", error);
      if (!this.items) fill(this.body, h("section", { class: "alone" }, h("p", null, error.message), h("p", { class: "faint" }, texts.errors.asked)));
    }
  }

  /** Those that fit the choice, page by page, as far as they are shown; whether there are more is kept. */
  async wanted() {
    const items = [];
    for (let next; ;) {
      const answer = await get("forecasts", { node: this.node || undefined, metric: this.metric || undefined, limit: LIST_MAX, offset: next });
      items.push(...answer.items);
      next = answer.next ?? undefined;
      this.further = next !== undefined;
      if (!this.further || items.length >= this.most) return items;
    }
  }

  draw() {
    this.choices();
    this.charts.forEach((chart) => chart.end());
    const shown = this.items.slice(0, this.most);
    this.charts = shown.map((item) => this.one(item));
    fill(this.body, this.charts.map((chart) => chart.element), shown.length === 0 && none(this.node || this.metric));
    this.charts.forEach((chart) => chart.load());
    const left = this.items.length - shown.length;
    const go = () => { this.most += AT_ONCE; return left < AT_ONCE && this.further ? this.load() : this.draw(); };
    fill(this.rest, (left > 0 || this.further) && h("button", { type: "button", onclick: go }, this.further ? words.moreOf : words.more(left)));
    this.accuracy.hidden = this.items.length === 0;
    fill(this.accuracy, h("h2", { id: "accuracy-title" }, words.accuracy), h("p", { class: "faint" }, words.accuracyHow, this.further && ` ${words.accuracyPart(this.items.length)}`), scores(this.items));
  }

  one(item) {
    const series = network.series.get(item.series);
    const name = network.nodeName(item.node);
    const title = h("h2", null, h("a", { href: `#/node/${encodeURIComponent(item.node)}?span=${this.hours * 7200}&forecast` }, foreign(name)), ` · ${seriesName(series)} `, h("span", { class: "unit" }, unit(series)));
    const chart = new Chart(series, this.span, this.report, { title, resolution: "1h", below: h("p", { class: "forecast-words" }, ahead(item, series, this.hours)) });
    mark(chart.element, "aria-label", `${name}, ${seriesName(series)}`);
    chart.show(forecast(item, foretold(series)));
    return chart;
  }
}

/** The forecast in a sentence: its range, its peak, and how old it is. */
function ahead(item, series, hours) {
  const now = network.now();
  const points = item.points.filter((point) => parse(point.at) > now - HOUR_MS && parse(point.at) < now + hours * HOUR_MS);
  const made = h("span", { class: "faint" }, ` ${words.made(item.model, ago(parse(item.made_at), now))}`);
  if (points.length === 0) return [words.over, made];
  const peak = points.reduce((most, point) => (point.value > most.value ? point : most));
  const least = points.reduce((low, point) => (point.value < low.value ? point : low));
  const show = (held) => `${number(held, series.resolution)} ${unit(series)}`;
  const at = (point) => (hours > 24 ? moment(parse(point.at)) : clock(parse(point.at)).slice(0, 5));
  return [words.ahead24(words.lengths[hours], show(least.value), at(least), show(peak.value), at(peak)), made];
}

function none(filtered) {
  return h("section", { class: "alone" }, h("h2", null, filtered ? words.noneFiltered : words.none), h("p", null, words.noneHow),
    may("operator") && h("a", { class: "button", href: "#/operations" }, words.noneWhere));
}

/** Per series and model: the error, and which share of the hours came within the intervals. */
function scores(items) {
  const rows = items.flatMap((item) => item.accuracy.filter(({ hours }) => hours > 0).map((score) => [
    h("span", null, foreign(network.nodeName(item.node)), h("span", { class: "faint" }, ` · ${seriesName(item)}`)), score.model, words.lengths[score.horizon_h], whole(score.hours),
    `${number(score.mae, 0.01)} ${unit(item)}`, share(score.within_50, 0.5), share(score.within_90, 0.9)]));
  if (rows.length === 0) return h("p", { class: "none" }, words.noScores);
  return table(words.accuracy, words.columns, rows);
}

/** How much came within, beside what should have. */
function share(held, wanted) {
  if (held === null) return "–";
  const off = Math.abs(held - wanted);
  const badge = h("span", { class: "badge", data: { state: off <= 0.1 ? "good" : off <= 0.25 ? "stale" : "bad" } });
  say(badge, percent(held));
  return badge;
}
