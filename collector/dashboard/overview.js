// Overview: figures, map, and a card for each node.

import * as alerts from "./alerts.js";
import { get } from "./api.js";
import { fill, foreign, h, mark, say } from "./dom.js";
import { ago, length, number, parse, unit, value, whole } from "./format.js";
import * as map from "./map.js";
import * as network from "./network.js";
import { seriesName, texts } from "./texts.js";

const CARDS_MAX = 300;
const FACTS_EVERY_MS = 15_000;
const OLD_MS = 40_000; // of an answer: two weren't given
const LINES_EVERY_MS = 300_000; // what came late, after an outage or in a file, is in no feed, nor is what came while nobody looked
const YOUNG_EVERY_MS = 60_000; // of what has just begun, more may come at any time
const words = texts.overview;
let spark; // loaded when values are on the screen

/** Builds the page; `report(what, error)` tells what went wrong. Gives back how to end it. */
export function overview(root, report) {
  const page = new Page(root, report);
  return () => page.end();
}

class Page {
  constructor(root, report) {
    this.report = report;
    this.lines = new Map(); // series → its line
    this.asked = new Map(); // series → when its line was asked for
    this.cards = new Map();
    this.dirty = new Set();
    this.figures = figures();
    this.find = h("input", { type: "search", id: "find", placeholder: words.findHint, autocomplete: "off", oninput: () => this.list() });
    this.only = h("input", { type: "checkbox", id: "only", onchange: () => this.list() });
    this.place = h("div");
    this.grid = h("ul", { class: "cards" });
    this.rest = h("p", { class: "faint", role: "status" });
    this.nodes = h("section", { "aria-labelledby": "nodes-title" },
      h("div", { class: "row" }, h("h2", { id: "nodes-title" }, words.nodes),
        h("div", { class: "tools" },
          h("label", { class: "unseen", for: "find" }, words.find), this.find,
          h("label", { class: "check", for: "only" }, this.only, words.only))),
      this.grid, this.rest);
    this.body = h("div");
    root.append(h("h1", { class: "unseen" }, texts.pages.overview), this.body);
    this.seen = new IntersectionObserver((entries) => this.visible(entries), { rootMargin: "300px" });
    const unlisten = [network.listen((what) => this.changed(what)), alerts.listen(() => this.tick())];
    this.unlisten = () => unlisten.forEach((end) => end());
    this.timers = [setInterval(() => this.tick(), 1000), setInterval(() => this.facts(), FACTS_EVERY_MS)];
    this.build();
  }

  end() {
    this.unlisten();
    this.seen.disconnect();
    this.timers.forEach(clearInterval);
    cancelAnimationFrame(this.frame);
  }

  changed(what) {
    if (what === "structure") return this.build();
    what.forEach((number) => this.dirty.add(number));
    this.frame ??= requestAnimationFrame(() => { this.frame = null; this.draw(); });
  }

  build() {
    if (!network.known) return fill(this.body, skeleton());
    this.facts(); // after what everybody waits for
    if (network.nodes.size === 0) return fill(this.body, empty());
    this.map = map.drawable() ? map.map() : null;
    fill(this.place, this.map?.element);
    fill(this.body, this.figures.element, this.place, this.nodes);
    this.cards.clear();
    this.list();
  }

  /** The cards that the search leaves over. */
  list() {
    const wanted = this.find.value.trim().toLowerCase();
    const found = [...network.nodes.values()].filter((node) =>
      `${node.node} ${network.nodeName(node.node)}`.toLowerCase().includes(wanted)
      && (!this.only.checked || !["good"].includes(network.nodeState(node))));
    const shown = found.slice(0, CARDS_MAX);
    this.seen.disconnect();
    for (const node of shown) {
      if (this.cards.has(node.node)) continue;
      this.cards.set(node.node, card(node));
      this.cards.get(node.node).draw(this.lines);
    }
    fill(this.grid, shown.map((node) => this.cards.get(node.node).element));
    shown.forEach((node) => this.seen.observe(this.cards.get(node.node).element));
    const left = found.length - shown.length;
    say(this.rest, left > 0 ? words.more(whole(left)) : found.length > 0 ? "" : wanted ? words.none : words.noneTroubled);
    this.tick();
  }

