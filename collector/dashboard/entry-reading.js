// A reading by hand: a new one, or another value for one that is there.

import { get, post } from "./api.js";
import { fill, h, mark, say, table } from "./dom.js";
import { local, moment, parse, unit, value } from "./format.js";
import { author, choice, field } from "./forms.js";
import * as network from "./network.js";
import { seriesName, texts } from "./texts.js";

const AROUND_MS = 1_800_000;
const AROUND_MAX_MS = 7 * 86_400_000;
const SHOWN = 8;
const SETTLE_MS = 300;
const FAR = 100; // so many times larger or smaller than what stands around it, a value is asked for twice
const words = texts.entry.reading;

/** The form; `query` may name a node. */
export function manual(report, query) {
  const form = new Form(report, query.get("node"));
  return { element: form.element, end: () => form.end() };
}

class Form {
  constructor(report, node) {
    Object.assign(this, { report, exact: null, near: null });
    this.node = choice([], node, () => this.nodeChosen());
    this.series = choice([], null, () => this.look());
    this.at = h("input", { type: "datetime-local", step: 1, required: true, value: local(network.now() - (network.now() % 60_000)), oninput: () => { this.exact = null; this.look(); } });
    this.value = h("input", { inputmode: "decimal", autocomplete: "off", required: true, "aria-describedby": "doubt", oninput: () => this.doubt() });
    this.doubts = h("div", { id: "doubt", class: "doubt", role: "alert" });
    this.unit = h("input", { class: "unit-input", required: true, maxlength: 20, oninput: () => this.doubt() });
    this.wrong = h("input", { type: "checkbox", id: "withdraw", onchange: () => { this.value.disabled = this.wrong.checked; this.doubt(); } });
    this.reason = h("input", { required: true, maxlength: 400, autocomplete: "off" });
    this.name = author();
    this.around = h("div", { class: "around" });
    this.said = h("p", { role: "status" });
    this.send = h("button", { type: "submit", class: "primary" }, words.store);
    const typing = field(words.value, this.value);
    typing.append(this.doubts);
    this.element = h("section", { class: "part", "aria-labelledby": "reading-title" }, h("h2", { id: "reading-title" }, words.title), h("p", { class: "faint" }, words.what),
      h("form", { class: "form", onsubmit: (event) => { event.preventDefault(); this.store(); } },
        h("div", { class: "fields" }, field(words.node, this.node), field(words.series, this.series)),
        field(words.at, this.at), this.around,
        h("div", { class: "fields" }, typing, field(words.unit, this.unit)),
        h("label", { class: "check", for: "withdraw" }, this.wrong, words.withdraw),
        field(words.reason, this.reason, words.reasonHow), this.name.element, h("div", { class: "row" }, this.send), this.said));
    this.unlisten = network.listen((what) => { if (what === "structure") this.nodes(); });
    this.nodes(node);
  }

  end() {
    this.unlisten();
    clearTimeout(this.soon);
    this.asking?.abort();
  }

  nodes(wanted = this.node.value) {
    fill(this.node, [...network.nodes.keys()].map((node) => h("option", { value: node, selected: node === wanted }, network.nodeName(node) === node ? node : `${network.nodeName(node)} (${node})`)));
    this.nodeChosen();
  }

  nodeChosen() {
    const all = network.nodes.get(this.node.value)?.series ?? [];
    fill(this.series, all.map((one) => h("option", { value: one.series }, seriesName(one))));
    this.send.disabled = all.length === 0;
    if (network.known && all.length === 0) this.tell("warn", words.noSeries);
    this.look();
  }

  get chosen() { return network.series.get(Number(this.series.value)); }

  /** The moment: to the microsecond when it is one that is there. */
  get moment() { return this.exact ?? (this.at.value ? new Date(this.at.value).toISOString() : null); }

