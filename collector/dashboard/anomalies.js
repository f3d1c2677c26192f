// Anomalies: a list with filters, and one of them with its evidence and what people say about it.

import * as alerts from "./alerts.js";
import { get } from "./api.js";
import { Detail } from "./anomaly.js";
import { against, badgeState, when } from "./anomaly-words.js";
import { fill, foreign, h, mark, say } from "./dom.js";
import { ago, parse } from "./format.js";
import { choice } from "./forms.js";
import * as network from "./network.js";
import { seriesName, texts } from "./texts.js";

const EVERY_MS = 10_000; // without the live feed, and for what was closed
const SOON_MS = 100; // changes that come together are looked up together
const JOB = "anomaly_detection";
const LIST_MAX = 1_000;
const SHOWN_MAX = 200;
const WIDE = matchMedia("(min-width: 64rem)"); // both beside one another; as in app.css
const words = texts.anomalies;
const FILTERS = ["state", "severity", "kind", "node", "since"];
const DEFAULTS = { state: "unsettled", severity: "", kind: "", node: "", since: "" };

/** Builds the page; `id` is the anomaly that is shown. Gives back how to end it, and with `query` how to show another one. */
export function anomalies(root, report, id, query) {
  const page = new Page(root, report, id, query);
  return Object.assign(() => page.end(), { query: (other, next) => page.go(other, next) });
}

/** What the address may say; a filter that isn't known filters nothing, nor is it asked for. */
const KNOWN = { state: words.choices, severity: words.severities, kind: words.kinds, since: Object.fromEntries(words.stretches) };
const understood = (name, held) => (held !== null && (!KNOWN[name] || Object.hasOwn(KNOWN[name], held)) ? held : DEFAULTS[name]);

/** What goes on comes first, and the worst of it. */
const urgency = (one) => 2 * Number(one.end === null) + Number(one.severity === "critical");

class Page {
  constructor(root, report, id, query) {
    Object.assign(this, { root, report, items: null });
    this.filters = h("form", { class: "toolbar filters", "aria-label": words.filters, onsubmit: (event) => event.preventDefault() });
    this.count = h("p", { class: "faint", role: "status" });
    this.list = h("ul", { class: "anomaly-list", "aria-label": texts.pages.anomalies }, h("li", { class: "waiting line" }));
    this.place = h("div", { class: "anomaly-detail" });
    fill(root, h("h1", { class: "unseen" }, texts.pages.anomalies), this.filters,
      h("div", { class: "split" }, h("section", { class: "split-list" }, this.count, this.list), this.place));
    const unlisten = [network.listen((what) => { if (what === "structure") { this.build(); this.choose(); } }), alerts.listen(() => this.loadSoon())];
    this.unlisten = () => unlisten.forEach((end) => end());
    this.timer = setInterval(() => { if (!document.hidden) this.load(); }, EVERY_MS);
    this.wider = () => this.choose();
    WIDE.addEventListener("change", this.wider);
    this.go(query, id);
  }

  end() {
    this.unlisten();
    clearInterval(this.timer);
    clearTimeout(this.soon);
    WIDE.removeEventListener("change", this.wider);
    this.asking?.abort();
    this.detail?.end();
  }

  /** Other filters, or another anomaly. */
  go(query, id) {
    const before = JSON.stringify(this.chosen);
    this.chosen = Object.fromEntries(FILTERS.map((name) => [name, understood(name, query.get(name))]));
    this.id = id ? Number(id) : null;
    if (before !== JSON.stringify(this.chosen)) {
      this.build();
      this.load();
    } else this.choose();
  }

  build() {
    const one = (name, label, options) => {
      const select = choice(options, this.chosen[name], () => { location.hash = this.address(null, { [name]: select.value }); });
      return h("label", { class: "filter" }, h("span", null, label), select);
    };
    const all = ["", words.all];
    fill(this.filters,
      one("state", words.state, Object.entries(words.choices)),
      one("severity", words.severity, [all, ...Object.entries(words.severities)]),
      one("kind", words.kind, [all, ...Object.entries(words.kinds)]),
      one("node", words.node, [all, ...[...network.nodes.keys()].map((node) => [node, network.nodeName(node)])]),
      one("since", words.since, words.stretches));
  }

  address(id, change) {
    const query = new URLSearchParams(Object.entries({ ...this.chosen, ...change }).filter(([name, held]) => held !== DEFAULTS[name]));
    return `#/anomalies${id === null ? "" : `/${id}`}${query.size ? `?${query}` : ""}`;
  }

  loadSoon() {
    this.soon ??= setTimeout(() => { this.soon = null; this.load(); }, SOON_MS);
  }

