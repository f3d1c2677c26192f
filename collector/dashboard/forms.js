// What forms are made of.

import { h } from "./dom.js";
import { nameless } from "./session.js";
import { texts } from "./texts.js";

const words = texts.forms;
let numbered = 0;

/** A label and what it is of; `hint` stands below. */
export function field(label, control, hint) {
  control.id ||= `field-${(numbered += 1)}`;
  const under = hint && h("span", { class: "faint", id: `${control.id}-hint` }, hint);
  if (under) control.setAttribute("aria-describedby", under.id);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, under);
}

/** A choice among `[value, text]`. */
export const choice = (options, chosen, onchange) =>
  h("select", { onchange }, options.map(([value, text]) => h("option", { value, selected: value === chosen }, text)));

/** Whose change it is, where nobody has logged in: a field, and what to send. */
export function author() {
  if (!nameless()) return { element: null, said: () => undefined };
  const input = h("input", { autocomplete: "name", required: true, maxlength: 200, value: remembered() });
  input.addEventListener("change", () => { try { localStorage.setItem("author", input.value.trim()); } catch { /* asked again next time */ } });
  return { element: field(words.author, input), said: () => input.value.trim() };
}

function remembered() {
  try { return localStorage.getItem("author") ?? ""; } catch { return ""; }
}

/** Asks for a reason before something is done, and does it: `act({ reason, author })`. What goes wrong is said, and it can be tried again. */
export function ask({ title, what, action, danger }, act) {
  const reason = h("input", { required: true, maxlength: 400, autocomplete: "off" });
  const name = author();
  const wrong = h("p", { class: "error", role: "alert" });
  const go = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const dialog = h("dialog", { "aria-label": title, onclose: () => dialog.remove() },
    h("h2", null, title), h("p", null, what),
    h("form", { onsubmit: submit }, field(words.reason, reason), name.element, wrong,
      h("div", { class: "row end" }, h("button", { type: "button", onclick: () => dialog.close() }, words.cancel), go)));
  async function submit(event) {
    event.preventDefault();
    go.disabled = true;
    try {
      await act({ reason: reason.value.trim(), author: name.said() });
      dialog.close();
    } catch (error) {
      wrong.textContent = error.message;
    }
    go.disabled = false;
  }
  document.body.append(dialog);
  dialog.showModal();
  reason.focus();
}
