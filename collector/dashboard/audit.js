// Who changed what.

import { foreign, h, table } from "./dom.js";
import { moment, parse } from "./format.js";
import { texts } from "./texts.js";

const words = texts.operations;

/** The table. */
export function showAudit(answer, more) {
  if (answer.items.length === 0) return h("p", { class: "none" }, words.auditNone);
  return h("div", null, table(words.audit, [texts.node.time, words.who, words.what, words.why], answer.items.map(({ at, who, what, detail }) => {
    const { reason, comment, ...rest } = detail;
    return [moment(parse(at)), who, what, h("span", null, [foreign(reason ?? comment), " ", h("span", { class: "faint" }, inWords(rest))])];
  })), more(answer));
}

/** `rows 12, dry no`: the rest as it is kept, without its signs. */
function inWords(held) {
  if (Array.isArray(held)) return between("; ", held.map(inWords));
  if (held === null || typeof held !== "object") return foreign(String(held ?? "–"));
  const kept = Object.entries(held).filter(([, value]) => value !== null && value !== false);
  return between(", ", kept.map(([name, value]) => h("span", null, `${name} `, inWords(value))));
}

const between = (sign, parts) => h("span", null, parts.flatMap((part, n) => (n === 0 ? [part] : [sign, part])));
