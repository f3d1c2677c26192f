// A CSV file: looked at first, then stored, piece by piece. What can't be taken is listed, and can be taken along.

import { post } from "./api.js";
import { join, pieces } from "./csv-pieces.js";
import { fill, foreign, h, mark, say, table } from "./dom.js";
import { bytes, percent, whole } from "./format.js";
import { author, choice, field } from "./forms.js";
import * as network from "./network.js";
import { texts } from "./texts.js";

const REJECTS_SHOWN = 50;
const REJECTS_KEPT = 100_000;
const words = texts.entry.file;

/** The form. */
export function upload(report) {
  const form = new Upload(report);
  return { element: form.element, end: () => form.end() };
}

class Upload {
  constructor(report) {
    this.report = report;
    this.file = h("input", { type: "file", accept: ".csv,.txt,.gz,text/csv", required: true, onchange: () => this.changed() });
    const text = (more) => h("input", { autocomplete: "off", ...more });
    this.settings = {
      zone: text({ value: Intl.DateTimeFormat().resolvedOptions().timeZone }),
      fold: choice(words.folds, "order"),
      node: text({ list: "known-nodes" }),
      metric: choice([["", words.named], ...Object.entries(texts.metrics)], ""),
      unit: text(),
      delimiter: choice(words.delimiters, ""),
      decimal: choice(words.decimals, ""),
      dates: choice(words.dateOrders, ""),
      revision: text({ inputmode: "numeric", pattern: "[0-9]*" }),
    };
    this.map = h("textarea", { rows: 2, placeholder: words.mapLike });
    this.create = h("input", { type: "checkbox", id: "create" });
    this.reason = h("input", { maxlength: 400, autocomplete: "off", placeholder: words.reasonLike });
    this.name = author();
    this.check = h("button", { type: "submit", class: "primary" }, words.check);
    this.go = h("button", { type: "button", class: "primary", hidden: true, onclick: () => this.run(false) });
    this.stop = h("button", { type: "button", hidden: true, onclick: () => this.asking.abort() }, texts.forms.cancel);
    this.bar = h("progress", { max: 1, hidden: true, "aria-label": words.progress });
    this.far = h("span", { class: "faint" });
    this.said = h("p", { role: "status" });
    this.outcome = h("div", { class: "outcome" });
    const { zone, fold, node, metric, unit, ...written } = this.settings;
    this.element = h("section", { class: "part", "aria-labelledby": "file-title" }, h("h2", { id: "file-title" }, words.title), h("p", { class: "faint" }, words.what),
      h("form", { class: "form", oninput: (event) => { if (event.target !== this.reason) this.changed(); }, onsubmit: (event) => { event.preventDefault(); this.run(true); } },
        field(words.choose, this.file, words.shapes),
        h("div", { class: "fields" }, field(words.zone, zone), field(words.fold, fold)),
        h("details", null, h("summary", null, words.more),
          h("div", { class: "fields" }, field(words.node, node, words.nodeHow), field(words.metric, metric, words.metricHow), field(words.unit, unit, words.unitHow),
            Object.entries(written).map(([name, control]) => field(words[name], control, name === "revision" && words.revisionHow))),
          field(words.map, this.map, words.mapHow)),
        h("label", { class: "check", for: "create" }, this.create, words.create),
        field(words.reason, this.reason), this.name.element,
        h("datalist", { id: "known-nodes" }, [...network.nodes.keys()].map((one) => h("option", { value: one }))),
        h("div", { class: "row" }, this.check, this.go, this.stop, this.bar, this.far), this.said), this.outcome);
  }

  end() { this.asking?.abort(); }

  /** Another file or setting: what was found out before says nothing about it. */
  changed() {
    if (this.busy) return;
    this.go.hidden = true;
    fill(this.outcome);
    this.tell(null, "");
  }

  params(dry) {
    const said = Object.fromEntries(Object.entries(this.settings).map(([name, { value }]) => [name, value.trim() || undefined]));
    const pairs = this.map.value.split("\n").filter((line) => line.includes("=")).map((line) => { const cut = line.lastIndexOf("="); return [line.slice(0, cut).trim(), line.slice(cut + 1).trim()]; });
    return { ...said, delimiter: said.delimiter === "tab" ? "\t" : said.delimiter, dry, create: this.create.checked, author: this.name.said(),
      map: pairs.length ? JSON.stringify(Object.fromEntries(pairs)) : undefined,
      reason: this.reason.value.trim() || words.reasonOf(this.file.files[0].name) };
  }

  async run(dry) {
    const [file] = this.file.files;
    if (!file || this.busy) return;
    this.begin();
    const sum = { rows: 0, readings: 0, written: 0, unchanged: 0, empty: 0, rejected: 0, rejects: [], made: new Set(), line: 2, dialect: {}, last: {}, columns: null };
    let failed = null;
    try {
      let header = null, sent = 0;
      for await (const { bytes: piece, read, more } of pieces(file, words.tooLong)) {
        if (!header) { header = piece; continue; }
        await this.send(dry, sum, join(header, piece), more);
        sent += 1;
        this.show(read, file.size, sum);
      }
      if (!header) throw new Error(words.empty);
      if (sent === 0) await this.send(dry, sum, header, false);
    } catch (error) {
      failed = error;
    }
    this.ended(dry, sum, failed);
  }

