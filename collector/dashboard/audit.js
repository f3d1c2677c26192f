// Who changed what.

import { h, table } from "./dom.js";
import { moment, parse } from "./format.js";
import { texts } from "./texts.js";

const words = texts.operations;

/** The table. */
export function showAudit(answer, more) {
  if (answer.items.length === 0) return h("p", { class: "none" }, words.auditNone);
  return h("div", null, table(words.audit, [texts.node.time, words.who, words.what, words.why], answer.items.map(({ at, who, what, detail }) => {
    const { reason, comment, ...rest } = detail;
    return [moment(parse(at)), who, what, h("span", null, [reason ?? comment, h("span", { class: "faint" }, ` ${inWords(rest)}`)])];
  })), more(answer));
}

/** `rows 12, dry no`: the rest as it is kept, without its signs. */
function inWords(held) {
  if (Array.isArray(held)) return held.map(inWords).join("; ");
  if (held === null || typeof held !== "object") return String(held ?? "–");
  return Object.entries(held).filter(([, value]) => value !== null && value !== false).map(([name, value]) => `${name} ${inWords(value)}`).join(", ");
}
