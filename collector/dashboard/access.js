// Access, for admins: people with passwords, and tokens of programs.

import { ask as request, get, post } from "./api.js";
import { fill, h, mark, say, table } from "./dom.js";
import { moment, parse } from "./format.js";
import { choice, field } from "./forms.js";
import * as network from "./network.js";
import { change } from "./password.js";
import { may, who } from "./session.js";
import { texts } from "./texts.js";

const CLOCKS_MS = 1_000; // the collector's clock is known to be a little behind
const words = texts.access;
const ROLES = Object.entries(words.roles);

/** Builds the page; gives back how to end it. */
export function access(root, report) {
  const title = h("h1", { class: "unseen" }, texts.pages.access);
  if (!may("admin")) {
    fill(root, title, h("section", { class: "alone" }, h("h2", null, words.others), h("p", null, words.othersHow)));
    return () => {};
  }
  const parts = [users(report), tokens(report)];
  fill(root, title, h("div", { class: "entry-parts" }, parts.map((part) => part.element)));
  parts.forEach((part) => part.load());
  return () => {};
}

/** A list, a form that adds to it, and what came of that. */
function part(report, id, { title, what }, path, rows, form) {
  const list = h("div", null, h("div", { class: "waiting line" }));
  const said = h("div", { role: "status" });
  const tell = (state, ...shown) => { mark(said, "class", shown.length ? "notice" : null); mark(said, "data-state", state); fill(said, ...shown); };
  const self = { async load() {
    try {
      const { items } = await get(path);
      report(id, null);
      fill(list, rows(items, self));
    } catch (error) {
      report(id, error);
      fill(list, h("p", { class: "faint" }, error.message));
    }
  }, async act(work) {
    try {
      tell("good", ...[await work()].flat());
    } catch (error) {
      if (error.status === 401) report(id, error);
      tell("bad", error.message);
    }
    await self.load();
  } };
  self.element = h("section", { id, class: "part", "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title` }, title), h("p", { class: "faint" }, what), list, said, form(self));
  return self;
}

/** A form whose fields begin anew when it has been done. */
function form(label, button, fields, send) {
  const element = h("form", { class: "form", "aria-label": label, onsubmit: (event) => { event.preventDefault(); send().then(() => element.reset()); } },
    h("div", { class: "fields" }, fields), h("div", { class: "row" }, h("button", { type: "submit", class: "primary" }, button)));
  return element;
}

const address = (path, name) => `${path}/${encodeURIComponent(name)}`;
/** Asks again on the button itself before something is gone. */
const sure = (button, act) => { if (button.dataset.sure) return act(); button.dataset.sure = "1"; say(button.firstChild, words.sure); return undefined; };
const gone = (text, name, act) => { const button = h("button", { type: "button", class: "small", onclick: () => sure(button, act) }, h("span", null, text), h("span", { class: "unseen" }, ` ${name}`)); return button; };

function users(report) {
  const rows = (items, self) => (items.length === 0 ? h("p", { class: "none" }, words.nobody) : table(words.users.title, words.users.columns, items.map((user) => {
    const role = choice(ROLES, user.role, () => self.act(async () => { await post(address("users", user.name), undefined, { role: role.value }); return words.changed(user.name, words.roles[role.value]); }));
    mark(role, "aria-label", words.roleOf(user.name));
    return [user.name, role, moment(parse(user.changed)), user.name === who.name ? h("span", { class: "buttons" }, h("span", { class: "faint" }, words.you), h("button", { type: "button", class: "small", onclick: change }, words.ownPassword)) : h("span", { class: "buttons" }, password(user.name, self),
      gone(words.remove, user.name, () => self.act(async () => { await request("DELETE", address("users", user.name)); return words.removed(user.name); })))];
  })));
  return part(report, "users", words.users, "users", rows, (self) => {
    const name = h("input", { required: true, maxlength: 64, autocomplete: "off" });
    const secret = h("input", { type: "password", required: true, minlength: 10, maxlength: 200, autocomplete: "new-password" });
    const role = who?.way === "open" ? choice([["admin", words.roles.admin]], "admin") : choice(ROLES, "viewer"); // the first must be one
    return form(words.users.add, words.users.add, [field(words.name, name), field(words.password, secret, words.passwordHow), field(words.role, role, words.roleHow)],
      () => self.act(async () => { await post("users", undefined, { name: name.value.trim(), role: role.value, password: secret.value }); return words.made(name.value.trim(), words.roles[role.value]); }));
  });
}

/** Sets another password. */
function password(name, self) {
  const secret = h("input", { type: "password", required: true, minlength: 10, maxlength: 200, autocomplete: "new-password", "aria-label": words.passwordOf(name) });
  const opened = h("form", { class: "buttons", hidden: true, onsubmit: (event) => { event.preventDefault(); self.act(async () => { await post(address("users", name), undefined, { password: secret.value }); return words.passwordSet(name); }); } },
    secret, h("button", { type: "submit", class: "small primary" }, words.set));
  return [h("button", { type: "button", class: "small", onclick: () => { opened.hidden = false; secret.focus(); } }, words.newPassword, h("span", { class: "unseen" }, ` ${name}`)), opened];
}

function tokens(report) {
  const rows = (items, self) => (items.length === 0 ? h("p", { class: "none" }, words.noTokens) : table(words.tokens.title, words.tokens.columns, items.map((token) => {
    const over = token.ends !== null && parse(token.ends) <= network.now() + CLOCKS_MS;
    return [token.name, words.roles[token.role], moment(parse(token.made)), token.ends ? moment(parse(token.ends)) : words.never, over ? h("span", { class: "faint" }, words.over)
      : gone(words.revoke, token.name, () => self.act(async () => { await request("DELETE", address("tokens", token.name)); return words.revoked(token.name); }))];
  })));
  return part(report, "tokens", words.tokens, "tokens", rows, (self) => {
    const name = h("input", { required: true, maxlength: 64, autocomplete: "off" });
    const role = choice(ROLES, "viewer");
    const days = h("input", { inputmode: "numeric", pattern: "[0-9]+", autocomplete: "off" });
    return form(words.tokens.add, words.tokens.add, [field(words.name, name), field(words.role, role), field(words.days, days, words.daysHow)], () => self.act(async () => {
      const made = await post("tokens", undefined, { name: name.value.trim(), role: role.value, days: days.value ? Number(days.value) : undefined });
      return [h("p", null, words.tokenMade(made.name)), h("pre", { tabindex: 0 }, made.token)];
    }));
  });
}
