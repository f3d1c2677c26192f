// Readings that were set aside, by what they have in common; operators release or drop them.

import { post } from "./api.js";
import { h, table } from "./dom.js";
import { moment, parse, whole } from "./format.js";
import { ask } from "./forms.js";
import { may } from "./session.js";
import { texts } from "./texts.js";

const words = texts.operations;

/** The table; `changed()` is told when something was released or dropped. */
export function showAside(answer, more, changed) {
  if (answer.items.length === 0) return h("p", { class: "none" }, words.quarantineNone);
  const groups = [...Map.groupBy(answer.items, (row) => JSON.stringify([row.gateway, row.series, row.set_aside_because])).values()];
  const time = (rows, field) => rows.map((row) => parse(row[field])).sort((a, b) => a - b);
  const heads = [words.gateway, words.series, words.because, words.readings, words.at, words.received, ...(may("operator") ? [""] : [])];
  return h("div", null, table(words.quarantine, heads, groups.map((rows) => {
    const [row] = rows, at = time(rows, "at"), received = time(rows, "received");
    const cells = [row.gateway, row.series, row.set_aside_because, whole(rows.length), at[0] === at.at(-1) ? moment(at[0]) : `${moment(at[0])} – ${moment(at.at(-1))}`, moment(received.at(-1))];
    return may("operator") ? [...cells, buttons(row, changed)] : cells;
  })), more(answer));
}

const buttons = (row, changed) => h("span", { class: "buttons" }, ["release", "drop"].map((what) =>
  h("button", { type: "button", class: "small", data: { key: `${what} ${row.gateway} ${row.series} ${row.set_aside_because}` }, onclick: () => decide(what, row, changed) }, words[what], h("span", { class: "unseen" }, ` ${row.series}`))));

/** Says first what would come of it. */
async function decide(what, row, changed) {
  const those = { gateway: row.gateway, series: row.series, because: row.set_aside_because };
  const done = { release: "released", drop: "dropped" }[what];
  const act = (dry, { reason, author }) => post(`quarantine/${what}`, { ...those, dry, reason, author });
  const would = await act(true, { reason: words.quarantine, author: words.quarantine });
  const left = Object.entries(would.left).map(([why, n]) => ` ${words.left(n, why)}`);
  ask({ title: `${words[what]}: ${row.series}`, what: words[`${what}What`](would[done], row.series) + left.join(""), action: words[what], danger: what === "drop" },
    async (said) => { await act(false, said); changed(); });
}
