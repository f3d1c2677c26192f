// The frame of all pages: which page is shown, whether there is a connection, what is wrong, and the colours.

import * as alerts from "./alerts.js";
import { away, get, lacks, post } from "./api.js";
import { fill, foreign, h, mark, say } from "./dom.js";
import { clock } from "./format.js";
import * as live from "./live.js";
import * as network from "./network.js";
import * as session from "./session.js";
import { jobName, texts } from "./texts.js";

const LISTS_EVERY_MS = 30_000;
const LISTS_FIRST_MS = 2_000; // somebody who has just installed it looks on
const HEALTH_EVERY_MS = 5_000;
const ALERTS_EVERY_MS = 10_000; // without the live feed
const THEME_S = 31_536_000;
const NEEDS = { entry: "operator", access: "admin" }; // pages that aren't for everybody
const main = document.getElementById("main");
const troubles = new Map(); // what → error, of what goes wrong on the page that is open
const absent = new Map(); // tier → since when it is away, as far as this page knows
let health = null;
let shown = { key: null, end() {} };

document.documentElement.lang = texts.language;
say(document.getElementById("skip"), texts.skip);
const changePassword = () => import("./password.js").then(({ change }) => change());
const own = h("button", { type: "button", class: "link", hidden: true, onclick: changePassword }, texts.password.title); // a phone's bar has no names
fill(document.getElementById("foot"), h("a", { href: "/api/docs" }, texts.api), own);

// --- the bar

const pill = h("span", { class: "pill", role: "status" });
const time = h("time", { class: "clock" });
const who = h("span", { class: "who" });
const links = Object.entries(texts.pages).map(([page, name]) => h("a", { href: page === "overview" ? "#/" : `#/${page}`, data: { page } }, name));
const unsettled = h("span", { class: "count", hidden: true });
links.find((link) => link.dataset.page === "anomalies").append(unsettled);
const theme = h("button", { class: "theme", type: "button", onclick: nextTheme });
fill(document.getElementById("bar"),
  h("a", { class: "brand", href: "#/", "aria-label": texts.title }, h("img", { src: "/icon.svg", alt: "", width: 26, height: 26 }), h("span", null, texts.title)),
  h("nav", { "aria-label": texts.menu }, links), h("div", { class: "bar-end" }, time, pill, who, theme));

