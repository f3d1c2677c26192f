// Forecasts: on their own page, and on that of a node.

import assert from "node:assert/strict";
import { chart, open, ready, settled } from "../browser.mjs";

export default ({ check, browser, base }) => {
  check("forecasts: a day and a week ahead, with how right they were", async () => {
    const page = await open(browser, base, { path: "/#/forecasts?node=DIST_001" });
    await ready(page, "forecasts");
    const flow = chart(page, "Old town, Flow");
    await flow.getByText(/Next 24 h: from [\d.]+ L\/s .* to [\d.]+ L\/s/).waitFor();
    assert.match(await flow.innerText(), /Model median8w, made .* ago/);
    const rows = await page.locator("table", { hasText: "Within 90 %" }).locator("tbody tr").allInnerTexts();
    assert.ok(rows.some((row) => /Old town · Flow\s+median8w\s+24 h\s+2\d\d\s/.test(row)) && rows.some((row) => /7 days/.test(row)), rows.join("\n"));
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
};
