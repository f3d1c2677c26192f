// One anomaly: what is wrong, the readings around it, and what people say and do about it.

import { against, badgeState, when } from "./anomaly-words.js";
import { post } from "./api.js";
import { Chart } from "./chart.js";
import { noLayers, together } from "./chart-layers.js";
import { fill, foreign, h, mark, say } from "./dom.js";
import { moment, parse } from "./format.js";
import { author, choice, field } from "./forms.js";
import * as network from "./network.js";
import { stretch } from "./node-layers.js";
import { may } from "./session.js";
import { Span } from "./span.js";
import { seriesName, texts } from "./texts.js";
import { usual } from "./usual.js";

const HOUR_MS = 3_600_000;
const words = texts.anomalies;

export class Detail {
  /** `back()` gives the address of the list, `changed()` is told when somebody has decided. */
  constructor(one, series, report, back, changed) {
    Object.assign(this, { one, series, report, changed });
    this.span = around(one);
    this.chart = new Chart(series, this.span, report, { title: h("h3", null, words.evidence), below: h("ul", { class: "chart-notes keys" }) });
    this.state = h("span", { class: "badge" });
    this.since = h("span", { class: "faint" });
    this.facts = h("dl", { class: "facts" });
    this.notes = h("ol", { class: "notes" });
    this.form = may("operator") ? this.decide() : h("p", { class: "faint" }, words.viewer);
    const { from, to } = this.span;
    const open = `#/node/${encodeURIComponent(one.node)}?from=${new Date(from).toISOString()}&to=${new Date(to).toISOString()}`;
    this.element = h("article", { class: "anomaly", "aria-labelledby": "anomaly-title", data: { severity: one.severity } },
      h("div", { class: "row" }, h("a", { class: "button small back", href: back() }, "← ", words.back),
        h("h2", { id: "anomaly-title" }, words.kinds[one.kind] ?? one.kind), this.state, this.since),
      h("p", { class: "anomaly-where" }, h("a", { href: open }, foreign(network.nodeName(one.node))), ` · ${seriesName(series)}`),
      h("p", { class: "anomaly-what" }, foreign(one.detail)), h("p", { class: "faint" }, words.means[one.kind]), this.facts,
      this.chart.element,
      h("section", { class: "part", "aria-labelledby": "notes-title" }, h("h3", { id: "notes-title" }, words.history), this.notes, this.form));
    this.update(one);
  }

  begin() {
    this.chart.load();
    this.timer = setInterval(() => { this.span.tick(); say(this.since, when(this.one)); }, 1000);
    this.layers(noLayers());
    const { from, to } = this.span;
    if (this.series.kind !== "gauge") return;
    this.asking = new AbortController();
    usual(this.series, from, to, words.usually, this.asking.signal)
      .then((found) => { this.report("usual", null); this.layers(found); })
      .catch((error) => { if (!this.asking.signal.aborted) this.report("usual", error); });
  }

  end() {
    clearInterval(this.timer);
    this.asking?.abort();
    this.chart.end();
  }

  /** The stretch itself, what was expected in it, and what is usual. */
  layers(found) {
    this.usual = found;
    const { one } = this;
    const marked = stretch(one);
    const expected = one.expected === null ? [] : [{ points: [[marked.from, one.expected], [marked.to, one.expected]], colour: "good" }];
    this.chart.show(together({ ...noLayers(), stretches: [marked], lines: expected }, found));
    const key = (name, text) => h("li", null, h("span", { class: `key ${name}`, "aria-hidden": "true" }), text);
    fill(this.chart.how.below, key(one.severity, words.keys.stretch), expected.length > 0 && key("expected", words.keys.expected),
      found.bands.some(({ points }) => points.length > 0) && key("usual", words.keys.usual));
  }

  update(one) {
    const grown = one.last !== this.one.last || one.end !== this.one.end;
    this.one = one;
    mark(this.element, "data-severity", one.severity);
    mark(this.state, "data-state", badgeState(one));
    say(this.state, words.states[one.state]);
    say(this.since, when(one));
    const fact = (name, text) => text && h("div", null, h("dt", null, name), h("dd", null, text));
    fill(this.facts, fact(words.severity, words.severities[one.severity]), fact(words.start, moment(parse(one.start))),
      fact(words.end, one.end ? moment(parse(one.last)) : words.still), fact(words.seen, against(one)));
    fill(this.notes, one.notes.map((note) => h("li", null, h("p", null, h("strong", null, foreign(note.who)), ` ${words.did[note.what]} `, h("span", { class: "faint" }, moment(parse(note.at)))), h("p", null, foreign(note.comment)))),
      one.notes.length === 0 && h("li", { class: "faint" }, words.noNotes), one.normal && h("li", { class: "faint" }, words.isNormal));
    this.offer?.(one.state);
    if (grown && this.usual) this.layers(this.usual);
  }

  /** The form: a comment, and what is done with it. */
  decide() {
    const comment = h("textarea", { rows: 2, maxlength: 400 });
    const name = author();
    const reason = choice(Object.entries(words.reasons).map(([key, [text]]) => [key, text]), "fixed", () => explain());
    const why = field(words.reason, reason);
    const hint = h("p", { class: "faint" });
    const explain = () => say(hint, words.reasons[reason.value][1]);
    const wrong = h("p", { class: "error", role: "alert" });
    const button = (what, style) => h("button", { type: "submit", value: what, class: style }, words.actions[what]);
    const buttons = { acknowledge: button("acknowledge", "primary"), comment: button("comment"), close: button("close") };
    const send = async (event) => {
      event.preventDefault();
      const what = event.submitter.value, said = comment.value.trim();
      const text = what === "close" ? [words.reasons[reason.value][0], said].filter(Boolean).join(": ") : said || (what === "acknowledge" ? words.acknowledged : "");
      if (!text) { say(wrong, words.sayMore); return comment.focus(); }
      Object.values(buttons).forEach((one) => { one.disabled = true; });
      try {
        const changed = await post(`anomalies/${this.one.id}/${what}`, undefined, { author: name.said(), comment: text, normal: what === "close" && reason.value === "normal" });
        comment.value = "";
        say(wrong, "");
        this.update(changed);
        dispatchEvent(new Event("alerts"));
        this.changed();
      } catch (error) {
        if (error.status === 401) this.report("judge", error);
        say(wrong, error.message);
      }
      Object.values(buttons).forEach((one) => { one.disabled = false; });
    };
    const closing = h("fieldset", null, h("legend", null, words.closing), h("div", { class: "row" }, why, buttons.close), hint);
    this.offer = (state) => { buttons.acknowledge.hidden = state !== "open"; closing.hidden = state === "closed"; };
    explain();
    return h("form", { class: "decide", onsubmit: send }, name.element, field(words.comment, comment), h("div", { class: "row" }, buttons.acknowledge, buttons.comment), closing, wrong);
  }
}

/** The anomaly with enough before it to see what is out of the ordinary. */
function around(one) {
  const span = new Span(network.now);
  const start = parse(one.start), last = one.end ? parse(one.last) : network.now();
  const around = Math.max(last - start, 6 * HOUR_MS);
  span.set(start - around, last + around / 3);
  return span;
}
