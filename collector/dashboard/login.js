// The way in, when the collector wants to know who is there.

import { post } from "./api.js";
import { fill, h, say } from "./dom.js";
import { texts } from "./texts.js";

const words = texts.login;

/** The form; everything begins anew when somebody has come in. */
export function form(root) {
  const name = h("input", { id: "login-name", autocomplete: "username", required: true });
  const password = h("input", { id: "login-password", type: "password", autocomplete: "current-password", required: true });
  const wrong = h("p", { class: "error", role: "alert" });
  const button = h("button", { type: "submit", class: "primary" }, words.in);
  async function enter(event) {
    event.preventDefault();
    button.disabled = true;
    try {
      await post("login", undefined, { name: name.value, password: password.value });
      location.reload();
    } catch (error) {
      say(wrong, error.message);
      password.value = "";
      password.focus();
    }
    button.disabled = false;
  }
  fill(root, h("section", { class: "alone login" }, h("h1", null, words.title), h("p", { class: "faint" }, words.how),
    h("form", { onsubmit: enter }, h("label", { for: "login-name" }, words.name), name, h("label", { for: "login-password" }, words.password), password, button, wrong),
    h("p", { class: "faint" }, words.over)));
  name.focus();
}
