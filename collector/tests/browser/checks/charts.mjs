// The charts of a node.

import assert from "node:assert/strict";
import { join } from "node:path";
import { chart, has, open, please, ready, settled, zoom } from "../browser.mjs";

export default ({ check, browser, base, folder }) => {
  check("from two years to five minutes, by dragging", async () => {
    const page = await open(browser, base, { path: "/#/node/DIST_001?span=63072000" });
    await settled(page);
    const flow = chart(page, "Flow");
    const seen = await zoom(page, flow);
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

  check("two years are means with a band, without a jump at the end", async () => {
    const page = await open(browser, base, { path: "/#/node/DIST_001?span=63072000" });
    await settled(page);
    assert.equal(await chart(page, "Flow").getAttribute("data-resolution"), "1d"); // as those that are read every second
    const shown = await page.evaluate(async () => {
      const { shape } = await import("/chart-marks.js");
      const day = 86_400, count = { good: 1, uncertain: 0, bad: 0, manual: 0 };
      const bucket = (n, covered_s, average) => ({ at: new Date(n * day * 1000).toISOString(), count, covered_s, average, min: average - 1, max: average + 1 });
      const points = [bucket(1, 20_000, 9), bucket(2, day, 5), bucket(3, day, 5), bucket(4, 3_600, 1)];
      const few = [bucket(1, 300, 9), bucket(2, 300, 5)];
      return [points, few].map((points) => shape({ resolution: "1d", points }, { kind: "gauge" }, [day, 5 * day], 60, 4 * day + 3_600).middle);
    });
    assert.deepEqual(shown, [[5, 5], [9, 5]]); // days that have just begun aren't drawn beside whole ones
    return page;
  });

  check("a week before is the same hour by the collector's clocks, also when they were changed", async () => {
    const page = await open(browser, base, { path: null, timezoneId: "America/New_York" });
    await page.goto(`${base}/#/node/DIST_001`);
    await settled(page);
    const found = await page.evaluate(async () => {
      const { shifted, paired, zone } = await import("/zone.js");
      const rome = await zone(), iso = (at) => at && new Date(at).toISOString().slice(0, 16);
      const all = (of, moments, days) => moments.map((at) => iso(of(Date.parse(`${at}Z`), days, rome)));
      return { rome,
        before: all(shifted, ["2026-03-30T10:00", "2026-10-26T11:00", "2026-06-10T10:00"], -7),
        // 02:30 on the day on which that hour is left out, and both of the day on which it is twice.
        missing: all(paired, ["2026-03-22T01:30", "2026-03-22T02:30"], 7), twice: all(paired, ["2026-10-25T00:30", "2026-10-25T01:30"], 7) };
    });
    assert.deepEqual(found, { rome: "Europe/Rome", before: ["2026-03-23T11:00", "2026-10-19T10:00", "2026-06-03T10:00"],
      missing: [null, "2026-03-29T01:30"], twice: ["2026-11-01T01:30", null] });
    for (const [from, to, before] of [["2026-03-29T22:00", "2026-03-30T22:00", "2026-03-22T23:00"], ["2026-10-25T23:00", "2026-10-26T23:00", "2026-10-18T22:00"]]) {
      await page.goto(`${base}/#/node/DIST_001?from=${from}:00Z&to=${to}:00Z`);
      await page.reload();
      await settled(page);
      const asked = [];
      page.on("request", (request) => { if (request.url().includes("/history")) asked.push(Date.parse(new URL(request.url()).searchParams.get("from"))); });
      await page.getByLabel("Compare with last week").check();
      await settled(page);
      await page.waitForFunction(() => !document.querySelector(".chart[aria-busy]"));
      const difference = Date.parse(`${from}Z`) - Date.parse(`${before}Z`);
      assert.ok(asked.some((one) => asked.includes(one - difference)), `${from}: ${asked.map((at) => new Date(at).toISOString())}`);
      page.removeAllListeners("request");
    }
    return page;
  });

  check("anomalies stay on the charts when forecasts can't be had, and that is said", async () => {
    const page = await open(browser, base, { path: null, expected: ["503"] });
    await page.route(/\/api\/v1\/forecasts/, (route) => route.fulfill({ status: 503, json: { detail: "warm tier (PostgreSQL) is not available: gone" } }));
    await page.goto(`${base}/#/node/DIST_002?span=172800&forecast`);
    await settled(page);
    await chart(page, "Flow").locator(".anomaly-link").first().waitFor();
    await chart(page, "Flow").getByText("Forecasts can't be asked for at the moment.").waitFor();
    return page;
  });
};
