// Chromium and what every check of the dashboard uses.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { chromium } from "playwright-core";

const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
// Debian's; a sandbox can't be had by root, nor inside most CI machines, and the pages are our own.
const OPTIONS = {
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars"],
};

export const launch = () => chromium.launch(OPTIONS);

export const PEOPLE = { viewer: "rossi", operator: "bianchi", admin: "verdi" };
export const PASSWORD = process.env.PASSWORD;

/** What a browser says in its console about somebody whom nothing is told. */
export const STRANGER = ["401", "WebSocket"];

/** What a browser holds in which somebody with this role has logged in: once for all pages. */
const inside = new Map();
async function loggedIn(browser, base, role) {
  if (!inside.has(role)) {
    const context = await browser.newContext();
    const answer = await context.request.post(`${base}/api/v1/login`, { data: { name: PEOPLE[role], password: PASSWORD } });
    if (!answer.ok()) throw new Error(`${role} can't log in: ${await answer.text()}`);
    inside.set(role, await context.storageState());
    await context.close();
  }
  return inside.get(role);
}

/** A page of somebody with a role, or of a stranger (`null`), that notes every error it meets. What is expected to fail is
 *  named in `expected`. Without a path nothing is loaded yet. */
export async function open(browser, base, { path = "/", width = 1440, height = 900, theme = "light", role = "operator", expected = [], ...more } = {}) {
  const storageState = role ? await loggedIn(browser, base, role) : undefined;
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, timezoneId: "Europe/Rome", locale: "en-GB", reducedMotion: "reduce", storageState, ...more });
  const page = await context.newPage();
  page.errors = [];
  page.expected = expected;
  const note = (text) => { if (!page.expected.some((known) => text.includes(known))) page.errors.push(text); };
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) note(`console: ${message.text()}`); });
  page.on("pageerror", (error) => note(`error: ${error.message}`));
  page.on("dialog", (dialog) => { note(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  if (path !== null) await page.goto(base + path);
  return page;
}

/** Serious findings of the accessibility checker. */
export async function findings(page) {
  // Not by a script element: the page's own policy forbids what isn't from the collector, and that shall stay so.
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() => axe.run(document, { resultTypes: ["violations"] }));
  return violations.filter(({ impact }) => ["serious", "critical"].includes(impact))
    .map(({ id, nodes }) => `${id}: ${nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any.concat(node.all, node.none).map((why) => why.message).join("; ")}`).join(" | ")}`);
}

/** How far a page reaches over its window, in pixels. */
export const overflow = (page) => page.evaluate(() => document.scrollingElement.scrollWidth - innerWidth);

/** Asks the test for something to happen in the network, and waits until it has. */
const answers = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
export async function please(wish) {
  process.stdout.write(`please ${wish}\n`);
  const { done } = await answers.next();
  if (done) throw new Error("the test is gone");
}

/** Asks again until the answer is yes. */
export async function until(page, yes, timeout) {
  const ends = performance.now() + timeout;
  while (!await yes()) {
    if (performance.now() > ends) throw new Error(`not within ${timeout} ms: ${yes}`);
    await page.waitForTimeout(100); // others ask, too
  }
}

/** Waits until a text is there. */
export const has = (page, text, timeout = 10_000) => page.getByText(text).first().waitFor({ timeout });

/** Waits until every chart has been drawn. */
export const settled = (page) => page.waitForFunction(() => {
  const charts = [...document.querySelectorAll(".chart")];
  return charts.length > 0 && charts.every((chart) => chart.dataset.resolution && !chart.hasAttribute("aria-busy"));
});

/** The chart of that name. */
export const chart = (page, name) => page.locator(`section.chart[aria-label="${name}"]`);

/** How many seconds a node's page shows. */
const shown = (page) => page.evaluate(() => {
  const asked = new URLSearchParams(location.hash.split("?")[1]);
  return asked.get("span") ? Number(asked.get("span")) : (Date.parse(asked.get("to")) - Date.parse(asked.get("from"))) / 1000;
});

/** Drags on a chart until it shows five minutes at its right end, where the newest readings are. The resolutions on the way. */
export async function zoom(page, one) {
  const seen = [];
  for (let step = 0; step < 12; step++) {
    const resolution = await one.getAttribute("data-resolution");
    if (seen.at(-1) !== resolution) seen.push(resolution);
    const length = await shown(page);
    if (length <= 300) break;
    const part = Math.max(0.12, 299 / length);
    const box = await one.locator(".u-over").boundingBox();
    const y = box.y + box.height / 2;
    await page.mouse.move(box.x + box.width * (1 - part), y);
    await page.mouse.down();
    await page.mouse.move(box.x + box.width * (1 - part / 2), y, { steps: 3 });
    await page.mouse.move(box.x + box.width - 1, y, { steps: 3 });
    await page.mouse.up();
    await page.waitForFunction((before) => {
      const asked = new URLSearchParams(location.hash.split("?")[1]);
      return (asked.get("span") ? Number(asked.get("span")) : (Date.parse(asked.get("to")) - Date.parse(asked.get("from"))) / 1000) < before;
    }, length);
    await settled(page);
  }
  return seen;
}

/** Every page: its address, the role that sees all of it, and when it is there. */
export const PAGES = {
  overview: { path: "/", ready: (page) => page.locator(".card .spark-line[d]").first().waitFor({ state: "attached" }) },
  anomalies: { path: "/#/anomalies", ready: async (page) => { await page.locator(".anomaly .keys .key.usual").waitFor(); await settled(page); } },
  forecasts: { path: "/#/forecasts", ready: async (page) => { await page.locator("section.chart").first().waitFor(); await settled(page); } },
  node: { path: "/#/node/DIST_002?span=172800&forecast", ready: async (page) => { await settled(page); await page.locator(".anomaly-link").first().waitFor(); } },
  entry: { path: "/#/entry", ready: (page) => page.locator(".around table, .around p").first().waitFor() },
  operations: { path: "/#/operations", ready: async (page) => { for (const part of ["gateways", "quarantine", "audit", "jobs"]) await page.locator(`#${part} tbody tr`).first().waitFor(); } },
  access: { path: "/#/access", role: "admin", ready: (page) => page.locator("#users tbody tr").first().waitFor() },
  login: { path: "/", role: null, ready: (page) => page.getByLabel("Password").waitFor() },
};

/** Waits until a page shows what it is for, live. */
export async function ready(page, name) {
  if (PAGES[name].role !== null) await page.locator(".pill[data-is=live]").waitFor();
  await PAGES[name].ready(page);
}
