// The charts of a node.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chart, has, open, please, ready, settled } from "../browser.mjs";

export default ({ check, browser, base, folder }) => {
  check("from two years to five minutes, by dragging", async () => {
    const page = await open(browser, base, { path: "/#/node/DIST_001?span=63072000" });
    await settled(page);
    const flow = chart(page, "Flow");
    const seen = [];
    for (let step = 0; step < 12; step++) {
      const resolution = await flow.getAttribute("data-resolution");
      if (seen.at(-1) !== resolution) seen.push(resolution);
      const length = await page.evaluate(() => { const q = new URLSearchParams(location.hash.split("?")[1]); return q.get("span") ? Number(q.get("span")) : (Date.parse(q.get("to")) - Date.parse(q.get("from"))) / 1000; });
      if (length <= 300) break;
      // The right end of the plot, where the newest readings are.
      const part = Math.max(0.12, 299 / length);
      const box = await flow.locator(".u-over").boundingBox();
      const y = box.y + box.height / 2;
      await page.mouse.move(box.x + box.width * (1 - part), y);
      await page.mouse.down();
      await page.mouse.move(box.x + box.width * (1 - part / 2), y, { steps: 3 });
      await page.mouse.move(box.x + box.width - 1, y, { steps: 3 });
      await page.mouse.up();
      await page.waitForFunction((before) => { const q = new URLSearchParams(location.hash.split("?")[1]); return (q.get("span") ? Number(q.get("span")) : (Date.parse(q.get("to")) - Date.parse(q.get("from"))) / 1000) < before; }, length);
      await settled(page);
    }
    console.log(`  resolutions on the way: ${seen.join(", ")}`);
    assert.ok(seen.length >= 2 && seen.at(-1) === "raw", seen.join());
    // And back out with the keyboard.
    await flow.locator(".plot").focus();
    await page.keyboard.press("-");
    await page.waitForFunction(() => location.hash.includes("span=") || location.hash.includes("from="));
    return page;
  });

  check("holes and bad stretches are visible, last week lies beside, and it can be taken along", async () => {
    const page = await open(browser, base, { path: "/#/node/DIST_001" });
    await settled(page);
    const day = 86_400_000, now = Date.now();
    const stretch = (from, to) => page.evaluate((hash) => { location.hash = hash; }, `#/node/DIST_001?from=${new Date(now - from * day).toISOString()}&to=${new Date(now - to * day).toISOString()}`);
    const label = chart(page, "Flow").locator(".label");
    await stretch(21, 19);
    await label.getByText(/12 bad/).waitFor();
    await stretch(45, 38);
    await label.getByText(/5\d(\.\d)? % known/).waitFor(); // three days of seven are missing
    await page.screenshot({ path: join(folder, "node-hole.png") });
    await page.getByLabel("Compare with last week").check();
    await settled(page);
    await page.screenshot({ path: join(folder, "node-compare.png") });
    const [file] = await Promise.all([page.waitForEvent("download"), chart(page, "Flow").getByText("CSV").click()]);
    const text = await (await file.createReadStream()).toArray().then((parts) => Buffer.concat(parts).toString());
    assert.match(text, /^time,value \(L\/s\),quality,reason\n20\d\d-/);
    assert.ok(text.split("\n").length > 300, "all readings of the stretch");
    await chart(page, "Flow").getByText("Values as a table").click();
    await chart(page, "Flow").locator("tbody tr").nth(99).waitFor({ state: "attached" }); // filled when it has opened
    return page;
  });
};