  async load() {
    this.asking?.abort();
    this.asking = new AbortController();
    const { signal } = this.asking;
    const { state, severity, kind, node, since } = this.chosen;
    const ask = (of) => get("anomalies", { state: of, kind: kind || undefined, node: node || undefined, from: since ? `now-${since}` : undefined, limit: LIST_MAX }, signal);
    try {
      const looked = get("jobs/runs", { job: JOB, limit: 10 }, signal).catch(() => null); // what is found is more than when it was looked for
      const answers = await Promise.all(state === "unsettled" ? [ask("open"), ask("acknowledged")] : [ask(state === "all" ? undefined : state)]);
      this.looked = (await looked)?.items.find((run) => run.status === "done") ?? null;
      this.truncated = answers.some((answer) => answer.truncated);
      this.degraded = [...new Set(answers.flatMap((answer) => answer.degraded))];
      this.items = answers.flatMap((answer) => answer.items).filter((one) => !severity || one.severity === severity)
        .sort((a, b) => urgency(b) - urgency(a) || parse(b.start) - parse(a.start));
      this.report("anomalies", null);
      this.choose();
    } catch (error) {
      if (signal.aborted) return;
      this.report("anomalies", error);
      if (!this.items) fill(this.list, h("li", { class: "part none" }, h("p", null, error.message), h("p", { class: "faint" }, texts.errors.asked)));
    }
  }

  /** Shows the list, and beside it the one that is chosen: where there is room, always one. */
  async choose() {
    if (!this.items) return;
    const shown = this.items.slice(0, SHOWN_MAX);
    this.draw(shown);
    mark(this.root, "data-chosen", this.id !== null);
    const id = this.id ?? (WIDE.matches ? shown[0]?.id ?? null : null);
    [...this.list.children].forEach((item) => mark(item.firstChild, "aria-current", Number(item.dataset.key) === id ? "true" : null));
    if (id === null) return this.put(null);
    const one = this.items.find((other) => other.id === id) ?? await this.find(id);
    if (id === (this.id ?? id)) this.put(one, id);
  }

  /** One that the filters leave out. */
  async find(id) {
    if (this.detail?.one.id === id) return this.detail.one;
    const { items } = await get("anomalies", { limit: 10_000 }).catch(() => ({ items: [] }));
    return items.find((one) => one.id === id) ?? null;
  }

  put(one, id) {
    const series = one && network.series.get(one.series);
    if (this.detail && this.detail.one.id === one?.id) return this.detail.update(one);
    this.detail?.end();
    this.detail = null;
    if (one && !series) return network.known && fill(this.place, h("p", { class: "part" }, words.gone(id)));
    if (!one) return fill(this.place, id !== undefined && h("p", { class: "part" }, words.gone(id)));
    this.detail = new Detail(one, series, this.report, () => this.address(null), () => this.load());
    fill(this.place, this.detail.element);
    this.detail.begin();
  }

  draw(shown) {
    const left = this.items.length - shown.length;
    const counted = this.items.length === 0 ? "" : words.count(this.items.length) + (left || this.truncated ? `, ${words.more}` : "");
    say(this.count, [counted, ...this.degraded.map(texts.notice.degraded)].filter(Boolean).join(". "));
    const filtered = FILTERS.some((name) => this.chosen[name] !== DEFAULTS[name]);
    const key = JSON.stringify([shown, this.address(null), shown.length === 0 && this.looked]);
    if (key === this.key) return this.age();
    this.key = key;
    const focused = this.list.contains(document.activeElement) ? document.activeElement.closest("li").dataset.key : null;
    fill(this.list, shown.map((one) => this.item(one)), shown.length === 0 && h("li", { class: "part none" }, filtered
      ? [h("p", null, words.noneFiltered), h("p", { class: "faint" }, h("a", { href: "#/anomalies" }, words.clear))] : this.none()));
    if (focused) this.list.querySelector(`li[data-key="${focused}"] a`)?.focus();
    this.age();
  }

  /** That nothing was found says as much as was looked for. */
  none() {
    const run = this.looked;
    return [h("p", null, run ? words.none : words.noneYet), h("p", { class: "faint" }, words.noneHow),
      h("p", { class: "faint" }, run ? words.looked(ago(parse(run.finished_at), network.now()), run.detail) : words.lookedNever)];
  }

  item(one) {
    return h("li", { data: { key: one.id } }, h("a", { class: "anomaly-item", href: this.address(one.id), data: { severity: one.severity, state: one.state } },
      h("span", { class: "anomaly-row" }, h("span", { class: "anomaly-title" }, h("span", { class: "severity", title: words.severities[one.severity] }, h("span", { class: "unseen" }, words.severities[one.severity])), words.kinds[one.kind] ?? one.kind),
        h("span", { class: "badge", data: { state: badgeState(one) } }, words.states[one.state])),
      h("span", { class: "anomaly-row" }, h("span", { class: "anomaly-where" }, foreign(network.nodeName(one.node)), h("span", { class: "faint" }, ` · ${seriesName(one)}`)),
        h("span", { class: "anomaly-seen" }, against(one))),
      h("span", { class: "faint anomaly-when" })));
  }

  /** What changes by time alone. */
  age() {
    for (const item of this.list.children) {
      const one = this.items.find(({ id }) => id === Number(item.dataset.key));
      if (one) say(item.querySelector(".anomaly-when"), when(one));
    }
  }
}