function nextTheme() {
  const order = ["system", "light", "dark"];
  const chosen = order[(order.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % order.length];
  if (chosen === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  document.cookie = `theme=${chosen}; path=/; max-age=${THEME_S}; samesite=strict`; // the next page comes in these colours
  showTheme();
  dispatchEvent(new Event("theme"));
}

function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "system";
  say(theme, { system: "◐", light: "☀", dark: "☾" }[chosen]);
  mark(theme, "aria-label", texts.theme.is(texts.theme[chosen]));
  mark(theme, "title", texts.theme.is(texts.theme[chosen]));
}

function showLink() {
  const { is, until } = live.status;
  mark(pill, "data-is", is);
  mark(pill, "title", is === "waiting" ? texts.link.polling : null);
  const left = Math.max(1, Math.ceil((until - Date.now()) / 1000));
  say(pill, is === "live" ? texts.link.live : is === "connecting" ? texts.link.connecting : texts.link.waiting(left));
}

function showAlerts() {
  const count = alerts.open?.length ?? 0;
  unsettled.hidden = count === 0;
  say(unsettled, count > 99 ? "99+" : String(count));
  mark(unsettled, "data-severity", alerts.worst(alerts.open ?? []));
  mark(unsettled, "aria-label", texts.anomalies.openCount(count));
}

/** Shows who is there; nothing while nobody has to say so. */
function badge(one) {
  if (one?.way !== "session") return;
  const out = async () => { await post("logout"); location.reload(); };
  own.hidden = false;
  const name = h("button", { type: "button", class: "small name", title: texts.password.title, "aria-haspopup": "dialog", onclick: changePassword }, foreign(one.name), texts.login.as(one.role));
  fill(who, name, h("button", { type: "button", class: "small", onclick: out }, texts.login.out));
}

/** Pages that somebody can't use aren't in the menu. */
function showRoles() {
  for (const link of links) link.hidden = !session.may(NEEDS[link.dataset.page] ?? "viewer");
  showPlace();
}

/** On a phone the menu is wider than the screen. */
function showPlace() {
  links.find((link) => link.hasAttribute("aria-current"))?.scrollIntoView({ block: "nearest", inline: "center" });
}

// --- what is wrong

const notices = document.getElementById("notices");
const LINE_MAX = 100; // letters of a notice; the rest can be folded out

/** What can't go on, once and plainly: what comes of a tier that is away is said with it, and why under Operations. */
function showNotices() {
  const all = new Map(); // the line → its state, and what can be folded out
  const note = (state, line, more = null) => { if (!all.has(line)) all.set(line, [state, more]); };
  const fold = (state, text) => (text.length > LINE_MAX ? note(state, `${text.slice(0, LINE_MAX).trimEnd()}…`, text) : note(state, text));
  if (live.status.is === "waiting" && live.status.reason && absent.size === 0) fold("warn", texts.link.why(live.status.reason));
  for (const [tier, since] of absent) note("bad", texts.notice.away[tier](since));
  const explained = (text) => absent.has(away(text));
  for (const { part, severity, error } of health?.troubles ?? []) {
    if (explained(error)) continue;
    const name = texts.operations.parts[part] ?? jobName(part);
    if (session.may("operator")) fold(severity === "warning" ? "warn" : "bad", texts.notice.trouble(name, error));
    else note("warn", texts.notice.failing(name));
  }
  for (const what of lacks([...network.degraded, ...live.status.degraded].filter((what) => !explained(what)))) note("warn", what);
  for (const error of troubles.values()) if (!absent.has(error.tier)) fold("bad", error.status === undefined ? texts.errors.bug(error.message) : error.message);
  const key = JSON.stringify([...all]);
  if (notices.dataset.key === key) return;
  notices.dataset.key = key;
  const open = new Set([...notices.querySelectorAll("details[open] > summary")].map((line) => line.textContent));
  fill(notices, [...all].map(([line, [state, more]]) => (more === null ? h("p", { class: "notice", data: { state } }, line)
    : h("details", { class: "notice", data: { state }, open: open.has(line) }, h("summary", null, line), h("p", { class: "faint" }, more)))));
}

let strange = false; // the collector wants to know who is there

/** Notes that something failed, or with `null` that it works again. */
function report(what, error) {
  if (error?.name === "AbortError" || strange) return;
  if (error?.status === 401) return meet();
  if (error) troubles.set(what, error);
  else troubles.delete(what);
  if (error && error.status === undefined) console.error(error);
  showNotices();
}

/** Nothing goes on but the form. */
function meet() {
  strange = true;
  shown.end();
  live.end();
  links.forEach((link) => { link.hidden = true; });
  health = null;
  absent.clear();
  troubles.clear();
  showNotices();
  mark(pill, "hidden", true);
  fill(who);
  own.hidden = true;
  import("./login.js").then(({ form }) => form(main));
}

async function keepLists() {
  if (strange) return;
  try {
    const before = network.series.size;
    await network.load();
    report("lists", null);
    if (network.series.size !== before) watchAgain();
  } catch (error) {
    report("lists", error);
  }
}

async function keepHealth() {
  if (strange || (document.hidden && health)) return;
  try {
    const before = health;
    health = await get("health");
    network.setClock(health.now);
    for (const [tier, { ok }] of Object.entries(health.tiers)) {
      const time = clock(network.now()).slice(0, 5);
      if (ok) absent.delete(tier);
      else if (!absent.has(tier)) absent.set(tier, before ? texts.notice.since(time) : texts.notice.sinceBefore(time));
    }
    report("health", null);
  } catch (error) {
    report("health", error);
  }
  showNotices();
}

async function keepAlerts() {
  if (strange || (alerts.open && (document.hidden || live.status.is === "live"))) return;
  try {
    await alerts.load();
    report("alerts", null);
  } catch (error) {
    report("alerts", error);
  }
}

// --- pages

const none = () => ({ nodes: [] });
const pages = {
  overview: { load: () => import("./overview.js"), begin: (module, root) => module.overview(root, report), watch: () => ({ all: true }) },
  node: { load: () => import("./node.js"), begin: (module, root, name, query) => module.node(root, report, name, query), watch: (name) => ({ nodes: network.nodes.has(name) ? [name] : [] }) },
  anomalies: { load: () => import("./anomalies.js"), begin: (module, root, name, query) => module.anomalies(root, report, name, query), watch: none, one: true },
  forecasts: { load: () => import("./forecasts.js"), begin: (module, root, name, query) => module.forecasts(root, report, name, query), watch: none, one: true },
  entry: { load: () => import("./entry.js"), begin: (module, root, name, query) => module.entry(root, report, name, query), watch: none },
  access: { load: () => import("./access.js"), begin: (module, root) => module.access(root, report), watch: none },
  operations: { load: () => import("./operations.js"), begin: (module, root) => module.operations(root, report), watch: none },
  missing: { load: () => null, begin: missing, watch: none },
};

function missing(_, root, name) {
  fill(root, h("section", { class: "alone" }, h("h1", null, texts.missing.title), h("p", null, texts.missing.what(name)), h("a", { class: "button", href: "#/" }, texts.missing.back)));
  return () => {};
}

/** `#/node/DIST_001?span=3600` → page, name, query. */
function place(address = location.href) {
  const [path, query] = new URL(address).hash.replace(/^#\/?/, "").split("?");
  const [page, name] = path.split("/");
  let decoded = name;
  try { decoded = name && decodeURIComponent(name); } catch { /* as it stands */ }
  const found = page === "" ? "overview" : Object.hasOwn(pages, page) ? page : "missing";
  return { page: found, name: found === "missing" ? new URL(address).hash : decoded, query: new URLSearchParams(query) };
}

async function show(event) {
  const { page, name, query } = place(event?.newURL);
  const key = pages[page].one ? page : `${page}/${name ?? ""}`; // one page, whatever it shows
  links.forEach((link) => mark(link, "aria-current", link.dataset.page === page ? "page" : null));
  showPlace();
  if (shown.key === key) return shown.end.query?.(query, name);
  const first = shown.key === null;
  shown.end();
  troubles.clear();
  shown = { key, end() {} };
  document.title = `${page === "node" ? network.nodeName(name) : texts.pages[page] ?? texts.missing.title} · ${texts.title}`;
  try {
    const [module] = await Promise.all([pages[page].load(), session.ready]);
    if (shown.key !== key || strange) return; // somebody has gone on meanwhile
    const root = h("div", { class: `page ${page}` });
    fill(main, root);
    shown.end = pages[page].begin(module, root, name, query);
    live.watch(pages[page].watch(name));
  } catch (error) {
    console.error(error);
    fill(main, h("section", { class: "alone" }, h("h1", null, texts.errors.page), h("p", null, error.message),
      h("button", { type: "button", onclick: () => location.reload() }, texts.errors.again)));
  }
  if (!first) { main.focus({ preventScroll: true }); scrollTo(0, 0); }
}

function watchAgain() {
  const { page, name } = place();
  live.watch(pages[page].watch(name));
}

addEventListener("hashchange", show);
addEventListener("unhandledrejection", (event) => report("bug", event.reason instanceof Error ? event.reason : new Error(event.reason)));
addEventListener("alerts", keepAlerts);
addEventListener("lists", keepLists);
alerts.listen(showAlerts);
live.listen(() => { showLink(); showNotices(); });
let wasLive = null;
live.listen(({ is }) => {
  // Whoever was away may have missed new nodes.
  if (is === "live" && wasLive === false) { keepLists(); keepHealth(); }
  if (is !== "connecting") wasLive = is === "live";
});
setInterval(() => { showLink(); say(time, clock(network.now())); }, 1000);
setInterval(keepHealth, HEALTH_EVERY_MS); // says as well that nobody answers
showTheme();
showLink();
// A stranger would be told nothing, so nothing is asked before it is known who is there: it came with the page.
session.ready.then((one) => {
  if (one === null) return meet();
  badge(one);
  showRoles();
  (async function lists() {
    if (!document.hidden || !network.known) await keepLists();
    setTimeout(lists, network.nodes.size > 0 ? LISTS_EVERY_MS : LISTS_FIRST_MS);
  })();
  keepHealth();
  keepAlerts();
  setInterval(keepAlerts, ALERTS_EVERY_MS);
});
show();
