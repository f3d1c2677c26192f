// One series over a stretch of time: lines, the band between lowest and highest, and what is missing or bad.

import { get, lacks, link } from "./api.js";
import { axisNumber, hatch, range, tick } from "./chart-axes.js";
import { extent, noLayers, over, under } from "./chart-layers.js";
import { append, closest, nothing, shape, summary } from "./chart-marks.js";
import { fill, h, mark, say, styled, table } from "./dom.js";
import { ago, length, moment, number, percent, unit, value } from "./format.js";
import { gestures, keys } from "./gestures.js";
import * as network from "./network.js";
import { seriesName, texts } from "./texts.js";
import uPlot from "./vendor/uPlot.esm.js";
import { paired, shifted, zone } from "./zone.js";

const WEEK_DAYS = 7;
const DAY_MS = 86_400_000;
const LONG_MS = 10 * DAY_MS; // what goes up and down every day is a slab in a longer stretch: its mean is drawn, and a band
const SETTLE_MS = 120; // a stretch that stands still for so long is asked for
const AGAIN_MS = 10_000;
const REFRESH_MS = 20_000; // buckets while time goes on
const MARGIN = 0.3; // asked for on both sides, so that panning shows something at once
const POINTS_MAX = 10_000;
const APPENDED_MAX = 3_000;
const ROWS_MAX = 200;
const words = texts.node;
await styled("/vendor/uPlot.min.css"); // nothing else needs it

