// Another password, for whoever is logged in.

import { post } from "./api.js";
import { fill, h, mark, say } from "./dom.js";
import { field } from "./forms.js";
import * as live from "./live.js";
import { who } from "./session.js";
import { texts } from "./texts.js";

const words = texts.password;
const secret = (autocomplete, more) => h("input", { type: "password", required: true, maxlength: 200, autocomplete, ...more });

/** Asks for the password that was and the one to be. This browser stays in, all others are out then. */
export function change() {
  const inputs = { current: secret("current-password"), new: secret("new-password", { minlength: 10 }), again: secret("new-password") };
  const wrong = h("p", { class: "error", role: "alert" });
  const go = h("button", { type: "submit", class: "primary" }, words.set);
  const close = (text) => h("button", { type: "button", onclick: () => dialog.close() }, text);
  const form = h("form", { onsubmit: submit },
    h("input", { autocomplete: "username", value: who.name, readonly: true, hidden: true }), // whose it is, for what keeps passwords
    field(words.current, inputs.current), field(words.new, inputs.new, words.how), field(words.again, inputs.again), wrong,
    h("div", { class: "row end" }, close(texts.forms.cancel), go));
  const dialog = h("dialog", { "aria-label": words.title, onclose: () => dialog.remove() }, h("h2", null, words.title), h("p", null, words.what), form);

  /** Says what is wrong where it is: below the field, or above the buttons. */
  function tell(name, text) {
    for (const [one, input] of Object.entries(inputs)) mark(input, "aria-invalid", one === name && "true");
    const input = inputs[name];
    if (input) { input.closest(".field").append(wrong); input.select(); input.focus(); }
    else form.lastChild.before(wrong);
    say(wrong, text);
  }
  async function submit(event) {
    event.preventDefault();
    say(wrong, "");
    if (inputs.new.value !== inputs.again.value) return tell("again", words.differ);
    go.disabled = true;
    try {
      await post("me/password", undefined, { current: inputs.current.value, new: inputs.new.value });
      live.renew();
      const done = close(words.close);
      fill(dialog, h("h2", null, words.title), h("p", { role: "status", class: "notice", data: { state: "good" } }, words.done), h("div", { class: "row end" }, done));
      done.focus();
    } catch (error) {
      if (error.status === 401) location.reload();
      tell(error.parameter, error.message);
    }
    go.disabled = false;
  }
  document.body.append(dialog);
  dialog.showModal();
  inputs.current.focus();
}
