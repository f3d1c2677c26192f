// Who changed what: in a sentence where it is known what the collector notes, else as it is kept.

import { foreign, h, table } from "./dom.js";
import { moment, parse, whole } from "./format.js";
import { jobName, texts } from "./texts.js";

const words = texts.operations;

/** The table. */
export function showAudit(answer, more) {
  if (answer.items.length === 0) return h("p", { class: "none" }, words.auditNone);
  return h("div", null, table(words.audit, [texts.node.time, words.who, words.what, words.why],
    files(answer.items).map(({ at, who, what, detail }) => [moment(parse(at)), foreign(who), sentence(what, detail), foreign(detail.reason ?? detail.comment)])), more(answer));
}

/** A file comes in pieces, each of which is noted, the last one first: they are one line. */
function files(items) {
  const found = [];
  for (const item of items) {
    const last = found.at(-1), { detail } = item;
    const same = last?.what === "import" && item.what === "import" && last.who === item.who && last.detail.reason === detail.reason
      && last.detail.revision === detail.revision && detail.first_line < last.detail.first_line;
    if (same) last.detail = { ...detail, rows: detail.rows + last.detail.rows, readings: detail.readings + last.detail.readings };
    else found.push({ ...item });
  }
  return found;
}

const SENTENCES = {
  access: ({ did, name, role }) => words.did.access[did]?.(name, texts.access.roles[role] ?? role),
  job: ({ job }) => words.did.job(jobName(job)),
  anomaly: ({ anomaly, action, normal }) => words.did.anomaly[action]?.(anomaly, normal),
  import: ({ rows, readings }) => words.did.import(whole(readings), whole(rows)),
  reading: ({ readings }) => readings.map(({ series, at, value, before }) => words.did.reading(series, moment(parse(at)), value, before?.value)).join("; "),
  quarantine: ({ rows, released, dropped }) => words.did.aside(released ? "released" : "dropped", rows, released ?? dropped ?? {}),
  inbox: ({ rows, dropped }) => words.did.inbox(rows, dropped ?? {}),
};

function sentence(what, detail) {
  const said = Object.hasOwn(SENTENCES, what) && SENTENCES[what](detail);
  if (said) return foreign(said);
  const { reason, comment, ...rest } = detail;
  return h("span", null, `${what} `, h("span", { class: "faint" }, inWords(rest)));
}

/** `rows 12, dry no`: the rest as it is kept, without its signs. */
function inWords(held) {
  if (Array.isArray(held)) return between("; ", held.map(inWords));
  if (held === null || typeof held !== "object") return foreign(String(held ?? "–"));
  const kept = Object.entries(held).filter(([, value]) => value !== null && value !== false);
  return between(", ", kept.map(([name, value]) => h("span", null, `${name} `, inWords(value))));
}

const between = (sign, parts) => h("span", null, parts.flatMap((part, n) => (n === 0 ? [part] : [sign, part])));
