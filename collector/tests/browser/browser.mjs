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

/** A page that notes every error it meets. What is expected to fail is said with `page.expected`. */
export async function open(browser, base, { path = "/", width = 1440, height = 900, theme = "light", ...more } = {}) {
  const context = await browser.newContext({ viewport: { width, height }, colorScheme: theme, timezoneId: "Europe/Rome", locale: "en-GB", reducedMotion: "reduce", ...more });
  const page = await context.newPage();
  page.errors = [];
  page.expected = [];
  const note = (text) => { if (!page.expected.some((known) => text.includes(known))) page.errors.push(text); };
  page.on("console", (message) => { if (["error", "warning"].includes(message.type())) note(`console: ${message.text()}`); });
  page.on("pageerror", (error) => note(`error: ${error.message}`));
  page.on("dialog", (dialog) => { note(`a dialog: ${dialog.message()}`); dialog.dismiss(); });
  await page.goto(base + path);
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
