// Forecasts: on their own page, and on that of a node.

import assert from "node:assert/strict";
import { chart, has, open, ready, settled } from "../browser.mjs";

export default ({ check, browser, base }) => {
  check("forecasts: a day and a week ahead, with how right they were", async () => {
    const page = await open(browser, base, { path: "/#/forecasts?node=DIST_001" });
    await ready(page, "forecasts");
    const flow = chart(page, "Old town, Flow");
    await flow.getByText(/Next 24 h: from [\d.]+ L\/s .* to [\d.]+ L\/s/).waitFor();
    assert.match(await flow.innerText(), /Model median8w, made .* ago/);
    const rows = await page.locator("table", { hasText: "Within 90 %" }).locator("tbody tr").allInnerTexts();
    assert.ok(rows.some((row) => /Old town · Flow\s+median8w\s+24 h\s+4\d\d\s/.test(row)) && rows.some((row) => /7 days/.test(row)), rows.join("\n"));
    // In the future the pointer finds what is expected.
    const box = await flow.locator(".u-over").boundingBox();
    await page.mouse.move(box.x + box.width * 0.8, box.y + box.height / 2);
    await flow.locator(".reading").getByText(/expected [\d.]+ L\/s \([\d.]+ … [\d.]+\)/).waitFor();
    await page.getByRole("button", { name: "7 days" }).click();
    await page.waitForURL(/hours=168/);
    await flow.getByText(/Next 7 days/).waitFor();
    return page;
  });

  check("a node's charts reach into the future when that is wanted", async () => {
    const page = await open(browser, base, { path: "/#/node/DIST_003?span=86400" });
    await settled(page);
    const flow = chart(page, "Flow");
    const reading = async () => {
      const box = await flow.locator(".u-over").boundingBox();
      await page.mouse.move(box.x + box.width * 0.9, box.y + box.height / 2);
      return flow.locator(".reading");
    };
    await (await reading()).getByText(/L\/s/).waitFor();
    await page.getByLabel("Forecast").check();
    await settled(page);
    await page.waitForURL(/forecast/);
    await page.mouse.move(0, 0);
    await page.waitForFunction(() => document.querySelector("section.chart[aria-label=Flow]").getAttribute("aria-busy") === null);
    await (await reading()).getByText(/expected [\d.]+ L\/s/).waitFor();
    return page;
  });

  check("forecasts go on beyond the first page", async () => {
    const page = await open(browser, base, { path: null });
    const [one] = (await (await page.request.get(`${base}/api/v1/forecasts?node=DIST_001&limit=1`)).json()).items;
    const all = Array.from({ length: 20 }, () => one);
    await page.route(/\/api\/v1\/forecasts/, (route) => {
      const offset = Number(new URL(route.request().url()).searchParams.get("offset") ?? 0), items = all.slice(offset, offset + 14);
      return route.fulfill({ json: { items, truncated: offset === 0, next: offset === 0 ? 14 : null } });
    });
    await page.route(/\/api\/v1\/history/, (route) => route.fulfill({ json: { resolution: "1h", points: [], tiers: [], degraded: [], truncated: false } }));
    await page.goto(`${base}/#/forecasts`);
    await page.locator("section.chart").first().waitFor();
    await has(page, /the first 14 series/);
    await page.getByRole("button", { name: "Show more" }).click();
    await page.waitForFunction(() => document.querySelectorAll("section.chart").length === 20);
    return page;
  });
};