export class Chart {
  /** `options`: `title`, an element in place of the series' name; `below`, one under the chart; `resolution`, when it isn't
   *  to follow the screen. */
  constructor(series, span, report, options = {}) {
    Object.assign(this, { series, span, report, how: options, found: nothing(), week: null, compare: false, loadedAt: 0, appended: 0, layers: noLayers() });
    this.label = h("p", { class: "faint label" });
    this.reading = h("p", { class: "reading" });
    this.frame = h("div", { class: "plot", tabindex: 0, role: "img", "aria-label": seriesName(series), onkeydown: (event) => keys(event, span) });
    this.hint = h("div", { class: "plot-empty", hidden: true });
    this.csv = h("a", { class: "button small", download: "", "aria-label": words.csvOf(seriesName(series)) }, words.csv);
    this.details = h("details", { ontoggle: () => this.rows() }, h("summary", null, words.table), h("div"));
    this.element = h("section", { class: "chart", "aria-label": seriesName(series) },
      h("div", { class: "row" }, options.title ?? h("h2", null, seriesName(series), " ", h("span", { class: "unit" }, unit(series))), this.reading, this.csv),
      h("div", { class: "plot-holder" }, this.frame, this.hint), this.label, options.below, this.details);
    this.sized = new ResizeObserver(() => this.resize());
    this.sized.observe(this.frame);
    this.unlisten = span.listen((why) => this.moved(why));
    this.themed = () => { this.colours = null; this.plot?.redraw(); };
    addEventListener("theme", this.themed);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.themed);
  }

  end() {
    this.unlisten();
    this.sized.disconnect();
    removeEventListener("theme", this.themed);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.themed);
    clearTimeout(this.soon);
    clearTimeout(this.again);
    this.asking?.abort();
    this.plot?.destroy();
  }

  // --- data

  moved(why) {
    this.place();
    if (why === "tick") {
      if (this.found.resolution !== "raw" && Date.now() - this.loadedAt > REFRESH_MS) this.load();
      return;
    }
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.load(), SETTLE_MS);
  }

  /** Asks for the stretch and a margin; a newer question takes the place of one that isn't answered yet. */
  async load() {
    clearTimeout(this.again);
    this.asking?.abort();
    this.asking = new AbortController();
    this.loadedAt = Date.now();
    const { signal } = this.asking;
    const margin = this.span.length * MARGIN;
    const [from, to] = [this.span.from - margin, Math.min(this.span.to + margin, network.now() + 1000)];
    const pixels = Math.round(Math.max(200, this.frame.clientWidth) * (1 + 2 * MARGIN));
    const column = (to - from) / 1000 / pixels;
    const { resolution } = this.how;
    const width = resolution ? { resolution, limit: POINTS_MAX } : this.span.length > LONG_MS ? { limit: Math.max(2 * pixels, Math.ceil((to - from) / DAY_MS) + 1) } : { pixels, limit: POINTS_MAX };
    const ask = (from, to) => get("history", { series: this.series.series, from: iso(from), to: iso(to), ...width }, signal);
    mark(this.element, "aria-busy", "true");
    try {
      const local = this.compare ? await zone() : null;
      const then = [from, to].map((at) => shifted(at, -WEEK_DAYS, local ?? "UTC"));
      const [answer, before] = await Promise.all([ask(from, to), this.compare ? ask(...then) : null]);
      this.found = shape(answer, this.series, [from / 1000, to / 1000], column, network.now() / 1000);
      this.week = before && weekLater(shape(before, this.series, then.map((at) => at / 1000), column, network.now() / 1000), local);
      this.answer = answer;
      this.appended = 0;
      this.report(`chart ${this.series.series}`, null);
      this.draw(true);
      mark(this.element, "aria-busy", null);
      mark(this.element, "data-resolution", answer.resolution);
      if ([answer, before].some((one) => one?.degraded.length)) this.later();
    } catch (error) {
      if (signal.aborted) return;
      mark(this.element, "aria-busy", null);
      this.later();
      this.report(`chart ${this.series.series}`, error);
    }
  }

  /** What couldn't be had, or not all of it, is asked for again: nobody has to load the page anew. */
  later() {
    this.again = setTimeout(() => this.load(), AGAIN_MS);
  }

  /** A newest value has come. */
  live() {
    if (!this.answer || this.found.resolution !== "raw" || this.span.to < this.series.newest.at - 2_000 && !this.span.following) return;
    append(this.found, this.series, this.series.newest);
    this.appended += 1;
    if (this.appended > APPENDED_MAX) this.load();
    this.draw(false);
  }

  /** Draws these under and over the lines. */
  show(layers) {
    this.layers = layers;
    if (this.plot) this.draw(false);
  }

  // --- picture

  draw(anew) {
    const { found, week } = this;
    const data = week
      ? uPlot.join([[found.times, found.middle, found.low, found.high], [week.times, week.middle]], [[0, 2, 2, 2], [0, 2]])
      : [found.times, found.middle, found.low, found.high, found.times.map(() => null)];
    const kind = this.series.kind + (found.resolution === "raw" ? " raw" : " buckets");
    if (!this.plot || this.kind !== kind || this.em !== em()) {
      this.plot?.destroy();
      [this.kind, this.em] = [kind, em()];
      this.plot = new uPlot(this.options(), data, this.frame);
      gestures(this.plot.over, this.span);
    } else this.plot.setData(data, false);
    this.place();
    if (anew) this.describe();
    else this.aside();
  }

  /** Puts the stretch of time under the picture, at once, whatever data there is. */
  place() {
    this.plot?.setScale("x", { min: this.span.from / 1000, max: this.span.to / 1000 });
    mark(this.csv, "href", link("history", { series: this.series.series, from: iso(this.span.from), to: iso(this.span.to), resolution: this.found.resolution, format: "csv" }));
  }

  resize() {
    if (!this.plot) return;
    if (this.em !== em()) return this.draw(false); // letters have another size: everything anew
    this.plot.setSize({ width: this.frame.clientWidth, height: this.frame.clientHeight });
  }

  colour(name) {
    this.colours ??= {};
    return (this.colours[name] ??= getComputedStyle(this.element).getPropertyValue(`--${name}`) && resolve(this.element, name));
  }

  options() {
    const { series } = this;
    const bars = this.kind === "counter buckets";
    const steps = series.kind === "state";
    const paths = bars ? uPlot.paths.bars({ size: [0.8, 60] }) : steps ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
    const line = (colour, more) => ({ stroke: () => this.colour(colour), width: 1.6, paths, points: { show: false }, ...more });
    const hidden = { stroke: "transparent", width: 0, paths: steps ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear(), points: { show: false } };
    const axis = { stroke: () => this.colour("faint"), grid: { stroke: () => this.colour("grid"), width: 1 }, ticks: { show: false }, font: `${Math.round(0.8 * this.em)}px system-ui, sans-serif` };
    return {
      width: this.frame.clientWidth, height: this.frame.clientHeight, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { sync: { key: "node" }, drag: { x: true, y: false, setScale: false }, points: { size: 7 }, bind: { dblclick: () => null } },
      scales: { x: { time: true, auto: false }, y: { range: (_, low, high) => range(...extent(this.drawn(), this.span.from / 1000, this.span.to / 1000, low, high), series, bars) } },
      axes: [
        { ...axis, space: 4.7 * this.em, size: 2.3 * this.em, values: (_, splits, __, ___, step) => splits.map((at, n) => tick(at, splits[n - 1], step)) },
        { ...axis, size: (_, labels) => this.em * Math.max(2.9, 1.1 + 0.48 * Math.max(0, ...(labels ?? []).map((label) => label.length))), values: (_, splits) => splits.map((at) => axisNumber(at, series, splits)) },
      ],
      series: [{}, line("line", { fill: bars ? () => this.colour("line-soft") : undefined, points: { show: (u, _, a, b) => b - a < 60 && series.kind === "gauge", size: 4, fill: () => this.colour("line") } }),
        hidden, hidden, line("week", { dash: [5, 4], width: 1.4 })],
      bands: [{ series: [3, 2], fill: () => this.colour("band") }],
      hooks: { drawClear: [(u) => { this.shade(u); under(u, this.drawn(), (name) => this.colour(name)); }], draw: [(u) => over(u, this.drawn(), (name) => this.colour(name), network.now() / 1000)], setSelect: [(u) => this.selected(u)], setCursor: [(u) => this.read(u)] },
    };
  }

  /** The layers, as far as they are of the measure that is shown: what a counter grows by in an hour only fits hours. */
  drawn() {
    const fits = this.series.kind !== "counter" || this.found.resolution === "1h";
    return fits ? this.layers : { ...noLayers(), stretches: this.layers.stretches };
  }

  /** What is missing is hatched, what is bad is red; a strip at the bottom says it again, stronger. */
  shade(u) {
    const { ctx, bbox } = u;
    const dot = devicePixelRatio;
    ctx.save();
    ctx.beginPath();
    ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
    ctx.clip();
    for (const { kind, from, to, strength } of this.found.marks) {
      const left = u.valToPos(from, "x", true), right = Math.max(left + dot, u.valToPos(to, "x", true));
      if (right < bbox.left || left > bbox.left + bbox.width) continue;
      const [x, width] = [Math.max(left, bbox.left), Math.min(right, bbox.left + bbox.width) - Math.max(left, bbox.left)];
      ctx.fillStyle = this.colour(kind);
      ctx.globalAlpha = (kind === "missing" ? 0.11 : 0.15) * Math.max(0.4, strength);
      ctx.fillRect(x, bbox.top, width, bbox.height);
      ctx.globalAlpha = kind === "missing" ? 0.55 * Math.max(0.3, strength) : 0.9;
      if (kind === "missing") hatch(ctx, x, bbox, width, dot, this.colour(kind));
      else ctx.fillRect(x, bbox.top + bbox.height - 5 * dot, width, 5 * dot);
    }
    ctx.restore();
  }

  /** What the pointer points at, or the newest. */
  read(u) {
    const { idx } = u.cursor;
    const { found, series } = this;
    if (idx === null || idx === undefined || found.times.length === 0) return this.describe();
    const at = u.posToVal(u.cursor.left, "x");
    const tip = this.drawn().tip(at);
    if (at > network.now() / 1000) return say(this.reading, [moment(at * 1000), tip].filter(Boolean).join("  ·  "));
    const n = closest(found.times, u.data[0][idx]);
    const parts = [found.resolution === "raw" ? moment(found.times[n] * 1000) : moment(this.start(n) * 1000)];
    const middle = found.middle[n];
    parts.push(middle === null ? texts.quality[markAt(found, found.times[n]) ?? "missing"] : `${value(series, middle)} ${unit(series)}`);
    if (found.low[n] !== null && middle !== null) parts.push(`${number(found.low[n], series.resolution)} … ${number(found.high[n], series.resolution)}`);
    if (this.week) {
      const before = u.data[4][idx];
      if (before !== null && before !== undefined) parts.push(`${words.lastWeek} ${value(series, before)}`);
    }
    if (tip) parts.push(tip);
    say(this.reading, parts.join("  ·  "));
  }

  start(n) {
    const width = { "5m": 300, "1h": 3600, "1d": 86_400 }[this.found.resolution] ?? 0;
    return this.found.times[n] - (this.series.kind === "state" ? 0 : width / 2);
  }

  /** In words: what is shown, what it lacks, and the same for people who don't see it. */
  describe() {
    const { answer, found, series, span } = this;
    if (!answer) return;
    const { label } = words;
    const [from, to] = [span.from / 1000, span.to / 1000];
    const { low, high, last, bad, uncertain, known } = summary(found, from, to, network.now() / 1000);
    const parts = [found.resolution !== "raw" ? label[found.resolution] : answer.thinned_from > answer.points.length ? label.thinned : label.raw];
    if (this.kind === "counter buckets") parts[0] += `, ${words.increase.toLowerCase()} ${words.per[found.resolution]}`;
    if (known !== null && answer.degraded.length === 0) parts.push(label.known(percent(known)));
    if (answer.tiers.length) parts.push(label.tiers(texts.and(answer.tiers.map((tier) => texts.operations.tierNames[tier].toLowerCase()))));
    if (bad) parts.push(label.bad(bad));
    if (uncertain) parts.push(label.uncertain(uncertain));
    if (answer.recomputed) parts.push(label.recomputed(answer.recomputed));
    if (answer.truncated) parts.push(label.truncated);
    parts.push(...lacks(answer.degraded));
    say(this.label, parts.join("  ·  "));
    mark(this.label, "data-state", answer.degraded.length ? "warn" : null);
    const show = (held) => (held === null ? "–" : `${value(series, held)} ${unit(series)}`);
    mark(this.frame, "aria-label", words.chart(seriesName(series), length(span.length / 1000), show(low), show(high), show(last)));
    say(this.reading, low === null ? "" : `${show(low)} … ${show(high)}`);
    this.empty(last === null && !found.times.some((at) => at >= from && at <= to));
    this.rows();
  }

  empty(is) {
    this.hint.hidden = !is;
    this.aside();
    if (!is) return;
    const newest = this.series.newest;
    const away = newest && (newest.at < this.span.from || newest.at > this.span.to);
    fill(this.hint, h("p", null, words.nothing), newest && h("p", { class: "faint" }, words.nothingHow(`${moment(newest.at)} (${ago(newest.at, network.now())})`)),
      away && h("button", { type: "button", onclick: () => this.span.set(newest.at - this.span.length * 0.8, newest.at + this.span.length * 0.2) }, words.goThere));
  }

  /** What is said of missing readings lies on the picture, unless something else is drawn there: then under it. */
  aside() {
    const [least] = this.hint.hidden ? [null] : extent(this.drawn(), this.span.from / 1000, this.span.to / 1000, null, null);
    mark(this.hint, "data-under", least !== null);
  }

  /** The table, when it is open. */
  rows() {
    if (!this.details.open) return;
    const { found, series, span } = this;
    const inside = found.points.filter(({ at }) => at * 1000 >= span.from && at * 1000 <= span.to).reverse();
    const shown = inside.slice(0, ROWS_MAX);
    const plain = found.resolution === "raw";
    const heads = plain ? [words.time, `${words.value} ${unit(series)}`, words.quality] : [words.time, series.kind === "counter" ? words.increase : words.average, words.lowest, words.highest, words.quality];
    const cell = (held) => (held === null || held === undefined ? "–" : value(series, held));
    fill(this.details.lastChild,
      table(seriesName(series), heads, shown.map((point) => [moment(point.at * 1000), cell(point.value), ...(plain ? [] : [cell(point.low), cell(point.high)]), texts.quality[point.quality] + (point.reason ? `: ${point.reason}` : "")]), true),
      inside.length > shown.length && h("p", { class: "faint" }, words.tableMore(inside.length - shown.length)));
  }

  // --- zoom and pan

  selected(u) {
    const { left, width } = u.select;
    if (width < 6) return;
    const [from, to] = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
    this.span.set(from * 1000, to * 1000);
  }
}

/** Times and values of a week before, when clocks show the same again. */
function weekLater({ times, middle }, local) {
  const found = { times: [], middle: [] };
  times.forEach((at, n) => {
    const later = paired(Math.round(at * 1000), WEEK_DAYS, local);
    if (later === null) return;
    found.times.push(later / 1000);
    found.middle.push(middle[n]);
  });
  return found;
}

/** How large letters are, in pixels: larger on a wall. */
const em = () => parseFloat(getComputedStyle(document.documentElement).fontSize);
const iso = (ms) => new Date(ms).toISOString();

/** A CSS colour as a canvas takes it. */
function resolve(element, name) {
  const probe = h("span", { hidden: true, style: { color: `var(--${name})` } });
  element.append(probe);
  const { color } = getComputedStyle(probe);
  probe.remove();
  return color;
}

const markAt = (found, at) => found.marks.find(({ from, to }) => at >= from - 1e-3 && at <= to)?.kind;