  /** Lines are fetched for cards that are seen, some at a time. */
  visible(entries) {
    for (const { target, isIntersecting } of entries) {
      const one = this.cards.get(target.dataset.node);
      if (one) one.visible = isIntersecting;
    }
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.missingLines(), 60);
  }

  /** Lines are asked for once, and again when that failed or was long ago. */
  async missingLines() {
    const now = Date.now();
    const old = ({ series }) => now - (this.asked.get(series) ?? -Infinity) > (this.lines.get(series)?.young ? YOUNG_EVERY_MS : LINES_EVERY_MS);
    const missing = [...this.cards.values()].filter((one) => one.visible).flatMap((one) => one.gauges).filter(old);
    if (missing.length === 0) return;
    missing.forEach(({ series }) => this.asked.set(series, now));
    try {
      spark ??= await import("./spark.js");
      for (let n = 0; n < missing.length; n += spark.AT_ONCE) {
        for (const [number, line] of await spark.lines(missing.slice(n, n + spark.AT_ONCE))) this.lines.set(number, line);
        this.cards.forEach((one) => one.draw(this.lines));
      }
      this.report("sparklines", null);
    } catch (error) {
      missing.forEach(({ series }) => this.asked.delete(series));
      this.report("sparklines", error);
    }
  }

  draw() {
    for (const number of this.dirty) {
      const { newest } = network.series.get(number) ?? {};
      const line = this.lines.get(number);
      if (line && newest && newest.quality !== "bad") spark.extend(line, newest.at, newest.value);
      const one = this.cards.get(network.series.get(number)?.node);
      one?.update(number);
      if (line) one?.draw(this.lines, number);
    }
    this.dirty.clear();
    this.tick();
  }

  /** What changes by time alone. */
  tick() {
    if (!network.known || network.nodes.size === 0) return;
    if (!document.hidden) this.looked();
    this.cards.forEach((one) => one.tick());
    this.map?.update();
    this.figures.update();
  }

  /** Somebody looks, perhaps again after a while. */
  looked() {
    if (Date.now() - (this.lookedAt ?? Date.now()) > FACTS_EVERY_MS) this.facts();
    this.lookedAt = Date.now();
  }

  /** What isn't in the live feed. */
  async facts() {
    if (document.hidden) return;
    this.missingLines();
    const ask = async (what, path, params) => {
      try {
        this.figures.facts[what] = { ...await get(path, params), came: network.now() };
        this.report(what, null);
      } catch (error) {
        this.report(what, error);
      }
    };
    await Promise.all([ask("gateways", "gateways"), ask("quality", "quality"), ask("gaps", "gaps", { from: "now-24h" }), ask("looked", "jobs/runs", { job: "anomaly_detection", limit: 10 })]);
    this.tick();
  }
}

function figures() {
  const facts = {};
  const one = (title, href) => {
    const main = h("strong"), under = h("span", { class: "faint" });
    const element = h(href ? "a" : "div", { class: "figure", href }, h("span", { class: "figure-title" }, title), main, under);
    /** `came` is when that was known, if it isn't known all the time. */
    return { element, show(text, small, state, came) {
      const old = came !== undefined && network.now() - came > OLD_MS;
      say(main, text);
      say(under, old ? [small, ago(came, network.now())].filter(Boolean).join(", ") : small);
      mark(element, "data-state", old ? "old" : state);
    } };
  };
  const parts = {
    inflow: one(words.inflow), alerts: one(words.alerts, "#/anomalies"), reporting: one(words.reporting), gateways: one(words.gateways, "#/operations"),
    quality: one(words.quality, "#/operations"), gaps: one(words.gaps, "#/operations"),
  };
  const element = h("section", { class: "figures", "aria-label": words.figures }, Object.values(parts).map((part) => part.element));
  return { element, facts, update() {
    showInflow(parts.inflow);
    showAlerts(parts.alerts, facts.looked);
    showReporting(parts.reporting);
    showGateways(parts.gateways, facts.gateways);
    showQuality(parts.quality, facts.quality);
    showGaps(parts.gaps, facts.gaps);
  } };
}

