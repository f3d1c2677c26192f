// What the charts of a node show besides its readings: anomalies, and what is expected.

import { get } from "./api.js";
import { forecast, noLayers, together } from "./chart-layers.js";
import { fill, h } from "./dom.js";
import { moment, number, parse, unit } from "./format.js";
import * as network from "./network.js";
import { texts } from "./texts.js";

const SETTLE_MS = 150;
const EVERY_MS = 30_000;
const LIST_MAX = 200;
const NAMED_MAX = 3;
const words = texts.node;

/** The colour of a severity. */
export const severityColour = (severity) => (severity === "critical" ? "bad" : "stale");

/** An anomaly as a stretch of a chart. */
export const stretch = (one) => ({ from: parse(one.start) / 1000, to: (one.end ? parse(one.last) : network.now()) / 1000, colour: severityColour(one.severity) });

/** What the pointer says of a forecast. */
export const foretold = (series) => (point) =>
  words.foretold(`${number(point.value, series.resolution)} ${unit(series)}`, number(point.low90, series.resolution), number(point.high90, series.resolution));

/** Keeps the layers of a node's charts; `forecasts` says whether what is expected is wanted. */
export class Layers {
  constructor(node, charts, span, report) {
    Object.assign(this, { node, charts, span, report, forecasts: false, expected: new Map(), found: [], lacks: [], asked: 0 });
    this.unlisten = span.listen((why) => { if (why === "set" || Date.now() - this.asked > EVERY_MS) this.soon(); });
    this.soon();
  }

  end() {
    this.unlisten();
    clearTimeout(this.timer);
    this.asking?.abort();
  }

  soon() {
    this.asked = Date.now();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), SETTLE_MS);
  }

  async load() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const iso = (ms) => new Date(ms).toISOString();
    const [anomalies, forecasts] = await Promise.allSettled([
      get("anomalies", { node: this.node, from: iso(this.span.from), to: iso(this.span.to), limit: LIST_MAX }, signal),
      this.forecasts ? get("forecasts", { node: this.node, limit: LIST_MAX }, signal) : null,
    ]);
    if (signal.aborted) return;
    // What can't be asked for stays as it was, and is said to be missing.
    if (anomalies.value) this.found = anomalies.value.items;
    if (forecasts.status === "fulfilled") this.expected = new Map(forecasts.value?.items.map((item) => [item.series, item]));
    this.lacks = [[anomalies, words.lacksAnomalies, "anomalies"], [forecasts, words.lacksForecasts, "forecasts"]].filter(([one, , what]) => {
      this.report(what, one.reason ?? null);
      return one.reason;
    }).map(([, text]) => text);
    this.draw();
  }

  draw() {
    for (const chart of this.charts) {
      const { series } = chart;
      const item = this.expected.get(series.series);
      const anomalies = this.found.filter((one) => one.series === series.series);
      chart.show(together({ ...noLayers(), stretches: anomalies.map(stretch) }, item ? forecast(item, foretold(series)) : noLayers()));
      fill(chart.how.below, anomalies.slice(0, NAMED_MAX).map(named), anomalies.length > NAMED_MAX
        && h("li", null, h("a", { href: `#/anomalies?state=all&node=${encodeURIComponent(this.node)}` }, words.moreAnomalies(anomalies.length - NAMED_MAX))),
        this.forecasts && !item && series.kind !== "state" && !this.lacks.includes(words.lacksForecasts) && h("li", { class: "faint" }, words.notForetold),
        this.lacks.map((text) => h("li", { class: "faint" }, text)));
    }
  }
}

const named = (one) => h("li", null, h("a", { href: `#/anomalies/${one.id}?state=all`, title: one.detail, data: { severity: one.severity }, class: "anomaly-link" },
  texts.anomalies.kinds[one.kind] ?? one.kind, h("span", { class: "faint" }, ` ${moment(parse(one.start))} · ${texts.anomalies.states[one.state]}`)));