  async send(dry, sum, body, more) {
    const found = Object.keys(sum.dialect).length ? JSON.stringify(sum.dialect) : undefined;
    const answer = await post("import", { ...this.params(dry), found, more, first_line: sum.line, last: Object.keys(sum.last).length ? JSON.stringify(sum.last) : undefined }, body, this.asking.signal);
    for (const name of ["rows", "readings", "written", "unchanged", "empty"]) sum[name] += answer[name] ?? 0;
    sum.rejected += answer.rejected;
    sum.rejects.push(...answer.rejects.slice(0, REJECTS_KEPT - sum.rejects.length));
    answer.new.forEach((name) => sum.made.add(name));
    sum.line += answer.lines;
    sum.last = answer.last;
    sum.dialect = without(answer.dialect);
    sum.columns ??= answer.columns;
  }

  begin() {
    this.busy = true;
    this.asking = new AbortController();
    this.tell(null, "");
    [this.check.disabled, this.go.disabled, this.stop.hidden, this.bar.hidden] = [true, true, false, false];
    this.bar.value = 0;
    say(this.far, "");
  }

  show(read, size, sum) {
    this.bar.value = size > 0 ? read / size : 1;
    say(this.far, words.far(percent(this.bar.value), whole(sum.rows)));
  }

  ended(dry, sum, failed) {
    this.busy = false;
    [this.check.disabled, this.go.disabled, this.stop.hidden, this.bar.hidden] = [false, false, true, true];
    say(this.far, "");
    const stored = dry ? "" : sum.line > 2 ? words.storedUpTo(sum.line - 1) : words.nothingStored;
    if (failed?.name === "AbortError") this.tell("warn", `${words.stopped} ${stored}`);
    else if (failed) { this.tell("bad", `${where(failed.message, failed.parameter)} ${stored}`); if (failed.status === 401) this.report("import", failed); }
    else if (dry) this.tell(sum.rejected ? "warn" : "good", words.checked(whole(sum.rows), whole(sum.readings), whole(sum.rejected)));
    else this.tell(sum.rejected ? "warn" : "good", words.done(whole(sum.readings), whole(sum.written), whole(sum.unchanged), whole(sum.rejected)));
    this.go.hidden = !dry || Boolean(failed) || sum.readings === 0;
    say(this.go, words.store(whole(sum.readings)));
    fill(this.outcome, sum.columns && outcome(sum, dry, this.file.files[0]));
    if (!dry) dispatchEvent(new Event("lists"));
  }

  tell(state, text) {
    mark(this.said, "class", text ? "notice" : null);
    mark(this.said, "data-state", state);
    say(this.said, text);
  }
}

const without = (all) => Object.fromEntries(Object.entries(all).filter(([, held]) => held !== null && held !== undefined));

/** What is wrong, with the name of the field that puts it right. */
const where = (why, parameter) => (words[parameter] ? words.putRight(why, words[parameter]) : why);

/** The word for a sign. */
const called = (words, sign) => words.find(([one]) => one === sign)?.[1] ?? sign;

/** What the file was taken for, and what of it can't be taken. */
function outcome(sum, dry, file) {
  const { delimiter, decimal, dates } = sum.dialect;
  const shown = sum.rejects.slice(0, REJECTS_SHOWN);
  const made = [...sum.made];
  return h("div", { class: "report" }, h("h3", null, words.found),
    h("p", { class: "faint" }, words.dialect(bytes(file.size), called(words.delimiters, delimiter === "\t" ? "tab" : delimiter), called(words.decimals, decimal) ?? words.noSign, words.orders[dates] ?? words.orders.none)),
    table(words.found, [words.column, words.takenFor], sum.columns.map((column) => [column.name, column.taken_for]), true),
    made.length > 0 && h("p", null, dry ? words.wouldMake(made.length) : words.made(made.length), " ", h("span", { class: "faint" }, made.slice(0, 20).flatMap((name, n) => [n > 0 && ", ", foreign(name)]))),
    sum.rejected > 0 && h("section", { "aria-labelledby": "rejects-title" },
      h("div", { class: "row" }, h("h3", { id: "rejects-title" }, words.rejects(whole(sum.rejected))), h("button", { type: "button", class: "small", onclick: () => download(sum.rejects, file.name) }, words.download)),
      table(words.rejectsTable, [words.line, words.why, words.text], shown.map((reject) => [whole(reject.line), h("span", { class: "wrap" }, foreign(where(reject.reason, reject.parameter))), h("code", null, foreign(reject.text))])),
      sum.rejected > shown.length && h("p", { class: "faint" }, words.moreRejects(whole(sum.rejected - shown.length)))));
}

/** The rejects as the command line writes them. */
function download(rejects, name) {
  const cell = (text) => (/[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = ["line,reason,text", ...rejects.map(({ line, reason, parameter, text }) => [String(line), where(reason, parameter), text].map(cell).join(","))];
  const url = URL.createObjectURL(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }));
  h("a", { href: url, download: `${name}.rejects.csv` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