  /** What stands around the moment, a little later: people type. */
  look() {
    const series = this.chosen;
    this.near = null;
    this.doubt();
    if (series && series !== this.of) { this.of = series; this.unit.value = series.unit; mark(this.unit, "readonly", series.unit === "1"); }
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.readings(), SETTLE_MS);
  }

  async readings() {
    clearTimeout(this.soon);
    const series = this.chosen, at = parse(this.moment);
    if (!series || !Number.isFinite(at)) return fill(this.around);
    this.asking?.abort();
    this.asking = new AbortController();
    const around = Math.min(AROUND_MAX_MS, Math.max(AROUND_MS, series.interval_ms * SHOWN));
    const iso = (ms) => new Date(ms).toISOString();
    try {
      const answer = await get("history", { series: series.series, from: iso(at - around), to: iso(at + around), resolution: "raw", limit: 10_000 }, this.asking.signal);
      const near = this.near = answer.points.map((point) => ({ ...point, off: Math.abs(parse(point.at) - at) })).sort((a, b) => a.off - b.off).slice(0, SHOWN).sort((a, b) => parse(a.at) - parse(b.at));
      this.report("around", null);
      const correct = (point) => h("button", { type: "button", class: "small", "aria-pressed": String(this.exact === point.at), onclick: () => this.correct(point) }, words.correct, h("span", { class: "unseen" }, ` ${moment(parse(point.at))}`));
      fill(this.around, near.length === 0 ? h("p", { class: "faint" }, words.nothing) : [h("p", { class: "faint" }, words.stands),
        table(words.stands, [texts.node.time, `${texts.node.value} ${unit(series)}`, texts.node.quality, ""], near.map((point) => [moment(parse(point.at)), value(series, point.value), texts.quality[point.quality], correct(point)]))]);
    } catch (error) {
      if (!this.asking.signal.aborted) this.report("around", error);
    }
  }

  correct(point) {
    this.at.value = local(parse(point.at));
    this.exact = point.at;
    this.value.value = point.value ?? "";
    this.doubt();
    this.value.focus();
    this.value.select();
    this.readings();
  }

  /** Says beside the value what is doubtful about it; without words nothing is. */
  doubt(...said) {
    fill(this.doubts, ...said);
    mark(this.value, "aria-invalid", said.length > 0);
    if (said.length > 0) this.tell(null, "");
  }

  /** Stores it; `sure` when somebody has said that a strange value is right. */
  async store(sure = false) {
    const series = this.chosen;
    if (!series) return;
    const [number, other] = typed(this.value.value);
    this.doubt();
    if (!this.wrong.checked) {
      if (number === undefined) return this.tell("bad", words.noNumber);
      if (other !== undefined) { this.value.focus(); return this.doubt(words.twoWays(number, other)); }
      if (!sure && this.unit.value.trim() === series.unit) {
        if (!this.near) { // typed faster than that was asked for
          this.send.disabled = true;
          await this.readings();
          this.send.disabled = false;
        }
        const usual = farFrom(number, (this.near ?? []).filter((point) => point.at !== this.exact && point.quality !== "bad"), series);
        if (usual) {
          const show = (held) => `${value(series, held)} ${unit(series)}`;
          return this.doubt(h("p", null, words.far(show(number), show(usual.low), show(usual.high), FAR)), h("button", { type: "button", class: "small", onclick: () => { if (this.element.querySelector("form").reportValidity()) this.store(true); } }, words.sure));
        }
      }
    }
    this.send.disabled = true;
    try {
      const answer = await post("readings", undefined, { author: this.name.said(), reason: this.reason.value.trim(), readings: [{
        node: series.node, metric: series.metric, channel: series.channel, at: this.moment, value: this.wrong.checked ? null : number, unit: this.wrong.checked ? undefined : this.unit.value.trim() }] });
      const [item] = answer.items;
      const show = (held) => (held === null || held === undefined ? texts.noValue : `${value(series, held)} ${unit(series)}`);
      this.tell("good", item.before ? words.corrected(moment(parse(item.at)), show(item.before.value), show(item.value)) : words.stored(moment(parse(item.at)), show(item.value)));
      this.readings();
    } catch (error) {
      if (error.status === 401) this.report("store", error);
      this.tell("bad", error.message);
    }
    this.send.disabled = false;
    if (sure) this.send.focus(); // the button that said so is gone
  }

  tell(state, text) {
    mark(this.said, "class", text ? "notice" : null);
    mark(this.said, "data-state", state);
    say(this.said, text);
  }
}

/** What somebody typed: a number, both numbers when it can be read in two ways, or nothing. Points begin fractions and commas
 *  stand between thousands, as on all pages; but many people's commas begin fractions, and they are taken where only that can
 *  be meant. */
function typed(text) {
  const plain = text.trim();
  if (plain === "") return [];
  const grouped = /^[-+]?[1-9]\d{0,2}(,\d{3})+(\.\d*)?$/.test(plain) ? plain.replaceAll(",", "") : null;
  const fraction = plain.replace(",", ".");
  return [...new Set([fraction, grouped].filter((one) => one !== null).map(Number).filter(Number.isFinite))];
}

/** The lowest and highest of these readings when a value is far from all of them, else nothing. Beside nothing
 *  but zeros everything is far, and a valve that closes isn't: only a counter that says nothing is asked about. */
function farFrom(number, near, series) {
  const all = near.map((point) => point.value).filter((held) => held !== null && held !== undefined);
  const sizes = all.map(Math.abs).filter((size) => size > 0);
  if (sizes.length === 0 || series.kind === "state") return null;
  const size = Math.abs(number);
  const far = size > FAR * Math.max(...sizes) || (size === 0 ? series.kind === "counter" : size * FAR < Math.min(...sizes));
  return far ? { low: Math.min(...all), high: Math.max(...all) } : null;
}