function showInflow(part) {
  const meters = network.inflow();
  part.element.hidden = meters.length === 0;
  if (meters.length === 0) return;
  const good = meters.filter((one) => ["good", "uncertain"].includes(network.state(one)) && one.newest.value !== null);
  const sum = good.reduce((all, one) => all + one.newest.value, 0);
  const whole = good.length === meters.length;
  const names = texts.and(meters.slice(0, 3).map((one) => network.nodeName(one.node)));
  part.show(good.length ? `${number(sum, 0.1)} ${unit(meters[0])}` : "–", whole ? words.inflowOf(names) : words.inflowPart(good.length, meters.length), whole ? "good" : "stale");
}

function showAlerts(part, looked) {
  const { open } = alerts;
  if (!open) return part.show("–", "", null);
  if (open.length === 0) {
    const run = looked?.items.find((one) => one.status === "done");
    return part.show(whole(0), run ? words.alertsNone(ago(parse(run.finished_at), network.now())) : looked ? words.alertsNever : "", run ? "good" : null, network.heard);
  }
  const nodes = [...new Set(open.map((one) => network.nodeName(one.node)))];
  const some = nodes.length > 3 ? [...nodes.slice(0, 3), words.others(nodes.length - 3)] : nodes;
  part.show(whole(open.length), words.alertsAt(texts.and(some)), { critical: "bad", warning: "stale" }[alerts.worst(open)] ?? "good", network.heard);
}

function showReporting(part) {
  const states = [...network.nodes.values()].map(network.nodeState);
  const fresh = states.filter((state) => state === "good" || state === "uncertain").length;
  const rest = states.length - fresh;
  part.show(`${whole(fresh)} / ${whole(states.length)}`, rest ? words.reportingStale(rest) : words.reportingAll, rest ? (fresh ? "stale" : "bad") : "good");
}

function showGateways(part, answer) {
  if (!answer) return part.show("–", "", null);
  const lacks = answer.degraded.length > 0;
  if (answer.items.length === 0) return part.show(lacks ? "–" : whole(0), lacks ? words.unknown : words.gatewaysNone, null, answer.came);
  const away = answer.items.filter((gateway) => !gateway.session?.connected);
  const names = texts.and(away.slice(0, 3).map((gateway) => gateway.gateway));
  // Those that didn't connect since the start aren't counted while nobody knows them.
  part.show(lacks ? whole(answer.items.length - away.length) : `${whole(answer.items.length - away.length)} / ${whole(answer.items.length)}`,
    away.length ? words.gatewaysAway(names) : lacks ? words.gatewaysLack : words.gatewaysAll, away.length ? "bad" : lacks ? "stale" : "good", answer.came);
}

function showQuality(part, answer) {
  if (!answer) return part.show("–", "", null);
  if (answer.items.length === 0) return part.show("–", `${words.qualityNone}. ${words.qualityHow}`, null);
  const score = answer.items.reduce((sum, one) => sum + one.score, 0) / answer.items.length;
  part.show(`${number(score, 0.1)}`, words.qualityDay(answer.day), score >= 90 ? "good" : score >= 70 ? "stale" : "bad", answer.came);
}

function showGaps(part, answer) {
  if (!answer) return part.show("–", "", null);
  const blocks = answer.items.reduce((sum, gap) => sum + gap.blocks, 0);
  part.show(whole(answer.items.length), blocks ? words.gapsSome(blocks) : words.gapsNone, blocks ? "stale" : "good", answer.came);
}

function card(node) {
  const name = network.nodeName(node.node);
  const dot = h("span", { class: "dot" });
  const age = h("span", { class: "age" });
  const rows = node.series.map(row);
  const alarm = h("a", { class: "count", href: `#/anomalies?node=${encodeURIComponent(node.node)}`, hidden: true });
  const element = h("li", { class: "card", data: { node: node.node } },
    h("div", { class: "card-head" }, dot,
      h("h3", null, h("a", { href: `#/node/${encodeURIComponent(node.node)}` }, foreign(name))),
      name === node.node ? null : h("code", null, node.node), alarm, age),
    h("dl", null, rows.map((one) => one.elements)));
  const byNumber = new Map(node.series.map((one, n) => [one.series, rows[n]]));
  return {
    element,
    visible: false,
    gauges: node.series.filter((one) => one.kind !== "counter"),
    update(number) { byNumber.get(number)?.update(); },
    draw(lines, only) {
      for (const number of only === undefined ? byNumber.keys() : [only]) if (lines.get(number)) byNumber.get(number)?.draw(lines.get(number));
    },
    tick() {
      const state = network.nodeState(node), seen = network.nodeSeen(node);
      mark(element, "data-state", state);
      say(dot, texts.quality[state]);
      say(age, ago(Number.isFinite(seen) ? seen : null, network.now()));
      const open = alerts.ofNode(node.node);
      alarm.hidden = open.length === 0;
      say(alarm, whole(open.length));
      mark(alarm, "aria-label", texts.anomalies.openCount(open.length));
      mark(alarm, "title", texts.anomalies.openCount(open.length));
      mark(alarm, "data-severity", alerts.worst(open));
      rows.forEach((one) => one.update());
    },
  };
}

function row(one) {
  const text = h("span", { class: "value" });
  const note = h("span", { class: "note" });
  const cell = h("dd", null, note, text, h("span", { class: "unit" }, unit(one)));
  let picture = null;
  const about = h("span", { class: "unseen" });
  const key = h("dt", null, seriesName(one));
  const line = h("dd", { class: "spark-cell" }, about);
  return {
    elements: h("div", { class: "measure" }, key, line, cell),
    update() {
      const state = network.state(one);
      mark(cell, "data-state", state);
      const held = one.newest?.value ?? null;
      say(text, held === null ? texts.noValue : value(one, held));
      cell.lastChild.hidden = held === null;
      say(note, noteOf(one, state));
    },
    draw(points) {
      if (!picture) line.prepend(picture = spark.picture());
      spark.draw(picture, points, one.kind);
      const [low, high] = spark.bounds(points);
      const span = length((points.to - points.from) / 1000);
      say(about, points.points.length ? words.spark(seriesName(one), span, number(low, one.resolution), number(high, one.resolution)) : "");
      mark(line, "title", about.textContent);
    },
  };
}

/** What is wrong with a value, in words; nothing when nothing is. */
function noteOf(one, state) {
  if (state === "good") return one.newest.quality === "manual" ? texts.quality.manual : "";
  if (state === "stale") return ago(one.newest.at, network.now());
  return texts.quality[state] + (one.newest?.reason && state !== "missing" ? `: ${one.newest.reason}` : "");
}

function skeleton() {
  return h("div", { class: "cards", "aria-hidden": "true" }, Array.from({ length: 6 }, () => h("div", { class: "card waiting" })));
}

function empty() {
  const { title, lead, steps, then } = texts.empty;
  return h("section", { class: "alone" }, h("h2", null, title), h("p", null, lead),
    h("ol", null, steps.map(([what, how]) => h("li", null, what, h("pre", { tabindex: 0 }, how)))), h("p", { class: "faint" }, then));
}

